"""Charts of a posterior, drawn with Pillow: reliability diagrams and histograms of evidence.

A chart is a sheet of panels, one per noise level, three in a row. Everything is drawn twice as
large and reduced, so that slanted lines are smooth.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ebmcli.pictures import FAINT, INK, LABEL_SIZE, PAPER, TITLE_SIZE, font_of

Numbers = NDArray[np.float64]
Color = tuple[int, int, int]

FINE = 2  # drawn pixels per pixel of the sheet
COLUMNS = 3
PANEL, COUNTS = 210, 36  # pixels: side of a plot, height of the counts above it
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 46, 42  # pixels round a plot: numbers, words
HEAD, FOOT = 44, 34  # pixels above and below all panels
GRID = (224, 224, 220)
BLUE, ORANGE = (59, 110, 160), (217, 120, 30)  # apart for the colour-blind, too
PALE_BLUE, PALE_ORANGE, BOTH = (150, 182, 212), (240, 190, 140), (188, 174, 166)
N_BARS = 40  # of a histogram; chosen
SHOWN = 0.995  # share of the values between the ends of a histogram, on each side


@dataclass(frozen=True, kw_only=True)
class ReliabilityPanel:
    """Bins of equal width over [0, 1]; bins without predictions have a count of 0."""

    title: str
    note: str
    count: Numbers  # (n_bins,)
    confidence: Numbers  # mean of the bin, (n_bins,); anything where the count is 0
    right: Numbers  # share of the bin that is right, (n_bins,)


@dataclass(frozen=True, kw_only=True)
class HistogramPanel:
    """Two samples of one number."""

    title: str
    note: str
    yes: Numbers  # (n,)
    no: Numbers  # (m,)


P = TypeVar("P", ReliabilityPanel, HistogramPanel)


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """A square plot: from numbers to pixels of the fine sheet."""

    draw: ImageDraw.ImageDraw
    left: float
    top: float
    low: float  # the numbers at the left and right ends
    high: float

    def x(self, value: float) -> float:
        return FINE * (self.left + PANEL * (value - self.low) / (self.high - self.low))

    def y(self, share: float) -> float:
        """Of a height in [0, 1]."""
        return FINE * (self.top + PANEL * (1 - share))

    def bar(self, left: float, right: float, share: float, color: Color) -> None:
        """A filled bar from the ground; narrow gaps keep neighbours apart."""
        if share > 0:
            ends = (self.x(left) + FINE / 2, self.x(right) - FINE / 2)
            self.draw.rectangle((ends[0], self.y(share), ends[1], self.y(0)), fill=color)

    def text(self, x: float, y: float, words: str, anchor: str, *, size: int = LABEL_SIZE) -> None:
        """Words at a pixel of the sheet."""
        color = INK if size == TITLE_SIZE else FAINT
        font = font_of(FINE * size)
        self.draw.text((FINE * x, FINE * y), words, color, font, anchor=anchor)

    def frame(self) -> None:
        """The ground line and the left side."""
        sides = [(self.x(self.low), self.y(1)), (self.x(self.low), self.y(0))]
        self.draw.line([*sides, (self.x(self.high), self.y(0))], FAINT, FINE)

    def ticks(self, values: Sequence[float], *, across: bool) -> None:
        """Grid lines with their numbers, along one axis."""
        for value in values:
            if across:
                ends = [(self.x(value), self.y(0)), (self.x(value), self.y(1))]
                at = (self.x(value) / FINE, self.y(0) / FINE + 4, "ma")
            else:
                ends = [(self.x(self.low), self.y(value)), (self.x(self.high), self.y(value))]
                at = (self.left - 5, self.y(value) / FINE, "rm")
            self.draw.line(ends, GRID, FINE)
            self.text(at[0], at[1], f"{value:g}", at[2], size=LABEL_SIZE - 2)


def reliability_chart(title: str, panels: Sequence[ReliabilityPanel]) -> Image.Image:
    """Bars: the share that is right, by confidence; an orange line up or down to the confidence.

    On the diagonal confidence and truth agree. Above a plot: how many predictions a bar has.
    """
    legend = (
        "bar: share that is right    black line: where it should end    "
        "orange: how far it is from there    above: how many predictions"
    )

    def draw(plot: _Plot, panel: ReliabilityPanel) -> None:
        plot.ticks((0, 0.5, 1), across=True)
        plot.ticks((0.5, 1), across=False)
        width, most = 1 / len(panel.count), max(1.0, float(panel.count.max()))
        for index, count in enumerate(panel.count):
            if count == 0:
                continue
            left, middle = index * width, (index + 0.5) * width
            right = float(panel.right[index])
            plot.bar(left, left + width, right, BLUE)
            height = max(1.0, COUNTS * float(count) / most) / PANEL
            low = plot.y(1 + 4 / PANEL)
            box = (plot.x(left) + FINE, low - FINE * PANEL * height, plot.x(left + width) - FINE)
            plot.draw.rectangle((*box, low), fill=FAINT)
            ends = [(plot.x(middle), plot.y(v)) for v in (right, float(panel.confidence[index]))]
            plot.draw.line(ends, ORANGE, 2 * FINE)
            x, y = ends[1]
            plot.draw.line([(x - 4 * FINE, y), (x + 4 * FINE, y)], ORANGE, 2 * FINE)
        plot.draw.line([(plot.x(0), plot.y(0)), (plot.x(1), plot.y(1))], INK, FINE)
        plot.frame()

    return _sheet(title, legend, "confidence", panels, draw, lambda _: (0.0, 1.0), above=COUNTS)


def histogram_chart(title: str, panels: Sequence[HistogramPanel], *, axis: str) -> Image.Image:
    """Two histograms each, on one axis, which ``axis`` names with its unit.

    Each is as high as its fullest bar: at low noise one is a spike beside which the other, of
    equal area, could not be seen.
    """
    legend = (
        "blue: pictures that show the value    orange: pictures that do not    "
        "each to its fullest bar    black line: no evidence"
    )

    def draw(plot: _Plot, panel: HistogramPanel) -> None:
        plot.ticks(nice_ticks(plot.low, plot.high), across=True)
        edges = np.linspace(plot.low, plot.high, N_BARS + 1)
        sides = [bar_shares(values, edges) for values in (panel.yes, panel.no)]
        sides = [side / (side.max() or 1.0) for side in sides]
        areas = [*sides, np.minimum(*sides)]
        for shares, color in zip(areas, (PALE_BLUE, PALE_ORANGE, BOTH), strict=True):
            for index, share in enumerate(shares):
                plot.bar(edges[index], edges[index + 1], float(share), color)
        for shares, color in zip(sides, (BLUE, ORANGE), strict=True):
            tops = np.repeat(shares, 2)
            outline = zip(np.repeat(edges, 2)[1:-1], tops, strict=True)
            plot.draw.line([(plot.x(x), plot.y(y)) for x, y in outline], color, FINE)
        if plot.low < 0 < plot.high:
            plot.draw.line([(plot.x(0), plot.y(0)), (plot.x(0), plot.y(1))], INK, FINE)
        plot.frame()

    return _sheet(title, legend, axis, panels, draw, lambda panel: shown_range(panel.yes, panel.no))


def shown_range(yes: Numbers, no: Numbers) -> tuple[float, float]:
    """The ends of an axis: nearly all of both samples and 0 between them, never a width of 0."""
    sides = [side for side in (yes, no) if len(side)]
    low = min([0.0, *(float(np.quantile(side, 1 - SHOWN)) for side in sides)])
    high = max([0.0, *(float(np.quantile(side, SHOWN)) for side in sides)])
    room = max(0.03 * (high - low), 1e-3)
    return low - room, high + room


def bar_shares(values: Numbers, edges: Numbers) -> Numbers:
    """Share of the values in each bar; those beyond the ends go into the first and last one."""
    if len(values) == 0:
        return np.zeros(len(edges) - 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    shares: Numbers = counts / len(values)
    return shares


def nice_ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Round numbers inside a range, at most ``most``: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(i * step, 12) for i in range(first, last + 1)]
    return [0.0]


def _sheet(
    title: str,
    legend: str,
    axis: str,
    panels: Sequence[P],
    draw: Callable[[_Plot, P], None],
    reach: Callable[[P], tuple[float, float]],
    *,
    above: int = 0,
) -> Image.Image:
    """A title, panels with their titles, notes and axis, and a legend; ``above`` a plot is room.

    Raises:
        ValueError: There is no panel.
    """
    if not panels:
        raise ValueError("a chart needs a panel")
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    cell = (LEFT + PANEL + RIGHT, TOP + above + PANEL + BOTTOM)
    size = (max(columns * cell[0], 2 * cell[0]), HEAD + rows * cell[1] + FOOT)
    fine = Image.new("RGB", (FINE * size[0], FINE * size[1]), PAPER)
    pen = ImageDraw.Draw(fine)
    for index, panel in enumerate(panels):
        left = index % columns * cell[0] + LEFT
        top = HEAD + index // columns * cell[1] + TOP + above
        low, high = reach(panel)
        plot = _Plot(draw=pen, left=left, top=top, low=low, high=high)
        draw(plot, panel)
        plot.text(left, top - above - 40, panel.title, "la", size=LABEL_SIZE + 1)
        plot.text(left, top - above - 23, panel.note, "la", size=LABEL_SIZE - 1)
        plot.text(left + PANEL / 2, top + PANEL + 20, axis, "ma", size=LABEL_SIZE - 1)
    words = _Plot(draw=pen, left=0, top=0, low=0, high=1)
    words.text(LEFT, 12, title, "la", size=TITLE_SIZE)
    words.text(LEFT, size[1] - FOOT + 6, legend, "la")
    return fine.resize(size, Image.Resampling.BOX)
