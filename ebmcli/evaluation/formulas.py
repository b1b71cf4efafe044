"""Random formulas to test a rule of composition with: one row of formulas per kind.

A formula asks for something, and not for everything: it is satisfiable, no tautology, every concept
in it matters, and its prior probability lies between LEAST_PRIOR and MOST_PRIOR. Prior: the share
of labels, uniform and independent, of which the formula is true as ``truth.holds`` has it, so that
a place is right within a tolerance.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence

import torch

from ebmcli.core.expression import (
    And,
    Expression,
    Implies,
    Literal,
    Not,
    Or,
    concept_names,
    spell,
)
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.errors import UnknownNameError, UsageError
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.truth import holds

NESTED = ("nested-2", "nested-3", "nested-4", "nested-5")  # with the number of operators
OR_ROWS = ("or-values", "or-concepts")
ROWS = ("and-2", "and-3", *OR_ROWS, "not", "implies", *NESTED)
LEAST_PRIOR, MOST_PRIOR = 0.02, 0.9  # chosen: nothing that is hardly ever or almost always true
N_PRIOR = 20_000  # label draws; a share is known within 0.35 points
INNER_PLACE = 0.9  # of the range of a position: places whose object is wholly in the picture
INNER_RANGE = 0.8  # of the range of a scalar, within which a bound lies
APART = 0.4  # of the range: least distance, in one coordinate, of two places joined by "or"
TRIES = 400  # candidates per formula before a row is given up as exhausted

Factors = Mapping[str, Factor]


def random_formulas(
    row: str, factors: Factors, *, n: int, seed: int, labels: Readings
) -> list[Expression]:
    """Up to n distinct formulas of one kind; the same arguments give the same formulas.

    Rows: ``and-2`` and ``and-3`` join statements on different concepts, ``or-values`` two values of
    one concept, ``or-concepts`` two concepts, ``not`` is ``a & ~b`` or ``~b``, ``implies``
    ``a -> b``, ``nested-k`` a random tree of k operators out of & | ~ ->, in which concepts may
    come back. Scalars appear as ranges, positions as points.

    Args:
        row: One of ROWS.
        factors: Factors by concept name, as a formula speaks about them.
        n: Formulas wanted; a small space may have fewer.
        seed: Of the random choice.
        labels: Prior draws, see :func:`uniform_readings`.

    Raises:
        UnknownNameError: There is no such row.
    """
    if row not in ROWS:
        raise UnknownNameError("row", row, ROWS)
    if why_not(row, factors):
        return []
    source = random.Random(f"{seed} {row}")
    found: list[Expression] = []
    seen: set[str] = set()
    for attempt in range(TRIES * n):
        if len(found) == n:
            break
        candidate = _candidate(row, factors, source, attempt)
        text = spell(candidate)
        if text not in seen and is_suitable(candidate, factors, labels):
            found.append(candidate)
        seen.add(text)
    return found


def why_not(row: str, factors: Factors) -> str:
    """Why a row has no formulas over these concepts; empty where it has."""
    needed = 3 if row == "and-3" else 1 if row == "or-values" else 2
    if len(factors) < needed:
        return f"needs {needed} concepts that the judge reads, found {len(factors)}"
    if row == "or-values" and all(factor.kind == "binary" for factor in factors.values()):
        return "needs a concept with more values than yes and no"
    return ""


def is_suitable(expression: Expression, factors: Factors, labels: Readings) -> bool:
    """Can the formula be true and false, does every concept matter, is its prior in range?

    Formulas that say a thing twice in one breath, such as ``a | a``, are not.
    """
    if _is_double(expression):
        return False
    try:
        formula = compile_formula(expression, factors)
    except UsageError:  # never or always true, or too large
        return False
    if len(formula.concepts) < len(concept_names(expression)):
        return False
    return LEAST_PRIOR <= prior_share(expression, labels) <= MOST_PRIOR


def _is_double(expression: Expression) -> bool:
    """Are both sides of some operator the same?"""
    match expression:
        case Not(term):
            return _is_double(term)
        case And(left, right) | Or(left, right) | Implies(left, right):
            return left == right or _is_double(left) or _is_double(right)
    return False


def prior_share(expression: Expression, labels: Readings) -> float:
    """The share of prior draws of which a formula is true, in [0, 1]."""
    return float(holds(expression, labels).double().mean())


def uniform_readings(factors: Factors, n: int, *, seed: int) -> Readings:
    """Labels of n imagined pictures, uniform and independent, in the form of readings."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, factor in factors.items():
        if factor.names:
            values[name] = torch.randint(len(factor.names), (n,), generator=generator)
        else:
            shape = (n, 2) if factor.kind == "position" else (n,)
            uniform = torch.rand(shape, generator=generator)
            values[name] = factor.low + (factor.high - factor.low) * uniform
    return Readings(factors=factors, values=values, probabilities={}, present=torch.ones(n))


