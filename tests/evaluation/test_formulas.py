"""Random formulas: distinct, by seed, of the kind that was asked, neither rare nor common."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcli.core.expression import (
    And,
    Expression,
    Implies,
    Literal,
    Not,
    Or,
    concept_names,
    literals,
    parse,
    spell,
)
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.errors import UnknownNameError
from ebmcli.evaluation.formulas import (
    LEAST_PRIOR,
    MOST_PRIOR,
    NESTED,
    ROWS,
    is_suitable,
    prior_share,
    random_formulas,
    uniform_readings,
    why_not,
)

FACTORS = {
    "shape": Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
    "color": Factor(name="color", kind="categorical", names=("red", "green", "blue", "white")),
    "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
    "size": Factor(name="size", kind="scalar", low=0.3, high=0.6),
    "old": Factor(name="old", kind="binary", names=("no", "yes")),
}
LABELS = uniform_readings(FACTORS, 4000, seed=0)
BINARY = dict.fromkeys(("old", "male", "wavy"), FACTORS["old"])


def operators(expression: Expression) -> int:
    match expression:
        case Not(term):
            return 1 + operators(term)
        case And(left, right) | Or(left, right) | Implies(left, right):
            return 1 + operators(left) + operators(right)
    return 0


@pytest.mark.parametrize("row", ROWS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_formulas_of_every_row_are_distinct_and_ask_for_something(row: str, seed: int) -> None:
    found = random_formulas(row, FACTORS, n=6, seed=seed, labels=LABELS)
    assert len({spell(expression) for expression in found}) == len(found) == 6
    for expression in found:
        assert parse(spell(expression)) == expression
        formula = compile_formula(expression, FACTORS)  # neither never nor always true
        assert set(formula.concepts) == set(concept_names(expression))
        assert LEAST_PRIOR <= prior_share(expression, LABELS) <= MOST_PRIOR


@pytest.mark.parametrize("row", ROWS)
def test_a_seed_gives_the_same_formulas_and_fewer_are_the_first_of_more(row: str) -> None:
    found = random_formulas(row, FACTORS, n=6, seed=3, labels=LABELS)
    assert random_formulas(row, FACTORS, n=6, seed=3, labels=LABELS) == found
    assert random_formulas(row, FACTORS, n=4, seed=3, labels=LABELS) == found[:4]
    assert random_formulas(row, FACTORS, n=6, seed=4, labels=LABELS) != found


def test_rows_have_the_form_that_their_name_says() -> None:
    def made(row: str) -> list[Expression]:
        return random_formulas(row, FACTORS, n=12, seed=0, labels=LABELS)

    for row, n in (("and-2", 2), ("and-3", 3)):
        assert all(len(concept_names(e)) == n == operators(e) + 1 for e in made(row))
    for expression in made("or-values"):
        assert isinstance(expression, Or)
        assert len(concept_names(expression)) == 1
    for expression in made("or-concepts"):
        assert isinstance(expression, Or)
        assert len(concept_names(expression)) == 2
    kinds = {type(expression) for expression in made("not")}
    assert kinds == {Not, And}
    for expression in made("not"):
        negated = expression.right if isinstance(expression, And) else expression
        assert isinstance(negated, Not)
        assert isinstance(negated.term, Literal)
    assert all(isinstance(e, Implies) and operators(e) == 1 for e in made("implies"))
    for row in NESTED:
        assert {operators(e) for e in made(row)} == {int(row[-1])}


def test_numbers_are_ranges_and_places_are_pairs() -> None:
    found = [
        literal
        for row in ROWS
        for expression in random_formulas(row, FACTORS, n=10, seed=1, labels=LABELS)
        for literal in literals(expression)
    ]
    assert {one.comparison for one in found if one.name == "size"} == {"<", ">"}
    places = [one.value for one in found if one.name == "position"]
    assert places
    assert all(isinstance(place, tuple) and max(map(abs, place)) <= 0.9 for place in places)


def test_two_places_of_one_formula_are_far_apart() -> None:
    alone = {"position": FACTORS["position"]}
    for expression in random_formulas("or-values", alone, n=10, seed=0, labels=LABELS):
        (ax, ay), (bx, by) = (literal.value for literal in literals(expression))
        assert max(abs(ax - bx), abs(ay - by)) >= 0.8


@pytest.mark.parametrize(
    ("source", "suitable"),
    [
        ("color=red", True),
        ("color=red & color=blue", False),  # never true
        ("old | ~old", False),  # always true
        ("old & (old | shape=cube)", False),  # shape does not matter
        ("old | old", False),  # says it twice
        ("position=(0,0) & color=red", False),  # 1 in 100
        ("~position=(0,0)", False),  # 96 in 100
        ("position=(0,0) & ~color=red", True),  # 3 in 100
    ],
)
def test_what_tests_nothing_is_left_out(source: str, suitable: bool) -> None:
    assert is_suitable(parse(source), FACTORS, LABELS) is suitable


def test_a_prior_is_the_area_within_the_tolerance() -> None:
    """0.4 x 0.4 of a square of side 2; four standard errors of 4,000 draws."""
    share = prior_share(parse("position=(0.1,-0.3)"), LABELS)
    assert share == pytest.approx(0.04, abs=4 * (0.04 * 0.96 / 4000) ** 0.5)


def test_a_small_space_gives_all_it_has_and_then_no_more() -> None:
    labels = uniform_readings(BINARY, 2000, seed=0)
    found = random_formulas("and-2", BINARY, n=20, seed=0, labels=labels)
    pairs = {"old & male", "old & wavy", "male & wavy"}
    assert {spell(expression) for expression in found} == pairs
    assert random_formulas("or-values", BINARY, n=3, seed=0, labels=labels) == []
    assert why_not("or-values", BINARY) == "needs a concept with more values than yes and no"
    assert "needs 3 concepts" in why_not("and-3", {"old": FACTORS["old"]})
    assert not why_not("nested-5", BINARY)


def test_an_unknown_row_is_named_with_its_neighbour() -> None:
    with pytest.raises(UnknownNameError) as caught:
        random_formulas("nested2", FACTORS, n=1, seed=0, labels=LABELS)
    assert caught.value.suggestion == "nested-2"


def test_uniform_labels_are_uniform_and_independent() -> None:
    n = 4000
    for name, value in (("shape", 0), ("old", 1)):
        share = float((LABELS.values[name] == value).double().mean())
        p = 1 / len(FACTORS[name].names)
        assert share == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)
    size, place = LABELS.values["size"], LABELS.values["position"]
    assert bool(((size >= 0.3) & (size <= 0.6)).all())
    assert place.shape == (n, 2)
    corners = (
        [(place[:, 0] > 0) == x for x in (True, False)],
        [(size > 0.45) == s for s in (True, False)],
    )
    for left, right in product(*corners):
        joint = float((left & right).double().mean())
        assert joint == pytest.approx(0.25, abs=4 * (0.1875 / n) ** 0.5)
    assert torch.equal(LABELS.values["size"], uniform_readings(FACTORS, n, seed=0).values["size"])
