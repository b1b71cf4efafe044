"""Formulas against brute force: every joint cell, every truth of every statement, summed.

The oracle knows nothing of tables or diagrams. A joint cell has the probability of its posteriors;
inside a cell of a scalar the value is uniform over the cell, and a point statement holds with its
membership, independently of other statements.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcli.core.composition import event_log_probs
from ebmcli.core.expression import (
    And,
    Expression,
    Implies,
    Literal,
    Not,
    Or,
    interpret,
    literals,
    map_literals,
    parse,
    push_negations,
)
from ebmcli.core.factors import Factor, point_membership
from ebmcli.core.logic import Formula, compile_formula, event_table
from ebmcli.core.statements import resolve
from ebmcli.errors import ExpressionError, UsageError

FACTORS = {
    factor.name: factor
    for factor in (
        Factor(name="old", kind="binary", names=("no", "yes")),
        Factor(name="male", kind="binary", names=("no", "yes")),
        Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
        Factor(name="size", kind="scalar", low=0.2, high=0.6),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
    )
}
NAMES = ("old", "male", "shape", "size")  # of the random formulas
Key = tuple[str, str | None, object]
Posteriors = Mapping[str, list[float]]

BOUNDS = [0.2, 0.2125, 0.3, 0.37, 0.4, 0.5, 0.6]  # ends, an edge of a cell, nodes, inside a cell

# Formulas are drawn by a seeded Random: hypothesis prefers small trees and zeros, in which deep
# diagrams with generic numbers are too rare (a wrong index of a child node went unnoticed).
randoms = st.integers(0, 2**32).map(Random)


def atom(rng: Random) -> Literal:
    """A random statement."""
    name = rng.choice(NAMES)
    if name == "size":
        return Literal(name, rng.choice(["=", "<", ">", "<=", ">="]), rng.choice(BOUNDS))
    if name == "shape":
        return Literal(name, "=", rng.choice(FACTORS["shape"].names))
    return rng.choice([Literal(name), Literal(name, "=", "no"), Literal(name, "=", "yes")])


def tree_of(rng: Random, n: int) -> Expression:
    """A random tree over n statements."""
    tree: Expression = atom(rng)
    if n > 1:
        n_left = rng.randint(1, n - 1)
        kind = rng.choice([And, Or, Implies])
        tree = kind(tree_of(rng, n_left), tree_of(rng, n - n_left))
    return Not(tree) if rng.random() < 0.4 else tree


def shares(rng: Random, n: int, *, zeros: float) -> list[float]:
    """A distribution over n cells, some of them exactly 0, now and then one exactly 1."""
    values = [rng.random() ** 2 + 1e-6 for _ in range(n)]
    if rng.random() < zeros:
        kept = rng.sample(range(n), rng.randint(1, n))
        values = [value if cell in kept else 0.0 for cell, value in enumerate(values)]
    return [value / math.fsum(values) for value in values]


def each(rng: Random, *, zeros: float) -> dict[str, list[float]]:
    """A distribution for every concept."""
    return {name: shares(rng, FACTORS[name].n_cells, zeros=zeros) for name in NAMES}


def key(literal: Literal) -> Key:
    """What makes two literals the same random event; >= is > for a number."""
    return literal.name, (literal.comparison or "=")[0], literal.value or "yes"


def outcomes(
    factor: Factor, cell: int, found: list[Literal]
) -> Iterator[tuple[float, dict[Key, bool]]]:
    """Share and truths of everything that can happen within one cell."""
    ranges = [x for x in found if (x.comparison or "=")[0] in "<>"]
    points = {
        key(x): point_membership(factor, x.value or "yes")[cell] for x in found if x not in ranges
    }
    for share, middle in pieces(factor, cell, [x.value for x in ranges]):
        above = {key(x): (middle > x.value) == (x.comparison[0] == ">") for x in ranges}  # type: ignore[index,operator]
        for bits in itertools.product([True, False], repeat=len(points)):
            chances = [m if b else 1 - m for m, b in zip(points.values(), bits, strict=True)]
            if share * math.prod(chances) > 0:
                yield share * math.prod(chances), above | dict(zip(points, bits, strict=True))


def pieces(factor: Factor, cell: int, bounds: list[object]) -> Iterator[tuple[float, float]]:
    """The parts of a scalar's cell between bounds: share of the cell and middle."""
    if factor.kind != "scalar":
        yield 1.0, 0.0
        return
    step = (factor.high - factor.low) / 16
    low = max(factor.low, factor.low + (cell - 0.5) * step)
    high = min(factor.high, factor.low + (cell + 0.5) * step)
    cuts = sorted({low, high, *(b for b in bounds if isinstance(b, float) and low < b < high)})
    for a, b in itertools.pairwise(cuts):
        yield (b - a) / (high - low), (a + b) / 2


