"""The network of a field: logits of every outcome in every cell of the floor.

Notation: G = n n cells of the floor, n along each axis, x slow and to the right of the picture, y
fast and up; K outcomes of a cell; w channels of the head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebmcli.core.convolution import Convolution
from ebmcli.core.factors import N_FIELD_CELLS
from ebmcli.core.networks import ResidualBlock, Trunk, TrunkConfig

N_BLOCKS = 2  # residual blocks on the floor; chosen: each cell sees four cells to every side
REACH = (0.67, 0.50)  # of half the picture: what the field of ``clutter`` covers


class FieldNetwork(nn.Module):
    """Logits over the K outcomes of each of the G cells, from a noisy image.

    Fully convolutional: features of every resolution of a trunk are read where the cells lie in
    the picture, by linear interpolation, added up, and refined on the floor. Where the floor lies,
    its middle and its reach to the right and upwards, is learned, from REACH on.
    """

    nodes: Tensor

    def __init__(self, config: TrunkConfig, *, n_outcomes: int, n_channels: int = 6) -> None:
        super().__init__()
        self.trunk = Trunk(config, n_channels=n_channels)
        self.readers = nn.ModuleList(Convolution(width, config.head, 1) for width in config.widths)
        self.blocks = nn.ModuleList(
            ResidualBlock(config.head, config.embedding) for _ in range(N_BLOCKS)
        )
        self.last = Convolution(config.head, n_outcomes, 1)
        self.middle = nn.Parameter(torch.zeros(2))
        self.reach = nn.Parameter(torch.tensor(REACH))
        self.register_buffer("nodes", line(N_FIELD_CELLS), persistent=False)

    def forward(self, channels: Tensor, sigma: Tensor) -> Tensor:
        """Channels (B, n, S, S), noise level (B,) -> logits (B, G K), the cell slow."""
        levels, condition = self.trunk.levels(channels, sigma)
        pairs = zip(levels, self.readers, strict=True)
        hidden = torch.stack([self._on_floor(read(F.silu(level))) for level, read in pairs]).sum(0)
        for block in self.blocks:
            hidden = block(hidden, condition)
        logits: Tensor = self.last(F.silu(hidden))
        return logits.flatten(2).transpose(1, 2).flatten(1)

    def _on_floor(self, features: Tensor) -> Tensor:
        """Features (B, w, rows, columns) of the picture at the cells: (B, w, n, n)."""
        return on_floor(features, self.middle, self.reach, self.nodes)


def on_floor(features: Tensor, middle: Tensor, reach: Tensor, nodes: Tensor) -> Tensor:
    """Features (B, w, rows, columns) of a picture read at the n n cells of a floor: (B, w, n, n).

    Args:
        features: Maps that cover the picture.
        middle: Where the floor's middle lies, to the right and up, in half pictures: (2,).
        reach: How far the floor reaches from there, the same way: (2,).
        nodes: Middles of the cells along an axis, in [-1, 1]: (n,).
    """
    right, up = (middle[i] + reach[i] * nodes for i in (0, 1))
    across = interpolation(right, features.shape[3]).to(features.dtype)
    along = interpolation(-up, features.shape[2]).to(features.dtype)  # rows run downwards
    return torch.einsum("bcrs,is,jr->bcij", features, across, along)


def line(n: int, *, device: torch.device | None = None) -> Tensor:
    """The middles of n equal parts of [-1, 1]."""
    return (torch.arange(n, device=device) + 0.5) / n * 2 - 1


def interpolation(places: Tensor, n: int) -> Tensor:
    """Weights (P, n) that read n values at the middles of [-1, 1] at places (P,), linearly.

    Between two middles the weights sum to 1; half a part outside of the last they are 1/2, and
    further outside they fade to 0.
    """
    middles = line(n, device=places.device).to(places.dtype)
    distance = (places[:, None] - middles).abs()
    return (1 - distance * n / 2).clamp_min(0)
