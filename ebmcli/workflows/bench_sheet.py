"""``logic.png``: a strip of pictures per kind of formula, by our rule and by the best other."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.evaluation.formulas import ROWS
from ebmcli.pictures import labelled_grid, write_png
from ebmcli.workflows.bench_compare import leads, line_of, measured_rows, rows_of
from ebmcli.workflows.bench_plan import OURS, Line

COLUMNS = 8  # pictures of a strip
SCALE = 3  # sheet pixels per picture pixel
LABEL_WIDTH, LABEL_LINES = 26, 4  # characters and lines of a label; longer formulas are cut


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture to show: the first of a formula."""

    formula: str
    image: NDArray[np.uint8]  # (S, S, 3)


def shown_lines(document: dict[str, Any]) -> list[tuple[str, Line]]:
    """Title and line of every strip: two per kind of formula where there is another rule."""
    found = []
    for row in measured_rows(document, ROWS):
        rows = rows_of(document, row)
        rules = [OURS] if OURS in rows else []
        rules += [one.rule for one in leads(document, [row])[:1]]
        found += [(f"{row}, {rule}", line_of(rows[rule])) for rule in rules]
    return found


def shown_groups(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups whose first pictures a strip shows: one per formula, refused ones left out."""
    drawn = {group["formula"]: group for group in reversed(row["groups"]) if "right" in group}
    return list(reversed(drawn.values()))[:COLUMNS]


def logic_sheet(
    strips: Sequence[tuple[str, Sequence[Sample]]], path: Path, document: dict[str, Any]
) -> None:
    """Write the sheet; formulas stand below the pictures, the kind and rule above them.

    Args:
        strips: Title and pictures of each; nothing is written where there are none.
        path: The PNG, replaced where it is there.
        document: The results, whose command goes into the file.
    """
    shown = [(title, list(samples)[:COLUMNS]) for title, samples in strips if samples]
    if not shown:
        return
    size = shown[0][1][0].image.shape[0]
    columns = max(len(samples) for _, samples in shown)
    images, labels = [], []
    for title, samples in shown:
        images += [sample.image for sample in samples]
        labels += [f"{title}\n{_wrapped(sample.formula)}" for sample in samples]
        missing = columns - len(samples)
        images += [np.full((size, size, 3), 250, dtype=np.uint8)] * missing
        labels += [""] * missing
    sheet = labelled_grid(
        np.stack(images), labels, title="ebm bench logic", columns=columns, scale=SCALE
    )
    write_png(path, sheet, {"ebm:command": document["command"]}, overwrite=True)


def _wrapped(formula: str) -> str:
    """A formula on a few short lines."""
    lines = textwrap.wrap(formula, LABEL_WIDTH, break_on_hyphens=False)
    cut = " ..." if len(lines) > LABEL_LINES else ""
    return "\n".join(lines[:LABEL_LINES]) + cut
