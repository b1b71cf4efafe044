"""The energy type, its gradient, and analytic energies with known answers.

An energy is a function from images (B, C, H, W) to values (B,), in nats: low = likely,
p(x) proportional to exp(-E(x)). A noisy energy also takes the noise level sigma (B,) and speaks
about images with that much noise: p_sigma(x) proportional to exp(-E(x, sigma)).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Energy = Callable[[Tensor], Tensor]
NoisyEnergy = Callable[[Tensor, Tensor], Tensor]


def at_noise_level(energy: NoisyEnergy, sigma: Tensor) -> Energy:
    """Fix the noise level (B,): a plain energy over noisy images."""
    return lambda x: energy(x, sigma)


def energy_and_gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) and dE/dx for every image: (B,), nats, and (B, C, H, W), nats per intensity.

    Raises:
        ValueError: ``energy`` does not return exactly one value per image; (B, 1) would
            broadcast to (B, B) in a sum of energies.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = energy(leaf)
        if value.shape != x.shape[:1]:
            raise ValueError(
                f"an energy must return shape {tuple(x.shape[:1])}, got {tuple(value.shape)}"
            )
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def energy_gradient(energy: Energy, x: Tensor) -> Tensor:
    """dE/dx (B, C, H, W); the score is its negative."""
    return energy_and_gradient(energy, x)[1]


def gaussian(*, mean: float | Tensor, variance: float = 1.0) -> Energy:
    """E(x) = sum (x - mean)^2 / (2 variance), over all axes but the first."""
    return lambda x: ((x - mean) ** 2 / (2 * variance)).flatten(1).sum(1)


def noisy_gaussian(*, mean: float | Tensor, variance: float) -> NoisyEnergy:
    """Energy of N(mean, variance I) after noise sigma: variance grows to variance + sigma^2."""

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        total = variance + sigma.square()
        quadratic = ((x - mean) ** 2).flatten(1).sum(1) / (2 * total)
        return quadratic + 0.5 * x[0].numel() * total.log()

    return energy
