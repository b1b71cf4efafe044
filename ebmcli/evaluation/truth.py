"""Is a formula true of a picture? Read from what a judge saw in it.

A statement about a name is true when the judge reads that name; one about a place when both
coordinates are within a tolerance; ``size=0.4`` within a tolerance of its own; ``size>0.4`` by
comparison. Connectives are those of boolean logic.
"""

import operator

from torch import Tensor

from ebmcli.core.expression import Expression, Literal, interpret, literals
from ebmcli.core.factors import Factor
from ebmcli.evaluation.judge import Readings

POSITION_TOLERANCE = 0.2  # per coordinate, world units
PAPER_TOLERANCE = 0.4  # per coordinate, world units: Du, Li, Mordatch (2020)
SCALAR_TOLERANCE = 0.05  # in the factor's unit
PRESENT = 0.5  # a picture shows an object when the judge says so with more than this probability


def holds(
    expression: Expression,
    readings: Readings,
    *,
    position_tolerance: float = POSITION_TOLERANCE,
    scalar_tolerance: float = SCALAR_TOLERANCE,
) -> Tensor:
    """Truth of a formula for every picture: (B,) bool. Weights have no part in truth.

    Whether there is an object at all is not asked: ``readings.present`` says it.

    Args:
        expression: A resolved tree, see ``statements.resolve``.
        readings: What the judge read.
        position_tolerance: Largest error of each coordinate, world units.
        scalar_tolerance: Largest error of a number, in its unit.

    Raises:
        KeyError: A concept that the judge does not read.
    """

    def truth(literal: Literal) -> Tensor:
        factor, value = readings.factors[literal.name], readings.values[literal.name]
        tolerance = position_tolerance if factor.kind == "position" else scalar_tolerance
        return statement_holds(literal, factor, value, tolerance=tolerance)

    result: Tensor = interpret(
        expression,
        literal=truth,
        conjunction=operator.and_,
        disjunction=operator.or_,
        negation=operator.invert,
    )
    return result


def statement_holds(literal: Literal, factor: Factor, value: Tensor, *, tolerance: float) -> Tensor:
    """Truth of one statement for values (B,) or (B, 2): (B,) bool."""
    if factor.names:
        name = "yes" if literal.value is None else str(literal.value)
        return value == factor.names.index(name)
    asked = value.new_tensor(literal.value)
    if literal.comparison == ">":
        return value > asked
    if literal.comparison == "<":
        return value < asked
    error = (value - asked).abs()
    return (error <= tolerance).all(1) if factor.kind == "position" else error <= tolerance


def names_a_place(expression: Expression, factors: dict[str, Factor]) -> bool:
    """Does the formula speak about a position, so that the tolerance matters?"""
    return any(factors[literal.name].kind == "position" for literal in literals(expression))