def random_literal(name: str, factor: Factor, source: random.Random) -> Literal:
    """A positive statement about one concept: a word, a range of a scalar, a place."""
    if factor.kind == "binary":
        return Literal(name)
    if factor.names:
        return Literal(name, "=", source.choice(factor.names))
    if factor.kind == "scalar":
        bound = _number(factor, source, inner=INNER_RANGE)
        return Literal(name, source.choice(("<", ">")), bound)
    place = (
        _number(factor, source, inner=INNER_PLACE),
        _number(factor, source, inner=INNER_PLACE),
    )
    return Literal(name, "=", place)


def random_tree(
    n_operators: int,
    literal: Callable[[], Literal],
    source: random.Random,
    *,
    negatable: bool = True,
) -> Expression:
    """A tree with exactly this many operators, each of & | ~ -> alike; never ``~~``."""
    if n_operators == 0:
        return literal()
    kinds: Sequence[type[Expression]] = (And, Or, Implies, Not) if negatable else (And, Or, Implies)
    kind = source.choice(kinds)
    if kind is Not:
        return Not(random_tree(n_operators - 1, literal, source, negatable=False))
    n_left = source.randrange(n_operators)
    left = random_tree(n_left, literal, source)
    right = random_tree(n_operators - 1 - n_left, literal, source)
    if kind is And:
        return left & right
    return left | right if kind is Or else left.implies(right)


def _candidate(row: str, factors: Factors, source: random.Random, attempt: int) -> Expression:
    """One formula of a row, not yet checked."""
    names = list(factors)

    def one() -> Literal:
        name = source.choice(names)
        return random_literal(name, factors[name], source)

    def several(n: int, *, ordered: bool = True) -> list[Literal]:
        chosen = source.sample(names, n)
        chosen = sorted(chosen, key=names.index) if ordered else chosen  # a & b is b & a
        return [random_literal(name, factors[name], source) for name in chosen]

    if row in NESTED:
        return random_tree(int(row.rpartition("-")[2]), one, source)
    if row == "or-values":
        return _two_values(factors, source)
    if row == "not" and attempt % 2:
        return ~one()
    if row == "and-3":
        first, second, third = several(3)
        return first & second & third
    first, second = several(2, ordered=row in ("and-2", "or-concepts"))
    if row == "and-2":
        return first & second
    if row == "or-concepts":
        return first | second
    return first & ~second if row == "not" else first.implies(second)


def _two_values(factors: Factors, source: random.Random) -> Expression:
    """Two values of one concept: words, places far apart, or a lower and an upper range."""
    name = source.choice([name for name, factor in factors.items() if factor.kind != "binary"])
    factor = factors[name]
    if factor.names:
        first, second = sorted(source.sample(factor.names, 2), key=factor.names.index)
        return Literal(name, "=", first) | Literal(name, "=", second)
    if factor.kind == "scalar":
        low, high = sorted(_number(factor, source, inner=INNER_RANGE) for _ in range(2))
        return Literal(name, "<", low) | Literal(name, ">", high)
    least = APART * (factor.high - factor.low)
    while True:
        left, right = (random_literal(name, factor, source) for _ in range(2))
        assert isinstance(left.value, tuple)
        assert isinstance(right.value, tuple)
        if max(abs(a - b) for a, b in zip(left.value, right.value, strict=True)) >= least:
            return left | right


def _number(factor: Factor, source: random.Random, *, inner: float) -> float:
    """A number in the inner part of a range, rounded to about a hundredth of the range."""
    middle, half = (factor.low + factor.high) / 2, inner * (factor.high - factor.low) / 2
    digits = 2 - math.floor(math.log10(factor.high - factor.low))
    return round(source.uniform(middle - half, middle + half), digits)
