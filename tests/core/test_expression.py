"""The language: what parses to which tree, how trees print, what they mean."""

import itertools
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcli.core.expression import (
    KEYWORDS,
    And,
    Expression,
    Implies,
    Literal,
    Not,
    Or,
    concept_names,
    interpret,
    map_literals,
    number_text,
    parse,
    push_negations,
    shell_safe,
    spell,
)
from ebmcli.core.expression import literals as visit

ROOT = Path(__file__).resolve().parents[2]
A, B, C, D = (Literal(name) for name in "abcd")

names = st.from_regex(r"[a-z][a-z0-9_]{0,3}(-[a-z0-9_]{1,3}){0,2}", fullmatch=True).filter(
    lambda name: name not in KEYWORDS
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
statements = st.one_of(
    st.tuples(st.none(), st.none()),
    st.tuples(st.just("="), names | numbers | st.tuples(numbers, numbers)),
    st.tuples(st.sampled_from([">", ">=", "<", "<="]), numbers),
)
values = names | numbers | st.tuples(numbers, numbers)
descriptions = st.dictionaries(names, values, min_size=1, max_size=3).map(
    lambda parts: tuple(parts.items())
)
weights = st.just(1.0) | st.floats(0, 100)
literals = st.builds(
    lambda name, statement, weight: Literal(name, statement[0], statement[1], weight),
    names,
    statements,
    weights,
) | st.builds(
    lambda name, parts, weight: Literal(name, parts=parts, weight=weight),
    names,
    descriptions,
    weights,
)


def trees(leaves: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Trees of all kinds of nodes over the given leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(And, inner, inner),
            st.builds(Or, inner, inner),
            st.builds(Implies, inner, inner),
        ),
        max_leaves=12,
    )


@given(trees(literals))
@settings(deadline=None)
def test_the_text_of_a_tree_parses_back_to_the_tree(tree: Expression) -> None:
    assert parse(str(tree)) == tree
    assert parse(spell(tree, words=True)) == tree
    assert parse(f" ( {tree} )\n") == tree


@given(trees(literals))
@settings(deadline=None)
def test_the_shell_safe_spelling_is_one_word_of_a_shell(tree: Expression) -> None:
    assert [parse(word) for word in shlex.split(shell_safe(tree))] == [tree]
    assert not set(shell_safe(tree)) & set("$`\\!&|~;#'")


@given(trees(st.sampled_from([A, B, C])))
@settings(max_examples=50, deadline=None)
def test_pushing_negations_keeps_the_truth_table(tree: Expression) -> None:
    pushed = push_negations(tree)
    for values in itertools.product([False, True], repeat=3):
        world = dict(zip("abc", values, strict=True))
        assert truth(pushed, world) == truth(tree, world)
    assert interpret(  # negations stand at literals only
        pushed,
        literal=lambda _: "literal",
        conjunction=lambda left, right: "group" if {left, right} else "",
        disjunction=lambda left, right: "group" if {left, right} else "",
        negation=lambda term: "negated" if term == "literal" else pytest.fail(str(pushed)),
    )


def truth(tree: Expression, world: dict[str, bool]) -> bool:
    """Is the formula true in a world?"""
    return interpret(
        tree,
        literal=lambda literal: world[literal.name],
        conjunction=lambda left, right: left and right,
        disjunction=lambda left, right: left or right,
        negation=lambda term: not term,
    )


