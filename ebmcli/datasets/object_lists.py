"""Lists of objects as arrays: N pictures, ``most`` rows each, one column per number.

The columns are ``Factor.columns``: first ``present`` (1, or 0 for a row that pads the list), then
the parts of the factor: a name as its index, a number as it is, a place as x and y. Rows without
an object are 0 throughout.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.factors import Factor, Label, Things, Value
from ebmcli.core.fields import thing_of_row


def encode_things(factor: Factor, lists: Sequence[Label]) -> NDArray[np.float32]:
    """Lists of objects as rows: float32 (N, most, columns).

    Raises:
        ValueError: A list is longer than ``factor.most``.
    """
    rows = np.zeros((len(lists), factor.most, len(factor.columns)), dtype=np.float32)
    for picture, things in zip(rows, lists, strict=True):
        if not isinstance(things, list) or len(things) > factor.most:
            raise ValueError(f"{factor.name} is a list of at most {factor.most} objects")
        for row, thing in zip(picture, things, strict=False):
            row[:] = [1.0, *(n for part in factor.parts for n in _numbers(part, thing[part.name]))]
    return rows


def decode_things(factor: Factor, rows: NDArray[Any]) -> Things:
    """The objects in the rows (most, columns) of one picture."""
    return [thing_of_row(factor, row.tolist()) for row in rows if row[0] > 0]


def check_things(factor: Factor, rows: NDArray[Any]) -> str:
    """What is wrong with rows (N, most, columns); empty if nothing."""
    present = rows[rows[..., 0] > 0]
    for part in factor.parts:
        values = present[:, [factor.columns.index(column) for column in part.columns]]
        low, high = (0, len(part.names) - 1) if part.names else (part.low, part.high)
        slack = 1e-6 * (high - low)  # numbers are kept in float32
        if len(values) and not low - slack <= values.min() <= values.max() <= high + slack:
            return f"has objects with a {part.name} outside its range"
    return ""


def _numbers(part: Factor, value: Value) -> tuple[float, ...]:
    """A value as the numbers of its columns."""
    if isinstance(value, str):
        return (float(part.names.index(value)),)
    return value if isinstance(value, tuple) else (value,)
