"""The grammar of expressions and the wording of its errors; the only file that knows lark.

The parser is LALR(1): its work is linear in the text and its stack is a list, so that no input
can exhaust Python's. Text that is too long or too nested is refused before it is parsed.
"""

import math
import re
from dataclasses import replace
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, UnexpectedToken

from ebmcli.core.expression import (
    KEYWORDS,
    MAX_CHARACTERS,
    MAX_OPERATORS,
    MAX_WEIGHT,
    NAME,
    And,
    Expression,
    Implies,
    Literal,
    Not,
    Or,
    Value,
    map_literals,
    number_text,
)
from ebmcli.errors import ExpressionError

GRAMMAR = rf"""
    ?start: disjunction
          | disjunction (ARROW | IMPLIES) start         -> implies
    ?disjunction: conjunction
          | disjunction (PIPE | OR) conjunction         -> either
    ?conjunction: term
          | conjunction (AMPERSAND | AND) term          -> both
    ?term: literal
          | (TILDE | NOT) term                          -> negated
          | NUMBER STAR term                            -> weighted
          | LPAR start RPAR                             -> group

    ?literal: NAME                                            -> bare
          | NAME EQUAL NAME                                   -> worded
          | NAME (EQUAL | MORE | AT_LEAST | LESS | AT_MOST) NUMBER  -> numbered
          | NAME EQUAL LPAR NUMBER COMMA NUMBER RPAR          -> placed
          | NAME LPAR part (COMMA part)* RPAR                 -> described

    ?part: NAME EQUAL NAME                                    -> word_part
          | NAME EQUAL NUMBER                                 -> number_part
          | NAME EQUAL LPAR NUMBER COMMA NUMBER RPAR          -> place_part

    NAME: /{NAME}/
    NUMBER: /[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?/
    ARROW: "->"
    IMPLIES: "implies"
    PIPE: "|"
    OR: "or"
    AMPERSAND: "&"
    AND: "and"
    TILDE: "~"
    NOT: "not"
    STAR: "*"
    LPAR: "("
    RPAR: ")"
    COMMA: ","
    EQUAL: "="
    MORE: ">"
    AT_LEAST: ">="
    LESS: "<"
    AT_MOST: "<="
    %ignore " "
"""
OPERATOR = re.compile(r"[~&|(]|->|\*(?= *[+.\d-])|\b(?:and|or|not|implies)\b")  # 2*3*a is one
HINTS = {  # text at the wrong place -> what was probably meant
    "&&": "write & or the word and",
    "||": "write | or the word or",
    "!": "write ~ or the word not; for a value, ~color=red",
    "==": "write one =",
    "=>": "write -> for implies, >= for at least",
    "¬": "write ~ or the word not",
    "∧": "write & or the word and",
    "\u2228": "write | or the word or",
    "→": "write -> or the word implies",
    "⇒": "write -> or the word implies",
    "≥": "write >=",
    "≤": "write <=",
    '"': "write values without quotes: color=red",
    "'": "write values without quotes: color=red",
    "“": "write values without quotes: color=red",
    "\u2019": "write values without quotes: color=red",
    "\u2212": "write the minus sign of the keyboard: -",
}
PARTS = "an object is described by its parts: object(color=red, position=(0.4,-0.2))"
PAIR = re.compile(rf"({NAME}) *= *([-+.0-9]+) *, *([-+.0-9]+)")  # a place without its brackets
SEVERAL = re.compile(rf"({NAME}) *= *({NAME}) *, *({NAME})(?![\w-]| *[=<>(])")  # c=a,b: one of them
EXAMPLE = "expressions look like: old & ~wavy; color=red | size>0.4; position=(0.4,-0.2)"


Part = tuple[Token, Value]  # of a description: its name and its value


