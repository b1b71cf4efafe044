"""Samplers: one step function and one chain iterator per method.

Notation: x (B, C, H, W) the states, sigma_1 > ... > sigma_n the noise levels, E(x, sigma) the
energy of noised images, D(x, sigma) = x - sigma^2 dE/dx its denoiser. A chain is one image.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmcli.core.energy import (
    Energy,
    NoisyEnergy,
    at_noise_level,
    energy_and_gradient,
    energy_gradient,
)


@dataclass(frozen=True, kw_only=True)
class ChainState:
    """Where an annealed chain is after one noise level."""

    level: int  # 0 is the noisiest
    sigma: float  # the level just left
    x: Tensor  # states at the next level (B, C, H, W); the last ones have no noise
    denoised: Tensor  # D(x, sigma) at the level just left
    energy: Tensor  # E(x, sigma) at the level just left, (B,)


class SeededNoise:
    """Standard normal noise from one generator per image, drawn on the CPU.

    A picture then depends on its seed alone, not on the batch it is drawn in or on the device.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int]) -> None:
        self.generators = [Generator().manual_seed(seed) for seed in seeds]
        self.shape = tuple(shape)

    def draw(self) -> Tensor:
        """The next noise, (B, *shape), on the CPU."""
        return torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])


def noise_levels(
    n: int, *, sigma_min: float = 0.02, sigma_max: float = 10.0, rho: float = 5.0
) -> Tensor:
    """n levels from sigma_max down to sigma_min, evenly spaced in sigma^(1/rho); (n,).

    Source: Karras et al. (2022), Eq. 5, with rho = 5 (chosen).
    """
    if n < 2:
        raise ValueError(f"at least 2 noise levels are needed, got {n}")
    ramp = torch.linspace(0, 1, n)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels: Tensor = (ends[0] + ramp * (ends[1] - ends[0])) ** rho
    return levels


def langevin_step(
    energy: Energy, x: Tensor, *, step_size: float, noise_scale: float, noise: Tensor
) -> Tensor:
    """Advance every chain by one step of unadjusted Langevin dynamics.

        x' = x - step_size * dE/dx + noise_scale * noise,    noise ~ N(0, I)

    ``step_size`` multiplies the whole gradient. Papers that write lambda/2 before the gradient
    and N(0, lambda) noise have step_size = lambda/2, noise_scale = sqrt(lambda).

    Args:
        energy: Maps images (B, C, H, W) to energies (B,), in nats.
        x: States (B, C, H, W); left unchanged.
        step_size: Intensity^2 per nat, positive.
        noise_scale: Intensity; 0 turns the step into gradient descent.
        noise: Standard normal, the shape of ``x``.

    Returns:
        The next states, detached from the graph and not clamped.

    Source: Du and Mordatch (2019); Du, Li, Mordatch (2020), Eq. 3.
    """
    return x.detach() - step_size * energy_gradient(energy, x) + noise_scale * noise


def exponential_langevin_step(
    energy: NoisyEnergy, x: Tensor, sigma: Tensor, *, step: float, noise: Tensor
) -> Tensor:
    """One Langevin step at a noise level that is exact for the noise around a fixed image.

        x' = D + e^-h (x - D) + sigma sqrt(1 - e^-2h) noise,    h = step

    For small h this is Langevin dynamics with step size h sigma^2. Unlike the plain step it does
    not inflate the noise: if x = x0 + sigma n and D = x0, then x' has noise sigma again, which a
    network conditioned on sigma notices.

    Args:
        energy: Energy of noised images.
        x: States (B, C, H, W).
        sigma: Their noise level (B,).
        step: h > 0, dimensionless.
        noise: Standard normal, the shape of ``x``.
    """
    per_image = sigma.view(-1, 1, 1, 1)
    gradient = energy_gradient(at_noise_level(energy, sigma), x)
    denoised = x - per_image.square() * gradient
    keep = math.exp(-step)
    spread = per_image * math.sqrt(1 - keep**2)
    return denoised + keep * (x - denoised) + spread * noise


def heun_step(
    energy: NoisyEnergy, x: Tensor, sigma: float, sigma_next: float
) -> tuple[Tensor, Tensor, Tensor]:
    """From one noise level to the next along dx/dsigma = sigma dE/dx, second order.

    The last step, to sigma_next = 0, is a plain Euler step: it ends on the denoised image.

    Returns:
        The states at ``sigma_next``, and D (B, C, H, W) and E (B,) at ``sigma``.

    Source: Karras et al. (2022), Algorithm 1, without noise.
    """
    level = torch.full((len(x),), sigma, device=x.device)
    value, gradient = energy_and_gradient(at_noise_level(energy, level), x)
    slope = sigma * gradient
    following = x + (sigma_next - sigma) * slope
    if sigma_next > 0:
        level_next = torch.full_like(level, sigma_next)
        gradient_next = energy_gradient(at_noise_level(energy, level_next), following)
        slope_mean = 0.5 * (slope + sigma_next * gradient_next)
        following = x + (sigma_next - sigma) * slope_mean
    return following, x - sigma * slope, value


def annealed_chain(
    energy: NoisyEnergy,
    x: Tensor,
    sigmas: Sequence[float],
    noise: SeededNoise,
    *,
    n_corrector: int = 0,
    corrector_step: float = 0.15,
    corrector_from: float = 0.3,
) -> Iterator[ChainState]:
    """Carry states from the noisiest level to none; yield one state per level.

    At every level with sigma >= ``corrector_from``: ``n_corrector`` exponential Langevin steps at
    that level, then one Heun step to the next. The sum of noised energies is not the noised
    energy of the product, so it is the corrector that makes compositions right.

    Args:
        energy: Energy of noised images, (B, C, H, W), (B,) -> (B,).
        x: States at ``sigmas[0]``, (B, C, H, W).
        sigmas: Falling noise levels, all positive.
        noise: Source of the corrector's noise.
        n_corrector: Langevin steps per level.
        corrector_step: h of each.
        corrector_from: Lowest noise level that is corrected, intensity.
    """
    ends = [*sigmas[1:], 0.0]
    for level, (sigma, sigma_next) in enumerate(zip(sigmas, ends, strict=True)):
        if sigma >= corrector_from:
            levels = torch.full((len(x),), sigma, device=x.device)
            for _ in range(n_corrector):
                fresh = noise.draw().to(x)
                x = exponential_langevin_step(energy, x, levels, step=corrector_step, noise=fresh)
        x, denoised, value = heun_step(energy, x, sigma, sigma_next)
        x = x.detach()
        yield ChainState(level=level, sigma=sigma, x=x, denoised=denoised.detach(), energy=value)
