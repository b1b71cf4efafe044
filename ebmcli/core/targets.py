"""From labels of images to weights on the cells of a factor.

Notation: t (B, K) non-negative weights that sum to 1 per image. Names are one-hot; scalars and
positions are split linearly between the neighbouring nodes, so that a posterior learns where
between two nodes a value lies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ebmcli.core.factors import N_POSITION_CELLS, N_SCALAR_CELLS, Factor, Value


def cell_weights(factor: Factor, labels: Tensor) -> Tensor:
    """Weights t (B, K) of labels.

    Args:
        factor: The factor.
        labels: Cell indices (B,) for names, numbers (B,) for a scalar, (B, 2) for a position.
    """
    if factor.kind == "scalar":
        return linear_weights(factor, labels.float(), N_SCALAR_CELLS)
    if factor.kind == "position":
        first, second = (
            linear_weights(factor, labels[:, axis].float(), N_POSITION_CELLS) for axis in (0, 1)
        )
        return (first[:, :, None] * second[:, None, :]).flatten(1)
    return F.one_hot(labels.long(), factor.n_cells).float()


def linear_weights(factor: Factor, values: Tensor, n_nodes: int) -> Tensor:
    """max(0, 1 - |value - node| / spacing), values moved into the range first: (B, n_nodes)."""
    nodes = torch.linspace(factor.low, factor.high, n_nodes, device=values.device)
    inside = values.clamp(factor.low, factor.high)
    return (1 - (inside[:, None] - nodes).abs() / factor.spacing).clamp_min(0)


def label_tensor(factor: Factor, value: Value) -> Tensor:
    """One value as labels of one image: an index (1,), a number (1,) or a pair (1, 2)."""
    if isinstance(value, str):
        return torch.tensor([factor.names.index(value)])
    return torch.tensor([value], dtype=torch.float32)


def prior(weights: Tensor) -> Tensor:
    """log pi_k (K,): the mean weight of every cell over the training images, never below 1e-6."""
    return weights.double().mean(0).clamp_min(1e-6).log().log_softmax(0).float()