class MisplacedError(Exception):
    """A token that the grammar allows and its value forbids."""

    def __init__(self, problem: str, column: int, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.column, self.hint = problem, column, hint


def column_of(token: Token) -> int:
    """Where a token starts, from 0."""
    return token.start_pos or 0


def number(token: Token) -> float:
    """The value of a number token."""
    value = float(token)
    if not math.isfinite(value):
        raise MisplacedError(f"{token} is too large a number", column_of(token), EXAMPLE)
    return value


class TreeBuilder(Transformer[Token, Expression]):
    """What each rule of the grammar builds; called during parsing, bottom up."""

    def implies(self, parts: list[Expression]) -> Expression:
        """``a -> b``."""
        return Implies(parts[0], parts[2])

    def either(self, parts: list[Expression]) -> Expression:
        """``a | b``."""
        return Or(parts[0], parts[2])

    def both(self, parts: list[Expression]) -> Expression:
        """``a & b``."""
        return And(parts[0], parts[2])

    def negated(self, parts: list[Expression]) -> Expression:
        """``~a``."""
        return Not(parts[1])

    def group(self, parts: list[Expression]) -> Expression:
        """``(a)``."""
        return parts[1]

    def weighted(self, parts: tuple[Token, Token, Expression]) -> Expression:
        """``1.5*a``: every literal of ``a`` takes the factor."""
        token, _, term = parts
        factor = number(token)
        if factor < 0:
            hint = "for the opposite of a concept write ~ or the word not"
            raise MisplacedError(f"a weight is not negative, found {token}", column_of(token), hint)

        def weigh(literal: Literal) -> Literal:
            weight = literal.weight * factor
            if weight > MAX_WEIGHT:
                problem = f"a weight of {number_text(weight)} is above {MAX_WEIGHT:g}"
                raise MisplacedError(problem, column_of(token), "weights from 1 to 4 are usual")
            return replace(literal, weight=weight)

        return map_literals(term, weigh)

    def bare(self, parts: list[Token]) -> Expression:
        """``old``."""
        return Literal(str(parts[0]), column=column_of(parts[0]))

    def worded(self, parts: list[Token]) -> Expression:
        """``color=red``."""
        return Literal(str(parts[0]), "=", str(parts[2]), column=column_of(parts[0]))

    def numbered(self, parts: list[Token]) -> Expression:
        """``size=0.4``, ``size>0.4``."""
        name, comparison, value = parts
        return Literal(str(name), str(comparison), number(value), column=column_of(name))

    def placed(self, parts: list[Token]) -> Expression:
        """``position=(0.4,-0.2)``."""
        pair = (number(parts[3]), number(parts[5]))
        return Literal(str(parts[0]), "=", pair, column=column_of(parts[0]))

    def word_part(self, parts: list[Token]) -> Part:
        """``color=red`` inside a description."""
        return parts[0], str(parts[2])

    def number_part(self, parts: list[Token]) -> Part:
        """``kind=3``."""
        return parts[0], number(parts[2])

    def place_part(self, parts: list[Token]) -> Part:
        """``position=(0.4,-0.2)``."""
        return parts[0], (number(parts[3]), number(parts[5]))

    def described(self, parts: list[Any]) -> Expression:
        """``object(color=red, position=(0.4,-0.2))``."""
        name, given = parts[0], parts[2:-1:2]
        values: dict[str, Value] = {}
        for part, value in given:
            if str(part) in values:
                hint = "name each part once; for two objects write two statements"
                raise MisplacedError(f"{part} is named twice", column_of(part), hint)
            values[str(part)] = value
        return Literal(str(name), parts=tuple(values.items()), column=column_of(name))


@cache
def parser() -> Lark:
    """The parser, made once; the builder runs inside it, so that no tree is walked twice."""
    return Lark(
        GRAMMAR,
        parser="lalr",
        lexer="basic",
        transformer=TreeBuilder(),
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def read(source: str) -> Expression:
    """Parse ``source``; every failure is an ExpressionError. See ``expression.parse``."""
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in source)
    check_text(source, shown)
    try:
        tree = parser().parse(shown)
    except UnexpectedInput as error:
        raise wrong_token(error, shown) from None
    except MisplacedError as error:
        raise ExpressionError(error.problem, shown, error.column, hint=error.hint) from None
    assert isinstance(tree, Expression)
    return map_literals(tree, lambda literal: replace(literal, source=shown))


def check_text(source: str, shown: str) -> None:
    """Refuse what cannot be an expression before the parser sees it."""
    if not shown.strip():
        raise ExpressionError("the expression is empty", shown, 0, hint=EXAMPLE)
    for column, character in enumerate(source):
        if not character.isprintable() and character not in " \t\n\r":
            problem = f"an expression is plain text, found the character U+{ord(character):04X}"
            raise ExpressionError(problem, shown, column, hint=EXAMPLE)
    if len(source) > MAX_CHARACTERS:
        problem = f"{len(source):,} characters are more than {MAX_CHARACTERS:,}"
        raise ExpressionError(problem, shown, MAX_CHARACTERS, hint="split the formula")
    for count, match in enumerate(OPERATOR.finditer(shown), start=1):
        if count > MAX_OPERATORS:
            problem = f"more than {MAX_OPERATORS} operators and brackets"
            raise ExpressionError(problem, shown, match.start(), hint="split the formula")


def wrong_token(error: UnexpectedInput, shown: str) -> ExpressionError:
    """Name what was expected and what was found, with a caret at the first wrong token."""
    ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    column = len(shown.rstrip()) if ended else error.pos_in_stream or 0
    accepted = accepted_at(error, shown)
    found = "" if ended else word_at(shown, column)
    problem = f"expected {in_words(accepted)}, found {repr(found) if found else 'the end'}"
    return ExpressionError(problem, shown, column, hint=advice(accepted, shown, column))


def accepted_at(error: UnexpectedInput, shown: str) -> set[str]:
    """The terminals the grammar accepts where the error is."""
    if isinstance(error, UnexpectedToken):
        return set(error.accepts or error.expected)
    before = parser().parse_interactive(shown[: error.pos_in_stream])
    before.exhaust_lexer()
    return set(before.accepts())  # type: ignore[no-untyped-call]  # lark has no type


def word_at(shown: str, column: int) -> str:
    """The word, number or operator that starts at a column; empty at the end."""
    match = re.compile(r"[\w.-]*\w|->|[<>=]=?|&&|\|\||.").match(shown, column)
    return match.group() if match else ""


def in_words(accepted: set[str]) -> str:
    """A set of terminals, for people."""
    if "TILDE" in accepted:
        return "a concept, '~' or '('"
    if {"NAME", "NUMBER"} <= accepted:
        return "a value: a word, a number or a pair such as (0.4,-0.2)"
    if "AMPERSAND" in accepted:
        return "'&', '|', '->'" + (" or ')'" if "RPAR" in accepted else " or the end")
    if accepted == {"NAME"}:
        return "a part such as color=red"
    if {"COMMA", "RPAR"} <= accepted:
        return "',' or ')'"
    single = {"NUMBER": "a number", "COMMA": "','", "STAR": "'*' and a concept", "RPAR": "')'"}
    single["EQUAL"] = "'=' and a value"
    return next((words for name, words in single.items() if name in accepted), "the end")


def advice(accepted: set[str], shown: str, column: int) -> str:
    """What was probably meant: a common slip at or just before the wrong token, else an example."""
    for slip, meant in HINTS.items():
        if shown.startswith(slip, column) or shown.startswith(slip, max(0, column - 1)):
            return meant
    word = word_at(shown, column)
    if accepted == {"EQUAL"} and word in ("<", ">", "<=", ">="):
        return "parts of an object are named by =, such as color=red"
    if accepted in ({"EQUAL"}, {"COMMA", "RPAR"}) or (accepted == {"NAME"} and word != "="):
        lower = re.fullmatch(NAME, word.lower()) and word.lower() != word
        return f"names are written in lower case: {word.lower()}" if lower else PARTS
    joined = "AMPERSAND" in accepted  # a whole statement ends before the word
    if joined and word == ",":
        for pair in PAIR.finditer(shown):
            if pair.end(2) <= column < pair.start(3):
                return "a place is a pair in brackets: {}=({},{})".format(*pair.groups())
        for several in SEVERAL.finditer(shown):
            if several.end(2) <= column < several.start(3):
                name, first, second = several.groups()
                return f"for one value or another write ({name}={first} | {name}={second})"
    if joined and word == "*":
        return "a weight comes before its concept: 1.5*old"
    if joined and (word == "not" or word in (",", "+", ";")):
        return "join statements by &, | or ->"
    if word.lower() != word and re.fullmatch(NAME, word.lower()):
        return f"names are written in lower case: {word.lower()}"
    if word in KEYWORDS:
        return f"{word!r} is an operator, not a name"
    if word == ")" and shown.count("(", 0, column) <= shown.count(")", 0, column):
        return "this ')' has no '('"
    if "STAR" in accepted and word[:1] in ("<", ">"):
        return "the concept comes first: size>0.4"
    if "NUMBER" in accepted and "NAME" not in accepted and re.fullmatch(NAME, word):
        return "only numbers are compared by > and <; with a word write color=red"
    if accepted == {"NUMBER"} and word == "(" and shown[:column].rstrip()[-1:] in tuple("<>="):
        return "only numbers are compared by > and <; a place is position=(0.4,-0.2)"
    if not word and "RPAR" in accepted and shown.count("(") > shown.count(")"):
        return "a '(' has no ')'"
    if joined and re.match(r"\w", word):
        return "join statements by &, | or ->; a name has no spaces, as in wavy-hair"
    return EXAMPLE
