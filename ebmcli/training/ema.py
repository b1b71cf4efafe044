"""Averaged weights: what is shipped is the average of recent weights, not the last ones."""

from collections.abc import Sequence

import torch
from torch import Tensor


def ema_decay(step: int, *, limit: float) -> float:
    """Decay after ``step`` updates: (1 + step) / (10 + step), at most ``limit``."""
    return min(limit, (1 + step) / (10 + step))


def update_average(average: Sequence[Tensor], weights: Sequence[Tensor], *, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average), [w.detach() for w in weights], 1 - decay)
