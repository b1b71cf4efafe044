"""Branches given to pictures: by seed alone, kept when drawn again, and only where they exist."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, TALL, WIDTH, draw_squares, random_registry

from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.pictures import write_png
from ebmcli.registry import Registry, read_registry
from ebmcli.workflows import generate
from ebmcli.workflows.branching import branching_of
from ebmcli.workflows.energies import compose
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.generate import GenerateRequest, draw_pictures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path = random_registry(tmp_path_factory.mktemp("registry"), [COLOR, TALL, WIDTH])
    return read_registry(path)


def ask(expression: str, **changes: Any) -> GenerateRequest:
    settings: dict[str, Any] = {"n": 6, "steps": 3, "attempts": 1, "device": "cpu"}
    return GenerateRequest(expression=expression, **settings | changes)


@pytest.mark.parametrize("expression", ["color=red & tall", "~color=red", "size>0.4 & ~tall"])
def test_a_formula_with_one_branch_is_drawn_as_a_whole(registry: Registry, expression: str) -> None:
    given, free = (draw_pictures(ask(expression, branches=b), registry) for b in (None, "free"))
    assert (given.images == free.images).all()
    assert given.branches == []
    assert given.notes == []


def test_a_branch_is_that_of_its_seed(registry: Registry) -> None:
    """On its own, in another batch, with several chains and at another attempt."""
    expression = "color=red | color=blue | tall"
    whole = draw_pictures(ask(expression, seed=7), registry)
    assert len(set(whole.branches)) > 1
    assert whole.notes[0].startswith("branches by their prior: ")
    later = draw_pictures(ask(expression, seed=9, n=2, batch_size=1), registry)
    assert later.branches == whole.branches[2:4]
    gap = later.images.astype(int) - whole.images[2:4].astype(int)
    assert abs(gap).max() <= 1
    chains = draw_pictures(ask(expression, seed=7, sampler="mala", chains=2), registry)
    assert chains.branches == whole.branches
    free = draw_pictures(ask(expression, seed=7, branches="free"), registry)
    assert free.branches == []
    assert (free.images != whole.images).any()


def test_a_picture_keeps_its_branch_when_it_is_drawn_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else branches that are drawn poorly would lose their share."""
    monkeypatch.setattr(generate, "acceptance", lambda *_: 2.0)  # nothing is ever good enough
    settled: list[tuple[int, ...]] = []
    settle = generate.Branching.settle

    def noting(self: Any, seeds: Any, **options: Any) -> None:
        settled.append(tuple(seeds))
        settle(self, seeds, **options)

    monkeypatch.setattr(generate.Branching, "settle", noting)
    drawn = draw_pictures(ask("color=red | tall", n=3, attempts=3), registry)
    assert drawn.attempts == [3, 3, 3]
    assert settled == [(0, 1, 2)] * 3


def test_branches_come_as_often_as_their_prior_says(registry: Registry) -> None:
    formula, _ = formula_of(registry, "color=red | tall")
    composed = compose(registry, formula, device=CPU)
    branching = branching_of(formula, composed, asked=True, strength=4)
    assert branching is not None
    shares = {branching.branches.text(b): share for b, share in branching.branches.shares()}
    n = 3000
    counts = Counter(branching.texts(range(n)))
    for text, share in shares.items():
        assert counts[text] / n == pytest.approx(share, abs=5 * (share * (1 - share) / n) ** 0.5)
    assert branching_of(formula, composed, asked=False, strength=4) is None
    assert branching_of(None, composed, asked=True, strength=4) is None


@pytest.mark.parametrize(
    "changes", [{"logic": "paper"}, {"sampler": "smc"}, {"sampler": "rejection"}, {"start": True}]
)
def test_where_there_are_no_branches_none_is_given(
    registry: Registry, changes: dict[str, Any], tmp_path: Path
) -> None:
    if changes.pop("start", False):
        write_png(tmp_path / "start.png", draw_squares(1, seed=0)[0][0])
        changes["start_image"] = tmp_path / "start.png"
    if changes.get("sampler"):
        changes["chains"] = 2
    drawn = draw_pictures(ask("color=red | tall", n=1, **changes), registry)
    assert drawn.branches == []
    with pytest.raises(ConfigError, match="--branches prior goes with --logic exact") as caught:
        ask("color=red | tall", branches="prior", **changes)
    assert "langevin" in caught.value.hint


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="way of giving branches 'all'"):
        ask("tall", branches="all")
    with pytest.raises(ConfigError):
        GenerateRequest(base="mine", branches="prior")