def brute_force(tree: Expression, posteriors: Posteriors) -> tuple[float, set[bool]]:
    """P(f | x) and the truth values that f can have at all."""
    found = list(literals(tree))
    names = sorted({literal.name for literal in found})
    mine = {name: list({key(x): x for x in found if x.name == name}.values()) for name in names}
    total, possible = [], set()
    for cells in itertools.product(*(range(FACTORS[name].n_cells) for name in names)):
        q = math.prod(posteriors[name][k] for name, k in zip(names, cells, strict=True))
        within = [list(outcomes(FACTORS[n], k, mine[n])) for n, k in zip(names, cells, strict=True)]
        for parts in itertools.product(*within):
            world = {k: v for _, truths in parts for k, v in truths.items()}
            true = truth(tree, world)
            possible.add(true)
            if true:
                total.append(q * math.prod(share for share, _ in parts))
    return math.fsum(total), possible


def truth(tree: Expression, world: Mapping[Key, bool]) -> bool:
    """Is the formula true in a world?"""
    return interpret(
        tree,
        literal=lambda literal: world[key(literal)],
        conjunction=lambda left, right: left and right,
        disjunction=lambda left, right: left or right,
        negation=lambda term: not term,
    )


def tempered(posterior: list[float], prior: list[float], weight: float) -> list[float]:
    """pi (q / pi)^w, normalised."""
    powers = [p * (q / p) ** weight for q, p in zip(posterior, prior, strict=True)]
    return [power / math.fsum(powers) for power in powers]


def by_torch(formula: Formula, posteriors: Posteriors, priors: Posteriors) -> float:
    """P(f | x) by the differentiable path, in float64."""
    tables = {
        name: event_log_probs(
            table,
            torch.tensor([posteriors[name]], dtype=torch.float64).log(),
            torch.tensor(priors[name], dtype=torch.float64).log(),
        )
        for name, table in formula.tables.items()
    }
    value = formula.log_probability(tables)
    assert value.shape == (1,)
    assert value.isfinite().all()
    return value.exp().item()


@given(randoms)
@settings(deadline=None, max_examples=80)
def test_the_probability_of_any_formula_is_that_of_brute_force(rng: Random) -> None:
    tree = tree_of(rng, rng.randint(1, 7))
    q, pi = each(rng, zeros=0.3), each(rng, zeros=0.0)
    weight = {name: rng.choice([0.0, 0.5, 1.0, 1.0, 1.5, 4.0]) for name in NAMES}
    weighted = map_literals(tree, lambda literal: replace(literal, weight=weight[literal.name]))
    expected, possible = brute_force(
        tree, {name: tempered(q[name], pi[name], weight[name]) for name in q}
    )
    if len(possible) == 1:
        with pytest.raises(
            ExpressionError, match="always" if True in possible else "never"
        ) as caught:
            compile_formula(weighted, FACTORS)
        assert caught.value.hint
        return
    formula = compile_formula(weighted, FACTORS)
    assert formula.probability(q, pi) == pytest.approx(expected, abs=1e-12)
    assert by_torch(formula, q, pi) == pytest.approx(expected, abs=1e-12)
    opposite = compile_formula(~weighted, FACTORS)
    assert by_torch(opposite, q, pi) == pytest.approx(1 - expected, abs=1e-12)


