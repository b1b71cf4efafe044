"""Other rules of composition: those of the field, one small function each, beside the exact one.

Notation: E0 the energy of the space, l a statement, P(l | x) its probability and P(l) its prior,
w the strength of guidance, v the weight written before a statement. Everything in nats, (B,):

    r_l(x, sigma) = log P(l | x, sigma) - log P(l) = E0(x, sigma) - E(x, sigma | l)

w and v multiply r_l, as in classifier guidance, so that all rules mean the same by a
strength: for ``a & b``, two concepts, every rule here but :func:`paper` has the energy
E0 - w (r_a + r_b), and so has ``exact_energy`` up to a constant. Negations are pushed down to
single statements first (De Morgan), since most of the sources negate nothing else. A rule takes a
checked tree and the parts it is composed of; networks run once per input as long as the parts
remember their last result.

What the rules are, and where they go wrong: docs/logic.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ebmcli.core.composition import (
    Posterior,
    conditional_energy,
    log_probability,
    paper_energy,
)
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.expression import And, Expression, Literal, Not, Or, push_negations
from ebmcli.core.factors import Factor
from ebmcli.core.logic import Formula, compile_formula
from ebmcli.core.statements import at
from ebmcli.core.tables import FLOOR
from ebmcli.errors import ExpressionError

RECYCLED_NEGATION = 0.3  # alpha; the 0.3 of 1.3 E1 - 0.3 E2 in the source's example in the plane


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What every rule composes.

    Args:
        base: E0, from (B, C, H, W) and (B,) to (B,).
        concepts: The trained concepts by name, for every statement of the formula.
        factors: Their factors.
    """

    base: NoisyEnergy
    concepts: Mapping[str, Posterior]
    factors: Mapping[str, Factor]

    def log_probability(self, statement: Literal | Not) -> NoisyEnergy:
        """log P(l | x) of a statement or of its negation, finite: (B,)."""
        formula = compile_formula(statement, self.factors)
        return lambda x, sigma: log_probability(formula, self.concepts, x, sigma)

    def log_ratio(self, literal: Literal) -> NoisyEnergy:
        """r_l = log P(l | x) - log P(l), finite: (B,); the weight of the literal is left out."""
        formula = compile_formula(replace(literal, weight=1.0), self.factors)
        log_prior = self.log_prior(formula)
        return lambda x, sigma: log_probability(formula, self.concepts, x, sigma) - log_prior

    def log_prior(self, formula: Formula) -> float:
        """log P(f), nats, at least FLOOR."""
        priors = {name: self.concepts[name].log_prior.tolist() for name in formula.concepts}
        return max(formula.log_prior(priors), FLOOR)


class Rule(Protocol):
    """A way to turn a formula into an energy."""

    def __call__(
        self, expression: Expression, parts: Parts, *, strength: float = 1.0
    ) -> NoisyEnergy:
        """The energy (B,) of the noisy images (B, C, H, W) that the formula asks for."""
        ...


def paper(expression: Expression, parts: Parts, *, strength: float = 1.0) -> NoisyEnergy:
    """AND: E1 + E2. OR: -log(exp(-E1) + exp(-E2)). NOT: -alpha E1, beside a positive statement.

    Each E is a whole conditional energy E(x | l) = E0 - r_l: k statements count E0 k times. OR
    takes all partition functions as equal. A weight written before a statement tempers its
    posterior, as in the exact rule.

    Raises:
        ExpressionError: An alternative has no positive statement.
        ValueError: A strength other than 1; these rules have none.

    Source: Du, Li and Mordatch (2020), https://arxiv.org/abs/2004.06030; ``paper_energy``.
    """
    if strength != 1:
        raise ValueError(f"the paper's rules have no strength, got {strength}")

    def energy_of(literal: Literal) -> NoisyEnergy:
        formula = compile_formula(literal, parts.factors)
        return conditional_energy(
            parts.base, formula, parts.concepts, log_prior=parts.log_prior(formula)
        )

    return paper_energy(expression, energy_of)


