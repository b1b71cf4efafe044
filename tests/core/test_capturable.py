"""What a CUDA graph may hold: kernels that depend on shapes alone, of tensors that are there.

Checked without a GPU: while an objective or an energy is computed a second time, nothing may ask
for the content of a tensor, nor make a tensor from Python's numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.branches import Branches
from ebmcli.core.composition import branch_energy, exact_energy
from ebmcli.core.concepts import METHODS, build_concept
from ebmcli.core.energy import energy_and_gradient
from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import TrainingImages
from ebmcli.core.logic import compile_formula
from ebmcli.core.networks import TrunkConfig
from ebmcli.core.targets import label_prior
from ebmcli.training.gradients import Losses, Objective
from ebmcli.training.independent import Partner, independent_objective
from ebmcli.training.objectives import (
    ObjectiveConfig,
    base_objective,
    both_objective,
    conditional_objective,
    posterior_objective,
    residual_objective,
)

CONFIG = TrunkConfig(size=16, widths=(4, 6), depths=(1, 1), embedding=8, head=8)
DRAWING = TrunkConfig(size=16, widths=(4, 6), depths=(1, 1), embedding=8, head=8, decoder=1)
COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
SIZE = Factor(name="size", kind="scalar", low=0.2, high=0.6)
THINGS = Factor(name="object", kind="objects", parts=(COLOR, PLACE), most=2)
WITH_SCORE = ObjectiveConfig(score_batch=2, hue_share=0.5)
WITH_BLANKS = ObjectiveConfig(score_batch=2, blank_share=0.3)
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "unique", "equal")


class Watch(TorchDispatchMode):
    """Notes every operation that would stop a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = str(function).split(".")[1]
        if name in WAITS:
            self.found.append(name)
        if name in ("index", "index_put", "index_put_"):
            places = [i for i in args[1] if i is not None]
            self.found += [f"{name} by bools" for i in places if i.dtype == torch.bool]
        return function(*args, **(kwargs or {}))


@contextmanager
def nothing_waits() -> Iterator[None]:
    with Watch() as watch:
        yield
    assert watch.found == []


def test_the_watch_sees_what_it_is_to_see():
    x = torch.arange(4.0)
    with Watch() as watch:
        float(x.sum())
        x[x > 1]
        x + torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert "_local_scalar_dense" in watch.found
    assert "lift_fresh" in watch.found
    assert "index by bools" in watch.found or "nonzero" in watch.found


def labels_of(factor: Factor, n: int) -> torch.Tensor:
    generator = Generator().manual_seed(1)
    if factor.kind == "objects":
        columns = torch.zeros(n, 2, len(factor.columns))
        columns[:, 0, factor.columns.index("present")] = 1
        return columns
    if factor.names:
        return torch.randint(len(factor.names), (n,), generator=generator)
    shape = (n, 2) if factor.kind == "position" else (n,)
    return factor.low + (factor.high - factor.low) * torch.rand(shape, generator=generator)


def images_of(factor: Factor | None = None, n: int = 12) -> TrainingImages:
    generator = Generator().manual_seed(0)
    pictures = torch.randint(256, (n, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return TrainingImages(pictures, None if factor is None else labels_of(factor, n))


def base_of(config: TrunkConfig = DRAWING, *, mended: bool = False) -> BaseEnergy:
    torch.manual_seed(0)
    pictures = torch.rand(32, 3, 16, 16) * 2 - 1
    return BaseEnergy(GaussianEnergy.fit(pictures, n_components=4), config, mended=mended)


def concept_of(method: str, factor: Factor):
    torch.manual_seed(0)
    return build_concept(
        method, factor, CONFIG, log_prior=label_prior(factor, labels_of(factor, 12)),
        gaussian=base_of().gaussian,
    )  # fmt: skip


def check(objective: Objective) -> None:
    generator = Generator().manual_seed(0)
    first: Losses = objective(generator)
    first["loss"].backward()
    with nothing_waits():
        objective(generator)["loss"].backward()


@pytest.mark.parametrize("hue_share", [0.0, 0.5])
def test_a_base_trains_without_waiting(hue_share):
    check(base_objective(base_of(), images_of(), batch_size=4, hue_share=hue_share))


@pytest.mark.parametrize("config", [WITH_SCORE, WITH_BLANKS], ids=["hues", "blanks"])
@pytest.mark.parametrize("factor", [COLOR, PLACE, SIZE, THINGS], ids=lambda f: f.name)
def test_a_posterior_trains_without_waiting(factor, config):
    check(
        posterior_objective(
            concept_of("posterior", factor), images_of(factor), batch_size=4, config=config,
            base=base_of(mended=True).requires_grad_(False),
        )
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("factor", [COLOR, PLACE], ids=lambda f: f.name)
def test_conditional_energies_train_without_waiting(method, factor):
    make = conditional_objective if method == "conditional" else both_objective
    concept = concept_of(method, factor)
    check(make(concept, images_of(factor), batch_size=4, config=WITH_SCORE))


def test_an_independent_posterior_trains_without_waiting():
    partner = Partner(concept_of("posterior", COLOR), labels_of(COLOR, 12))
    check(
        independent_objective(
            concept_of("posterior", COLOR), images_of(COLOR), partner, batch_size=4,
            config=WITH_SCORE, base=base_of().requires_grad_(False),
        )
    )  # fmt: skip


def test_a_residual_trains_without_waiting():
    check(residual_objective(base_of(mended=True), images_of(), images_of(), batch_size=4))


@pytest.mark.parametrize(
    "source",
    ["color=red & ~size=0.4", "position=(0.2,0.1) | color=blue -> size>0.3", "2*color=red",
     "object(color=red, position=(0.5,0)) & ~object(color=green)"],
)  # fmt: skip
def test_an_energy_is_drawn_from_without_waiting(source):
    factors = {factor.name: factor for factor in (COLOR, PLACE, SIZE, THINGS)}
    formula = compile_formula(parse(source), factors)
    concepts = {name: concept_of("posterior", factors[name]) for name in formula.tables}
    energy = exact_energy(base_of(mended=True).energy, formula, concepts, strength=2.0)
    x, sigma = torch.zeros(2, 3, 16, 16), torch.full((2,), 0.5)
    energy_and_gradient(lambda x: energy(x, sigma), x)
    with nothing_waits():
        energy_and_gradient(lambda x: energy(x, sigma), x)


def test_branches_are_drawn_without_waiting_and_given_anew_in_place():
    """As a graph has it: the second batch's branches are copied to where the first one's were."""
    factors = {factor.name: factor for factor in (COLOR, SIZE)}
    formula = compile_formula(parse("color=red | size>0.3 & color=blue"), factors)
    concepts = {name: concept_of("posterior", factors[name]) for name in formula.tables}
    priors = {name: concept.log_prior.tolist() for name, concept in concepts.items()}
    branches = Branches(formula, priors)
    one, other = (branches.draw([u, 0.5]) for u in (0.01, 0.99))
    masks = branches.masks([one, other])
    energy = branch_energy(base_of(mended=True).energy, formula, concepts, masks, strength=2.0)
    x, sigma = torch.zeros(2, 3, 16, 16), torch.full((2,), 0.5)
    first, _ = energy_and_gradient(lambda x: energy(x, sigma), x)
    for name, mask in branches.masks([other, one]).items():
        masks[name].copy_(mask)
    with nothing_waits():
        second, _ = energy_and_gradient(lambda x: energy(x, sigma), x)
    assert torch.allclose(first, second.flip(0))
    assert not torch.allclose(first, second)
