"""The chart of a trace: one panel per quantity, values at their places."""

import numpy as np
import pytest

from ebmcli.charts.traces import HEIGHT, LINE, ROOM, WIDTH, trace_chart
from ebmcli.pictures import MARGIN


def rows(**more: float) -> list[dict[str, float]]:
    sigmas = (10.0, 1.0, 0.1)
    return [{"sigma": s, "energy": float(i), **more} for i, s in enumerate(sigmas)]


def test_every_quantity_that_occurs_has_a_panel() -> None:
    heights = [
        trace_chart(rows(**more)).height
        for more in ({}, {"acceptance": 0.5}, {"acceptance": 0.5, "r_hat": 1.0, "unknown": 2.0})
    ]
    assert heights[2] - heights[1] == heights[1] - heights[0] > HEIGHT


def test_points_stand_at_their_noise_level_and_value() -> None:
    """Energy 0, 1, 2 at sigma 10, 1, 0.1: from the lower left to the upper right of the box."""
    pixels = np.asarray(trace_chart(rows(), title="color=red"))
    y, x = np.nonzero((pixels == LINE).all(axis=2))
    left = MARGIN + ROOM
    assert (x.min(), x.max()) == (left - 2, left + WIDTH + 2)
    assert y.max() - y.min() == HEIGHT + 4
    assert y[x == x.min()].mean() > y[x == x.max()].mean()
    middle = np.abs(x - (left + WIDTH / 2)) < 2
    assert y[middle].mean() == pytest.approx((y.min() + y.max()) / 2, abs=2)


def test_one_row_and_equal_values_can_be_drawn() -> None:
    assert trace_chart(rows()[:1]).width == ROOM + WIDTH + 2 * MARGIN
    assert trace_chart([{"sigma": 1.0, "log_p": 0.0}, {"sigma": 0.5}]).height > HEIGHT


def test_rows_without_a_quantity_are_refused() -> None:
    with pytest.raises(ValueError, match="a quantity of PANELS"):
        trace_chart([{"sigma": 1.0}])
