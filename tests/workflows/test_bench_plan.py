"""Which lines there are, how many pictures fit into ten minutes, who shares formulas and seeds."""

from collections import Counter
from typing import Any

import pytest
from squares import FACTORS, TALL

from ebmcli.errors import ConfigError, UnknownNameError, UsageError
from ebmcli.evaluation.formulas import NESTED, ROWS
from ebmcli.workflows import bench_plan
from ebmcli.workflows.bench_plan import (
    QUICK_ROWS,
    QUICK_SECONDS,
    BenchRequest,
    Line,
    picture_seconds,
    plan_groups,
    plan_lines,
    quick_overrun,
    quick_pictures,
    sampling_of,
    strength_of,
    takes_strength,
)
from ebmcli.workflows.chains import SAMPLERS
from ebmcli.workflows.energies import LOGICS
from ebmcli.workflows.generate_request import DEFAULT_STRENGTH, GenerateRequest


def ask(**changes: Any) -> BenchRequest:
    sampling = changes.pop("sampling", GenerateRequest(expression="", device="cpu"))
    return BenchRequest(sampling=sampling, **changes)


def test_all_rules_of_the_program_are_compared_with_one_attempt() -> None:
    lines = plan_lines(ask(), FACTORS)
    compared = [line for line in lines if line.part == "rules"]
    assert {line.row for line in compared} == set(ROWS)
    for row in ROWS:
        single = [x.rule for x in compared if x.row == row and not x.by_branch]
        assert single == list(LOGICS)
        beside = [(x.rule, x.attempts) for x in compared if x.row == row and x.by_branch]
        plain = row in ("and-2", "and-3", "not")  # their formulas have one branch
        assert beside == ([] if plain else [("exact", 1)]) + [("exact", 3)]
    assert all(line.by_branch for line in compared if line.attempts > 1)


def test_one_attempt_asked_for_leaves_the_line_beside_out() -> None:
    sampling = GenerateRequest(expression="", attempts=1)
    assert {line.attempts for line in plan_lines(ask(sampling=sampling), FACTORS)} == {1}
    assert not [one for one in plan_lines(ask(rules=("paper",)), FACTORS) if one.attempts > 1]


def test_metropolis_lines_are_made_of_the_samplers_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tested(**changes: Any) -> list[Line]:
        return [one for one in plan_lines(ask(**changes), FACTORS) if one.part == "metropolis"]

    monkeypatch.setattr(bench_plan, "SAMPLERS", ("auto", "langevin"))
    assert tested() == []
    monkeypatch.setattr(bench_plan, "SAMPLERS", ("auto", "langevin", "mala"))
    found = Counter((one.sampler, one.corrector_steps) for one in tested())
    assert found == dict.fromkeys(
        [(name, steps) for name in ("langevin", "mala") for steps in (5, 10, 25)], len(NESTED)
    )
    monkeypatch.undo()
    assert {one.sampler for one in tested()} == {"langevin", "mala", "hmc"}
    quick = tested(quick=True)  # without hmc, which takes longest
    assert [(one.row, one.sampler, one.corrector_steps) for one in quick] == [
        ("nested-3", "langevin", 5), ("nested-3", "mala", 5),
    ]  # fmt: skip
    assert tested(rows=("and-2",)) == []
    assert tested(rules=("paper",)) == []


def test_rows_that_the_concepts_cannot_fill_are_left_out() -> None:
    found = plan_lines(ask(rows=("and-2", "or-values")), {"a": TALL, "b": TALL})
    assert {line.row for line in found} == {"and-2"}
    with pytest.raises(UsageError, match="or-values needs a concept with more values"):
        plan_lines(ask(rows=("or-values",)), {"a": TALL, "b": TALL})


def test_a_quick_benchmark_keeps_to_its_time_or_says_that_it_cannot() -> None:
    own = plan_lines(ask(quick=True, rows=QUICK_ROWS), FACTORS)
    everything = plan_lines(ask(quick=True), FACTORS)
    few = plan_lines(ask(quick=True, rows=("and-2",)), FACTORS)
    n = [quick_pictures(lines, n_seeds=2) for lines in (few, own, everything)]
    assert n == sorted(n, reverse=True)
    assert n[0] > n[1] >= n[2] == 2
    assert n[0] * 2 * sum(map(picture_seconds, few)) <= QUICK_SECONDS
    assert quick_overrun(few, n=n[0], n_seeds=2) is None
    assert quick_overrun(own, n=n[1], n_seeds=2) is None
    minutes = 2 * 2 * sum(map(picture_seconds, everything)) / 60
    assert minutes > 11
    assert quick_overrun(everything, n=2, n_seeds=2) == pytest.approx(minutes)


