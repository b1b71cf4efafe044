"""What a judge says of the pictures of one formula.

A picture is right when the formula is true of what the judge reads *and* the judge sees an object.
Keys of readings here are concepts, as in a formula; see :func:`by_concept`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ebmcli.core.expression import And, Expression, Not, spell
from ebmcli.core.factors import Factor
from ebmcli.evaluation.alternatives import alternatives
from ebmcli.evaluation.formulas import OR_ROWS
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.truth import PRESENT, holds


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judge on B pictures of one formula; every tensor is (B,) bool."""

    right: Tensor
    absent: Tensor  # no object
    unwanted: Tensor | None = None  # row "not": what the formula negates is there all the same
    alternatives: dict[str, Tensor]  # rows of "or": truth of each, by its text


def verdict(row: str, expression: Expression, readings: Readings) -> Verdict:
    """Judge pictures of one formula of a row of ``formulas.ROWS``."""
    present = readings.present > PRESENT
    negated = negated_part(expression) if row == "not" else None
    return Verdict(
        right=holds(expression, readings) & present,
        absent=~present,
        unwanted=None if negated is None else holds(negated, readings) & present,
        alternatives={
            spell(one): holds(one, readings) & present
            for one in (alternatives(expression) if row in OR_ROWS else [])
        },
    )


def negated_part(expression: Expression) -> Expression | None:
    """b of ``~b`` and of ``a & ~b``; None of any other formula."""
    match expression:
        case Not(term) | And(_, Not(term)):
            return term
    return None


def by_concept(readings: Readings, factors: Mapping[str, Factor]) -> Readings:
    """Readings under the names of concepts, of which each reads one factor.

    Args:
        readings: Under the names of factors.
        factors: The factor of every concept.
    """
    return replace(
        readings,
        factors=factors,
        values={name: readings.values[factor.name] for name, factor in factors.items()},
        probabilities={},
    )


def ceiling(expression: Expression, labels: Readings, readings: Readings) -> float | None:
    """The judge's own accuracy: the share it calls right, of real pictures that are right.

    Args:
        expression: The formula.
        labels: True labels of real pictures.
        readings: What the judge reads in the same pictures.

    Returns:
        In [0, 1]; None where no real picture satisfies the formula.
    """
    true = holds(expression, labels)
    if not bool(true.any()):
        return None
    called = holds(expression, readings) & (readings.present > PRESENT)
    return float(called[true].double().mean())


def equal_weights(masks: list[Tensor]) -> Tensor:
    """Weights (N,) of N real pictures in which every formula counts alike, summing to 1.

    Args:
        masks: For every formula the pictures that satisfy it, (N,) bool, at least one each.
    """
    rows = torch.stack(masks).double()
    return (rows / rows.sum(1, keepdim=True)).mean(0)
