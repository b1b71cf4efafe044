"""Plain versions of what the program does to whole tables at once, for tests to compare with."""

import math
from collections.abc import Sequence

from ebmcli.core.factors import N_FIELD_CELLS, Factor
from ebmcli.core.fields import cell_nodes, floor_of


def hat_weights(value: float, nodes: Sequence[float]) -> list[float]:
    """Linear interpolation weights of a value on evenly spaced nodes: at most two are not 0.

    m_k = max(0, 1 - |value - node_k| / spacing); values outside are moved to the nearest end.
    """
    spacing = nodes[1] - nodes[0]
    inside = min(max(value, nodes[0]), nodes[-1])
    return [max(0.0, 1.0 - abs(inside - node) / spacing) for node in nodes]


def cell_of(factor: Factor, place: tuple[float, float]) -> int:
    """The cell an object belongs to: the one it stands in; places outside go to the edge."""
    floor = floor_of(factor)
    width = (floor.high - floor.low) / N_FIELD_CELLS
    i, j = (
        min(max(math.floor((part - floor.low) / width), 0), N_FIELD_CELLS - 1) for part in place
    )
    return i * N_FIELD_CELLS + j


def cell_place(factor: Factor, cell: int) -> tuple[float, float]:
    """The middle of a cell."""
    nodes = cell_nodes(factor)
    return nodes[cell // N_FIELD_CELLS], nodes[cell % N_FIELD_CELLS]