def composable_diffusion(
    expression: Expression, parts: Parts, *, strength: float = 1.0
) -> NoisyEnergy:
    """Statements are added and subtracted against the unconditional energy.

        E = E0 - w (sum over positive l of v r_l - sum over negated l of v r_l)

    That is E0 + sum_i w_i (E_i - E0) with w_i = w v, and -w v for a negation. The source has no
    OR, and this function invents none.

    Raises:
        ExpressionError: The formula has an OR once negations are pushed down.

    Source: Liu et al. (2022), https://arxiv.org/abs/2206.01714
    """
    positive, negative = _conjunction(expression, "composable-diffusion")
    towards = _sum([_guided(literal, parts, strength) for literal in positive])
    away = _sum([_guided(literal, parts, strength) for literal in negative])
    return lambda x, sigma: parts.base(x, sigma) - towards(x, sigma) + away(x, sigma)


def reduce_reuse_recycle(
    expression: Expression, parts: Parts, *, strength: float = 1.0
) -> NoisyEnergy:
    """Products, mixtures and powers of guided densities as they are, E0 counted once.

        E_l = E0 - w v r_l                          AND: E1 + E2 - E0
        OR: -log(1/n sum_i exp(-E_i))               NOT: E0 - alpha (E_l - E0), alpha = 0.3

    The source multiplies by E1 + E2 where the models have nothing in common and, with guidance,
    subtracts the unconditional energy; its conditional models share one, and so do ours. NOT is
    its E1 - alpha E2 with the exponents summing to 1. Meant for annealed MCMC: give it
    corrector steps (``annealed_chain``), since sums of noised energies are not noised sums.

    Source: Du et al. (2023), https://arxiv.org/abs/2302.11552, and its released examples
    """
    return _tree_of_ratios(
        expression,
        parts,
        strength=strength,
        negated=-RECYCLED_NEGATION,
        either=lambda ratios: torch.logsumexp(ratios, dim=0) - math.log(len(ratios)),
    )


def logdiff_constant(expression: Expression, parts: Parts, *, strength: float = 1.0) -> NoisyEnergy:
    """The constant weights that LogDiff is compared with: 1 for AND, 1/n for OR, -1 for NOT.

        E = E0 - w r_f    r_(a & b) = r_a + r_b    r_(a | b) = (r_a + r_b) / 2    r_(~l) = -v r_l

    LogDiff itself is not here: its weights depend on the state so that the score is that of
    E0 - log P(f | x), which for independent concepts is ``exact_energy``.

    Source: the baseline of Alesiani et al. (2026), https://arxiv.org/abs/2602.05549
    """
    return _tree_of_ratios(
        expression,
        parts,
        strength=strength,
        negated=-1.0,
        either=lambda ratios: ratios.mean(dim=0),
    )


def dng(expression: Expression, parts: Parts, *, strength: float = 1.0) -> NoisyEnergy:
    """Negations pushed away by w q / (1 - q): hard where x looks like l, not at all elsewhere.

        E = E0 - w (sum over positive l of v r_l + sum over negated l of v log(1 - P(l | x)))

    The gradient of log(1 - q) is -q / (1 - q) times that of log q, the source's dynamic weight.
    The source has no classifier and estimates q along the chain; here q is the concept's.
    With one statement per concept this is the exact energy. It has no OR.

    Raises:
        ExpressionError: The formula has an OR once negations are pushed down.

    Source: Koulischer et al. (2025), https://arxiv.org/abs/2410.14398
    """
    positive, negative = _conjunction(expression, "dng")
    terms = [_guided(literal, parts, strength) for literal in positive]
    for literal in negative:
        outside = parts.log_probability(Not(replace(literal, weight=1.0)))
        terms.append(_scaled(outside, strength * literal.weight))
    ratio = _sum(terms)
    return lambda x, sigma: parts.base(x, sigma) - ratio(x, sigma)


