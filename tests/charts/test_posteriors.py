"""Charts: bars where they belong, axes that hold the numbers, and nothing outside the sheet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcli.charts.posteriors import (
    BLUE,
    LEFT,
    ORANGE,
    PANEL,
    HistogramPanel,
    ReliabilityPanel,
    bar_shares,
    histogram_chart,
    nice_ticks,
    reliability_chart,
    shown_range,
)


def panel(*, right: float, confidence: float) -> ReliabilityPanel:
    """Two bins, the right one empty."""
    return ReliabilityPanel(
        title="noise level 1",
        note="ECE",
        count=np.array([10.0, 0.0]),
        confidence=np.array([confidence, 0.0]),
        right=np.array([right, 0.0]),
    )


def colored(sheet: object, color: tuple[int, int, int]) -> np.ndarray:
    """Where a sheet has a colour, (H, W)."""
    return (np.asarray(sheet) == color).all(-1)


def test_a_bar_is_as_high_as_the_share_that_is_right() -> None:
    """Half a panel wide; what the orange line and the diagonal cover is lost to it."""
    low, high = (
        colored(reliability_chart("t", [panel(right=share, confidence=share)]), BLUE)
        for share in (0.25, 0.75)
    )
    for found, share in ((low, 0.25), (high, 0.75)):
        rows = np.nonzero(found.any(1))[0]
        assert rows.max() - rows.min() == pytest.approx(share * PANEL, abs=3)
        columns = np.nonzero(found.any(0))[0]
        assert columns.min() == pytest.approx(LEFT, abs=2)
        assert columns.max() == pytest.approx(LEFT + PANEL / 2, abs=2)


def test_the_orange_line_is_as_long_as_the_gap() -> None:
    sheet = reliability_chart("t", [panel(right=0.2, confidence=0.9)])
    rows = np.nonzero(colored(sheet, ORANGE).any(1))[0]
    assert rows.max() - rows.min() == pytest.approx(0.7 * PANEL, abs=4)


def test_both_histograms_are_on_the_sheet_and_apart() -> None:
    source = np.random.default_rng(0)
    sides = HistogramPanel(
        title="noise level 1", note="", yes=source.normal(5, 1, 500), no=source.normal(-5, 1, 700)
    )
    sheet = histogram_chart("t", [sides], axis="nats")
    blue, orange = (np.nonzero(colored(sheet, c)[:-40].any(0))[0] for c in (BLUE, ORANGE))
    middle = LEFT + PANEL / 2
    assert np.median(orange) < middle < np.median(blue)


def test_panels_stand_three_in_a_row() -> None:
    sizes = [
        reliability_chart("t", [panel(right=0.5, confidence=0.5)] * n).size for n in (1, 2, 3, 4)
    ]
    assert sizes[0][1] == sizes[1][1] == sizes[2][1] < sizes[3][1]
    assert sizes[2][0] == sizes[3][0] > sizes[1][0]
    with pytest.raises(ValueError, match="needs a panel"):
        reliability_chart("t", [])


def test_extreme_samples_are_drawn_too() -> None:
    """None at all, one number only, and numbers far beyond the others."""
    wide = np.r_[np.zeros(1000), 1e6]
    for yes, no in (
        (np.array([]), np.array([1.0])),
        (np.zeros(5), np.zeros(5)),
        (wide, -wide),
    ):
        low, high = shown_range(yes, no)
        assert low < 0 < high
        histogram_chart("t", [HistogramPanel(title="", note="", yes=yes, no=no)], axis="nats")
    assert shown_range(wide, wide)[1] < 1


def test_shares_add_up_and_far_values_go_to_the_ends() -> None:
    shares = bar_shares(np.array([-9.0, 0.1, 0.6, 7.0]), np.array([0.0, 0.5, 1.0]))
    assert shares.tolist() == [0.5, 0.5]
    assert bar_shares(np.array([]), np.array([0.0, 1.0])).tolist() == [0.0]


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    assert 1 <= len(ticks) <= 5
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    steps = np.diff(ticks)
    if len(steps):
        digit = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
        assert min(abs(digit - round_) for round_ in (1, 2, 5)) < 1e-3
        assert np.allclose(steps, steps[0])
