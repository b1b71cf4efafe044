"""Statements against factors: what fits, in its plainest form, and how the rest is refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ebmcli.core.expression import Expression, Literal, parse
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.core.statements import at, resolve, usage
from ebmcli.datasets import clutter, faces, scenes
from ebmcli.errors import ExpressionError, UnknownNameError, UsageError

FACTORS = {
    factor.name: factor
    for factor in (
        Factor(name="old", kind="binary", names=("no", "yes")),
        Factor(name="male", kind="binary", names=("no", "yes")),
        Factor(name="black_hair", kind="binary", names=("no", "yes")),
        Factor(name="color", kind="categorical", names=("red", "green", "blue")),
        Factor(name="count", kind="categorical", names=("1", "2")),
        Factor(name="size", kind="scalar", low=0.2, high=0.6, unit="world units"),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
    )
}
OBJECT = Factor(
    name="object",
    kind="objects",
    most=3,
    parts=(
        Factor(name="tone", kind="categorical", names=("pale", "dark")),
        Factor(name="digit", kind="categorical", names=("1", "2")),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
        Factor(name="size", kind="scalar", low=0.2, high=0.4),
    ),
)
FACTORS["object"] = OBJECT


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("old=yes", "old"),
        ("old=no", "~old"),
        ("~old=no", "~~old"),
        ("2*old=yes", "2*old"),
        ("size>=0.4", "size>0.4"),
        ("size<=0.4", "size<0.4"),
        ("size=0.2", "size=0.2"),
        ("count=2", "count=2"),
        ("color=red -> position=(1,-1)", "color=red -> position=(1,-1)"),
        ("~object", "~object"),
        ("2*object(position=(0,1), tone=pale)", "2*object(tone=pale, position=(0,1))"),
    ],
)
def test_a_statement_that_fits_is_written_plainly(source: str, plain: str) -> None:
    assert str(resolve(parse(source), FACTORS)) == plain


def test_a_number_that_names_a_part_becomes_a_word() -> None:
    tree = resolve(parse("object(digit=2)"), FACTORS)
    assert isinstance(tree, Literal)
    assert tree.parts == (("digit", "2"),)


def test_a_number_that_names_a_value_becomes_a_word() -> None:
    tree = resolve(parse("count=2"), FACTORS)
    assert isinstance(tree, Literal)
    assert tree.value == "2"


@pytest.mark.parametrize(
    ("source", "column", "problem", "hint"),
    [
        ("old & mal", 6, "unknown concept 'mal'", "did you mean 'male'? known: black_hair, color"),
        ("old & black-hair", 6, "unknown concept 'black-hair'", "did you mean 'black_hair'?"),
        ("old & red", 6, "unknown concept 'red'", "did you mean color=red?"),
        ("xyzzy", 0, "unknown concept 'xyzzy'", "known: black_hair, color"),
        ("old & color=rde", 12, "unknown value of color 'rde'", "'red'? known: red, green, blue"),
        ("color = 3", 8, "unknown value of color '3'", "known: red, green, blue"),
        ("old=maybe", 4, "unknown value of old 'maybe'", "known: no, yes"),
        ("old & color", 6, "color needs a value", "write color=red; values: red, green, blue"),
        ("size | old", 0, "size needs a value", "write size=0.4 or size>0.4; from 0.2 to 0.6"),
        ("position", 0, "position needs a value", "write position=(0,0); both numbers from -1"),
        ("2*old>0.4", 6, "old has no order", "write old or ~old"),
        ("position > 0.4", 11, "position has no order", "write position=(0,0)"),
        ("count>=1", 7, "count has no order", "write count=1 or count=2"),
        ("count < 2", 8, "count has no order", "write count=1"),
        ("size=red", 5, "size takes a number", "world units"),
        ("size=(0.1,0.2)", 5, "size takes a number", "write size=0.4"),
        ("color=(0.1,0.2)", 6, "color takes a word", "write color=red"),
        ("position=0.4", 9, "position takes a pair of numbers", "write position=(0,0)"),
        ("old & size=0.61", 11, "size is between 0.2 and 0.6, not 0.61", "from 0.2 to 0.6"),
        ("size>0.1", 5, "size is between 0.2 and 0.6, not 0.1", "from 0.2 to 0.6"),
        ("position=(0,-1.5)", 9, "position is between -1 and 1, not -1.5", "from -1 to 1"),
        ("old(tone=pale)", 0, "old has no parts", "write old or ~old"),
        ("object=pale", 7, "object takes its parts in brackets", "object(tone=pale, digit=1,"),
        ("object(tone=pal)", 12, "unknown value of tone 'pal'", "did you mean 'pale'?"),
        ("old & object(digit=1, toen=pale)", 22, "unknown part of object 'toen'", "'tone'? known:"),
        (
            "object(size=0.3)",
            7,
            "do not read the size of an object",
            "fewer of these parts ask for less",
        ),
        ("object(position=(0, 3))", 16, "position is between -1 and 1, not 3", "from -1 to 1"),
        ("object(position=pale)", 16, "position takes a pair of numbers", "write position=(0,0)"),
        ("old & tone=pale", 6, "unknown concept 'tone'", "did you mean object(tone=pale)?"),
        ("dark", 0, "unknown concept 'dark'", "did you mean object(tone=dark)?"),
    ],
)
def test_a_statement_that_does_not_fit_is_pointed_at(
    source: str, column: int, problem: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(parse(source), FACTORS)
    assert problem in str(caught.value)
    assert hint in (caught.value.hint or "")
    line, marker = str(caught.value).splitlines()[-2:]
    assert (line, marker) == (f"  {source}", " " * (column + 2) + "^")
    if isinstance(caught.value, UnknownNameError):
        assert f"at column {column + 1}" in str(caught.value)
    else:
        assert isinstance(caught.value, ExpressionError)
        assert caught.value.column == column


def test_without_any_concept_the_message_says_so() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve(parse("old"), {})
    assert "this registry has no concept: ebm train makes one" in str(caught.value.hint)


def test_a_tree_built_in_python_is_shown_as_its_text() -> None:
    tree: Expression = ~Literal("old") & Literal("color")
    with pytest.raises(ExpressionError, match="color needs a value") as caught:
        resolve(tree, FACTORS)
    assert "\n  color\n  ^" in str(caught.value)
    assert at(tree) == ("~old & color", 0)


@pytest.mark.parametrize("name", FACTORS)
def test_every_usage_hint_is_itself_a_formula_that_fits(name: str) -> None:
    written = usage(name, FACTORS[name]).removeprefix("write ").split(";")[0]
    for example in written.split(" or "):
        assert resolve(parse(example), FACTORS)


PAGE = (Path(__file__).resolve().parents[2] / "docs/expressions.md").read_text(encoding="utf-8")
SHOWN = re.findall(r'^ebm (?:explain|generate) ("[^"]+"|\w+)', PAGE, flags=re.MULTILINE)
REFUSED = re.findall(r"^\| `([^`]+)` \| ([a-z][^|\n\\]*(?:\\\|[^|\n\\]*)*) \|$", PAGE, re.MULTILINE)


def of_the_recipes() -> dict[str, Factor]:
    """The factors of all recipes, as their concepts have them."""
    learned = replace(clutter.FACTORS["object"], fewest=1)
    return {**scenes.FACTORS, **faces.FACTORS, **clutter.FACTORS, "object": learned}


@pytest.mark.parametrize("source", SHOWN)
def test_the_formulas_of_the_manual_are_formulas(source: str) -> None:
    assert compile_formula(parse(source.strip('"')), of_the_recipes())


@pytest.mark.parametrize(("source", "answer"), REFUSED)
def test_the_manual_quotes_the_messages(source: str, answer: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_formula(parse(source.replace("\\|", "|")), of_the_recipes())
    assert answer.replace("\\|", "|") in str(caught.value).splitlines()[0]


def test_the_manual_is_not_empty() -> None:
    assert len(SHOWN) >= 15
    assert len(REFUSED) == 23
