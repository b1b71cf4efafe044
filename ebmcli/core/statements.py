"""Does a statement fit its factor? Every literal is checked before anything is computed."""

import operator
import re
from collections.abc import Mapping
from dataclasses import replace

from ebmcli.core.expression import Expression, Literal, Not, literals, map_literals, number_text
from ebmcli.core.factors import Factor, Value
from ebmcli.errors import ExpressionError, UnknownNameError, caret


def resolve(expression: Expression, factors: Mapping[str, Factor]) -> Expression:
    """Check every literal against its factor and write it in its plainest form.

    ``old=yes`` becomes ``old`` and ``old=no`` becomes ``~old``; ``>=`` and ``<=`` become ``>`` and
    ``<``, since a single number has no probability; numbers that name a value become words; parts
    of an object stand in the order of its factor.

    Raises:
        UnknownNameError: A concept or a value that nothing answers to.
        ExpressionError: A statement of the wrong kind or outside the factor's range.
    """
    for literal in literals(expression):
        if literal.name not in factors:
            raise _unknown_concept(literal, factors)
    return map_literals(expression, lambda literal: plainest(literal, factors[literal.name]))


def plainest(literal: Literal, factor: Factor) -> Expression:
    """One literal, checked, in its plainest form; see :func:`resolve`."""
    if factor.kind == "objects":
        return _described(literal, factor)
    if literal.parts:
        raise _wrong(f"{literal.name} has no parts", literal, factor)
    if literal.comparison is None:
        if factor.kind != "binary":
            raise _wrong(f"{literal.name} needs a value", literal, factor)
        return literal
    if literal.comparison != "=" and factor.kind != "scalar":
        raise _wrong(f"{literal.name} has no order", literal, factor, hint=_listed(literal, factor))
    if factor.kind in ("categorical", "binary"):
        return _named(literal, factor)
    return _measured(literal, factor)


def usage(name: str, factor: Factor) -> str:
    """How statements about a factor are written, for hints and help."""
    if factor.kind == "binary":
        return f"write {name} or ~{name}"
    if factor.kind == "objects":
        parts = [part for part in factor.parts if _is_read(part)]
        example = ", ".join(f"{part.name}={_example(part)}" for part in parts)
        return f"write {name}({example}); fewer of these parts ask for less"
    if factor.kind == "categorical":
        return f"write {name}={factor.names[0]}; values: {', '.join(factor.names)}"
    low, high = number_text(round(factor.low, 6)), number_text(round(factor.high, 6))
    unit = f" {factor.unit}" if factor.unit else ""
    middle = number_text(round((factor.low + factor.high) / 2, 3))
    if factor.kind == "scalar":
        return f"write {name}={middle} or {name}>{middle}; from {low} to {high}{unit}"
    return f"write {name}=({middle},{middle}); both numbers from {low} to {high}{unit}"


def at(expression: Expression) -> tuple[str, int]:
    """The text an expression was read from and the column of its first literal."""
    first = next(literals(expression))
    return (first.source, first.column) if first.source else (str(expression), 0)


def _named(literal: Literal, factor: Factor) -> Expression:
    """A literal about a factor with names."""
    value = number_text(literal.value) if isinstance(literal.value, float) else literal.value
    if value in factor.names:
        if factor.kind != "binary":
            return replace(literal, value=value)
        bare = replace(literal, comparison=None, value=None)
        return bare if value == "yes" else Not(bare)
    if not isinstance(value, str):
        raise _wrong(f"{literal.name} takes a word", literal, factor)
    source, column = _at_value(literal)
    where = f" at column {column + 1}{caret(source, column)}"
    raise UnknownNameError(f"value of {literal.name}", value, factor.names, where=where)


def _described(literal: Literal, factor: Factor) -> Literal:
    """A literal about an object: its parts checked and put into the order of the factor."""
    if literal.comparison is not None:
        raise _wrong(f"{literal.name} takes its parts in brackets", literal, factor)
    known = [part.name for part in factor.parts if _is_read(part)]
    for name, _ in literal.parts:
        if name not in known:
            source, column = _at_part(literal, name)
            if any(part.name == name for part in factor.parts):
                problem = f"formulas do not read the {name} of an {literal.name}"
                raise ExpressionError(problem, source, column, hint=usage(literal.name, factor))
            where = f" at column {column + 1}{caret(source, column)}"
            raise UnknownNameError(f"part of {literal.name}", name, known, where=where)
    given = dict(literal.parts)
    parts = [part for part in factor.parts if part.name in given]
    checked = [(part.name, _part_value(literal, part, given[part.name])) for part in parts]
    return replace(literal, parts=tuple(checked))


