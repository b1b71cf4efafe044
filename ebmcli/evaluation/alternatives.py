"""Does every alternative of an ``or`` get its share of the pictures?

Notation: f = b_1 | b_2 | ...; t (N, K) weights of labels on the cells of a concept, pi its prior.
Among pictures of which f is true, alternative b should be true as often as under the prior:

    s_b = P(b | f) = E[w 1(b) 1(f)] / E[w 1(f)]

over labels, where 1(.) is truth as the judge has it and w = P(f | labels), what the concepts would
say if they knew the labels: a point has a narrower meaning for them than for the judge.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ebmcli.core.expression import Expression, Or
from ebmcli.core.logic import Formula
from ebmcli.core.tables import EventTable
from ebmcli.core.targets import cell_weights
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.truth import holds

TINY = 1e-30  # stands for 0 where a logarithm or a quotient is taken; it weighs nothing


@dataclass(frozen=True, kw_only=True)
class AlternativeShare:
    """How often one alternative was true, of the pictures in which its formula was."""

    formula: str
    alternative: str
    share: float  # of the right pictures, in [0, 1]
    prior: float  # what it should be, in [0, 1]
    n: int  # right pictures

    @property
    def gap(self) -> float:
        """Distance from the prior's share, in [0, 1]."""
        return abs(self.share - self.prior)

    @property
    def noise(self) -> float:
        """Standard error of the share if the prior's share were the true one."""
        return math.sqrt(self.prior * (1 - self.prior) / self.n)


def alternatives(expression: Expression) -> list[Expression]:
    """The terms of a formula that are joined by | at its top."""
    if isinstance(expression, Or):
        return alternatives(expression.left) + alternatives(expression.right)
    return [expression]


def alternative_shares(
    formula: str, holding: Mapping[str, Tensor], right: Tensor, prior: Sequence[float]
) -> list[AlternativeShare]:
    """The share of every alternative among the right pictures; none where no picture is right.

    Args:
        formula: Its text.
        holding: Truth of every alternative, (B,) bool, by its text.
        right: Truth of the formula where an object is present, (B,) bool.
        prior: Shares as they should be, from :func:`prior_shares`.
    """
    n = int(right.sum())
    if n == 0:
        return []
    return [
        AlternativeShare(
            formula=formula,
            alternative=name,
            share=int((truth & right).sum()) / n,
            prior=wanted,
            n=n,
        )
        for (name, truth), wanted in zip(holding.items(), prior, strict=True)
    ]


def largest_gap(shares: Sequence[AlternativeShare]) -> AlternativeShare | None:
    """The alternative that is farthest from its share; None of none."""
    return max(shares, key=lambda share: share.gap, default=None)


def prior_shares(
    formula: Formula, labels: Readings, log_priors: Mapping[str, Tensor]
) -> list[float]:
    """P(b | f) of every alternative under the prior of the concepts, each in [0, 1].

    Args:
        formula: Compiled, all weights 1; its alternatives are those of its expression.
        labels: Uniform draws, see ``formulas.uniform_readings``; keys are concepts.
        log_priors: log pi (K,) of every concept of the formula; draws are weighted by pi over
            their own share of each cell.

    Raises:
        ValueError: No draw satisfies the formula.
    """
    weight, tables = holds(formula.expression, labels).double(), {}
    for name, table in formula.tables.items():
        assert isinstance(table, EventTable)  # a judge reads one value per picture
        cells, log_prior = cell_weights(table.factor, labels.values[name]), log_priors[name]
        weight = weight * (cells @ (log_prior.exp() / cells.mean(0).clamp_min(TINY)))
        events = cells @ cells.new_tensor(table.membership).T  # P(t | labels), (N, T)
        tables[name] = events.clamp_min(TINY).log()
    weight = weight * formula.log_probability(tables).exp()
    if not float(weight.sum()) > 0:
        raise ValueError(f"none of {len(labels)} label draws satisfies {formula.expression}")
    shares = [
        float((weight * holds(one, labels)).sum() / weight.sum())
        for one in alternatives(formula.expression)
    ]
    return [min(share, 1.0) for share in shares]  # the last bits of a sum may pass 1
