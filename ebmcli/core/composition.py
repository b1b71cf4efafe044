"""Composition: from a formula over concepts to one energy over images.

Notation: x noisy images (B, C, H, W), sigma (B,) their noise level, E0 the energy of the space,
q_k(x, sigma) the posterior of a concept over the K cells of its factor, pi_k its prior, P(f | x)
the probability of formula f. Energies in nats, (B,). Two meanings of a formula:

- exact (:func:`exact_energy`): E_f = E0 - log P(f | x), from ``logic.Formula``; or of one of its
  branches for every image (:func:`branch_energy`).
- the paper's (:func:`paper_energy`): AND adds energies, OR mixes densities, NOT inverts one.

[P20] is Du, Li and Mordatch, Compositional Visual Generation and Inference with Energy Based
Models, https://arxiv.org/abs/2004.06030, equations numbered as in its version of April 2020.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Protocol

import torch
from torch import Tensor

from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.expression import Expression, Literal, interpret, push_negations
from ebmcli.core.field_events import field_log_probs
from ebmcli.core.fields import FieldTable
from ebmcli.core.logic import Formula, Table
from ebmcli.core.statements import at
from ebmcli.core.tables import FLOOR, EventTable
from ebmcli.errors import ExpressionError


class Posterior(Protocol):
    """What composition asks of a concept."""

    log_prior: Tensor

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma) for every cell: (B, K)."""
        ...


def event_log_probs(table: Table, log_posterior: Tensor, log_prior: Tensor) -> Tensor:
    """log P(t | x) of the joint outcomes t of the literals on one concept.

        P(t | x) = sum_k A_t(k) q_k^(w),    q_k^(w) = pi_k (q_k / pi_k)^w / normaliser

    Args:
        table: T outcomes with memberships A (T, K) and the weight w; those about objects have
            their own sum, see ``field_events.field_log_probs``.
        log_posterior: log q, (B, K), normalised; -inf is allowed.
        log_prior: log pi, (K,); used when w is not 1.

    Returns:
        (B, T), nats, all finite: log q below -10,000 counts as -10,000, where its gradient is 0.
    """
    if isinstance(table, FieldTable):
        return field_log_probs(table, log_posterior, log_prior)
    log_q = log_posterior.clamp_min(FLOOR)
    if table.weight != 1:
        prior = log_prior.to(log_q).clamp_min(FLOOR)
        log_q = torch.log_softmax(prior + table.weight * (log_q - prior), dim=1)
    log_membership = _log_membership(table, log_q.dtype, log_q.device)
    return torch.logsumexp(log_q[:, None, :] + log_membership, dim=2)


@lru_cache(maxsize=256)
def _log_membership(table: EventTable, dtype: torch.dtype, device: torch.device) -> Tensor:
    """log A, (T, K); -inf where a cell has no part in an outcome."""
    return torch.tensor(table.membership, dtype=torch.float64).log().to(device, dtype)


def log_probability(
    formula: Formula, concepts: Mapping[str, Posterior], x: Tensor, sigma: Tensor
) -> Tensor:
    """log P(f | x, sigma): (B,), nats; every concept of the formula is evaluated once.

    Raises:
        KeyError: A concept of the formula is not in ``concepts``.
    """
    tables = {
        name: event_log_probs(
            table, concepts[name].log_posterior(x, sigma), concepts[name].log_prior
        )
        for name, table in formula.tables.items()
    }
    return formula.log_probability(tables)


def exact_energy(
    base: NoisyEnergy,
    formula: Formula,
    concepts: Mapping[str, Posterior],
    *,
    strength: float = 1.0,
) -> NoisyEnergy:
    """The energy of the images that satisfy a formula.

        E_f(x, sigma) = E0(x, sigma) - strength * log P(f | x, sigma)

    With strength 1 this is Bayes' rule, p(x | f) = p(x) P(f | x) / P(f), up to the constant
    log P(f). A larger strength is guidance: it sharpens the formula at the price of variety.

    Args:
        base: E0, from (B, C, H, W) and (B,) to (B,).
        formula: From ``logic.compile_formula``.
        concepts: The trained concepts by name.
        strength: Power of P(f | x).
    """

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        return base(x, sigma) - strength * log_probability(formula, concepts, x, sigma)

    return energy


