"""How well the residual of a base tells data from samples of its own chains, per noise level."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.images import TrainingImages
from ebmcli.core.objective import add_noise
from ebmcli.evaluation.held_out import POSTERIOR_SIGMAS, batches


@dataclass(frozen=True, kw_only=True)
class ResidualQuality:
    """What a residual knows at one noise level; one that knows nothing has ln 2 and one half."""

    sigma: float
    log_loss: float  # logistic, mean of data and samples, nats
    accuracy: float  # mean of the shares told right of data and of samples
    data: float  # mean log ratio of data, nats
    samples: float  # mean log ratio of samples, nats


@torch.no_grad()
def residual_quality(
    base: BaseEnergy,
    data: TrainingImages,
    samples: TrainingImages,
    *,
    sigmas: Sequence[float] = POSTERIOR_SIGMAS,
) -> list[ResidualQuality]:
    """Held-out data against held-out samples, under noise from a fixed seed."""
    found = []
    for sigma in sigmas:
        real, own = (_ratios(base, part, sigma) for part in (data, samples))
        loss = 0.5 * (F.softplus(-real).mean() + F.softplus(own).mean())
        right = 0.5 * ((real > 0).float().mean() + (own <= 0).float().mean())
        found.append(
            ResidualQuality(
                sigma=sigma,
                log_loss=float(loss),
                accuracy=float(right),
                data=float(real.mean()),
                samples=float(own.mean()),
            )
        )
    return found


def _ratios(base: BaseEnergy, images: TrainingImages, sigma: float) -> Tensor:
    generator = Generator().manual_seed(0)
    parts = []
    for index in batches(len(images)):
        x0, _ = images.take(index)
        levels = torch.full((len(x0),), sigma, device=x0.device)
        parts.append(base.log_ratio(add_noise(x0, levels, generator=generator), levels))
    return torch.cat(parts)
