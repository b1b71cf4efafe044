"""Numbers about many pictures: accuracies with errors, Frechet distance, variety, calibration.

Notation: B pictures, F features; errors are standard errors of the mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds. ``seed_error`` is None with a single seed: nothing to compare."""

    mean: float
    seed_error: float | None  # standard deviation over seeds / sqrt(number of seeds)
    binomial_error: float | None  # sqrt(p (1 - p) / n) over all pictures; None if no share
    n: int  # pictures, all seeds together
    n_seeds: int


def share(per_seed: Sequence[Tensor]) -> Estimate:
    """The share of True, one bool tensor (B,) per seed; every seed counts alike.

    Raises:
        ValueError: no seed, or a seed without pictures.
    """
    means = [float(right.double().mean()) for right in _checked(per_seed)]
    n = sum(len(right) for right in per_seed)
    mean = sum(means) / len(means)
    return Estimate(
        mean=mean,
        seed_error=standard_error(means),
        binomial_error=math.sqrt(mean * (1 - mean) / n),
        n=n,
        n_seeds=len(means),
    )


def average(per_seed: Sequence[Tensor]) -> Estimate:
    """The mean of numbers, one tensor (B,) per seed; every seed counts alike."""
    means = [float(numbers.double().mean()) for numbers in _checked(per_seed)]
    return Estimate(
        mean=sum(means) / len(means),
        seed_error=standard_error(means),
        binomial_error=None,
        n=sum(len(numbers) for numbers in per_seed),
        n_seeds=len(means),
    )


def share_error(estimate: Mapping[str, Any]) -> float:
    """The standard error of a share, as stored: that over seeds, or of counting if it is larger.

        counting: sqrt(q (1 - q) / n),    q = (n p + 1) / (n + 2)

    Three seeds can agree by accident, and 36 of 36 are no certainty: q is p with one right and one
    wrong picture more. What is no share has the error over seeds, 0 with one.
    """
    spread = float(estimate["seed_error"] or 0.0)
    if estimate["binomial_error"] is None:
        return spread
    n = estimate["n"]
    q = (n * estimate["mean"] + 1) / (n + 2)
    return max(spread, math.sqrt(q * (1 - q) / n))


def paired_error(differences: Sequence[int], n: int) -> float:
    """Counting error of the difference of two shares of n paired pictures, never 0.

        sqrt((g + l + 1) - (g - l)^2 / (n + 2)) / (n + 2)

    g and l are what one way has right more, and less, than the other: the sums of the positive and
    of the negative ``differences`` of groups of pairs. Larger groups hide pairs that cancel, so
    that this is the least the error can be.

    Source: Agresti and Min (2005), Statistics in Medicine 24: half a pair more of each kind
    """
    gained = sum(max(one, 0) for one in differences)
    lost = sum(max(-one, 0) for one in differences)
    return math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / (n + 2)) / (n + 2)


def standard_error(means: Sequence[float]) -> float | None:
    """Sample standard deviation / sqrt(n), or None for fewer than two."""
    if len(means) < 2:
        return None
    centre = sum(means) / len(means)
    variance = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
    return math.sqrt(variance / len(means))


def frechet_distance(left: Tensor, right: Tensor) -> float:
    """Frechet distance of Gaussians fitted to features (B, F) and (B', F), float64.

    With the features of an Inception network this is FID; ours are the judge's, so that values
    compare among themselves only.

    Raises:
        ValueError: fewer than two pictures on a side.
    """
    if min(len(left), len(right)) < 2:
        raise ValueError("a covariance needs at least two pictures")
    left, right = left.double(), right.double()
    covs = [torch.cov(side.T).view(side.shape[1], -1) for side in (left, right)]
    return gaussian_frechet(left.mean(0), covs[0], right.mean(0), covs[1])