def _part_value(literal: Literal, part: Factor, value: Value) -> Value:
    """The value of one part, checked; numbers that name a value become words."""
    source, column = _at_part(literal, part.name)
    plainest(Literal(part.name, "=", value, column=column, source=source), part)
    return number_text(value) if part.names and isinstance(value, float) else value


def _is_read(part: Factor) -> bool:
    """Can formulas speak about this part of an object? Numbers are labelled only."""
    return bool(part.names) or part.kind == "position"


def _example(part: Factor) -> str:
    """A value of a part, for hints."""
    if part.names:
        return part.names[0]
    middle = number_text(round((part.low + part.high) / 2, 3))
    return f"({middle},{middle})"


def _at_part(literal: Literal, name: str) -> tuple[str, int]:
    """The text a literal was read from and the column of one of its parts."""
    source, column = at(literal)
    match = re.compile(rf"[(,]\s*{re.escape(name)}\s*=").search(source, column)
    return source, source.index(name, match.start()) if match else column


def _measured(literal: Literal, factor: Factor) -> Literal:
    """A literal about a number or a place."""
    value = literal.value
    if factor.kind == "scalar" and not isinstance(value, float):
        raise _wrong(f"{literal.name} takes a number", literal, factor)
    if factor.kind == "position" and not isinstance(value, tuple):
        raise _wrong(f"{literal.name} takes a pair of numbers", literal, factor)
    assert isinstance(value, (float, tuple))
    for part in value if isinstance(value, tuple) else (value,):
        if not factor.low <= part <= factor.high:
            low, high = number_text(round(factor.low, 6)), number_text(round(factor.high, 6))
            problem = f"{literal.name} is between {low} and {high}, not {number_text(part)}"
            raise _wrong(problem, literal, factor)
    assert literal.comparison is not None
    return replace(literal, comparison=literal.comparison[0])


def _at_value(literal: Literal) -> tuple[str, int]:
    """The text a literal was read from and the column of its value."""
    source, column = at(literal)
    match = re.compile(r"(?:[\d.]+\*)?[\w-]+\s*[<>=]+\s*").match(source, column)
    return source, match.end() if match else column


def _listed(literal: Literal, factor: Factor) -> str:
    """For ``count>2`` the names that are meant, one by one; empty where names are no numbers."""
    if not isinstance(literal.value, float) or not all(name.isdigit() for name in factor.names):
        return ""
    compare = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
    meets = compare[literal.comparison or ">"]
    names = [name for name in factor.names if meets(float(name), literal.value)]
    return f"write {' or '.join(f'{literal.name}={name}' for name in names)}" if names else ""


def _wrong(problem: str, literal: Literal, factor: Factor, *, hint: str = "") -> ExpressionError:
    """A literal that does not fit its factor, with a caret and how to write it."""
    source, column = at(literal) if literal.comparison is None else _at_value(literal)
    return ExpressionError(problem, source, column, hint=hint or usage(literal.name, factor))


def _unknown_concept(literal: Literal, factors: Mapping[str, Factor]) -> UnknownNameError:
    """No such concept; a value without its concept is recognised."""
    source, column = at(literal)
    where = f" at column {column + 1}{caret(source, column)}"
    owners = [name for name, factor in factors.items() if literal.name in factor.names]
    meant = [f"{owner}={literal.name}" for owner in owners]
    for name, factor in factors.items():
        for part in factor.parts:
            if part.name == literal.name and literal.comparison == "=":
                meant.append(f"{name}({literal.statement})")
            elif literal.name in part.names:
                meant.append(f"{name}({part.name}={literal.name})")
    hint = f"did you mean {meant[0]}?" if meant else ""
    return UnknownNameError("concept", literal.name, sorted(factors), where=where, hint=hint)
