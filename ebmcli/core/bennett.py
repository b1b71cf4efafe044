"""The ratio of two normalising constants, from samples of both densities: Bennett's method.

Notation: p_a = exp(-E_a) / Z_a and p_b alike, u(x) = E_b(x) - E_a(x) in nats, n_a samples of p_a
and n_b of p_b, M = ln(n_a / n_b), s the logistic function. Given only a sample of the pool,

    P(a | x) = s(M + u(x) - D),    D = log(Z_a / Z_b),

and D is estimated as the number for which these probabilities are right on the whole: they add up
to n_a over the pool. That is the likeliest D, and of all estimates from such samples the one of
least variance. Where the samples do not overlap D can be anything in the gap between them, and all
probabilities are 0 or 1 whatever is chosen: the middle, weighed by how dense the ends are.

Sources: Bennett (1976), Efficient estimation of free energy differences from Monte Carlo data;
Shirts et al. (2003) for the likelihood; Shirts and Chodera (2008) for any number of densities.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


def _excess(left: Tensor, right: Tensor, shift: float) -> float:
    """log sum_a P(b | x) - log sum_b P(a | x), P(a | x) = s(u + shift); 0 at the estimate.

    In logs, so that it has a sign where every probability is 0 or 1 to the last bit.
    """
    mistaken_left = F.logsigmoid(-(left + shift)).logsumexp(0)
    mistaken_right = F.logsigmoid(right + shift).logsumexp(0)
    return float(mistaken_left - mistaken_right)
