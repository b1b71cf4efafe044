"""Look at a dataset file: what it says about itself, what is in it, whether it is intact."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.expression import number_text
from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_info, read_labels, verify_digest
from ebmcli.datasets.object_lists import decode_things
from ebmcli.pictures import check_png, labelled_grid, write_png

N_SHOWN = 32  # images on a contact sheet; chosen
CAPTION_WIDTH = 18  # characters that fit under 128 pixels


@dataclass(frozen=True, kw_only=True)
class FactorSummary:
    """How the labels of one factor are spread.

    ``counts`` per name, or empty; ``ranges`` the least, mean and greatest of a number, one row
    per coordinate. A list of objects has ``n_objects`` and a summary of every part.
    """

    factor: Factor
    counts: dict[str, int]
    ranges: tuple[tuple[float, float, float], ...]
    n_objects: int = 0
    parts: tuple["FactorSummary", ...] = ()

    @property
    def text(self) -> str:
        """One line for people."""
        if self.parts:
            return f"{self.n_objects} objects"
        if self.counts:
            digits = any(name.isdigit() for name in self.counts)
            sign = ": " if digits else " "  # not "1 9, 2 4"
            return ", ".join(f"{name}{sign}{count}" for name, count in self.counts.items())
        axes = ("x ", "y ") if len(self.ranges) == 2 else ("",)
        unit = f" {self.factor.unit}" if self.factor.unit else ""
        if not self.ranges:
            return "none"
        spans = [
            f"{axis}{low:.3g} to {high:.3g}, mean {mean:.3g}"
            for axis, (low, mean, high) in zip(axes, self.ranges, strict=True)
        ]
        return "; ".join(spans) + unit

    def to_dict(self) -> Any:
        """Counts by name, ranges per coordinate, or both for every part of objects."""
        if self.parts:
            parts = {part.factor.name: part.to_dict() for part in self.parts}
            return {"n_objects": self.n_objects, "parts": parts}
        spans = [dict(zip(("low", "mean", "high"), span, strict=True)) for span in self.ranges]
        return self.counts or spans


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """A dataset's header and the spread of its labels."""

    info: DatasetInfo
    factors: tuple[FactorSummary, ...]
    sheet: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return self.info.to_dict() | {
            "labels": {summary.factor.name: summary.to_dict() for summary in self.factors},
            "sheet": None if self.sheet is None else str(self.sheet),
        }


def show_dataset(
    path: Path, *, sheet: Path | None = None, overwrite: bool = False
) -> DatasetSummary:
    """Summarise a dataset, and draw its first images with their labels if ``sheet`` is given.

    Raises:
        FileFormatError: The dataset cannot be read.
        ConfigError: The sheet's name is not that of a PNG.
        OutputExistsError, OutputError: The sheet is there, or cannot be written.
    """
    if sheet is not None:
        check_png(sheet)
    info = read_info(path)
    factors = tuple(_summary(info, factor) for factor in info.factors.values())
    if sheet is not None:
        n_shown = min(N_SHOWN, info.n_images)
        grid = labelled_grid(
            read_images(path, 0, n_shown),
            _captions(info, n_shown),
            title=f"{path.name}: {info.n_images} images, {info.space}",
            scale=max(1, 128 // info.size),
        )
        write_png(sheet, grid, overwrite=overwrite)
    return DatasetSummary(info=info, factors=factors, sheet=sheet)


def verify_dataset(path: Path) -> DatasetInfo:
    """Check the images and labels against the recorded digest.

    Raises:
        DigestError: They are not those that were written.
    """
    return verify_digest(path)


def _summary(info: DatasetInfo, factor: Factor) -> FactorSummary:
    """Counts or ranges of one factor."""
    labels = read_labels(info.path, factor.name, 0, info.n_images)
    if factor.kind == "objects":
        return _objects_summary(factor, labels)
    return _spread(factor, labels)


def _objects_summary(factor: Factor, rows: NDArray[Any]) -> FactorSummary:
    """How many objects there are in all pictures, and how their parts are spread."""
    present = rows[rows[..., 0] > 0]
    parts = tuple(
        _spread(part, present[:, [factor.columns.index(column) for column in part.columns]])
        for part in factor.parts
    )
    return FactorSummary(factor=factor, counts={}, ranges=(), n_objects=len(present), parts=parts)


def _spread(factor: Factor, labels: NDArray[Any]) -> FactorSummary:
    """Counts of names or ranges of numbers."""
    if factor.names:
        counts = np.bincount(labels.ravel().astype(np.int64), minlength=len(factor.names))
        named = zip(factor.names, counts.tolist(), strict=True)
        return FactorSummary(factor=factor, counts=dict(named), ranges=())
    columns = labels.reshape(len(labels), -1).astype(np.float64).T if len(labels) else ()
    ranges = tuple((float(c.min()), float(c.mean()), float(c.max())) for c in columns)
    return FactorSummary(factor=factor, counts={}, ranges=ranges)


def _captions(info: DatasetInfo, n_shown: int) -> list[str]:
    """The labels of the first images as lines of text; of yes/no factors those that hold."""
    words: list[list[str]] = [[] for _ in range(n_shown)]
    for factor in info.factors.values():
        for i, label in enumerate(read_labels(info.path, factor.name, 0, n_shown)):
            words[i] += filter(None, [_label_text(factor, label)])
    if all(factor.kind == "binary" for factor in info.factors.values()):
        return ["\n".join(textwrap.wrap(" ".join(each), width=CAPTION_WIDTH)) for each in words]
    return ["\n".join(each) for each in words]


def _label_text(factor: Factor, label: Any) -> str:
    """One label as a caption; a factor that is ``no`` has none."""
    if factor.kind == "objects":
        return _objects_text(factor, label)
    if factor.kind == "binary":
        return factor.name if factor.names[int(label)] == "yes" else ""
    if factor.names:
        return f"{factor.names[int(label)]}"
    numbers = ",".join(number_text(round(float(part), 2)) for part in np.atleast_1d(label))
    return f"({numbers})" if factor.kind == "position" else f"{factor.name} {numbers}"


def _objects_text(factor: Factor, rows: NDArray[Any]) -> str:
    """The objects of one picture from left to right, a line each: the names of each."""
    named = [part.name for part in factor.parts if part.names]
    at = factor.columns.index("x") if "x" in factor.columns else 0
    things = decode_things(factor, rows[np.argsort(rows[:, at], kind="stable")])
    return "\n".join(" ".join(str(thing[name]) for name in reversed(named)) for thing in things)
