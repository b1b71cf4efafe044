"""Shares of alternatives: counted by hand, and against sums over cells."""

import math

import pytest
import torch

from ebmcli.core.expression import parse, spell
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.evaluation.alternatives import (
    AlternativeShare,
    alternative_shares,
    alternatives,
    largest_gap,
    prior_shares,
)
from ebmcli.evaluation.formulas import uniform_readings

FACTORS = {
    "shape": Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
    "color": Factor(name="color", kind="categorical", names=("red", "green", "blue", "white")),
    "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
    "size": Factor(name="size", kind="scalar", low=0.0, high=1.0),
}
N = 20_000
LABELS = uniform_readings(FACTORS, N, seed=0)
UNIFORM = {
    name: torch.full((factor.n_cells,), -math.log(factor.n_cells))
    for name, factor in FACTORS.items()
}
NOISE = 4 * (0.25 / (N / 8)) ** 0.5  # four standard errors; an eighth satisfies the formula or more


def shares(source: str, **log_priors: torch.Tensor) -> list[float]:
    formula = compile_formula(parse(source), FACTORS)
    return prior_shares(formula, LABELS, UNIFORM | log_priors)


def test_alternatives_are_the_terms_of_the_outermost_or() -> None:
    found = alternatives(parse("color=red | shape=cube & (size>0.4 | size<0.1) | color=blue"))
    texts = ["color=red", "shape=cube & (size>0.4 | size<0.1)", "color=blue"]
    assert [spell(one) for one in found] == texts


def test_values_of_one_concept_share_by_their_prior() -> None:
    assert shares("color=red | color=blue") == pytest.approx([0.5, 0.5], abs=NOISE)
    skewed = torch.tensor([0.1, 0.1, 0.3, 0.5]).log()
    assert shares("color=red | color=blue", color=skewed) == pytest.approx([0.25, 0.75], abs=1e-3)


def test_alternatives_of_two_concepts_overlap() -> None:
    """P(red or cube) = 1/4 + 1/3 - 1/12 = 1/2."""
    wanted = [1 / 2, 2 / 3]
    assert shares("color=red | shape=cube") == pytest.approx(wanted, abs=NOISE)


def test_a_point_weighs_what_the_concept_gives_it() -> None:
    """Sum of memberships on a node: the node and its neighbours at exp(-2) in each direction.

    The judge calls a red picture near the place true of both, 4 in 100.
    """
    axis = 1 + 2 * math.exp(-2)
    place = axis**2 / 17**2  # prior of the point; the ends of the grid are too far to matter
    red = 0.25
    formula = red + place - red * place
    near = 0.04  # of the square of side 2 within 0.2 per coordinate
    got = shares("color=red | position=(0,0)")
    assert got[0] == pytest.approx(red / formula, abs=0.02)
    assert got[1] == pytest.approx((place + red * (near - place)) / formula, abs=0.02)


def test_counted_shares_and_gaps() -> None:
    right = torch.tensor([True] * 8 + [False] * 2)
    red = torch.tensor([True] * 6 + [False] * 4)
    blue = torch.tensor([False] * 6 + [True] * 4)  # the last two are not right
    found = alternative_shares("f", {"red": red, "blue": blue}, right, [0.5, 0.5])
    assert [(one.alternative, one.share, one.n) for one in found] == [
        ("red", 0.75, 8),
        ("blue", 0.25, 8),
    ]
    worst = largest_gap(found)
    assert worst is not None
    assert worst.gap == 0.25
    assert worst.noise == pytest.approx((0.25 / 8) ** 0.5)


def test_nothing_right_gives_no_share() -> None:
    none = torch.zeros(3, dtype=torch.bool)
    assert alternative_shares("f", {"a": none}, none, [1.0]) == []
    assert largest_gap([]) is None


def test_the_largest_gap_is_taken_over_all_formulas() -> None:
    small = AlternativeShare(formula="f", alternative="a", share=0.5, prior=0.55, n=100)
    large = AlternativeShare(formula="g", alternative="b", share=0.2, prior=0.4, n=100)
    assert largest_gap([small, large]) is large


def test_a_formula_that_no_draw_satisfies_is_an_error() -> None:
    formula = compile_formula(parse("color=red | shape=cube"), FACTORS)
    few = uniform_readings(FACTORS, 1, seed=0)
    few.values["color"][:], few.values["shape"][:] = 1, 1
    with pytest.raises(ValueError, match="none of 1 label draws"):
        prior_shares(formula, few, UNIFORM)
