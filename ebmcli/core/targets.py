"""From labels of images to weights on the cells of a factor.

Notation: t (B, K) non-negative weights that sum to 1 per image. Names are one-hot; scalars and
positions are split linearly between the neighbouring nodes, so that a posterior learns where
between two nodes a value lies.
"""

import torch
from torch import Tensor

from ebmcli.core.factors import N_FIELD_CELLS, N_POSITION_CELLS, N_SCALAR_CELLS, Factor, Value
from ebmcli.core.fields import appearance_of, floor_of

CHUNK = 1000  # images at a time while a prior is counted: a field has thousands of cells


def cell_weights(factor: Factor, labels: Tensor) -> Tensor:
    """Weights t (B, K) of labels.

    Args:
        factor: The factor.
        labels: Cell indices (B,) for names, numbers (B,) for a scalar, (B, 2) for a position,
            (B, most, columns) for lists of objects, see :func:`field_weights`.
    """
    if factor.kind == "objects":
        return field_weights(factor, labels)
    if factor.kind == "scalar":
        return linear_weights(factor, labels.float(), N_SCALAR_CELLS)
    if factor.kind == "position":
        first, second = (
            linear_weights(factor, labels[:, axis].float(), N_POSITION_CELLS) for axis in (0, 1)
        )
        return (first[:, :, None] * second[:, None, :]).flatten(1)
    return one_of(labels.long(), factor.n_cells)


def one_of(index: Tensor, n: int) -> Tensor:
    """Rows (B, n) with a 1 at the index (B,); unlike the library's it never reads the index."""
    return (index[:, None] == torch.arange(n, device=index.device)).float()


def linear_weights(factor: Factor, values: Tensor, n_nodes: int) -> Tensor:
    """max(0, 1 - |value - node| / spacing), values moved into the range first: (B, n_nodes)."""
    nodes = torch.linspace(factor.low, factor.high, n_nodes, device=values.device)
    inside = values.clamp(factor.low, factor.high)
    return (1 - (inside[:, None] - nodes).abs() / factor.spacing).clamp_min(0)


def field_weights(factor: Factor, labels: Tensor) -> Tensor:
    """One outcome in every cell of the floor, 0 where no object stands: (B, G K), the cell slow.

    An object belongs to the cell it stands in; of several in one cell the last of the list counts.

    Args:
        factor: Of kind ``objects``.
        labels: Rows of objects (B, most, columns), see ``Factor.columns``.
    """
    column = {name: labels[:, :, i].float() for i, name in enumerate(factor.columns)}
    outcome = torch.zeros_like(column["present"], dtype=torch.long)
    for part in appearance_of(factor):
        outcome = outcome * len(part.names) + column[part.name].long()
    floor = floor_of(factor)
    width = (floor.high - floor.low) / N_FIELD_CELLS
    x, y = (
        ((column[axis] - floor.low) / width).floor().long().clamp(0, N_FIELD_CELLS - 1)
        for axis in floor.columns
    )
    weights = torch.zeros(len(labels), N_FIELD_CELLS**2, factor.n_outcomes, device=labels.device)
    weights[:, :, 0].fill_(1.0)
    rows = torch.arange(len(labels), device=labels.device)
    for i in range(labels.shape[1]):
        cells = (x * N_FIELD_CELLS + y)[:, i]
        stands = one_of(1 + outcome[:, i], factor.n_outcomes)
        present = (column["present"][:, i] > 0)[:, None]
        weights[rows, cells] = torch.where(present, stands, weights[rows, cells])
    return weights.flatten(1)


def label_prior(factor: Factor, labels: Tensor) -> Tensor:
    """log pi_k (K,) of the labels of all training images.

    For objects one prior serves all cells of the floor: each outcome is counted in all of them,
    once more than it was seen, so that none is impossible.
    """
    if factor.kind != "objects":
        return prior(cell_weights(factor, labels))
    seen = torch.ones(factor.n_outcomes, dtype=torch.float64)
    for some in torch.split(labels, CHUNK):
        weights = field_weights(factor, some)
        seen += weights.view(-1, factor.n_outcomes).double().sum(0)
    return (seen / seen.sum()).log().float().repeat(N_FIELD_CELLS**2)


def label_tensor(factor: Factor, value: Value) -> Tensor:
    """One value as labels of one image: an index (1,), a number (1,) or a pair (1, 2)."""
    if isinstance(value, str):
        return torch.tensor([factor.names.index(value)])
    return torch.tensor([value], dtype=torch.float32)


def prior(weights: Tensor) -> Tensor:
    """log pi_k (K,): the mean weight of every cell over the training images, never below 1e-6."""
    return weights.double().mean(0).clamp_min(1e-6).log().log_softmax(0).float()
