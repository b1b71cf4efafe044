"""Energies of a space and posteriors of its factors, as modules.

Notation: x noisy image (B, 3, S, S) in [-1, 1] plus noise; sigma (B,) its noise level; E0 the
unconditional energy, E(x | c) the energy given the value c, p(k | x, sigma) the posterior over
the K cells of a factor, pi_k its prior. All energies in nats. What ties them:

    E(x, sigma | k) = E0(x, sigma) - log p(k | x, sigma) + log pi_k
    sum_k pi_k exp(-E(x, sigma | k)) = exp(-E0(x, sigma))                       (exact)
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebmcli.core.factors import Factor
from ebmcli.core.gaussian import GaussianEnergy, input_scale
from ebmcli.core.networks import EnergyNetwork, PosteriorNetwork, TrunkConfig

NoisyEnergy = Callable[[Tensor, Tensor], Tensor]


class Concept(Protocol):
    """What logic, sampling and inference ask of a trained concept."""

    factor: Factor
    log_prior: Tensor

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma) for every cell: (B, K)."""
        ...

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """log p(c | x, sigma) - log p(c) for one value per image, given as cell weights (B, K)."""
        ...


def network_input(gaussian: GaussianEnergy, x: Tensor, sigma: Tensor) -> Tensor:
    """The scaled noisy image and the Wiener-denoised one, both centred: (B, 6, S, S)."""
    mean = gaussian.mean.view_as(x[:1])
    noisy = (x - mean) / input_scale(sigma)[:, None, None, None]
    return torch.cat([noisy, gaussian.denoise(x, sigma) - mean], dim=1)


class BaseEnergy(nn.Module):
    """E0(x, sigma) = E_G(x, sigma) + (r sqrt(v) / sigma^2) f(u, w, sigma).

    E_G is the exact energy of the noised Gaussian, r its posterior scale, sqrt(v) the input
    scale. Then the denoiser x - sigma^2 dE0/dx is the Wiener filter minus r sqrt(v) df/dx: the
    network learns only what is not Gaussian, with gradients of order one at every noise level.
    """

    def __init__(self, gaussian: GaussianEnergy, config: TrunkConfig) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.config = config
        self.network = EnergyNetwork(config)
        self.autocast = False

    @property
    def size(self) -> int:
        """Pixels per side."""
        return self.config.size

    def potential(self, x: Tensor, sigma: Tensor) -> Tensor:
        """f(u, w, sigma): (B,), dimensionless."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            channels = network_input(self.gaussian, x, sigma)
            channels = channels.contiguous(memory_format=torch.channels_last)
            value: Tensor = self.network(channels, sigma)
        return value.float()

    def energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E0(x, sigma): (B,), nats, for images (B, 3, S, S) and noise levels (B,)."""
        scale = self.gaussian.posterior_scale(sigma) * input_scale(sigma) / sigma.square()
        return self.gaussian.energy(x, sigma) + scale * self.potential(x, sigma)

    def denoise(self, x: Tensor, sigma: Tensor, *, create_graph: bool = False) -> Tensor:
        """D(x, sigma) = x - sigma^2 dE0/dx = Wiener(x) - r sqrt(v) df/dx: (B, 3, S, S)."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            total = self.potential(leaf, sigma).sum()
            (gradient,) = torch.autograd.grad(total, leaf, create_graph=create_graph)
        scale = self.gaussian.posterior_scale(sigma) * input_scale(sigma)
        wiener = self.gaussian.denoise(x.detach(), sigma)
        return wiener - scale[:, None, None, None] * gradient


class PosteriorConcept(nn.Module):
    """log p(k | x, sigma) by a network of its own; drawing uses the base it was trained beside.

    Args:
        factor: The factor whose cells the posterior speaks about.
        gaussian: The Gaussian of the space, shared with the base, not trained.
        config: Shape of the network.
        log_prior: log pi, (K,).
    """

    log_prior: Tensor
    temperature: Tensor

    def __init__(
        self, factor: Factor, gaussian: GaussianEnergy, config: TrunkConfig, log_prior: Tensor
    ) -> None:
        super().__init__()
        self.factor = factor
        self.config = config
        self.gaussian = gaussian
        self.network = PosteriorNetwork(config, n_cells=factor.n_cells)
        self.register_buffer("log_prior", log_prior)
        self.autocast = False

    @property
    def size(self) -> int:
        """Pixels per side."""
        return self.config.size

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma): (B, K)."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            channels = network_input(self.gaussian, x, sigma)
            channels = channels.contiguous(memory_format=torch.channels_last)
            logits = self.network(channels, sigma)
        return F.log_softmax(logits.float() + self.log_prior, dim=1)

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        """log sum_k t_k p(k | x, sigma) / pi_k, with t the cell weights of a value (B, K)."""
        ratio = self.log_posterior(x, sigma) - self.log_prior
        return torch.logsumexp(ratio + target.clamp_min(1e-30).log(), dim=1)