def perp_neg(expression: Expression, parts: Parts, *, strength: float = 1.0) -> NoisyEnergy:
    """Negations act only across the direction of the positive statements. Not an energy.

        score = s0 + w (p - sum over negated l of (n_l - <n_l, p> p / |p|^2))
        p = sum over positive l of v grad r_l,    n_l = v grad r_l

    The projected field has a curl: no energy has this score. What is returned is a surrogate. Its
    *gradient* in x is minus the score above, by a term <x - x', c> with x' = x and c held
    constant; its *value* is that of :func:`composable_diffusion`. Samplers that follow gradients
    (``heun_step``, the Langevin steps) may use it; a Metropolis test, a weight of particles or a
    ranking by energy may not. Where p = 0 nothing is projected. It has no OR.

    Raises:
        ExpressionError: The formula has an OR, or no positive statement to be orthogonal to.

    Source: Armandpour et al. (2023), https://arxiv.org/abs/2304.04968
    """
    positive, negative = _conjunction(expression, "perp-neg")
    if not positive:
        raise ExpressionError(
            "perp-neg needs a positive statement, to which negations are made orthogonal",
            *at(expression),
            hint="join one by &, as in male & ~old, or use --logic exact",
        )
    towards = _sum([_guided(literal, parts, strength) for literal in positive])
    away = [_guided(literal, parts, strength) for literal in negative]

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        liked, disliked = towards(x, sigma), [ratio(x, sigma) for ratio in away]
        value = parts.base(x, sigma) - liked
        for ratio in disliked:
            value = value + ratio
        if not (disliked and x.requires_grad and value.requires_grad):
            return value
        direction = _gradient(liked, x)
        along = torch.stack([_parallel(_gradient(ratio, x), direction) for ratio in disliked])
        return value - ((x - x.detach()) * along.sum(0)).flatten(1).sum(1)

    return energy


RULES: dict[str, Rule] = {
    "paper": paper,
    "composable-diffusion": composable_diffusion,
    "reduce-reuse-recycle": reduce_reuse_recycle,
    "logdiff-constant": logdiff_constant,
    "dng": dng,
    "perp-neg": perp_neg,
}


def _guided(literal: Literal, parts: Parts, strength: float) -> NoisyEnergy:
    """w v r_l."""
    return _scaled(parts.log_ratio(literal), strength * literal.weight)


def _scaled(function: NoisyEnergy, factor: float) -> NoisyEnergy:
    return lambda x, sigma: factor * function(x, sigma)


def _sum(terms: Sequence[NoisyEnergy]) -> NoisyEnergy:
    """The sum of functions; 0 of none."""

    def total(x: Tensor, sigma: Tensor) -> Tensor:
        if not terms:
            return x.new_zeros(len(x))
        return torch.stack([term(x, sigma) for term in terms]).sum(0)

    return total


def _conjunction(expression: Expression, rule: str) -> tuple[list[Literal], list[Literal]]:
    """The positive and the negated statements of a plain conjunction."""
    positive: list[Literal] = []
    negative: list[Literal] = []

    def walk(node: Expression) -> None:
        match node:
            case Literal():
                positive.append(node)
            case Not(Literal() as literal):
                negative.append(literal)
            case And(left, right):
                walk(left)
                walk(right)
            case _:
                hint = "use --logic exact, reduce-reuse-recycle or logdiff-constant"
                raise ExpressionError(f"{rule} has no rule for {node}", *at(node), hint=hint)

    walk(push_negations(expression))
    return positive, negative


def _tree_of_ratios(
    expression: Expression,
    parts: Parts,
    *,
    strength: float,
    negated: float,
    either: Callable[[Tensor], Tensor],
) -> NoisyEnergy:
    """E0 - r_f: AND adds, a negation is ``negated`` w v r_l, OR is ``either`` of ratios (n, B)."""

    def ratio(node: Expression) -> NoisyEnergy:
        match node:
            case Literal():
                return _guided(node, parts, strength)
            case Not(Literal() as literal):
                return _guided(literal, parts, negated * strength)
            case And(left, right):
                return _sum([ratio(left), ratio(right)])
            case Or():
                found = [ratio(part) for part in _alternatives(node)]
                return lambda x, sigma: either(torch.stack([each(x, sigma) for each in found]))
        raise TypeError(f"negations are not pushed down: {node!r}")

    whole = ratio(push_negations(expression))
    return lambda x, sigma: parts.base(x, sigma) - whole(x, sigma)


def _alternatives(expression: Expression) -> list[Expression]:
    """The parts joined by the outermost ``|``, so that a | b | c are three equal ones."""
    if isinstance(expression, Or):
        return _alternatives(expression.left) + _alternatives(expression.right)
    return [expression]


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """d value / dx (B, C, H, W), held constant; the graph stays for the energy's own gradient."""
    (gradient,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
    return gradient


def _parallel(vector: Tensor, direction: Tensor) -> Tensor:
    """The part of each image of ``vector`` along ``direction``; 0 where the direction is 0."""
    tiny = torch.finfo(direction.dtype).tiny
    unit = F.normalize(direction.flatten(1), dim=1, eps=tiny)
    along = (vector.flatten(1) * unit).sum(1, keepdim=True) * unit
    return along.view_as(vector)
