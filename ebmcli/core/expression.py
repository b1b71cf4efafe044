"""Expressions: formulas over concepts as trees, their text, and meanings given to them.

A tree is built of frozen nodes: Literal at the leaves, Not, And, Or and Implies above. The
operators of Python build trees too: ``Literal("old") & ~Literal("wavy")`` equals
``parse("old & ~wavy")``. What a literal says about a factor is checked in ``logic.py``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

Value = str | float | tuple[float, float]
T = TypeVar("T")

NAME = r"[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*"
KEYWORDS = ("and", "or", "not", "implies")
COMPARISONS = ("=", ">", ">=", "<", "<=")
MAX_CHARACTERS = 20_000  # chosen: far above any formula a person writes
MAX_OPERATORS = 200  # chosen: operators and brackets; keeps trees far below Python's stack limit
MAX_WEIGHT = 100.0  # chosen: above this a posterior is an argmax in float32

_WORDS = {"&": "and", "|": "or", "->": "implies", "~": "not "}
_PLAIN_ARGUMENT = re.compile(r"[A-Za-z0-9_=.-]+")


class Expression:
    """A node of a formula; ``&``, ``|`` and ``~`` build larger ones."""

    def __and__(self, other: "Expression") -> "And":
        return And(self, other)

    def __or__(self, other: "Expression") -> "Or":
        return Or(self, other)

    def __invert__(self) -> "Not":
        return Not(self)

    def implies(self, other: "Expression") -> "Implies":
        """``self -> other``."""
        return Implies(self, other)

    def __str__(self) -> str:
        return spell(self)


@dataclass(frozen=True)
class Literal(Expression):
    """One statement about one concept: ``old``, ``color=red``, ``size>0.4``, ``1.5*male``.

    ``value`` is a word, a number or a pair; None, with ``comparison``, for a bare name and for a
    description of an object, ``object(color=red)``, whose ``parts`` are names with values.
    ``weight`` is the power of the odds. ``column`` and ``source`` say where the literal was
    read, for error messages; they do not count in comparisons.
    """

    name: str
    comparison: str | None = None
    value: Value | None = None
    weight: float = 1.0
    parts: tuple[tuple[str, Value], ...] = ()
    column: int = field(default=0, compare=False, repr=False)
    source: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.value, int):
            object.__setattr__(self, "value", float(self.value))
        for name in (self.name, *(part for part, _ in self.parts)):
            if not re.fullmatch(NAME, name) or name in KEYWORDS:
                raise ValueError(f"not a concept name: {name!r}")
        if self.parts and self.comparison is not None:
            raise ValueError("a description has no comparison")
        if len(dict(self.parts)) < len(self.parts):
            raise ValueError("a description names each part once")
        if self.comparison not in (None, *COMPARISONS):
            raise ValueError(f"not a comparison: {self.comparison!r}")
        if (self.comparison is None) != (self.value is None):
            raise ValueError("a comparison and a value come together")
        if not 0 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"a weight lies between 0 and {MAX_WEIGHT:g}, got {self.weight}")

    @property
    def statement(self) -> str:
        """The text without the weight, such as ``color=red``."""
        if self.parts:
            described = ", ".join(f"{name}={value_text(value)}" for name, value in self.parts)
            return f"{self.name}({described})"
        return f"{self.name}{self.comparison or ''}{value_text(self.value)}"


@dataclass(frozen=True)
class Not(Expression):
    """``~term``."""

    term: Expression


@dataclass(frozen=True)
class And(Expression):
    """``left & right``."""

    left: Expression
    right: Expression


@dataclass(frozen=True)
class Or(Expression):
    """``left | right``."""

    left: Expression
    right: Expression


@dataclass(frozen=True)
class Implies(Expression):
    """``left -> right``, which means ``~left | right``."""

    left: Expression
    right: Expression


def parse(source: str) -> Expression:
    """Read an expression.

    Binding from tightest: weights and ``~``, then ``&``, then ``|``, then ``->``, which groups to
    the right. ``not``, ``and``, ``or``, ``implies`` are the same operators. A weight before a group
    multiplies the weight of every literal in it.

    Raises:
        ExpressionError: The text is not in the grammar, too long or not text; the message has a
            caret under the first wrong token.
    """
    from ebmcli.core.grammar import read  # the parser generator loads for parsing only

    return read(source)


def number_text(number: float) -> str:
    """The shortest text that reads back to the same number: 2, 0.4, 1e-07."""
    return repr(float(number)).removesuffix(".0")


def value_text(value: Value | None) -> str:
    """The text of a literal's value; empty for a bare name."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, tuple):
        return "(" + ",".join(number_text(part) for part in value) + ")"
    return number_text(value)


