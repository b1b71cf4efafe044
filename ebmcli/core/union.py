"""The union of two spaces: one energy whose density mixes those of two separately trained ones.

Notation: p_a(x, sigma) = exp(-E_a(x, sigma)) / Z_a(sigma), p_b alike, w_a + w_b = 1 their shares,
D(sigma) = log(Z_a / Z_b). Either was trained on pictures of its own, none on both. The mixture

    p = w_a p_a + w_b p_b,    E(x, sigma) = -log(w_a exp(-E_a) + w_b exp(-E_b + D(sigma)))

is exact at every level, since noise of a mixture is the mixture of the noised parts. What score
matching leaves open is a constant of each energy at each noise level: without D the part with the
larger Z takes nearly all pictures. D is estimated in ``bennett.py``, from samples of both.

The same as OR of Skreta et al. (2025), who weigh the scores of two diffusions by densities that
they follow along each trajectory, and as equation 7 of Du, Li and Mordatch, which takes D = 0.
Sources: https://arxiv.org/abs/2412.17762, https://arxiv.org/abs/2004.06030
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.levels import between_levels
from ebmcli.core.networks import TrunkConfig


def mixture_energy(
    left: NoisyEnergy,
    right: NoisyEnergy,
    *,
    weights: Sequence[float],
    log_ratio: Callable[[Tensor], Tensor],
) -> NoisyEnergy:
    """E = -log(w_a exp(-E_a) + w_b exp(-E_b + D(sigma))), nats.

    Args:
        left: E_a, from (B, C, H, W) and (B,) to (B,).
        right: E_b alike.
        weights: w_a and w_b, positive.
        log_ratio: D, from noise levels (B,) to (B,), nats.
    """
    log_a, log_b = math.log(weights[0]), math.log(weights[1])

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        return -torch.logaddexp(log_a - left(x, sigma), log_b - right(x, sigma) + log_ratio(sigma))

    return energy


class UnionEnergy(nn.Module):
    """The mixture of two bases, itself a base: others draw with it and train concepts on it.

    Args:
        left: A trained base, or a union.
        right: Another, for images of the same size.
        gaussian: Where chains start, see :meth:`GaussianEnergy.pooled`.
        weights: Shares w_a and w_b, positive; only their ratio counts.
        log_ratios: D by noise level, at least one, finite.

    Raises:
        ValueError: Sizes differ, a weight is not positive, or there is no finite log ratio.
    """

    log_sigma: Tensor
    log_ratio: Tensor

    def __init__(
        self,
        left: "Base",
        right: "Base",
        gaussian: GaussianEnergy,
        *,
        weights: Sequence[float],
        log_ratios: Mapping[float, float],
    ) -> None:
        super().__init__()
        if left.config.size != right.config.size:
            raise ValueError(f"sizes differ: {left.config.size} and {right.config.size}")
        if len(weights) != 2 or not all(0 < w < math.inf for w in weights):
            raise ValueError(f"two positive weights are needed, got {weights}")
        if not log_ratios or not all(math.isfinite(d) for d in log_ratios.values()):
            raise ValueError(f"finite log ratios by noise level are needed, got {log_ratios}")
        self.left, self.right, self.gaussian = left, right, gaussian
        self.weights = tuple(w / sum(weights) for w in weights)
        known = torch.tensor(sorted(log_ratios.items()), dtype=torch.float64)
        self.register_buffer("log_sigma", known[:, 0].log().float(), persistent=False)
        self.register_buffer("log_ratio", known[:, 1].float(), persistent=False)

    @property
    def config(self) -> TrunkConfig:
        """Shape of the first part; the size is that of both."""
        return self.left.config

    @property
    def autocast(self) -> bool:
        """The networks in bfloat16, sums in float32."""
        return self.left.autocast

    @autocast.setter
    def autocast(self, value: bool) -> None:
        self.left.autocast = self.right.autocast = value

    def log_ratio_at(self, sigma: Tensor) -> Tensor:
        """D of noise levels (B,): (B,), nats; linear in log sigma between the known levels."""
        return between_levels(self.log_sigma, self.log_ratio, sigma)

    def energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E(x, sigma): (B,), nats, up to a constant that depends on sigma alone."""
        mixture = mixture_energy(
            self.left.energy, self.right.energy, weights=self.weights, log_ratio=self.log_ratio_at
        )
        return mixture(x, sigma)

    def branch_probability(self, x: Tensor, sigma: Tensor) -> Tensor:
        """P(a | x, sigma) = w_a p_a / p: how likely each image is of the first part, (B,)."""
        gap = self.right.energy(x, sigma) - self.left.energy(x, sigma) - self.log_ratio_at(sigma)
        return torch.sigmoid(gap + math.log(self.weights[0] / self.weights[1]))

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x, sigma) = P(a | x) D_a + P(b | x) D_b = x - sigma^2 dE/dx: (B, 3, S, S)."""
        first = self.branch_probability(x, sigma)[:, None, None, None]
        return first * self.left.denoise(x, sigma) + (1 - first) * self.right.denoise(x, sigma)


Base = BaseEnergy | UnionEnergy  # the energy of a space when nothing is asked