def branch_energy(
    base: NoisyEnergy,
    formula: Formula,
    concepts: Mapping[str, Posterior],
    masks: Mapping[str, Tensor],
    *,
    strength: float = 1.0,
) -> NoisyEnergy:
    """The energy of pictures of which each has a branch of its own.

        E(x, sigma) = E0(x, sigma) - strength * log P(b | x, sigma)

    Args:
        base: E0, from (B, C, H, W) and (B,) to (B,).
        formula: The formula whose branches they are.
        concepts: The trained concepts by name.
        masks: For every concept of f the rows allowed, (B, T) bool; see ``branches.Branches``.
        strength: Power of P(b | x).
    """

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        found = base(x, sigma)
        for name, table in formula.tables.items():
            concept, mask = concepts[name], masks[name]
            events = event_log_probs(table, concept.log_posterior(x, sigma), concept.log_prior)
            allowed = torch.logsumexp(events.masked_fill(~mask, -torch.inf), dim=1)
            found = found - strength * torch.where(mask.all(1), 0.0, allowed)
        return found

    return energy


def conjunction(left: NoisyEnergy, right: NoisyEnergy) -> NoisyEnergy:
    """Product of experts: E = E1 + E2. [P20] equation 4, its Langevin step equation 5."""
    return lambda x, sigma: left(x, sigma) + right(x, sigma)


def disjunction(left: NoisyEnergy, right: NoisyEnergy) -> NoisyEnergy:
    """Mixture, assuming equal partition functions: E = -log(exp(-E1) + exp(-E2)).

    [P20] equations 6 and 7; the step printed as 8 climbs the energy, this one descends.
    """
    return lambda x, sigma: -torch.logaddexp(-left(x, sigma), -right(x, sigma))


def negation(energy: NoisyEnergy, *, strength: float) -> NoisyEnergy:
    """Tempered inverse density: E = -strength * E1, proper only beside a positive concept.

    [P20] equation 9, its step equation 10, where strength is alpha.
    """
    return lambda x, sigma: -strength * energy(x, sigma)


def conditional_energy(
    base: NoisyEnergy,
    formula: Formula,
    concepts: Mapping[str, Posterior],
    *,
    log_prior: float,
) -> NoisyEnergy:
    """E(x | f) = E0 - log P(f | x) + log P(f): partition functions of all formulas are equal.

    ``log_prior`` is log P(f), nats, from ``Formula.log_prior``.
    """
    exact = exact_energy(base, formula, concepts)
    return lambda x, sigma: exact(x, sigma) + log_prior


def paper_energy(
    expression: Expression,
    energy_of: Callable[[Literal], NoisyEnergy],
    *,
    negation_strength: float = 0.01,
) -> NoisyEnergy:
    """Compose conditional energies of single statements by the rules of [P20].

    Negations are pushed down to single statements first (De Morgan), since the paper negates
    nothing else and -strength * (E1 + E2) for ``~(a & b)`` would mean ``~a & ~b``. k statements
    count the energy of the space k times, as in the paper.

    Args:
        expression: A checked tree, such as ``Formula.expression``.
        energy_of: The conditional energy E(x | l) of a literal, see :func:`conditional_energy`.
        negation_strength: alpha; the paper's text has 0.001, its 2020 version 0.01.

    Raises:
        ExpressionError: An alternative has no positive statement, so that its density has no
            bounded energy.
    """
    pushed = push_negations(expression)
    if not is_proper(pushed):
        raise ExpressionError(
            "by the paper's rules this is no density: an alternative consists of negations only",
            *at(pushed),
            hint="join a positive concept by &, as in male & ~old, or use --logic exact",
        )
    return interpret(
        pushed,
        literal=energy_of,
        conjunction=conjunction,
        disjunction=disjunction,
        negation=partial(negation, strength=negation_strength),
    )


def is_proper(expression: Expression) -> bool:
    """Does every alternative of a tree with pushed negations keep a positive statement?"""
    return interpret(
        expression,
        literal=lambda _: True,
        conjunction=lambda left, right: left or right,
        disjunction=lambda left, right: left and right,
        negation=lambda _: False,
    )
