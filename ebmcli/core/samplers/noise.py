"""Noise: random numbers that belong to pictures, and the levels that chains go through."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


class SeededNoise:
    """Random numbers from one generator per picture, drawn on the CPU.

    A picture then depends on its seed alone, not on the batch it is drawn in or on the device.
    Every call advances every generator, whether or not a picture has use for the number.

    Args:
        seeds: One per picture, P of them.
        shape: Of one state, (C, H, W).
        chains: k chains per picture; their rows stand next to each other.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], *, chains: int = 1) -> None:
        self.generators = [Generator().manual_seed(seed) for seed in seeds]
        self.shape = tuple(shape)
        self.chains = chains

    def draw(self) -> Tensor:
        """Standard normal noise, one state per chain: (P k, *shape), on the CPU."""
        shape = (self.chains, *self.shape)
        return torch.cat([torch.randn(shape, generator=g) for g in self.generators])

    def uniform(self) -> Tensor:
        """Uniform numbers in [0, 1), one per chain, for accept tests: (P k,), on the CPU."""
        return torch.cat([torch.rand(self.chains, generator=g) for g in self.generators])

    def uniform_per_picture(self) -> Tensor:
        """Uniform numbers in [0, 1), one per picture, for resampling: (P,), on the CPU."""
        return torch.cat([torch.rand(1, generator=g) for g in self.generators])


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
