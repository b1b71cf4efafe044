"""Probabilities of statements about objects, for batches of images; see ``fields`` for notation.

All sums are of non-negative terms and in logs: a probability of 1e-30 keeps its digits, in
float32 too, and has a gradient.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ebmcli.core.factors import N_FIELD_CELLS
from ebmcli.core.fields import FieldTable, number_of
from ebmcli.core.tables import FLOOR

NEVER = -1e30  # nats, chosen: a sum of 256 of them is finite in float32


def field_log_probs(table: FieldTable, log_posterior: Tensor, log_prior: Tensor) -> Tensor:
    """log P(t | x) of the joint outcomes t of the literals on objects.

        P(t | x) = sum over S_1 ... S_G with union t of prod_g r_g(S_g)

    Args:
        table: T outcomes of L literals.
        log_posterior: log q, (B, G K), g slow, every cell normalised over k; -inf is allowed.
        log_prior: log pi, (G K,); used when the weight is not 1.

    Returns:
        (B, T), nats, all finite: log q below -10,000 counts as -10,000, where its gradient is 0.
        The work is log2(G) passes over (B, G, 4^L).
    """
    shape = (N_FIELD_CELLS**2, table.factor.n_outcomes)
    log_q = log_posterior.clamp_min(FLOOR).reshape(-1, *shape)
    if table.weight != 1:
        prior = log_prior.to(log_q).clamp_min(FLOOR).reshape(shape)
        log_q = torch.log_softmax(prior + table.weight * (log_q - prior), dim=2)
    log_shares = _log_shares(table, log_q.dtype, log_q.device)
    cells = torch.logsumexp(log_q[:, None] + log_shares, dim=3)  # log r_g(S), (B, 2^L, G)
    return log_union(cells).index_select(1, _rows(table, log_q.device))


def log_union(log_sets: Tensor) -> Tensor:
    """The union of G independent random sets, from their log probabilities.

    Args:
        log_sets: (B, 2^L, G): log of the probability of set S, a number with a bit per literal;
            NEVER for what cannot be.

    Returns:
        (B, 2^L). Sets are united in pairs, so that errors of rounding grow with log2(G).
    """
    n_sets = log_sets.shape[1]
    while log_sets.shape[2] > 1:
        if log_sets.shape[2] % 2:
            log_sets = torch.cat([log_sets, _nothing(log_sets)], dim=2)
        first, second = log_sets[:, :, 0::2], log_sets[:, :, 1::2]
        united = []
        for number in range(n_sets):
            left, right = _pairs(number, log_sets.device)
            both = first.index_select(1, left) + second.index_select(1, right)
            united.append(torch.logsumexp(both, dim=1))
        log_sets = torch.stack(united, dim=1)
    return log_sets[:, :, 0]


def _nothing(like: Tensor) -> Tensor:
    """The set that is certainly empty, (B, 2^L, 1)."""
    empty = torch.full_like(like[:, :, :1], NEVER)
    empty[:, 0].fill_(0.0)  # a number set by index would be a tensor of the CPU
    return empty


@lru_cache(maxsize=64)
def _rows(table: FieldTable, device: torch.device) -> Tensor:
    """The sets that are the outcomes of a table, (T,)."""
    return torch.tensor([number_of(truth) for truth in table.truths], device=device)


@lru_cache(maxsize=256)
def _pairs(number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All pairs of sets whose union is a set: 3^(its size)."""
    subsets = [s for s in range(number + 1) if s | number == number]
    pairs = [(a, b) for a in subsets for b in subsets if a | b == number]
    first, second = torch.tensor(pairs, device=device).unbind(1)
    return first, second


@lru_cache(maxsize=64)
def _log_shares(table: FieldTable, dtype: torch.dtype, device: torch.device) -> Tensor:
    """log of the probability that an object k in cell g meets exactly S: (2^L, G, K)."""
    shape = (2 ** len(table.literals), N_FIELD_CELLS**2, table.factor.n_outcomes)
    shares = torch.full(shape, NEVER, dtype=torch.float64)
    for cell in range(shape[1]):
        for outcome in range(shape[2]):
            for number, share in table.shares(cell, outcome).items():
                shares[number, cell, outcome] = share
    return torch.where(shares > 0, shares.log(), NEVER).to(device, dtype)
