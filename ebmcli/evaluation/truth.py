"""Is a formula true of a picture? Read from what a judge saw in it.

A statement about a name is true when the judge reads that name; one about a place when both
coordinates are within a tolerance; ``size=0.4`` within a tolerance of its own; ``size>0.4`` by
comparison; ``object(color=red, position=(0,0))`` when one object has all the parts. Connectives are
those of boolean logic.

Tolerances (:func:`tolerance_of`) are a tenth of a factor's range, but 0.05 for sizes in the world
units of the renderer.
"""

import operator
from collections.abc import Iterable, Mapping

from torch import Tensor

from ebmcli.core.expression import Expression, Literal, interpret, literals
from ebmcli.core.factors import Factor
from ebmcli.evaluation.judge import Readings

WORLD_UNITS = "world units"  # the unit of the sizes that ebm renders, kept with the factor
SCALAR_TOLERANCE = 0.05  # world units, chosen
RANGE_SHARE = 0.1  # of the range of any other factor; chosen: 0.2 per coordinate on [-1, 1]
WIDE = 2.0  # times the tolerance of a place: 0.4 on [-1, 1], as Du, Li, Mordatch (2020) have it
PRESENT = 0.5  # a picture shows an object when the judge says so with more than this probability


def holds(
    expression: Expression,
    readings: Readings,
    *,
    wide: bool = False,
) -> Tensor:
    """Truth of a formula for every picture: (B,) bool. Weights have no part in truth.

    Whether there is an object at all is not asked: ``readings.present`` says it.

    Args:
        expression: A resolved tree, see ``statements.resolve``.
        readings: What the judge read.
        wide: Twice the tolerance for places.

    Raises:
        KeyError: A concept that the judge does not read.
    """

    def truth(literal: Literal) -> Tensor:
        factor, value = readings.factors[literal.name], readings.values[literal.name]
        return statement_holds(literal, factor, value, wide=wide)

    result: Tensor = interpret(
        expression,
        literal=truth,
        conjunction=operator.and_,
        disjunction=operator.or_,
        negation=operator.invert,
    )
    return result


def tolerance_of(factor: Factor) -> float:
    """Largest error of a number, or of each coordinate of a place, in the factor's unit.

        0.05                    of a number in world units
        (high - low) / 10       of any other, and of a place: 0.2 on [-1, 1]

    Names have none: 0.
    """
    if factor.names or factor.kind == "objects":
        return 0.0
    if factor.unit == WORLD_UNITS and factor.kind == "scalar":
        return SCALAR_TOLERANCE
    return RANGE_SHARE * (factor.high - factor.low)


def wide_tolerance_of(factor: Factor) -> float:
    """As :func:`tolerance_of`, twice as much for places."""
    return (WIDE if factor.kind == "position" else 1.0) * tolerance_of(factor)


def tolerances(factors: Iterable[Factor]) -> dict[str, float]:
    """The tolerance of every number and place by name, for a record."""
    measured = [factor for factor in factors if tolerance_of(factor) > 0]
    return {factor.name: tolerance_of(factor) for factor in measured}


def statement_holds(
    literal: Literal, factor: Factor, value: Tensor, *, wide: bool = False
) -> Tensor:
    """Truth of one statement for values (B,), (B, 2) or objects (B, any, columns): (B,) bool."""
    if factor.kind == "objects":
        return _described(literal, factor, value, wide=wide).any(1)
    tolerance = wide_tolerance_of(factor) if wide else tolerance_of(factor)
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


def _described(literal: Literal, factor: Factor, rows: Tensor, *, wide: bool) -> Tensor:
    """Which objects have all that a statement about objects asks for: (B, any) bool."""
    met = rows[:, :, 0] > 0
    for name, value in literal.parts:
        part = factor.part(name)
        columns = [factor.columns.index(column) for column in part.columns]
        values = rows[:, :, columns].flatten(0, 1)
        values = values if part.kind == "position" else values[:, 0]
        holds_of = statement_holds(Literal(name, "=", value), part, values, wide=wide)
        met = met & holds_of.view(met.shape)
    return met


def spoken_of(expression: Expression, factors: Mapping[str, Factor]) -> list[Factor]:
    """The factors a formula speaks about, each once; of objects the parts it names."""
    found: dict[str, Factor] = {}
    for literal in literals(expression):
        factor = factors[literal.name]
        if factor.kind != "objects":
            found[factor.name] = factor
        for name, _ in literal.parts:
            found[f"{factor.name} {name}"] = factor.part(name)
    return list(found.values())


def places_of(expression: Expression, factors: Mapping[str, Factor]) -> list[Factor]:
    """The places a formula speaks about, each once: of them a wider tolerance is counted too."""
    return [factor for factor in spoken_of(expression, factors) if factor.kind == "position"]
