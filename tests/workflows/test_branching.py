"""Branches given to pictures: by seed alone, kept when drawn again, and only where they exist."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, TALL, WIDTH, draw_squares, random_registry

from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.pictures import write_png
from ebmcli.registry import Registry, read_registry
from ebmcli.workflows import jobs
from ebmcli.workflows.branching import Branching, branching_of
from ebmcli.workflows.energies import Networks, compose
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
    assert given.notes == free.notes
    assert not any("branch" in note for note in given.notes)


def test_a_branch_is_that_of_its_seed(registry: Registry) -> None:
    """On its own, in another batch, with several chains."""
    expression = "color=red | color=blue | tall"
    whole = draw_pictures(ask(expression, seed=7), registry)
    assert len(set(whole.branches)) > 1
    assert whole.notes[0].startswith("pictures were given a branch each, by their prior: ")
    later = draw_pictures(ask(expression, seed=9, n=2, batch_size=1), registry)
    assert later.branches == whole.branches[2:4]
    gap = later.images.astype(int) - whole.images[2:4].astype(int)
    assert abs(gap).max() <= 1
    wrapped = GenerateRequest(expression=expression, n=1, seed=2**32 - 1, steps=3, attempts=2)
    assert len(draw_pictures(wrapped, registry).branches) == 1
    chains = draw_pictures(ask(expression, seed=7, sampler="mala", chains=2), registry)
    assert chains.branches == whole.branches
    free = draw_pictures(ask(expression, seed=7, branches="free"), registry)
    assert free.branches == []
    assert (free.images != whole.images).any()


def test_a_picture_keeps_its_branch_when_it_is_drawn_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else branches that are drawn poorly would lose their share."""
    monkeypatch.setattr(jobs, "acceptance", lambda *_: 2.0)  # nothing is ever good enough
    settled: list[tuple[int, ...]] = []
    settle = Branching.settle

    def noting(self: Any, seeds: Any, **options: Any) -> None:
        settled.append(tuple(seeds))
        settle(self, seeds, **options)

    monkeypatch.setattr(Branching, "settle", noting)
    drawn = draw_pictures(ask("color=red | tall", n=3, attempts=3), registry)
    assert drawn.attempts == [3, 3, 3]
    assert settled == [(0, 1, 2)] * 3


def test_branches_come_as_often_as_their_prior_says(registry: Registry) -> None:
    formula, _ = formula_of(registry, "color=red | tall")
    composed = compose(registry, formula, networks=Networks(registry, CPU))
    branching, notes = branching_of(registry, formula, composed, asked=None, strength=4)
    assert branching is not None
    assert notes == []
    shares = {branching.branches.text(b): share for b, share in branching.branches.shares()}
    n = 3000
    counts = Counter(branching.texts(range(n)))
    for text, share in shares.items():
        assert counts[text] / n == pytest.approx(share, abs=0.01)
        few = Counter(branching.texts(range(40, 52)))
        assert few[text] == pytest.approx(12 * share, abs=1.5)  # seeds in a row share evenly
    for asked, strength in (("free", 4), (None, 1)):
        found = branching_of(registry, formula, composed, asked=asked, strength=strength)
        assert found == (None, [])
    given, _ = branching_of(registry, formula, composed, asked="prior", strength=1)
    assert given is not None


def test_concepts_that_go_together_find_their_branches_by_themselves(registry: Registry) -> None:
    """Their priors say nothing of both: of beards few are on faces that are not male."""
    color = registry.get("concept", "color")
    tied = replace(color, measured={"goes_with": {"tall": 0.4}})
    known = replace(registry, concepts=registry.concepts | {"color": tied})
    drawn = draw_pictures(ask("color=red | tall", n=2), known)
    assert drawn.branches == []
    assert drawn.notes[0].startswith("color and tall go together in the pictures they were")
    assert draw_pictures(ask("color=red | color=blue", n=2), known).branches  # of one concept
    assert draw_pictures(ask("color=red | tall", n=2, branches="prior"), known).branches


def test_a_picture_that_leaves_its_branch_is_drawn_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the formula is true of it: else its branch would lose its share."""
    monkeypatch.setattr(jobs, "acceptance", lambda *_: 0.9)
    certain = {"P(f | x)": 0.0, "P(b | x)": -9.0}  # nats
    monkeypatch.setattr(
        Branching, "log_probability",
        lambda _, x, sigma: x.new_full((len(x),), certain["P(b | x)"]),
    )  # fmt: skip
    composed = jobs.compose

    def surely(*words: Any, **options: Any) -> Any:
        made = composed(*words, **options)
        return replace(made, log_probability=lambda x, _: x.new_zeros(len(x)))

    monkeypatch.setattr(jobs, "compose", surely)
    drawn = draw_pictures(ask("color=red | tall", n=2, attempts=2), registry)
    assert drawn.attempts == [2, 2]
    assert drawn.kept == [False, False]
    assert drawn.probabilities.tolist() == [1, 1]
    free = draw_pictures(ask("color=red | tall", n=2, attempts=2, branches="free"), registry)
    assert free.attempts == [1, 1]


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
    option = {"logic": "--logic paper", "start_image": "--from"}
    option |= {"sampler": f"--sampler {changes.get('sampler')}"}
    named = next(option[name] for name in changes if name in option)
    with pytest.raises(ConfigError, match=f"--branches has no meaning with {named}"):
        ask("color=red | tall", branches="prior", **changes)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="way of giving branches 'all'"):
        ask("tall", branches="all")
    with pytest.raises(ConfigError, match="--branches has no meaning with --base"):
        GenerateRequest(base="mine", branches="prior")
