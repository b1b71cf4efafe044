"""Did chains converge? R-hat and effective sample size of draws of one number, as from an energy.

Notation: draws (M, N), M chains of N successive draws each, theta_m their means, W the mean of the
variances within chains, B / N the variance of their means. All in float64.

Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Rank-normalization, folding, and
localization: an improved R-hat, https://arxiv.org/abs/1903.08008, [V21]; Gelman and Rubin (1992).
"""

import math

import torch
from torch import Tensor

MIN_DRAWS = 4  # per chain, for two halves with a variance each


def split_chains(draws: Tensor) -> Tensor:
    """Every chain as two, so that a drift within one counts as a difference: (M, N) -> (2M, N/2).

    The middle draw of an odd number is left out.

    Raises:
        ValueError: Not (M, N), or fewer than MIN_DRAWS draws per chain.
    """
    if draws.dim() != 2 or draws.shape[1] < MIN_DRAWS:
        raise ValueError(f"draws are (chains, at least {MIN_DRAWS}), got {tuple(draws.shape)}")
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]]).double()


def rank_normalised(draws: Tensor) -> Tensor:
    """Draws replaced by normal scores of their ranks among all draws, ties sharing a mean rank.

    z = Phi^-1((rank - 3/8) / (S + 1/4)), S draws in all. Source: [V21] Eq. 14.
    """
    _, inverse, counts = torch.unique(draws, return_inverse=True, return_counts=True)
    rank = counts.cumsum(0) - (counts.double() - 1) / 2
    shares = (rank[inverse] - 0.375) / (draws.numel() + 0.25)
    scores: Tensor = torch.special.ndtri(shares)
    return scores


def gelman_rubin(draws: Tensor) -> float:
    """sqrt(((N - 1) / N W + B / N) / W): 1 where chains agree, inf where each stands still apart.

    NaN where no draw differs from another. Source: Gelman and Rubin (1992); [V21] Eq. 1 to 4.

    Args:
        draws: (M, N), at least two of each; split beforehand.
    """
    n = draws.shape[1]
    within = draws.var(1).mean()
    between = draws.mean(1).var()
    return float((((n - 1) / n * within + between) / within).sqrt())


def r_hat(draws: Tensor) -> float:
    """Rank-normalised split R-hat: the larger of that of the draws and of their folded values.

    Below 1.01 chains that were started apart are taken to have met; folding, |x - median|, finds
    chains with the same centre and different spreads. Source: [V21] Section 4.

    Args:
        draws: (M, N), N at least MIN_DRAWS.

    Raises:
        ValueError: The shape is another.
    """
    split = split_chains(draws)
    folded = (split - _median(split)).abs()
    found = [gelman_rubin(rank_normalised(values)) for values in (split, folded)]
    return max((value for value in found if not math.isnan(value)), default=math.nan)


def effective_sample_size(draws: Tensor) -> float:
    """How many independent draws give a mean as precise: M N / tau.

        tau = -1 + 2 sum_k P_k,   P_k = rho_2k + rho_2k+1,
        rho_t = 1 - (W - mean over chains of autocovariance at lag t) / ((N - 1) / N W + B / N)

    P_k are summed while positive, and made to fall (Geyer 1992): beyond that they are noise. Chains
    are split first. At most M N log10(M N), as in [V21] Section 3.2; NaN where nothing varies.

    Args:
        draws: (M, N), N at least MIN_DRAWS.

    Raises:
        ValueError: The shape is another.
    """
    split = split_chains(draws)
    n_chains, n = split.shape
    covariance = autocovariance(split)
    within = (covariance[:, 0] * n / (n - 1)).mean()
    total = (n - 1) / n * within + split.mean(1).var()
    if not total > 0:
        return math.nan
    rho = 1 - (within - covariance.mean(0)) / total
    rho[0] = 1
    pairs = rho[: n - n % 2].view(-1, 2).sum(1)
    negative = (pairs < 0).nonzero()
    n_pairs = max(1, int(negative[0])) if len(negative) else len(pairs)
    tau = float(2 * pairs[:n_pairs].cummin(0).values.sum() - 1)
    size = n_chains * n
    return size / max(tau, 1 / math.log10(size))


def autocovariance(draws: Tensor) -> Tensor:
    """Autocovariance at lags 0 ... N - 1 of each chain, divided by N: (M, N) -> (M, N)."""
    n = draws.shape[1]
    centred = draws - draws.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * n)
    products: Tensor = torch.fft.irfft(spectrum.abs().square(), n=2 * n)
    return products[:, :n] / n


def _median(values: Tensor) -> Tensor:
    """The middle, halfway between two for an even count."""
    flat = values.flatten().sort().values
    size = len(flat)
    return (flat[(size - 1) // 2] + flat[size // 2]) / 2
