"""Curves to look at: the trace of chains, a panel per quantity over the noise level."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from ebmcli.pictures import FAINT, INK, LABEL_SIZE, MARGIN, PAPER, TITLE_SIZE, shorten

WIDTH, HEIGHT = 460, 120  # pixels of the box of one panel, chosen
ROOM = 64  # pixels to the left of a box, for its numbers
LINE = (38, 92, 153)
GUIDE = (190, 190, 196)

PANELS: dict[str, tuple[str, float | None]] = {  # key of a row -> words, and where a guide stands
    "energy": ("mean energy, nats", None),
    "log_p": ("mean log P(f | x)", 0.0),
    "acceptance": ("acceptance", None),
    "step": ("step h, in units of sigma^2", None),
    "r_hat": ("R-hat of the energies; 1 is mixed", 1.0),
    "ess": ("effective sample size of the energies", None),
    "particles": ("effective particles", None),
    "log_z": ("log Z, nats", None),
}


def trace_chart(rows: Sequence[Mapping[str, float]], *, title: str = "") -> Image.Image:
    """A sheet with one panel for each quantity of PANELS that occurs in the rows.

    Args:
        rows: One per noise level, each with ``sigma``; other keys may be absent in some.
        title: One line at the top, cut to the sheet's width.

    Raises:
        ValueError: No row has a quantity to draw.
    """
    shown = [key for key in PANELS if any(key in row for row in rows)]
    if not shown:
        raise ValueError("a chart needs rows with a quantity of PANELS")
    pitch = HEIGHT + 2 * LABEL_SIZE + 22
    top = MARGIN + TITLE_SIZE + 12
    size = (ROOM + WIDTH + 2 * MARGIN, top + len(shown) * pitch + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    large = ImageFont.load_default(size=TITLE_SIZE)
    draw.text((MARGIN, MARGIN), shorten(title, large, size[0] - 2 * MARGIN), INK, large)
    ends = _ends([math.log(row["sigma"]) for row in rows])
    for number, key in enumerate(shown):
        points = [(math.log(row["sigma"]), row[key]) for row in rows if key in row]
        _panel(draw, points, key=key, corner=(MARGIN + ROOM, top + number * pitch), ends=ends)
    return sheet


def _panel(
    draw: ImageDraw.ImageDraw,
    points: Sequence[tuple[float, float]],
    *,
    key: str,
    corner: tuple[int, int],
    ends: tuple[float, float],
) -> None:
    """One quantity: noise falls to the right, numbers stand at the ends of both axes."""
    words, guide = PANELS[key]
    left, upper = corner[0], corner[1] + LABEL_SIZE + 6
    low, high = _ends([value for _, value in points] + ([] if guide is None else [guide]))
    font = ImageFont.load_default(size=LABEL_SIZE)

    def place(log_sigma: float, value: float) -> tuple[float, float]:
        across = (ends[1] - log_sigma) / (ends[1] - ends[0])
        return left + across * WIDTH, upper + (high - value) / (high - low) * HEIGHT

    draw.text((left, corner[1]), words, INK, font)
    draw.rectangle((left, upper, left + WIDTH, upper + HEIGHT), outline=GUIDE)
    if guide is not None:
        draw.line([place(ends[1], guide), place(ends[0], guide)], fill=GUIDE)
    path = [place(*point) for point in points]
    if len(path) > 1:
        draw.line(path, fill=LINE, width=2)
    for x, y in path:
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=LINE)
    for value, y in ((high, upper), (low, upper + HEIGHT - LABEL_SIZE)):
        text = f"{value:.4g}"
        draw.text((left - 6 - font.getlength(text), y), text, FAINT, font)
    last = f"{math.exp(ends[0]):.2g}"
    draw.text((left, upper + HEIGHT + 3), f"sigma {math.exp(ends[1]):.2g}", FAINT, font)
    draw.text((left + WIDTH - font.getlength(last), upper + HEIGHT + 3), last, FAINT, font)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest, a little apart where all are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
