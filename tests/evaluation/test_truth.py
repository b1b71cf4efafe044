"""Truth of formulas on readings that are written out by hand."""

import pytest
import torch

from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.statements import resolve
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.truth import holds, names_a_place

FACTORS = {
    "color": Factor(name="color", kind="categorical", names=("red", "green", "blue")),
    "old": Factor(name="old", kind="binary", names=("no", "yes")),
    "size": Factor(name="size", kind="scalar", low=0.0, high=1.0),
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


def true_of(source: str, **tolerances: float) -> list[bool]:
    found: list[bool] = holds(resolve(parse(source), FACTORS), READINGS, **tolerances).tolist()
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
    assert true_of("position=(0,0)", position_tolerance=0.4) == [True, True, True, False]


def test_sizes_have_a_tolerance_of_their_own() -> None:
    assert true_of("size=0.4", scalar_tolerance=0.1) == [True, True, False, False]


def test_only_formulas_about_places_depend_on_the_tolerance() -> None:
    assert names_a_place(parse("old & ~position=(0,0)"), FACTORS)
    assert not names_a_place(parse("old & color=red"), FACTORS)
