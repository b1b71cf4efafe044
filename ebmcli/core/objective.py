"""What training minimises: denoising score matching, cross-entropy, contrastive divergence.

Notation: x0 clean images (B, 3, S, S), n ~ N(0, I), x = x0 + sigma n, D(x, sigma) the denoiser of
an energy, D = x - sigma^2 dE/dx, r(sigma) the posterior scale of the Gaussian base.
"""

import math

import torch
from torch import Generator, Tensor

LOG_SIGMA_MEAN = -0.3  # chosen; noise levels at which objects appear at 64x64
LOG_SIGMA_SCALE = 1.3  # Karras et al. (2022) use 1.2
SIGMA_MIN, SIGMA_MAX = 0.02, 10.0  # intensity; ends of the range trained and sampled


def draw_noise_levels(n: int, *, generator: Generator) -> Tensor:
    """Draw sigma (n,): ln sigma ~ N(LOG_SIGMA_MEAN, LOG_SIGMA_SCALE^2), cut to the range."""
    logs = LOG_SIGMA_MEAN + LOG_SIGMA_SCALE * torch.randn(
        n, generator=generator, device=generator.device
    )
    return logs.clamp(math.log(SIGMA_MIN), math.log(SIGMA_MAX)).exp()


def add_noise(images: Tensor, sigma: Tensor, *, generator: Generator) -> Tensor:
    """x = x0 + sigma n for images (B, C, H, W) and levels (B,)."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return images + sigma[:, None, None, None] * noise.to(images.device)


def denoising_loss(denoised: Tensor, images: Tensor, scale: Tensor) -> Tensor:
    """Denoising score matching per image: mean over pixels of (D - x0)^2 / r^2; (B,).

    1 is what the Gaussian base alone would reach on Gaussian data with variances above its floor;
    lower is better. Minimising it
    over all x0 and n makes -dE/dx the score of the noised data.

    Args:
        denoised: D(x, sigma), (B, C, H, W).
        images: x0, (B, C, H, W).
        scale: r(sigma), (B,).

    Source: Vincent (2011); weighting as in Karras et al. (2022), with r in place of c_out.
    """
    error = (denoised - images).square().mean((1, 2, 3))
    return error / scale.square()


def cross_entropy(log_posterior: Tensor, target: Tensor) -> Tensor:
    """- sum_k t_k log p(k | x): (B,), nats, for soft targets (B, K)."""
    return -(target * log_posterior).sum(1)


def contrastive_divergence(
    positive_energy: Tensor, negative_energy: Tensor, *, energy_penalty: float
) -> Tensor:
    """mean E(x+) - mean E(x-) + penalty (mean E(x+)^2 + mean E(x-)^2), a scalar.

    Args:
        positive_energy: E of images from the data, (B,).
        negative_energy: E of final states of chains, detached from their past, (B,).
        energy_penalty: Weight of the squares, 1 in the released code.

    Source: Du, Li, Mordatch (2020), training loss; Du and Mordatch (2019).
    """
    squares = positive_energy.square().mean() + negative_energy.square().mean()
    return positive_energy.mean() - negative_energy.mean() + energy_penalty * squares
