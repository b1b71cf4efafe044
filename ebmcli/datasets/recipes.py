"""Recipes by name: what a dataset shows, how labels are drawn and how they become a frame."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ebmcli.core.factors import Factor, Label
from ebmcli.datasets.frame import Frame
from ebmcli.errors import UnknownNameError

RECIPES = {
    "scenes": "ebmcli.datasets.scenes",
    "clutter": "ebmcli.datasets.clutter",
    "faces": "ebmcli.datasets.faces",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One kind of picture.

    ``draw`` gives labels, uniform and independent (a list of objects goes with its count);
    ``frame`` turns labels into a picture, taking from its random source only what is not labelled.
    """

    name: str
    factors: dict[str, Factor]
    draw: Callable[[np.random.Generator], Mapping[str, Label]]
    frame: Callable[[Mapping[str, Label], np.random.Generator], Frame]
    roundness: tuple[int, int]  # of the renderer


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        UnknownNameError: No such recipe.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, sorted(RECIPES))
    module = importlib.import_module(RECIPES[name])
    return Recipe(
        name=name,
        factors=module.FACTORS,
        draw=module.draw,
        frame=module.frame,
        roundness=module.ROUNDNESS,
    )