@given(randoms)
@settings(deadline=None, max_examples=60)
def test_pushing_negations_changes_neither_probability_nor_diagram(rng: Random) -> None:
    tree, q = tree_of(rng, rng.randint(1, 7)), each(rng, zeros=0.3)
    try:
        formula = compile_formula(tree, FACTORS)
    except ExpressionError:
        return
    pushed = compile_formula(push_negations(tree), FACTORS)
    assert pushed.nodes == formula.nodes
    assert pushed.probability(q) == formula.probability(q)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("position=(0.3,-0.5)", "m"),
        ("~position=(0.3,-0.5)", "1 - m"),
        ("position=(0.3,-0.5) | position=(0.25,-0.5)", "1 - (1 - m)(1 - n)"),
        ("position=(0.3,-0.5) & ~position=(0.25,-0.5)", "m(1 - n)"),
    ],
)
def test_places_are_events_with_memberships(source: str, expected: str) -> None:
    m, n = (point_membership(FACTORS["position"], (x, -0.5)) for x in (0.3, 0.25))
    terms = {
        "m": m,
        "1 - m": [1 - a for a in m],
        "1 - (1 - m)(1 - n)": [1 - (1 - a) * (1 - b) for a, b in zip(m, n, strict=True)],
        "m(1 - n)": [a * (1 - b) for a, b in zip(m, n, strict=True)],
    }
    q = torch.randn(289, generator=torch.Generator().manual_seed(0)).double().softmax(0).tolist()
    formula = compile_formula(parse(source), FACTORS)
    by_hand = math.fsum(a * b for a, b in zip(q, terms[expected], strict=True))
    assert formula.probability({"position": q}) == pytest.approx(by_hand, abs=1e-12)
    assert by_torch(formula, {"position": q}, {"position": q}) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("shape=cube | shape=sphere", 0.2 + 0.3),
        ("~(shape=cube | shape=sphere)", 0.5),
        ("old & (old | shape=cube)", 0.9),
        ("old -> shape=cube", 0.1 + 0.9 * 0.2),
        ("~(old & shape=cube)", 1 - 0.9 * 0.2),
        ("old=yes & ~shape=cube & ~shape=sphere", 0.9 * 0.5),
    ],
)
def test_small_formulas_by_hand(source: str, value: float) -> None:
    formula = compile_formula(parse(source), FACTORS)
    q = {"old": [0.1, 0.9], "shape": [0.2, 0.3, 0.5]}
    assert formula.probability(q) == pytest.approx(value, abs=1e-15)


def test_small_probabilities_keep_their_digits() -> None:
    """P(~(a | b)) where 1 - P has no digit left even in float64."""
    q = {"old": [1e-30, 1.0], "shape": [1e-30, 0.4, 0.6]}
    formula = compile_formula(parse("~(old | ~shape=cube)"), FACTORS)
    assert formula.probability(q) == pytest.approx(1e-60, rel=1e-12)


@given(randoms)
@settings(deadline=None)
def test_the_outcomes_of_a_cell_are_complete(rng: Random) -> None:
    resolved = resolve(tree_of(rng, rng.randint(1, 6)), FACTORS)
    name = next(literals(resolved)).name
    table = event_table(name, resolved, FACTORS[name])
    assert [math.fsum(column) for column in zip(*table.membership, strict=True)] == pytest.approx(
        [1.0] * FACTORS[name].n_cells, abs=1e-12
    )
    assert min(min(row) for row in table.membership) >= 0
    assert all(any(row) for row in table.membership)
    assert len(set(table.truths)) == table.n_rows


