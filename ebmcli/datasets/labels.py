"""Labels with restrictions: factors held to some values, combinations left out.

An expression is true of labels as it reads: a name when it is the label, a place when both
coordinates are within PLACE_TOLERANCE, ``size=0.4`` within one spacing of the factor's nodes,
``size>0.4`` and ``size>=0.4`` by comparison as written,
``object(color=red, position=(0.4,-0.2))`` when one object has it all.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ebmcli.core.expression import Expression, Literal, interpret, map_literals, parse
from ebmcli.core.factors import Factor, Label, Value
from ebmcli.core.statements import plainest, resolve, usage
from ebmcli.datasets.recipes import Recipe
from ebmcli.errors import ConfigError, UnknownNameError

PLACE_TOLERANCE = 0.2  # per coordinate, half sides of the field
EQUAL = 1e-9  # of a factor's range: numbers of a grid and typed ones that differ less are equal
MAX_DRAWS = 100_000  # per image; where 1 % of draws will do, never needed
N_TRIED, N_ALLOWED = 2000, 20  # draws before anything is rendered, and how many must be allowed
MAX_GRID = 1000  # points per axis; chosen


@dataclass(frozen=True, kw_only=True)
class Restriction:
    """Which labels are drawn: ``allowed`` values per factor, and an expression never true."""

    allowed: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    held_out: Expression | None = None


def read_restriction(
    recipe: Recipe, *, fix: Sequence[str] = (), grid: Sequence[str] = (), hold_out: str = ""
) -> Restriction:
    """Read what a user typed: ``color=red,blue``, ``position=20``, ``shape=cube & color=red``.

    Raises:
        UnknownNameError: No such factor or value.
        ConfigError: A value out of range, a factor restricted twice, or nothing left to draw.
        ExpressionError: The held-out expression is wrong.
    """
    allowed: dict[str, tuple[Value, ...]] = {}
    for option, texts in (("--fix", fix), ("--grid", grid)):
        for text in texts:
            name, _, value = text.partition("=")
            factor = _factor(recipe, name.strip(), option=option, text=text, value=value)
            if factor.name in allowed:
                raise ConfigError(f"{factor.name} is restricted twice", hint="name it once")
            read = _fixed_values if option == "--fix" else _grid_values
            allowed[factor.name] = read(factor, value.strip())
    held_out = read_held_out(hold_out, recipe.factors) if hold_out else None
    restriction = Restriction(allowed=allowed, held_out=held_out)
    _refuse_rare(recipe, restriction)
    return restriction


def _refuse_rare(recipe: Recipe, restriction: Restriction) -> None:
    """Refuse a restriction that fewer than 1 % of draws meet; drawing stops once enough do.

    Raises:
        ConfigError: Fewer than N_ALLOWED of N_TRIED draws are allowed.
    """
    rng, n_allowed = np.random.default_rng(0), 0
    for _ in range(N_TRIED):
        n_allowed += _draw_once(recipe, restriction, rng) is not None
        if n_allowed == N_ALLOWED:
            return
    least = f"at least {N_ALLOWED} are needed"
    problem = f"{n_allowed} of {N_TRIED} pictures drawn at random are allowed, {least}"
    what = "--fix" if restriction.held_out is None else f"--hold-out {restriction.held_out}"
    hint = "hold out less; to show a few values only, name them with --fix"
    raise ConfigError(f"{what}: {problem}", hint=hint)


def read_held_out(source: str, factors: Mapping[str, Factor]) -> Expression:
    """A checked expression in which ``>=`` and ``<=`` stay: labels may lie on a grid.

    Raises:
        UnknownNameError, ExpressionError: As :func:`~ebmcli.core.statements.resolve`.
    """
    typed = parse(source)
    resolve(typed, factors)

    def as_typed(literal: Literal) -> Expression:
        plain = plainest(literal, factors[literal.name])
        if isinstance(plain, Literal) and literal.comparison in (">=", "<="):
            return replace(plain, comparison=literal.comparison)
        return plain

    return map_literals(typed, as_typed)


def draw_labels(
    recipe: Recipe, restriction: Restriction, rng: np.random.Generator
) -> dict[str, Label]:
    """Labels of one image, drawn again while the held-out expression is true of them.

    Raises:
        ConfigError: None of MAX_DRAWS draws in a row was allowed.
    """
    for _ in range(MAX_DRAWS):
        labels = _draw_once(recipe, restriction, rng)
        if labels is not None:
            return labels
    problem = f"none of {MAX_DRAWS} draws was allowed"
    raise ConfigError(f"--hold-out: {problem}", hint="hold out less, or allow more with --fix")


def _draw_once(
    recipe: Recipe, restriction: Restriction, rng: np.random.Generator
) -> dict[str, Label] | None:
    """Labels of one draw, or None where they are not allowed.

    Where a recipe has a list of objects, its other factors go with that list: there, restricted
    factors are not written over but everything is drawn again until they are met.
    """
    labels = dict(recipe.draw(rng))
    listed = any(factor.kind == "objects" for factor in recipe.factors.values())
    if not listed:
        for name, values in restriction.allowed.items():
            labels[name] = values[int(rng.integers(len(values)))]
    elif any(labels[name] not in values for name, values in restriction.allowed.items()):
        return None
    if restriction.held_out is not None and holds(restriction.held_out, labels, recipe.factors):
        return None
    return labels


def holds(
    expression: Expression, labels: Mapping[str, Label], factors: Mapping[str, Factor]
) -> bool:
    """Is a resolved expression true of the labels of one image?"""
    truth: bool = interpret(
        expression,
        literal=lambda literal: _literal_holds(
            literal, labels[literal.name], factors[literal.name]
        ),
        conjunction=operator.and_,
        disjunction=operator.or_,
        negation=operator.not_,
    )
    return truth


def _literal_holds(literal: Literal, label: Label, factor: Factor) -> bool:
    """Is one statement true of the label of its factor?"""
    asked = literal.value
    if isinstance(label, list):
        return any(_describes(literal, thing, factor) for thing in label)
    if isinstance(label, str):
        return label == ("yes" if asked is None else asked)
    if isinstance(label, tuple) and isinstance(asked, tuple):
        return all(abs(a - b) <= PLACE_TOLERANCE for a, b in zip(label, asked, strict=True))
    if not isinstance(label, float) or not isinstance(asked, float):
        raise TypeError(f"{literal} says nothing about {label!r}")
    if literal.comparison == "=":
        return abs(label - asked) <= factor.spacing
    same = abs(label - asked) <= EQUAL * (factor.high - factor.low)
    if same:
        return literal.comparison in (">=", "<=")
    return (label > asked) == (literal.comparison in (">", ">="))


def _describes(literal: Literal, thing: Mapping[str, Value], factor: Factor) -> bool:
    """Has one object all that a statement about objects asks for?"""
    return all(
        _literal_holds(Literal(name, "=", value), thing[name], factor.part(name))
        for name, value in literal.parts
    )


def _factor(recipe: Recipe, name: str, *, option: str, text: str, value: str) -> Factor:
    """The factor that an option names."""
    example = "color=red,blue" if option == "--fix" else "position=20"
    if not value.strip():
        raise ConfigError(f"{option} {text!r} has no value", hint=f"such as {option} {example}")
    if name not in recipe.factors:
        raise UnknownNameError("factor", name, list(recipe.factors), where=f" in {option} {text}")
    return recipe.factors[name]


def _fixed_values(factor: Factor, text: str) -> tuple[Value, ...]:
    """``red,blue``, ``0.3,0.4`` or ``(0,0),(0.5,-0.5)``."""
    if factor.kind == "objects":
        problem = f"--fix holds one value, {factor.name} is a list of objects"
        raise ConfigError(problem, hint="use --hold-out to leave objects out")
    pattern = r"\([^()]*\)" if factor.kind == "position" else r"[^,]+"
    words = [word.strip() for word in re.findall(pattern, text)]
    if not any(words) or re.sub(pattern, "", text).strip(" ,"):
        raise _no_value(factor, text)
    if factor.names:
        for word in words:
            if word not in factor.names:
                raise UnknownNameError(f"value of {factor.name}", word, factor.names)
        return tuple(dict.fromkeys(words))
    values: list[Value] = []
    for word in words:
        literal = resolve(parse(f"{factor.name}={word}"), {factor.name: factor})
        if not isinstance(literal, Literal) or literal.value is None:
            raise _no_value(factor, word)
        values.append(literal.value)
    return tuple(values)


def _no_value(factor: Factor, text: str) -> ConfigError:
    """The error about text that is not, or not only, values of a factor."""
    low, high = f"{factor.low:g}", f"{factor.high:g}"
    if factor.kind == "position":
        low, high = f"({low},{low})", f"({high},{high})"
    hint = usage(factor.name, factor)
    if not factor.names:
        hint = f"separate several values by commas, as in {low},{high}; {hint}"
    return ConfigError(f"--fix: {text!r} is no value of {factor.name}", hint=hint)


def _grid_values(factor: Factor, text: str) -> tuple[Value, ...]:
    """All points of an even grid with ``text`` points along each axis, both ends included."""
    if factor.kind not in ("scalar", "position"):
        has = "names" if factor.names else "objects"
        problem = f"--grid needs a number or a place, {factor.name} has {has}"
        raise ConfigError(problem, hint="use --fix" if factor.names else "use --hold-out")
    if not text.isdecimal() or not 2 <= int(text) <= MAX_GRID:
        hint = f"such as --grid {factor.name}=20"
        raise ConfigError(f"--grid needs 2 to {MAX_GRID} points per axis, not {text!r}", hint=hint)
    axis = [float(node) for node in np.linspace(factor.low, factor.high, int(text))]
    if factor.kind == "scalar":
        return tuple(axis)
    return tuple((x, y) for x in axis for y in axis)
