"""Factors: cells, nodes, and the memberships of points and ranges, by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import hat_weights

from ebmcli.core.expression import Literal
from ebmcli.core.factors import (
    POINT_WIDTH,
    Factor,
    as_typed,
    point_membership,
)
from ebmcli.core.logic import range_rows

COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))
OLD = Factor(name="old", kind="binary", names=("no", "yes"))
SIZE = Factor(name="size", kind="scalar", low=0.2, high=0.6, unit="world units")
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
ALL = [COLOR, OLD, SIZE, PLACE]
THINGS = Factor(name="object", kind="objects", parts=(COLOR, PLACE, SIZE), most=3)


@pytest.mark.parametrize(
    ("factor", "n_cells", "first", "last"),
    [
        (COLOR, 3, "red", "blue"),
        (OLD, 2, "no", "yes"),
        (SIZE, 17, 0.2, 0.6),
        (PLACE, 289, (-1.0, -1.0), (1.0, 1.0)),
    ],
    ids=str,
)
def test_cells_cover_the_values(factor: Factor, n_cells: int, first: object, last: object) -> None:
    assert factor.n_cells == n_cells
    assert len({factor.cell_value(cell) for cell in range(n_cells)}) == n_cells
    assert factor.cell_value(0) == first
    assert factor.cell_value(n_cells - 1) == pytest.approx(last)


def test_places_run_along_y_first() -> None:
    assert PLACE.cell_value(1) == (-1.0, -0.875)
    assert PLACE.cell_value(17) == (-0.875, -1.0)


@pytest.mark.parametrize("factor", [*ALL, THINGS], ids=lambda factor: factor.name)
def test_a_factor_survives_plain_types(factor: Factor) -> None:
    assert Factor.from_dict(factor.to_dict()) == factor


@given(st.floats(-2, 2))
@settings(deadline=None)
def test_hat_weights_are_the_interpolation_of_the_value(value: float) -> None:
    """sum_k w_k = 1 and sum_k w_k node_k = value, moved into the range."""
    weights = hat_weights(value, PLACE.nodes)
    assert sum(weight > 0 for weight in weights) <= 2
    assert math.fsum(weights) == pytest.approx(1, abs=1e-12)
    mean = math.fsum(w * node for w, node in zip(weights, PLACE.nodes, strict=True))
    assert mean == pytest.approx(min(1, max(-1, value)), abs=1e-12)


def test_a_name_belongs_to_its_cell_alone() -> None:
    assert point_membership(COLOR, "green") == [0, 1, 0]
    assert point_membership(OLD, "yes") == [0, 1]


def test_a_point_fades_like_a_gaussian_of_half_a_spacing_and_ends_at_three() -> None:
    """Between nodes 8 and 9, at 1/4 of the way: distances 1/4, 3/4, 5/4, 7/4 spacings."""
    assert POINT_WIDTH == 0.5
    membership = point_membership(SIZE, 0.4 + SIZE.spacing / 4)
    nearest = math.exp(-0.5 * 0.5**2)
    expected = {
        8: 1.0,
        9: math.exp(-0.5 * 1.5**2) / nearest,
        7: math.exp(-0.5 * 2.5**2) / nearest,
        10: 0.0,  # 3.5 h away
        6: 0.0,
        0: 0.0,
    }
    for cell, value in expected.items():
        assert membership[cell] == pytest.approx(value, rel=1e-9)


@given(st.floats(-1, 1), st.floats(-1, 1))
@settings(deadline=None)
def test_a_place_is_the_product_of_its_axes_and_its_nearest_node_belongs_fully(
    x: float, y: float
) -> None:
    membership = point_membership(PLACE, (x, y))
    axis = Factor(name="axis", kind="scalar", low=-1.0, high=1.0)
    xs, ys = point_membership(axis, x), point_membership(axis, y)
    assert membership == [mx * my for mx in xs for my in ys]
    assert max(membership) == 1
    assert min(membership) >= 0
    nodes = [PLACE.cell_value(k) for k in range(PLACE.n_cells)]
    distances = [math.dist((x, y), node) for node in nodes if isinstance(node, tuple)]
    assert distances[membership.index(1)] == pytest.approx(min(distances))


def share_of(comparison: str, bound: float) -> list[float]:
    """The share of every cell that satisfies a comparison."""
    statement = Literal("size", comparison, bound)
    return range_rows([statement], SIZE).get((True,), [0.0] * SIZE.n_cells)


@given(st.floats(0.2, 0.6))
@settings(deadline=None)
def test_a_range_holds_the_share_of_a_uniform_value(bound: float) -> None:
    """A uniform value has 1/32 of its mass at each end node, 1/16 at the others."""
    prior = [1 / 32, *[1 / 16] * 15, 1 / 32]
    above, below = share_of(">", bound), share_of("<", bound)
    assert [a + b for a, b in zip(above, below, strict=True)] == pytest.approx([1.0] * 17)
    assert above == sorted(above)
    mass = math.fsum(p * m for p, m in zip(prior, above, strict=True))
    assert mass == pytest.approx((0.6 - bound) / 0.4, abs=1e-12)


def test_a_node_on_the_bound_belongs_by_half() -> None:
    above = share_of(">", 0.4)
    assert above == pytest.approx([0.0] * 8 + [0.5] + [1.0] * 8, abs=1e-12)


def test_objects_have_their_parts_in_columns() -> None:
    assert THINGS.columns == ("present", "color", "x", "y", "size")
    assert THINGS.part("size") == SIZE
    with pytest.raises(KeyError):
        THINGS.part("shape")


@pytest.mark.parametrize(
    ("low", "high", "number", "typed"),
    [
        (-1.0, 1.0, 0.12345, 0.12),
        (-1.0, 1.0, -0.0012, 0.0),
        (0.24, 0.36, 0.2567, 0.26),
        (0.0, 0.004, 0.00123, 0.0012),
        (0.1264, 0.1283, 0.12777, 0.1278),
        (0.1264, 0.1283, 0.12641, 0.1264),
        (0.123456, 0.128, 0.123457, 0.1235),
        (0.123466, 0.128, 0.12347, 0.1235),
        (0.12346, 0.9, 0.12347, 0.12346),
        (0.0, 5000.0, 1234.567, 1234.57),
    ],
)
def test_a_number_as_typed_is_short_and_in_range(
    low: float, high: float, number: float, typed: float
) -> None:
    factor = Factor(name="depth", kind="scalar", low=low, high=high)
    assert as_typed(factor, number) == typed
    assert low <= as_typed(factor, number) <= high
