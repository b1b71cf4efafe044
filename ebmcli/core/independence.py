"""Two factors that were not drawn independently, told apart: for combinations never seen.

Notation: s a cell of the factor to learn (K), c a cell of the other factor (M), J (K, M) the share
of every pair in the training images, 0 for pairs that were left out; x a noisy image, sigma its
level. What is assumed is what formulas assume anyway: the image speaks about each factor by itself,

    p(x | s, c) = a_s(x) b_c(x) h(x),

with l_s = log a_s and m_c = log b_c, each up to a summand that depends on x alone. In training
images p(s | x) = sum_c J(s, c) a_s b_c / ..., so that a posterior of s uses c as a clue: where no
cube was red, red speaks against cubes. But given x and the label c

    p(s | x, c) = J(s, c) a_s(x) / sum_k J(k, c) a_k(x)

holds a_s alone. Learning l in this form gives a posterior that knows s and not its company.
With both in hand the density of a pair that was seen is exact too,

    log p(x | s, c) / p(x) = l_s + m_c - log sum_kj J(k, j) exp(l_k + m_j).

Source: logit adjustment (Menon et al. 2021) with a prior for each c. CoInD (Gaudi et al. 2025) has
the same purpose and another penalty; see docs/theory.md.
"""

import torch
from torch import Tensor


def pair_shares(labels: Tensor, others: Tensor, *, n_cells: int, n_others: int) -> Tensor:
    """log J (K, M): the log share of every pair of cells, -inf for a pair never seen.

    Args:
        labels: Cells of the factor to learn, (N,).
        others: Cells of the other factor, (N,).
        n_cells: K.
        n_others: M.
    """
    index = labels.long() * n_others + others.long()
    counts = torch.bincount(index, minlength=n_cells * n_others).double()
    return (counts / counts.sum()).log().float().view(n_cells, n_others)


def cross_entropy_given(
    log_ratio: Tensor, log_shares: Tensor, labels: Tensor, others: Tensor
) -> Tensor:
    """- log p(s | x, c) of the labels, where p(s | x, c) ~ J(s, c) exp(l_s(x)): (B,), nats.

    An image whose c was seen with one s only has loss 0: it tells nothing about s.

    Args:
        log_ratio: l, (B, K), up to a summand of each image.
        log_shares: log J, (K, M).
        labels: s of every image, (B,).
        others: c of every image, (B,).
    """
    log_p = torch.log_softmax(log_ratio + log_shares.T[others], dim=1)
    return -log_p.gather(1, labels[:, None])[:, 0]


def pair_log_ratio(
    log_ratio: Tensor, other_ratio: Tensor, log_shares: Tensor, labels: Tensor, others: Tensor
) -> Tensor:
    """log p(x | s, c) / p(x) of pairs that were seen: (B,), nats.

    Args:
        log_ratio: l, (B, K), up to a summand of each image.
        other_ratio: m, (B, M), up to a summand of each image.
        log_shares: log J, (K, M).
        labels: s of every image, (B,).
        others: c of every image, (B,).
    """
    joint = log_shares + log_ratio[:, :, None] + other_ratio[:, None, :]
    chosen = log_ratio.gather(1, labels[:, None]) + other_ratio.gather(1, others[:, None])
    return chosen[:, 0] - torch.logsumexp(joint.flatten(1), dim=1)
