"""What is no expression: one short message, the caret under the first wrong token, what to type."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcli.core.expression import MAX_OPERATORS, parse
from ebmcli.errors import ExpressionError


@pytest.mark.parametrize(
    ("source", "column", "problem", "hint"),
    [
        ("old & & male", 6, "expected a concept, '~' or '(', found '&'", "look like"),
        ("old &", 5, "found the end", "look like"),
        ("old &   ", 5, "found the end", "look like"),
        ("(a", 2, "expected ')', found the end", "a '(' has no ')'"),
        ("a & (b | c", 10, "found the end", "a '(' has no ')'"),
        ("p>(0,0)", 2, "expected a number, found '('", "a place is position=(0.4,-0.2)"),
        ("p=0.4,-0.2", 5, "found ','", "a place is a pair in brackets: p=(0.4,-0.2)"),
        ("a & (p=0.4, 1 | b)", 10, "found ','", "a place is a pair in brackets: p=(0.4,1)"),
        ("c=red,blue", 5, "found ','", "write (c=red | c=blue)"),
        ("b & c = red , blue & a", 12, "found ','", "write (c=red | c=blue)"),
        ("c=red, blue=d", 5, "found ','", "join statements"),
        ("p=0.4, q=2", 5, "found ','", "join statements"),
        ("a)", 1, "expected the end, found ')'", "has no '('"),
        ("old male", 4, "expected '&', '|', '->' or the end, found 'male'", "join statements"),
        ("(old male)", 5, "or ')', found 'male'", "join statements"),
        ("old not male", 4, "found 'not'", "join statements"),
        ("old, male", 3, "found ','", "join statements"),
        ("old xor male", 4, "found 'xor'", "join statements"),
        ("Old", 0, "found 'Old'", "lower case: old"),
        ("color=Red", 6, "found 'Red'", "lower case: red"),
        ("color='red'", 6, "expected a value", "without quotes"),
        ('old & "male"', 6, "found '\"'", "without quotes"),
        ("old & \u201cmale\u201d", 6, "found '\u201c'", "without quotes"),
        ("color=and", 6, "expected a value", "is an operator"),
        ("size>red", 5, "expected a number, found 'red'", "with a word write color=red"),
        ("p=(1,2,3)", 6, "expected ')', found ','", "look like"),
        ("p=(1 2)", 5, "expected ',', found '2'", "look like"),
        ("0.2<size", 3, "expected '*'", "comes first"),
        ("old*1.5", 3, "found '*'", "before its concept: 1.5*old"),
        ("-1*a", 0, "a weight is not negative", "write ~"),
        ("a & 50*(3*b)", 4, "a weight of 150 is above 100", "usual"),
        ("size>1e999", 5, "too large", "look like"),
        ("a é", 2, "found 'é'", "join statements"),
        ("old (male)", 9, "expected '=' and a value, found ')'", "described by its parts"),
        ("a()", 2, "expected a part such as color=red, found ')'", "described by its parts"),
        ("a(b=c", 5, "expected ',' or ')', found the end", "described by its parts"),
        ("a(b=c & d)", 6, "expected ',' or ')', found '&'", "described by its parts"),
        ("a(b>3)", 3, "expected '=' and a value, found '>'", "named by ="),
        ("a(b=)", 4, "expected a value", "look like"),
        ("a(B=c)", 2, "expected a part", "lower case: b"),
        ("a(b=c, b=d)", 7, "b is named twice", "two statements"),
        ("a(b=(1,2,3))", 8, "expected ')', found ','", "look like"),
    ],
)
def test_an_error_points_at_the_first_wrong_token(
    source: str, column: int, problem: str, hint: str
) -> None:
    check(source, column, problem, hint)


@pytest.mark.parametrize(
    ("source", "column", "hint"),
    [
        ("old && b", 5, "write & or the word and"),
        ("old || b", 5, "write | or the word or"),
        ("!old", 0, "write ~ or the word not"),
        ("a | !old", 4, "write ~ or the word not"),
        ("color!=red", 5, "for a value, ~color=red"),
        ("color==red", 6, "write one ="),
        ("old => male", 5, "write -> for implies, >= for at least"),
        ("¬old", 0, "write ~ or the word not"),
        ("old ∧ male", 4, "write & or the word and"),
        ("old \u2228 male", 4, "write | or the word or"),
        ("old → male", 4, "write -> or the word implies"),
        ("old ⇒ male", 4, "write -> or the word implies"),
        ("size≥0.4", 4, "write >="),
        ("size≤0.4", 4, "write <="),
        ("size=\u22120.3", 5, "minus sign of the keyboard"),
    ],
)
def test_operators_of_other_languages_are_translated(source: str, column: int, hint: str) -> None:
    check(source, column, "expected", hint)


def check(source: str, column: int, problem: str, hint: str) -> None:
    """The error has this column, these words, this advice, and the caret in its last line."""
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    assert caught.value.column == column
    assert problem in str(caught.value)
    assert hint in (caught.value.hint or "")
    line, marker = str(caught.value).splitlines()[-2:]
    assert line == f"  {source}"
    assert marker == " " * (column + 2) + "^"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("(" * 10_000 + "a" + ")" * 10_000, "20,001 characters are more than 20,000"),
        ("(" * 9_000 + "a" + ")" * 9_000, "operators and brackets"),
        ("~" * 10_000 + "a", "operators and brackets"),
        ("not " * 4_000 + "a", "operators and brackets"),
        ("1*" * 9_000 + "a", "operators and brackets"),
        ("a&" * 9_000 + "a", "operators and brackets"),
        ("a" * 25_000, "25,000 characters"),
        ("a\x00b", "U+0000"),
        ("a & \x1b[31mb", "U+001B"),
        ("a & \udcff", "U+DCFF"),
        ("\x89PNG\r\n\x1a\n", "U+0089"),
        ("a\u00a0& b", "U+00A0"),
        ("\ufeffa & b", "U+FEFF"),
    ],
)
def test_text_that_is_no_expression_is_one_short_error(source: str, problem: str) -> None:
    started = time.process_time()
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    assert time.process_time() - started < 1.0  # s; linear work on 25,000 characters
    message = str(caught.value)
    assert problem in message
    assert caught.value.hint
    assert len(message) < 400
    assert message.encode("utf-8").decode().replace("\n", "").isprintable()


def test_the_caret_stays_under_its_character_when_a_long_text_is_cut() -> None:
    source = "a & " * 40 + "$ & a"
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    assert caught.value.column == 160
    line, marker = str(caught.value).splitlines()[-2:]
    assert len(line) < 130
    assert line[marker.index("^")] == "$"


@given(st.text(max_size=30) | st.text(alphabet="ab0.,()&|~->=*< !\t", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_parses_or_is_an_expression_error_with_a_hint(source: str) -> None:
    error = None
    try:
        tree = parse(source)
    except ExpressionError as refusal:
        error = refusal
    if error is None:
        assert parse(str(tree)) == tree
    else:
        assert error.hint
        assert 0 <= error.column <= len(source)


def test_as_many_operators_as_allowed_are_read_and_one_more_is_refused() -> None:
    assert parse("~" * MAX_OPERATORS + "a")
    with pytest.raises(ExpressionError, match=f"more than {MAX_OPERATORS} operators") as caught:
        parse("~" * (MAX_OPERATORS + 1) + "a")
    assert caught.value.column == MAX_OPERATORS


def test_a_name_may_begin_with_a_keyword() -> None:
    assert [str(parse(name)) for name in ("android", "or-2", "nothing", "implies_")] == [
        "android",
        "or-2",
        "nothing",
        "implies_",
    ]
