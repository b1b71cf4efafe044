"""The recipe ``clutter``: one to five solids on a floor, each with its own shape, colour and place.

Light, floor and camera are those of ``scenes``, on a larger field; the solids are smaller. How many
there are is uniform; shapes, colours and sizes are uniform and independent. Places are uniform
among the arrangements in which no solid hides much of another: all places of a picture are drawn
again until every two keep the distance of :func:`apart`.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ebmcli.core.factors import Factor, Label, Things, Value
from ebmcli.datasets import scenes
from ebmcli.datasets.frame import Frame

MOST = 5  # solids; chosen: six in view of each other leave little of the floor free
PARTS = (
    *(scenes.FACTORS[name] for name in ("shape", "color", "position")),
    Factor(name="size", kind="scalar", low=0.24, high=0.36, unit="world units"),
)
FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor(name="count", kind="categorical", names=tuple(str(n + 1) for n in range(MOST))),
        Factor(name="object", kind="objects", parts=PARTS, most=MOST),
    )
}
HALF_SIDE = 1.0  # world units, of the field
FIELD_OF_VIEW = 12.2  # degrees; 1.5 world units to each side of the target
ROUNDNESS = (24, 16)  # several small solids

ASIDE = 1.05  # of the sum of two sizes, between centres side by side; below 1 cubes could meet
BEHIND = 1.35  # the same between one in front and one behind; chosen by counting visible pixels
MAX_DRAWS = 10_000  # arrangements; more than one in a hundred of five solids will do


def draw(rng: np.random.Generator) -> dict[str, Label]:
    """Labels of one picture: the count, then as many solids."""
    count = int(rng.integers(1, MOST + 1))
    things = [_appearance(rng) for _ in range(count)]
    sizes = [float(str(thing["size"])) for thing in things]
    for thing, place in zip(things, _places(sizes, rng), strict=True):
        thing["position"] = place
    ordered: Things = [{part.name: thing[part.name] for part in PARTS} for thing in things]
    return {"count": str(count), "object": ordered}


def frame(labels: Mapping[str, Label], rng: np.random.Generator) -> Frame:
    """The picture of labels; ``rng`` draws only what is not labelled."""
    things = labels["object"]
    if not isinstance(things, list):
        raise TypeError("object is a list of solids")
    turns = rng.uniform(-scenes.MAX_TURN, scenes.MAX_TURN, size=MOST)
    geoms = tuple(
        scenes.solid(thing, float(turn), half_side=HALF_SIDE)
        for thing, turn in zip(things, turns, strict=False)
    )
    return scenes.stage(geoms, rng, field_of_view=FIELD_OF_VIEW)


def apart(
    first: tuple[float, float], second: tuple[float, float], *, sizes: tuple[float, float]
) -> bool:
    """Do two solids stand far enough apart for the camera to see enough of both?

    (dx / (ASIDE s))^2 + (dy / (BEHIND s))^2 >= 1,      s the sum of the sizes
    """
    dx, dy = first[0] - second[0], first[1] - second[1]
    reach = sum(sizes)
    return math.hypot(dx / (ASIDE * reach), dy / (BEHIND * reach)) >= 1


def _appearance(rng: np.random.Generator) -> dict[str, Value]:
    """Shape, colour and size of one solid."""
    values: dict[str, Value] = {}
    for part in PARTS:
        if part.names:
            values[part.name] = part.names[int(rng.integers(len(part.names)))]
        elif part.kind == "scalar":
            values[part.name] = float(rng.uniform(part.low, part.high))
    return values


def _places(sizes: Sequence[float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Places of solids of these sizes, uniform among the arrangements that are apart.

    Raises:
        ValueError: None was found in MAX_DRAWS arrangements.
    """
    for _ in range(MAX_DRAWS):
        drawn = rng.uniform(-1.0, 1.0, size=(len(sizes), 2))
        places = [(float(x), float(y)) for x, y in drawn]
        if all(
            apart(places[i], places[j], sizes=(sizes[i], sizes[j]))
            for i in range(len(sizes))
            for j in range(i)
        ):
            return places
    raise ValueError(f"{len(sizes)} solids of sizes {sizes} find no place")