def spell(expression: Expression, *, words: bool = False) -> str:
    """The text of a tree, with as few brackets as parse to the same tree.

    ``words`` writes ``and or not implies`` for ``& | ~ ->``.
    """

    def operator(symbol: str) -> str:
        return _WORDS[symbol] if words else symbol

    def bracketed(node: Expression, at_least: int) -> str:
        text, binding = text_of(node)
        return text if binding >= at_least else f"({text})"

    def text_of(node: Expression) -> tuple[str, int]:
        """Text and how tightly its outermost operator binds: 4 for one term, 1 for ->."""
        match node:
            case Literal():
                weight = "" if node.weight == 1 else f"{number_text(node.weight)}*"
                return weight + node.statement, 4
            case Not(term):
                return operator("~") + bracketed(term, 4), 4
            case And(left, right):
                return f"{bracketed(left, 3)} {operator('&')} {bracketed(right, 4)}", 3
            case Or(left, right):
                return f"{bracketed(left, 2)} {operator('|')} {bracketed(right, 3)}", 2
            case Implies(left, right):
                return f"{bracketed(left, 2)} {operator('->')} {bracketed(right, 1)}", 1
        raise TypeError(f"not an expression node: {node!r}")

    return text_of(expression)[0]


def shell_safe(expression: Expression) -> str:
    """A spelling to paste after ``ebm generate``: words for operators, double quotes if needed.

    The language has no ``$ ` \\ !``, so double quotes protect it in sh, bash, zsh, fish,
    PowerShell and cmd.exe alike.
    """
    text = spell(expression, words=True)
    return text if _PLAIN_ARGUMENT.fullmatch(text) else f'"{text}"'


def interpret(
    expression: Expression,
    *,
    literal: Callable[[Literal], T],
    conjunction: Callable[[T, T], T],
    disjunction: Callable[[T, T], T],
    negation: Callable[[T], T],
) -> T:
    """Give an expression a meaning in some type T: one function per kind of node.

    ``a -> b`` has the meaning of ``~a | b``.
    """

    def meaning(node: Expression) -> T:
        match node:
            case Literal():
                return literal(node)
            case Not(term):
                return negation(meaning(term))
            case And(left, right):
                return conjunction(meaning(left), meaning(right))
            case Or(left, right):
                return disjunction(meaning(left), meaning(right))
            case Implies(left, right):
                return disjunction(negation(meaning(left)), meaning(right))
        raise TypeError(f"not an expression node: {node!r}")

    return meaning(expression)


def push_negations(expression: Expression) -> Expression:
    """The equivalent tree in which ``~`` stands at literals only and ``->`` is gone (De Morgan)."""

    def pushed(node: Expression, positive: bool) -> Expression:
        match node:
            case Literal():
                return node if positive else Not(node)
            case Not(term):
                return pushed(term, not positive)
            case And(left, right) | Or(left, right):
                kind = And if isinstance(node, And) == positive else Or
                return kind(pushed(left, positive), pushed(right, positive))
            case Implies(left, right):
                kind = Or if positive else And
                return kind(pushed(left, not positive), pushed(right, positive))
        raise TypeError(f"not an expression node: {node!r}")

    return pushed(expression, True)


def literals(expression: Expression) -> Iterator[Literal]:
    """Every literal from left to right, with repetitions."""
    match expression:
        case Literal():
            yield expression
        case Not(term):
            yield from literals(term)
        case And(left, right) | Or(left, right) | Implies(left, right):
            yield from literals(left)
            yield from literals(right)
        case _:
            raise TypeError(f"not an expression node: {expression!r}")


def concept_names(expression: Expression) -> tuple[str, ...]:
    """The distinct concepts of a formula in the order of first appearance."""
    return tuple(dict.fromkeys(literal.name for literal in literals(expression)))


def map_literals(expression: Expression, change: Callable[[Literal], Expression]) -> Expression:
    """The same tree with every literal replaced."""
    match expression:
        case Literal():
            return change(expression)
        case Not(term):
            return Not(map_literals(term, change))
        case And(left, right) | Or(left, right) | Implies(left, right):
            return type(expression)(map_literals(left, change), map_literals(right, change))
    raise TypeError(f"not an expression node: {expression!r}")