@pytest.mark.parametrize(
    ("source", "column", "problem", "hint"),
    [
        (
            "shape=cube & shape=sphere",
            13,
            "exclude each other: there is one shape",
            "cube | shape=s",
        ),
        ("old & shape=cube & ~old", 20, "never true: old and ~old exclude each other", "remove"),
        ("size>0.5 & size<0.3", 11, "size>0.5 and size<0.3 exclude each other", "remove"),
        ("size>=0.4 & size<=0.4", 12, "size>0.4 and size<0.4 exclude each other", "remove"),
        ("size=0.2 & size=0.6", 11, "there is one size", "write size=0.2 | size=0.6"),
        ("size>0.6", 0, "no value of size makes size>0.6 true", "change"),
        ("~shape=cube & ~shape=sphere & ~shape=cylinder", 31, "cannot all be true", "remove"),
        ("~(old | ~old)", 9, "~old and old exclude each other", "remove"),
        ("shape=cube & (shape=sphere | ~old) & old", 37, "(shape=sphere | ~old) and old", ""),
        ("old | ~old", 0, "the formula is always true", "asks for nothing"),
        ("size>0.2", 0, "the formula is always true", "asks for nothing"),
        ("2*old & shape=cube | old", 21, "old has the weights 2 and 1", "one weight"),
        ("1.5*(old & 2*old)", 13, "old has the weights 1.5 and 3", "one weight"),
    ],
)
def test_an_impossible_or_empty_formula_says_why(
    source: str, column: int, problem: str, hint: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_formula(parse(source), FACTORS)
    assert problem in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert caught.value.column == column
    assert str(caught.value).splitlines()[-1] == " " * (column + 2) + "^"


def test_a_concept_that_does_not_matter_is_not_needed() -> None:
    formula = compile_formula(parse("(old | shape=cube) & (old | ~shape=cube)"), FACTORS)
    assert formula.concepts == ("old",)
    assert formula.probability({"old": [0.25, 0.75]}) == 0.75


def test_the_work_of_a_long_formula_grows_with_its_length() -> None:
    """200 concepts: one node each, and the probability of the product."""
    names = [f"c{i}" for i in range(200)]
    factors = {name: Factor(name=name, kind="binary", names=("no", "yes")) for name in names}
    formula = compile_formula(parse(" & ".join(names)), factors)
    assert len(formula.nodes) == 200
    assert formula.probability({name: [0.1, 0.9] for name in names}) == pytest.approx(0.9**200)
    chain = compile_formula(parse(" -> ".join(names)), factors)
    assert len(chain.nodes) == 200


def test_too_many_overlapping_places_are_refused() -> None:
    source = " | ".join(f"position=({i / 1000},0)" for i in range(1, 13))
    with pytest.raises(UsageError, match="12 statements about position have over 1,024") as caught:
        compile_formula(parse(source), FACTORS)
    assert "fewer values" in (caught.value.hint or "")


def test_a_weight_needs_a_prior_and_survives_large_odds() -> None:
    formula = compile_formula(parse("100*old"), FACTORS)
    with pytest.raises(ValueError, match="needs a prior"):
        formula.probability({"old": [0.5, 0.5]})
    rare = {"old": [1 - 1e-9, 1e-9]}
    assert formula.probability({"old": [0.0, 1.0]}, rare) == 1
    assert formula.probability({"old": [1.0, 0.0]}, rare) == 0
    assert formula.probability({"old": [0.5, 0.5]}, rare) == pytest.approx(1)


def test_the_prior_of_a_formula_is_not_weighted() -> None:
    log_priors = {"old": [math.log(0.75), math.log(0.25)]}
    for source in ("old", "3*old"):
        formula = compile_formula(parse(source), FACTORS)
        assert formula.log_prior(log_priors) == pytest.approx(math.log(0.25), abs=1e-12)
    impossible = {"old": [0.0, -math.inf]}
    assert compile_formula(parse("old"), FACTORS).log_prior(impossible) == -math.inf
