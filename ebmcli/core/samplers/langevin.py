"""Unadjusted Langevin dynamics: moves that are always taken, and so have a bias of order h."""

import math

from torch import Tensor

from ebmcli.core.energy import Energy, NoisyEnergy, at_noise_level, energy_gradient


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
