"""Do two factors go together in labelled pictures, as a beard and a male face may?

Notation: n pictures, r and c the numbers of classes of the two factors that occur, chi^2 of their
table of counts against independence.

    phi^2 = chi^2 / n - (r - 1)(c - 1) / (n - 1),    r' = r - (r - 1)^2 / (n - 1), c' alike
    V     = sqrt(phi^2 / (min(r', c') - 1))

0 for independent factors, 1 where one tells the other; the bias of few pictures is taken off, and
what is within N_SIGMA standard errors of independence, of phi^2 sqrt(2 (r - 1)(c - 1)) / n, is 0.

Source: Cramer (1946); Bergsma (2013), a bias-correction for Cramer's V.
"""

import torch
from torch import Tensor

from ebmcli.core.factors import Factor

N_SIGMA = 8  # chosen: chi^2 has a long tail, and few pictures shall prove nothing
N_BINS = {"scalar": 4, "position": 3}  # equal parts of a range, of each coordinate; chosen


def cramers_v(one: Tensor, other: Tensor) -> float:
    """V of two classes per picture, (N,) each; 0 where one of them never varies."""
    first, second = (torch.unique(v, return_inverse=True)[1] for v in (one, other))
    n, rows, columns = len(first), int(first.max()) + 1, int(second.max()) + 1
    if n < 2 or rows < 2 or columns < 2:
        return 0.0
    counts = torch.bincount(first * columns + second, minlength=rows * columns)
    table = counts.view(rows, columns).double()
    expected = table.sum(1, keepdim=True) * table.sum(0, keepdim=True) / n
    freedom = (rows - 1) * (columns - 1)
    phi = float(((table - expected).square() / expected).sum()) / n - freedom / (n - 1)
    if phi <= N_SIGMA * (2 * freedom) ** 0.5 / n:
        return 0.0
    fewest = min(k - (k - 1) ** 2 / (n - 1) for k in (rows, columns))
    return min(1.0, (phi / (fewest - 1)) ** 0.5) if fewest > 1 else 0.0


def classes(factor: Factor, labels: Tensor) -> Tensor | None:
    """A class per picture, (N,) long: names as they are, numbers and places in N_BINS parts.

    None for a list of objects, which has no one value.
    """
    if factor.kind == "objects":
        return None
    if factor.names:
        return labels.long()
    n_bins = N_BINS[factor.kind]
    parts = (labels.double() - factor.low) / (factor.high - factor.low) * n_bins
    parts = parts.long().clamp(0, n_bins - 1)
    return parts if factor.kind == "scalar" else parts[:, 0] * n_bins + parts[:, 1]