def weighted_frechet_distance(left: Tensor, right: Tensor, weights: Tensor) -> float:
    """As :func:`frechet_distance`, with weights (B',) of the rows on the right, not all 0.

    Raises:
        ValueError: fewer than two pictures on a side.
    """
    if min(len(left), int((weights > 0).sum())) < 2:
        raise ValueError("a covariance needs at least two pictures")
    left, right, weights = left.double(), right.double(), weights.double() / weights.sum()
    cov = torch.cov(left.T).view(left.shape[1], -1)
    other = torch.cov(right.T, aweights=weights).view(right.shape[1], -1)
    return gaussian_frechet(left.mean(0), cov, weights @ right, other)


def gaussian_frechet(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians.

        d^2 = |m - m'|^2 + tr C + tr C' - 2 sum_i sqrt(lambda_i),
        lambda_i the eigenvalues of C^(1/2) C' C^(1/2)

    Source: Heusel et al. (2017), https://arxiv.org/abs/1706.08500
    """
    values, vectors = torch.linalg.eigh(cov)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ other_cov @ root)
    cross = product.clamp_min(0).sqrt().sum()
    total = (mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * cross
    return max(0.0, float(total))


def pairwise_distance(features: Tensor) -> float:
    """Variety: the mean Euclidean distance between two different rows of (B, F)."""
    if len(features) < 2:
        raise ValueError("a distance needs at least two pictures")
    return float(torch.pdist(features.double()).mean())


N_BINS = 15  # of equal width, as in Guo et al. (2017)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Confidence against truth in bins of equal width over [0, 1], each a tensor (n_bins,).

    ``variance`` is how far the number of hits of a calibrated predictor strays: the sum over the
    confidences p of a bin of p (1 - p). Shares stray less: theirs is scaled, in all bins alike,
    to the squares (hit - p)^2 that were seen.
    """

    count: Tensor
    confidence: Tensor  # summed over the bin
    hits: Tensor  # summed over the bin
    variance: Tensor

    @property
    def error(self) -> float:
        """ECE = sum_b (n_b / n) |mean confidence in bin b - share right in bin b|."""
        return float((self.confidence - self.hits).abs().sum() / self.count.sum())

    @property
    def error_by_chance(self) -> float:
        """About the ECE of a calibrated predictor with these confidences: never 0 for finite n.

        Per bin the mean absolute deviation of a sum of Bernoulli variables: sqrt(2 v / pi) where
        it is near normal, and never above 2 v, with v the variance.
        """
        normal = (2 * self.variance / math.pi).sqrt()
        return float(torch.minimum(normal, 2 * self.variance).sum() / self.count.sum())


def reliability(confidence: Tensor, hit: Tensor, *, n_bins: int = N_BINS) -> Reliability:
    """Sort predictions into bins of equal width by their confidence.

    Args:
        confidence: Probabilities (B,) in [0, 1]; rounding beyond its ends is put right.
        hit: (B,) bool, or shares in [0, 1] where a prediction can be partly right.
        n_bins: Bins of equal width.

    Source: Guo et al. (2017), https://arxiv.org/abs/1706.04599
    """
    p = confidence.double()
    bins = (p * n_bins).long().clamp(0, n_bins - 1)
    spread = (p * (1 - p)).clamp_min(0)
    if bool(((hit > 0) & (hit < 1)).any()):
        spread = spread * min(1.0, float((hit.double() - p).square().sum() / spread.sum()))
    sums = [
        torch.zeros(n_bins, dtype=torch.float64).index_add_(0, bins, values)
        for values in (torch.ones_like(p), p, hit.double(), spread)
    ]
    return Reliability(count=sums[0], confidence=sums[1], hits=sums[2], variance=sums[3])


def calibration_error(confidence: Tensor, right: Tensor, *, n_bins: int = N_BINS) -> float:
    """Expected calibration error: how far confidence is from the share that is right.

        ECE = sum_b (n_b / n) |mean confidence in bin b - share right in bin b|

    Arguments as in :func:`reliability`.
    """
    return reliability(confidence, right, n_bins=n_bins).error


def _checked(per_seed: Sequence[Tensor]) -> Sequence[Tensor]:
    if not per_seed or any(len(values) == 0 for values in per_seed):
        raise ValueError("an estimate needs at least one seed and one picture per seed")
    return per_seed