def test_the_estimate_is_the_time_that_was_measured() -> None:
    """3.6 s for 195 calls on two slow cores; leapfrog steps are calls, too."""

    def estimate(sampler: str, steps: int | None = None) -> float:
        line = Line(
            part="metropolis", row="nested-3", rule="exact", sampler=sampler, corrector_steps=steps
        )
        return picture_seconds(line)

    assert estimate("auto") == pytest.approx(3.6, abs=0.1)
    assert estimate("hmc", 25) / estimate("langevin", 25) == pytest.approx(3165 / 613)


def test_what_was_said_goes_before_what_is_quick() -> None:
    lines = plan_lines(ask(), FACTORS)
    assert ask().pictures(lines) == 100
    assert ask(n=7, quick=True).pictures(lines) == 7
    assert ask(quick=True).all_seeds == [0, 1]
    assert ask(quick=True, seeds=5, seed=2).all_seeds == [2, 3, 4, 5, 6]


def test_a_strength_reaches_the_rules_that_have_one() -> None:
    sampling = GenerateRequest(expression="", strength=2.0)
    for rule in LOGICS:
        line = Line(part="rules", row="and-2", rule=rule)
        expected = 2.0 if takes_strength(rule) else None
        assert sampling_of(line, sampling).strength == expected
        assert strength_of(line, sampling) == (expected or 1.0)
    assert takes_strength("exact")
    assert not takes_strength("paper")
    line = Line(part="rules", row="and-2", rule="exact")
    assert strength_of(line, GenerateRequest(expression="")) == DEFAULT_STRENGTH


def test_a_line_is_drawn_as_it_says() -> None:
    line = Line(
        part="metropolis", row="nested-2", rule="exact", sampler=SAMPLERS[-1], corrector_steps=7
    )
    found = sampling_of(line, GenerateRequest(expression="", steps=9, attempts=3))
    assert (found.sampler, found.corrector_steps, found.attempts, found.steps) == (
        SAMPLERS[-1], 7, 1, 9,
    )  # fmt: skip
    assert found.branches is None  # rejection has none
    plain = Line(part="metropolis", row="nested-2", rule="exact", sampler="mala", corrector_steps=7)
    whole = sampling_of(plain, GenerateRequest(expression=""))
    assert whole.branches == "free"  # an energy of the whole formula, as the other rules have
    ours = Line(part="rules", row="implies", rule="exact", attempts=3, by_branch=True)
    assert sampling_of(ours, GenerateRequest(expression="")).branches == "prior"
    other = Line(part="rules", row="implies", rule="paper")
    assert sampling_of(other, GenerateRequest(expression="")).branches is None


@pytest.mark.parametrize("n", [2, 7, 31, 100])
def test_every_seed_draws_n_pictures_and_no_two_alike(n: int) -> None:
    for row in ("and-2", "or-values"):
        groups = plan_groups(row, FACTORS, n=n, seeds=[4, 5])
        for seed in (4, 5):
            mine = [group for group in groups if group.seed == seed]
            assert sum(group.n for group in mine) == n
            assert len({group.formula for group in mine}) == len(mine)
        drawn = [g.first_picture_seed + i for g in groups for i in range(g.n)]
        assert len(set(drawn)) == len(drawn) == 2 * n


def test_seeds_have_formulas_of_their_own_except_where_branches_are_counted() -> None:
    groups = plan_groups("and-2", FACTORS, n=30, seeds=[0, 1])
    assert len({group.formula for group in groups}) == len(groups) == 20
    either = plan_groups("or-values", FACTORS, n=100, seeds=[0, 1, 2])
    assert set(Counter(group.formula for group in either).values()) == {3}
    assert len({group.formula for group in either}) == 4
    assert len({group.formula for group in plan_groups("or-values", FACTORS, n=6, seeds=[0])}) == 1


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"rules": ("exact", "papre")}, UnknownNameError, "unknown rule 'papre'"),
        ({"rows": ("and2",)}, UnknownNameError, "unknown row 'and2'"),
        ({"rules": ()}, UsageError, "no rule to measure"),
        ({"rows": ()}, UsageError, "no row to measure"),
        ({"n": 1}, ConfigError, "-n must be at least 2"),
        ({"seeds": 0}, ConfigError, "--seeds must be at least 1"),
        ({"seed": 4000}, ConfigError, "stay below 4000"),
        ({"seed": -1}, ConfigError, "stay below 4000"),
    ],
)
def test_a_request_that_cannot_mean_anything(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(**changes)