@pytest.mark.parametrize(
    ("source", "tree"),
    [
        ("a & b | c", Or(And(A, B), C)),
        ("a | b & c", Or(A, And(B, C))),
        ("~a & b", And(Not(A), B)),
        ("a -> b -> c", Implies(A, Implies(B, C))),
        ("a | b -> c & d", Implies(Or(A, B), And(C, D))),
        ("a & b & c", And(And(A, B), C)),
        ("a & (b & c)", And(A, And(B, C))),
        ("a->b", Implies(A, B)),
        ("not a and b or c implies d", Implies(Or(And(Not(A), B), C), D)),
        ("1.5*a & b", And(Literal("a", weight=1.5), B)),
        ("2*(a | ~3*b)", Or(Literal("a", weight=2), Not(Literal("b", weight=6)))),
        ("~2*a", Not(Literal("a", weight=2))),
        ("wavy-hair&android", And(Literal("wavy-hair"), Literal("android"))),
        ("color = red", Literal("color", "=", "red")),
        ("size>-.5", Literal("size", ">", -0.5)),
        ("size<=1e-3", Literal("size", "<=", 0.001)),
        ("position=( 0.4 , -0.2 )", Literal("position", "=", (0.4, -0.2))),
        ("a\n& b\t", And(A, B)),
        ("a(b=c)", Literal("a", parts=(("b", "c"),))),
        ("2*a (b = 3,c=(0,-1))", Literal("a", parts=(("b", 3.0), ("c", (0.0, -1.0))), weight=2)),
        ("~a(b=c) & (a)", And(Not(Literal("a", parts=(("b", "c"),))), A)),
    ],
)
def test_operators_bind_as_documented(source: str, tree: Expression) -> None:
    assert parse(source) == tree


def test_python_operators_build_what_the_text_says() -> None:
    assert Literal("old") & ~Literal("wavy") | A == parse("old & ~wavy | a")
    assert (A | B).implies(C) == parse("a | b -> c")


def test_a_literal_remembers_where_it_was_read() -> None:
    tree = parse("a &  color=red")
    assert isinstance(tree, And)
    assert isinstance(tree.right, Literal)
    assert (tree.right.column, tree.right.source) == (5, "a &  color=red")


def test_concepts_are_named_in_the_order_of_first_appearance() -> None:
    assert concept_names(parse("b & (a | ~b) -> c=x")) == ("b", "a", "c")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("Old",), "not a concept name"),
        (("and",), "not a concept name"),
        (("a", "!=", "red"), "not a comparison"),
        (("a", "="), "come together"),
        (("a", None, "red"), "come together"),
        (("a", None, None, -1.0), "between 0 and 100"),
        (("a", None, None, math.nan), "between 0 and 100"),
    ],
)
def test_a_literal_that_no_text_can_spell_is_refused(arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Literal(*arguments)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (2.0, "2"),
        (0.4, "0.4"),
        (1e-7, "1e-07"),
        (1e22, "1e+22"),
        (1 / 3, "0.3333333333333333"),
    ],
)
def test_a_number_is_written_so_that_it_reads_back(number: float, text: str) -> None:
    assert number_text(number) == text
    tree = parse(f"size={text}")
    assert isinstance(tree, Literal)
    assert tree.value == number


def test_a_description_prints_its_parts_in_order() -> None:
    text = "object(color=red, position=(-0.5,0.3))"
    assert str(parse(text)) == text
    assert shell_safe(parse(f"~{text}")) == f'"not {text}"'


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"parts": (("Color", "red"),)}, "not a concept name"),
        ({"parts": (("b", "c"), ("b", "d"))}, "each part once"),
        ({"comparison": "=", "value": "x", "parts": (("b", "c"),)}, "no comparison"),
    ],
)
def test_a_description_that_no_text_can_spell_is_refused(arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Literal("object", **arguments)


def test_every_literal_can_be_replaced_and_is_visited_from_left_to_right() -> None:
    tree = parse("b & ~(a | b) -> c=x")
    assert [literal.name for literal in visit(tree)] == ["b", "a", "b", "c"]
    assert map_literals(tree, Not) == parse("~b & ~(~a | ~b) -> ~c=x")


def test_the_deepest_trees_allowed_can_be_walked() -> None:
    for source in ("~" * 200 + "a", "(" * 200 + "a" + ")" * 200, "a" + " -> a" * 200):
        tree = parse(source)
        assert tree == parse(str(tree))
        assert truth(push_negations(tree), {"a": True}) == truth(tree, {"a": True})


def test_a_weight_before_a_large_group_still_prints_as_an_expression() -> None:
    tree = parse("2*(" + " & ".join(["a"] * 190) + ")")
    assert parse(str(tree)) == tree


def test_importing_the_language_loads_neither_parser_generator_nor_torch() -> None:
    program = (
        "import sys, ebmcli.core.logic\n"
        "assert not {'lark', 'torch', 'numpy'} & set(sys.modules)\n"
        "from ebmcli.core.expression import parse\n"
        "parse('a & ~b')\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
