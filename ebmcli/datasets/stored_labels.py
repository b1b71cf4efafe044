"""Labels as they are stored: written, and on reading checked to be values of their factor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.factors import Factor, Label
from ebmcli.datasets.object_lists import check_things, encode_things
from ebmcli.errors import FileFormatError

SLACK = 1e-6  # of the largest number of a range: labels are kept in float32
_HINT = "mend its source and write it again: ebm import-dataset or ebm render-dataset"


def encode_labels(factor: Factor, values: Sequence[Label]) -> NDArray[Any]:
    """Labels as they are stored: the index of a name, numbers, or rows of objects."""
    if factor.kind == "objects":
        return encode_things(factor, values)
    if factor.names:
        return np.array([factor.names.index(str(value)) for value in values], dtype=np.int64)
    shape = (-1, 2) if factor.kind == "position" else (-1,)
    return np.array(values, dtype=np.float32).reshape(shape)


def row_shape(factor: Factor) -> tuple[int, ...]:
    """The shape of one label of a factor."""
    if factor.kind == "objects":
        return (factor.most, len(factor.columns))
    return (2,) if factor.kind == "position" else ()


def check_labels(path: Path, factor: Factor, labels: NDArray[Any], *, start: int = 0) -> None:
    """Refuse labels that would train an energy of something else, or none at all.

    Args:
        path: For messages.
        factor: What the labels are values of.
        labels: As ``hdf5`` stores them: (n,), (n, 2), or lists of objects (n, most, columns).
        start: The row of the first of them, counted from 0.

    Raises:
        FileFormatError: Labels that are not finite, outside the range of the factor, or indices
            without a name; it tells the first such row and how many there are.
    """
    if factor.kind in ("scalar", "position") and not -np.inf < factor.low < factor.high < np.inf:
        problem = f"{factor.name} has the range {factor.low:g} to {factor.high:g}"
        raise FileFormatError(path, f"{problem}, which holds nothing", hint=_HINT)
    rows = labels.reshape(len(labels), -1)
    _refuse(path, factor, rows, ~np.isfinite(rows), "that are not finite numbers", start=start)
    if factor.kind == "objects":
        problem = check_things(factor, labels)
        if problem:
            raise FileFormatError(path, problem, hint=_HINT)
    elif factor.names:
        wrong = (rows < 0) | (rows >= len(factor.names)) | (rows != np.rint(rows))
        known = f"without a name; its {len(factor.names)} names have the indices from 0"
        _refuse(path, factor, rows, wrong, known, start=start)
    else:
        slack = SLACK * max(abs(factor.low), abs(factor.high))
        wrong = (rows < factor.low - slack) | (rows > factor.high + slack)
        outside = f"outside its range, {factor.low:g} to {factor.high:g}"
        _refuse(path, factor, rows, wrong, outside, start=start)


def some_of(names: Sequence[str], *, most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _refuse(
    path: Path, factor: Factor, rows: NDArray[Any], wrong: NDArray[Any], what: str, *, start: int
) -> None:
    """Raise where any row is wrong: the first one, its values, and how many there are."""
    bad = wrong.any(axis=1)
    if not bad.any():
        return
    first = int(bad.argmax())
    shown = ", ".join(f"{number:g}" for number in rows[first].tolist()[:4])
    problem = (
        f"{int(bad.sum())} of {len(rows)} labels of {factor.name} {what}; "
        f"the first is row {start + first}, counted from 0: {shown}"
    )
    raise FileFormatError(path, f"has {problem}", hint=_HINT)
