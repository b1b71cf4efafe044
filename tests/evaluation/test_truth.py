"""Truth of formulas on readings that are written out by hand."""

import pytest
import torch

from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.statements import resolve
from ebmcli.datasets.recipes import find_recipe
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.truth import holds, places_of, tolerance_of, tolerances, wide_tolerance_of

FACTORS = {
    "color": Factor(name="color", kind="categorical", names=("red", "green", "blue")),
    "old": Factor(name="old", kind="binary", names=("no", "yes")),
    "size": Factor(name="size", kind="scalar", low=0.0, high=1.0, unit="world units"),
    "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
}
READINGS = Readings(
    factors=FACTORS,
    values={
        "color": torch.tensor([0, 0, 1, 2]),
        "old": torch.tensor([1, 0, 1, 0]),
        "size": torch.tensor([0.38, 0.47, 0.2, 0.9]),
        "position": torch.tensor([[0.1, 0.0], [0.3, 0.0], [0.1, -0.35], [0.9, 0.9]]),
    },
    probabilities={},
    present=torch.ones(4),
)


def true_of(source: str, *, wide: bool = False) -> list[bool]:
    found: list[bool] = holds(resolve(parse(source), FACTORS), READINGS, wide=wide).tolist()
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("color=red", [True, True, False, False]),
        ("old", [True, False, True, False]),
        ("old=no", [False, True, False, True]),
        ("size=0.4", [True, False, False, False]),
        ("size>0.4", [False, True, False, True]),
        ("size<=0.4", [True, False, True, False]),
        ("position=(0,0)", [True, False, False, False]),
        ("color=red & old", [True, False, False, False]),
        ("color=blue | old", [True, False, True, True]),
        ("old -> color=red", [True, True, False, True]),
        ("~(old & color=red) & 2*size<0.5", [False, True, True, False]),
    ],
)
def test_a_formula_is_true_of_the_pictures_it_describes(source: str, expected: list[bool]) -> None:
    assert true_of(source) == expected


def test_a_place_is_right_within_the_tolerance_in_each_coordinate() -> None:
    assert true_of("position=(0,0)", wide=True) == [True, True, True, False]


def test_sizes_have_a_tolerance_of_their_own_that_is_never_wide() -> None:
    assert true_of("size=0.425") == [True, True, False, False]
    assert true_of("size=0.4", wide=True) == true_of("size=0.4")


def test_the_factors_of_the_renderer_have_the_tolerances_of_the_published_numbers() -> None:
    """Exactly: 0.05 is a sixth of the range of size, which is no number of binary digits."""
    factors = find_recipe("scenes").factors
    assert tolerances(factors.values()) == {"position": 0.2, "size": 0.05}
    assert wide_tolerance_of(factors["position"]) == 0.4
    assert wide_tolerance_of(factors["size"]) == 0.05
    assert tolerances(find_recipe("faces").factors.values()) == {}


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (Factor(name="turn", kind="scalar", low=-30.0, high=30.0, unit="degrees"), 6.0),
        (Factor(name="age", kind="scalar", low=0.0, high=80.0), 8.0),
        (Factor(name="at", kind="position", low=0.0, high=64.0, unit="pixels"), 6.4),
        (Factor(name="at", kind="position", low=-1.0, high=1.0), 0.2),
        (Factor(name="old", kind="binary", names=("no", "yes")), 0.0),
    ],
)
def test_other_factors_have_a_tenth_of_their_range(factor: Factor, expected: float) -> None:
    assert tolerance_of(factor) == pytest.approx(expected)


def test_degrees_are_right_within_degrees() -> None:
    """With 0.05 degrees none of these were right but the first."""
    turn = Factor(name="turn", kind="scalar", low=-30.0, high=30.0, unit="degrees")
    values = {"turn": torch.tensor([10.0, 12.0, 15.9, 16.1, -10.0])}
    readings = Readings(
        factors={"turn": turn}, values=values, probabilities={}, present=torch.ones(5)
    )
    found = holds(resolve(parse("turn=10"), {"turn": turn}), readings).tolist()
    assert found == [True, True, True, False, False]


def test_only_formulas_about_places_depend_on_the_wider_tolerance() -> None:
    place = FACTORS["position"]
    assert places_of(parse("old & ~position=(0,0) | position=(1,1)"), FACTORS) == [place]
    assert places_of(parse("old & color=red"), FACTORS) == []
