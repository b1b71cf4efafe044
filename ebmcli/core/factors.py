"""Factors: the variables of a scene, their values, and the cells a posterior speaks about.

A factor has K cells. For a categorical factor they are its names, for a binary one ``no`` and
``yes``, for a scalar K nodes spread over [low, high], for a position a square grid of nodes over
[low, high]^2 (x slow, y fast). Lists of objects have cells of the floor, each with outcomes that
exclude one another in that cell only, see ``fields``. Notation: k a cell, c a value, m_k(c) the
membership of cell k in the event "the value is c", in [0, 1].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["categorical", "binary", "scalar", "position", "objects"]
Value = str | float | tuple[float, float]
Things = list[dict[str, Value]]  # the objects of one picture: of each the value of every part
Label = Value | Things

N_SCALAR_CELLS = 17  # chosen: nodes 1/16 of the range apart
N_POSITION_CELLS = 17  # per axis; chosen: nodes 0.125 apart on [-1, 1]
N_FIELD_CELLS = 12  # per axis of the floor, for objects; chosen: no two share a cell in ``clutter``
POINT_WIDTH = 0.5  # spacings; chosen: a whole spacing leaves one position in five over 0.2 away


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One variable of a scene, such as color or position.

    ``names`` are the values of a categorical factor, ("no", "yes") for a binary one, empty
    otherwise; ``low``, ``high`` the range of a scalar or of both coordinates of a position;
    ``unit`` is text for people ("world units"). A factor of kind ``objects`` is a list of up to
    ``most`` objects, each with a value of every factor in ``parts``; a trained concept also knows
    the ``fewest`` that a picture it learned from shows, which makes it no other factor.
    """

    name: str
    kind: Kind
    names: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    parts: tuple["Factor", ...] = ()
    most: int = 0
    fewest: int = field(default=0, compare=False)

    def part(self, name: str) -> "Factor":
        """The part of that name.

        Raises:
            KeyError: There is none.
        """
        return {part.name: part for part in self.parts}[name]

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns of a stored label mean: presence first for objects, else the value."""
        if self.kind == "objects":
            return ("present", *(column for part in self.parts for column in part.columns))
        return ("x", "y") if self.kind == "position" else (self.name,)

    @property
    def n_cells(self) -> int:
        """The number K of cells; for objects cells of the floor times outcomes."""
        if self.kind == "objects":
            return N_FIELD_CELLS**2 * self.n_outcomes
        if self.kind == "scalar":
            return N_SCALAR_CELLS
        if self.kind == "position":
            return N_POSITION_CELLS**2
        return len(self.names)

    @property
    def n_outcomes(self) -> int:
        """What one cell of the floor can show: nothing, or any combination of names."""
        return 1 + math.prod(len(part.names) for part in self.parts if part.names)

    @property
    def n_groups(self) -> int:
        """Groups of cells that exclude one another: one, or one per cell of the floor."""
        return N_FIELD_CELLS**2 if self.kind == "objects" else 1

    @property
    def spacing(self) -> float:
        """Distance between neighbouring nodes of a scalar or a position, in ``unit``."""
        nodes = N_SCALAR_CELLS if self.kind == "scalar" else N_POSITION_CELLS
        return (self.high - self.low) / (nodes - 1)

    @property
    def nodes(self) -> tuple[float, ...]:
        """The nodes of a scalar, or of one axis of a position; empty for names."""
        if self.kind not in ("scalar", "position"):
            return ()
        count = N_SCALAR_CELLS if self.kind == "scalar" else N_POSITION_CELLS
        return tuple(self.low + i * self.spacing for i in range(count))

    def cell_value(self, cell: int) -> Value:
        """The value at the centre of a cell."""
        if self.kind == "scalar":
            return self.nodes[cell]
        if self.kind == "position":
            i, j = divmod(cell, N_POSITION_CELLS)
            return (self.nodes[i], self.nodes[j])
        return self.names[cell]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for YAML, JSON and file attributes."""
        plain: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == "objects":
            plain |= {"parts": [part.to_dict() for part in self.parts], "most": self.most}
            plain |= {"fewest": self.fewest} if self.fewest else {}
        elif self.names:
            plain["names"] = list(self.names)
        else:
            plain |= {"low": self.low, "high": self.high, "unit": self.unit}
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Factor":
        """The inverse of :meth:`to_dict`."""
        names = tuple(plain.get("names", ()))
        parts = tuple(cls.from_dict(part) for part in plain.get("parts", ()))
        return cls(**{**plain, "names": names, "parts": parts})


def difference(factor: Factor, other: Factor) -> str:
    """In what a factor differs from another of the same name, as "is from 0 to 9, not 0 to 8"."""
    if factor.kind != other.kind:
        return f"is a {factor.kind}, not a {other.kind}"
    if factor.names != other.names:
        return f"is one of {', '.join(factor.names)}, not of {', '.join(other.names)}"
    if (factor.low, factor.high) != (other.low, other.high):
        mine, theirs = (f"{one.low:.9g} to {one.high:.9g}" for one in (factor, other))
        return f"is from {mine}, not {theirs}"
    return "has other parts" if factor.parts != other.parts else "has another unit"


def as_typed(factor: Factor, number: float) -> float:
    """A number or coordinate as a person would type it: two decimals, more for a narrow range.

    A tenth of the range keeps one digit; rounding leads out of [low, high] nowhere.
    """
    span = factor.high - factor.low
    digits = max(2, 1 - math.floor(math.log10(span))) if span > 0 else 2
    return min(max(round(number, digits), factor.low), factor.high) + 0.0  # no minus zero


def point_membership(factor: Factor, value: Value) -> list[float]:
    """Membership of every cell in the event "the value is c", highest value 1.

    Names: 1 for the name, 0 elsewhere. Scalars and positions: exp(-d^2 / (2 h^2)) with d the
    distance of the node from c and h half a spacing, cut to 0 beyond 3 h and scaled so that the
    nearest node has 1. On [-1, 1] a position "is" c within about 0.06 per coordinate.
    """
    if factor.kind in ("categorical", "binary"):
        return [1.0 if name == value else 0.0 for name in factor.names]
    assert not isinstance(value, str)
    centre = value if isinstance(value, tuple) else (value,)
    axes = [fading(factor.nodes, c, spacing=factor.spacing) for c in centre]
    if factor.kind == "scalar":
        return axes[0]
    return [mx * my for mx in axes[0] for my in axes[1]]


def fading(nodes: Sequence[float], centre: float, *, spacing: float) -> list[float]:
    """exp(-d^2 / (2 h^2)) of every node, h half a spacing, 0 beyond 3 h, the nearest node 1."""
    axis = [math.exp(-0.5 * ((node - centre) / (POINT_WIDTH * spacing)) ** 2) for node in nodes]
    return [m / max(axis) if m > 0.011 * max(axis) else 0.0 for m in axis]
