"""Several formulas in one batch: the same pictures as one after the other, fewer evaluations."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from squares import COLOR, TALL, WIDTH, put_concept, random_registry

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.errors import ExpressionError
from ebmcli.registry import Registry, read_registry
from ebmcli.workflows.generate import Drawn, GenerateRequest, draw_pictures, draw_together

FORMULAS = ("color=red & tall", "color=red | ~tall", "size>0.4", "~color=blue & ~tall")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return read_registry(random_registry(tmp_path_factory.mktemp("r"), [COLOR, TALL, WIDTH]))


def asked(*formulas: str, **changes: Any) -> list[GenerateRequest]:
    """Two pictures of each formula, seeds far apart."""
    settings: dict[str, Any] = {
        "n": 2, "steps": 4, "attempts": 2, "batch_size": 3, "device": "cpu", "corrector_steps": 1,
    }  # fmt: skip
    return [
        GenerateRequest(expression=formula, seed=100 * index, **settings | changes)
        for index, formula in enumerate(formulas)
    ]


def same(one: Drawn | ExpressionError, other: Drawn) -> None:
    """All that is known of pictures but times; bytes may differ in the last bit."""
    assert isinstance(one, Drawn)
    assert abs(one.images.astype(int) - other.images.astype(int)).max() <= 1
    assert one.probabilities == pytest.approx(other.probabilities, rel=1e-3)
    for name in (
        "seeds", "attempts", "acceptance", "kept", "first_accepted", "n_energy_calls", "space",
        "digests", "branches", "notes",
    ):  # fmt: skip
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"branches": "free", "batch_size": 16}, {"sampler": "mala", "steps": 2},
        {"sampler": "smc", "steps": 2, "chains": 3, "batch_size": 9, "attempts": 1},
        {"sampler": "rejection", "chains": 2, "corrector_steps": 0, "attempts": 1},
        {"logic": "reduce-reuse-recycle", "attempts": 1},
    ],
)  # fmt: skip
def test_pictures_are_those_of_one_formula_after_the_other(
    registry: Registry, changes: dict[str, Any]
) -> None:
    requests = asked(*FORMULAS, **changes)
    for one, request in zip(draw_together(requests, registry=registry), requests, strict=True):
        same(one, draw_pictures(request, registry))


@pytest.mark.parametrize("logic", ["paper", "composable-diffusion", "dng", "perp-neg"])
def test_a_formula_that_a_rule_refuses_leaves_the_others_alone(
    registry: Registry, logic: str
) -> None:
    requests = asked("color=red & tall", "~color=red | ~tall", "color=red & ~tall", logic=logic)
    first, refused, last = draw_together(requests, registry=registry)
    assert isinstance(refused, ExpressionError)
    same(first, draw_pictures(requests[0], registry))
    same(last, draw_pictures(requests[2], registry))


def test_networks_see_the_pictures_of_all_formulas_at_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow of four levels: 2 x 4 - 1 evaluations of every network, of all that ask for it."""
    seen: Counter[tuple[str, int]] = Counter()
    energy, log_posterior = BaseEnergy.energy, PosteriorConcept.log_posterior

    def of_base(self: Any, x: Any, sigma: Any) -> Any:
        seen["base", len(x)] += 1
        return energy(self, x, sigma)

    def of_concept(self: Any, x: Any, sigma: Any) -> Any:
        if x.requires_grad:
            seen[self.factor.name, len(x)] += 1
        return log_posterior(self, x, sigma)

    monkeypatch.setattr(BaseEnergy, "energy", of_base)
    monkeypatch.setattr(PosteriorConcept, "log_posterior", of_concept)
    requests = asked(*FORMULAS, sampler="heun", attempts=1, batch_size=16, corrector_steps=None)
    draw_together(requests, registry=registry)
    asked_for = {"base": 8, "color": 6, "tall": 6, "size": 2}
    assert seen == dict.fromkeys(asked_for.items(), 7)


def test_conditional_concepts_are_drawn_alone(tmp_path: Path) -> None:
    path = random_registry(tmp_path / "registry", [TALL])
    put_concept(path, COLOR, method="conditional")
    registry = read_registry(path)
    requests = asked("color=red", "tall", "~tall", attempts=1)
    for one, request in zip(draw_together(requests, registry=registry), requests, strict=True):
        same(one, draw_pictures(request, registry))


def test_a_request_has_its_share_of_the_time(registry: Registry) -> None:
    """By the draws: what is drawn again takes longer."""
    found = draw_together(asked(*FORMULAS, attempts=3), registry=registry)
    drawn = [one for one in found if isinstance(one, Drawn)]
    per_draw = [one.seconds / sum(one.attempts) for one in drawn]
    assert per_draw == pytest.approx([per_draw[0]] * 4)
    assert per_draw[0] > 0


@pytest.mark.parametrize("logic", ["exact", "perp-neg"])
def test_progress_never_falls_and_ends_at_all(registry: Registry, logic: str) -> None:
    """In one batch, and formula by formula."""
    told: list[tuple[int, int]] = []
    requests = asked("color=red & tall", "color=red & ~tall", "tall & ~color=blue", logic=logic)
    draw_together(requests, lambda *numbers: told.append(numbers), registry=registry)
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert told[0][1] == 3 * 2 * 4
    assert told[-1][0] == told[-1][1] >= 3 * 2 * 4


def test_formulas_with_seeds_in_common_are_drawn_apart(registry: Registry) -> None:
    requests = [replace(request, seed=7) for request in asked("tall", "~tall", attempts=1)]
    for one, request in zip(draw_together(requests, registry=registry), requests, strict=True):
        same(one, draw_pictures(request, registry))


def test_requests_that_are_not_alike_are_refused(registry: Registry) -> None:
    requests = [*asked("tall"), *asked("~tall", steps=5)]
    with pytest.raises(ValueError, match="differ in formula, number and seeds alone"):
        draw_together(requests, registry=registry)
