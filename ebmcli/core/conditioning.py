"""How a value of a factor enters a conditional energy: as a vector, and as maps beside the image.

Notation: t (B, K) cell weights of one value per image, all zero for "none"; E width of the
conditioning vector; S image size. Gains and biases alone cannot say *where* (measured: position
right for 15 to 37 %), hence the maps: a position is drawn as a blob at its place on the floor of
the value range, which the network learns to align with the picture.
"""

import torch
from torch import Tensor, nn

from ebmcli.core.factors import N_POSITION_CELLS, Factor
from ebmcli.core.networks import TrunkConfig

BLOB_WIDTHS = (1.0, 3.0)  # node spacings; chosen: one sharp map and one that reaches far


class Conditioner(nn.Module):
    """Cell weights -> (vector, maps).

    Args:
        factor: Its kind decides whether there are maps: one pair for positions, none for others.
        config: Width of the vector and size of the maps.
    """

    blobs: Tensor

    def __init__(self, factor: Factor, config: TrunkConfig) -> None:
        super().__init__()
        self.factor = factor
        self.embed = nn.Linear(factor.n_cells + 1, config.embedding)
        self.n_maps = len(BLOB_WIDTHS) + 1 if factor.kind == "position" else 0
        self.size = config.size
        nodes = torch.arange(N_POSITION_CELLS, dtype=torch.float32)
        square = (nodes[:, None] - nodes[None, :]).square()
        stacked = torch.stack([torch.exp(-square / (2 * w**2)) for w in BLOB_WIDTHS])
        self.register_buffer("blobs", stacked, persistent=False)

    def forward(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights (B, K) -> vector (B, E) and maps (B, n_maps, S, S) or None."""
        asked = target.sum(1, keepdim=True).clamp(0, 1)
        vector = self.embed(torch.cat([target, 1 - asked], dim=1))
        if not self.n_maps:
            return vector, None
        grid = target.view(-1, N_POSITION_CELLS, N_POSITION_CELLS).transpose(1, 2).flip(1)
        planes = [blob @ grid @ blob for blob in self.blobs]
        maps = torch.stack([*planes, asked[:, :, None].expand_as(grid)], dim=1)
        resized = nn.functional.interpolate(
            maps, size=(self.size, self.size), mode="bilinear", align_corners=True
        )
        return vector, resized
