"""The part of a judge that reads a list of objects: what stands in each cell of the floor.

Notation: G = n n cells of the floor, x slow, y fast; K outcomes of a cell, 0 for empty, see
``core/fields.py``; w channels. It shares no weights and no data with any energy; the grid of cells
and how a list is read from it (``core/found.py``) are the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebmcli.core.factors import N_FIELD_CELLS, Factor, Things
from ebmcli.core.field_network import REACH, line, on_floor
from ebmcli.core.fields import appearance_of, chance, floor_of
from ebmcli.core.found import found_objects
from ebmcli.core.objective import cross_entropy
from ebmcli.core.targets import field_weights

WIDTH = 64  # channels on the floor
N_LAYERS = 3  # convolutions on the floor: each cell sees three to every side
FINEST = 24  # channels of the maps at full resolution


class ObjectReader(nn.Module):
    """Logits (B, G, K) from a clean picture and the maps that a judge makes of it.

    Maps of every resolution are read where the cells lie in the picture, added up, and refined on
    the floor; where the floor lies is learned.

    Args:
        factor: Of kind ``objects``.
        n_channels: Channels of the picture with its coordinates.
        widths: Channels of the judge's maps, finest first.
    """

    nodes: Tensor

    def __init__(self, factor: Factor, *, n_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.factor = factor
        self.finest = _layer(n_channels, FINEST)
        self.readers = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in (FINEST, *widths))
        self.layers = nn.Sequential(*(_layer(WIDTH, WIDTH) for _ in range(N_LAYERS)))
        self.last = nn.Conv2d(WIDTH, factor.n_outcomes, 1)
        assert self.last.bias is not None
        with torch.no_grad():  # start from what is known without looking: most cells are empty
            self.last.bias.copy_(torch.tensor(chance(factor)[: factor.n_outcomes]).log())
        self.middle = nn.Parameter(torch.zeros(2))
        self.reach = nn.Parameter(torch.tensor(REACH))
        self.register_buffer("nodes", line(N_FIELD_CELLS), persistent=False)

    def forward(self, channels: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Channels (B, n, S, S) and maps (B, width, s, s) of them -> log q (B, G K)."""
        pairs = zip((self.finest(channels), *maps), self.readers, strict=True)
        seen = [on_floor(read(m), self.middle, self.reach, self.nodes) for m, read in pairs]
        logits = self.last(self.layers(torch.stack(seen).sum(0)))
        log_q: Tensor = logits.flatten(2).transpose(1, 2).log_softmax(2).flatten(1)
        return log_q

    def loss(self, log_q: Tensor, rows: Tensor) -> Tensor:
        """Cross-entropy of all cells together, nats per picture, for labels (B, most, columns)."""
        return cross_entropy(log_q, field_weights(self.factor, rows)).mean()

    def rows(self, log_q: Tensor) -> Tensor:
        """The objects that are seen, as labels (B, 2 most, columns).

        What is not read, and names that it is not sure of, are NaN, and make no statement true.
        """
        seen = [found_objects(row, self.factor, sure=True) for row in log_q]
        return torch.stack([rows_of(things, self.factor) for things in seen])


def rows_of(things: Things, factor: Factor) -> Tensor:
    """A list of objects, the most visible first, as rows (2 most, columns) of a label.

    Parts that a thing lacks are NaN, rows without an object 0. There is room for invented objects
    beside true ones, so that they count.
    """
    rows = torch.zeros(2 * factor.most, len(factor.columns))
    named = {part.name: part.names for part in appearance_of(factor)}
    place = floor_of(factor)
    for row, thing in zip(rows, things, strict=False):
        numbers = {"present": 1.0}
        numbers |= {
            name: float(names.index(str(thing[name])))
            for name, names in named.items()
            if name in thing
        }
        numbers |= dict(zip(place.columns, _pair(thing[place.name]), strict=True))
        row[:] = torch.tensor([numbers.get(column, torch.nan) for column in factor.columns])
    return rows


def _pair(value: object) -> tuple[float, float]:
    assert isinstance(value, tuple)
    return value


def _layer(n_in: int, n_out: int) -> nn.Module:
    """A convolution that keeps the size, with batch normalisation, as in the judge's stages."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )
