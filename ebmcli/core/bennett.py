"""The ratio of two normalising constants, from samples of both densities: Bennett's method.

Notation: p_a = exp(-E_a) / Z_a and p_b alike, u(x) = E_b(x) - E_a(x) in nats, n_a samples of p_a
and n_b of p_b, M = ln(n_a / n_b), s the logistic function. Given only a sample of the pool,

    P(a | x) = s(M + u(x) - D),    D = log(Z_a / Z_b),

and D is estimated as the number for which these probabilities are right on the whole: they add up
to n_a over the pool. That is the likeliest D, and of all estimates from such samples the one of
least variance. Where the samples do not overlap D can be anything in the gap between them, and all
probabilities are 0 or 1 whatever is chosen: the middle, weighed by how dense the ends are.

Two densities that hardly overlap can be joined by others between them, as two spaces are by their
noised densities: they meet at high noise, and neighbouring levels of one energy overlap. Sampling
at both levels sigma > sigma' and moving to the other one gives samples of two densities of pairs,

    F(x, x') = p(x, sigma) q(x' | x),    R(x, x') = p(x', sigma') L(x | x'),

with q and L of ``smc.py``, which make both nearly the same in any number of pixels. Their constants
are Z(sigma) and Z(sigma'): Bennett's method on pairs. Weighing one way only is SMC's estimate.

Sources: Bennett (1976), Efficient estimation of free energy differences from Monte Carlo data;
Shirts et al. (2003) for the likelihood; Shirts and Chodera (2008) for any number of densities.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.samplers.annealing import fixed_level
from ebmcli.core.samplers.metropolis import Evaluated, evaluate
from ebmcli.core.samplers.smc import ancestral_step, log_transition_ratio

MARGIN = 50.0  # nats beyond the samples where the sums have their sign for certain


@dataclass(frozen=True)
class LogRatio:
    """An estimate of log(Z_a / Z_b)."""

    value: float  # nats
    overlap: float  # 1: the densities are the same, 0: no sample of one could be of the other
    n_left: int
    n_right: int

    @property
    def error(self) -> float:
        """Standard error, nats: sqrt((1 / overlap - 1) (1 / n_a + 1 / n_b)); inf without overlap.

        Source: Shirts et al. (2003), Eq. 9, with overlap = sum over the pool of P(a | x) P(b | x),
        divided by n_a n_b / (n_a + n_b).
        """
        if self.overlap == 0:
            return math.inf
        return math.sqrt((1 / self.overlap - 1) * (1 / self.n_left + 1 / self.n_right))


def bennett_log_ratio(from_left: Tensor, from_right: Tensor) -> LogRatio:
    """log(Z_a / Z_b) from the gap u = E_b - E_a at independent samples of both densities.

    Args:
        from_left: u at samples of p_a, (n_a,), nats.
        from_right: u at samples of p_b, (n_b,), nats.

    Raises:
        ValueError: No sample of one of them, or a gap that is not finite.

    Source: Bennett (1976), Eqs. 12a and 12b; solved by bisection of a function that only rises.
    """
    left, right = from_left.detach().double().cpu(), from_right.detach().double().cpu()
    if not len(left) or not len(right):
        raise ValueError("samples of both densities are needed")
    both = torch.cat([left, right])
    if not bool(both.isfinite().all()):
        raise ValueError("an energy gap is not finite")
    m = math.log(len(left) / len(right))
    low, high = float(both.min()) - abs(m) - MARGIN, float(both.max()) + abs(m) + MARGIN
    while low < (middle := 0.5 * (low + high)) < high:  # until float64 has no number between
        if _excess(left, right, m - middle) < 0:
            low = middle
        else:
            high = middle
    value = middle
    p = torch.sigmoid(m + both - value)
    overlap = float((p * (1 - p)).sum()) * (1 / len(left) + 1 / len(right))
    return LogRatio(value, min(1.0, overlap), len(left), len(right))


def level_gaps(
    energy: NoisyEnergy,
    x: Tensor,
    following: Tensor,
    *,
    sigma: float,
    sigma_next: float,
    noise: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Gaps for log(Z(sigma) / Z(sigma')) of one energy: u = log F - log R + const.

    Args:
        energy: E(x, sigma), from (B, C, H, W) and (B,) to (B,).
        x: Samples at ``sigma``, (B, C, H, W).
        following: Samples at ``sigma_next``, (B', C, H, W), of those of ``x`` or others.
        sigma: The noisier level, intensity.
        sigma_next: The next one, below ``sigma``.
        noise: Standard normal, the shapes of ``x`` and of ``following``.

    Returns:
        At pairs of F, (B,), and of R, (B',), nats: the arguments of :func:`bennett_log_ratio`.

    Source: Del Moral, Doucet and Jasra (2006), Section 3.1, for the weights; Crooks (1999) for
    Bennett's method on paths.
    """
    levels = {"sigma": sigma, "sigma_next": sigma_next}
    here = evaluate(fixed_level(energy, x, sigma), x)
    after = ancestral_step(here.x, _denoised(here, sigma), noise=noise[0], **levels)
    with torch.no_grad():
        energy_after = fixed_level(energy, after, sigma_next)(after)
        energy_following = fixed_level(energy, following, sigma_next)(following)
    forward = log_transition_ratio(here.x, after, noise=noise[0], **levels)
    before = following + math.sqrt(sigma**2 - sigma_next**2) * noise[1]
    there = evaluate(fixed_level(energy, before, sigma), before)
    plain = ancestral_step(
        before, _denoised(there, sigma), noise=torch.zeros_like(before), **levels
    )
    spread = sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
    back = log_transition_ratio(before, following, noise=(following - plain) / spread, **levels)
    return (
        energy_after - here.energy - forward,
        energy_following - there.energy - back,
    )


def _denoised(state: Evaluated, sigma: float) -> Tensor:
    return state.x - sigma**2 * state.gradient


def _excess(left: Tensor, right: Tensor, shift: float) -> float:
    """log sum_a P(b | x) - log sum_b P(a | x), P(a | x) = s(u + shift); 0 at the estimate.

    In logs, so that it has a sign where every probability is 0 or 1 to the last bit.
    """
    mistaken_left = F.logsigmoid(-(left + shift)).logsumexp(0)
    mistaken_right = F.logsigmoid(right + shift).logsumexp(0)
    return float(mistaken_left - mistaken_right)
