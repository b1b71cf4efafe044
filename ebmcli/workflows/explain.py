"""What a formula means, without drawing anything: tree, concepts, probability by chance."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ebmcli.core.branches import Branches
from ebmcli.core.expression import (
    And,
    Expression,
    Implies,
    Literal,
    Not,
    Or,
    concept_names,
    literals,
    number_text,
    parse,
    push_negations,
    shell_safe,
    spell,
)
from ebmcli.core.fields import chance
from ebmcli.core.logic import Formula, Table
from ebmcli.registry import Registry
from ebmcli.workflows.formulas import formula_of

MAX_LISTED = 64  # branches; chosen
_WORDS = {Not: "not", And: "and", Or: "or", Implies: "implies"}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement about a concept and the cells of its factor that it covers."""

    text: str
    cells: float  # of the factor's n_cells; a cell counts by its membership
    share: float  # its probability by chance, see ``fields.chance``


@dataclass(frozen=True, kw_only=True)
class Concerned:
    """A concept that a formula speaks about."""

    name: str
    kind: str
    n_cells: int
    method: str
    sha256: str
    fingerprint: str  # of weights and temperatures
    file: str
    present: bool  # is the file there?
    statements: tuple[Statement, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Everything ``ebm explain`` says."""

    source: str
    tree: tuple[str, ...]  # lines
    rewritten: str  # negations at statements only, no ->, values in their plainest form
    words: str  # and, or, not, implies
    shell: str  # to paste after a command, in any shell
    space: str
    concepts: tuple[Concerned, ...]
    probability: float  # of the formula, if all values are equally likely and independent
    n_decisions: int  # nodes of the decision diagram
    n_branches: int  # ways to be true that exclude each other, see ``core.branches``
    branches: tuple[tuple[str, float], ...]  # with shares by chance; none of more than MAX_LISTED
    notes: tuple[str, ...]


def explain(registry: Registry, source: str) -> Explanation:
    """Compile a formula and say what came out.

    Raises:
        UsageError: As :func:`ebmcli.workflows.formulas.formula_of`.
    """
    formula, space = formula_of(registry, source)
    expression = parse(source)
    uniform = {
        name: [math.log(q) for q in chance(table.factor)] for name, table in formula.tables.items()
    }
    branches = Branches(formula, uniform)
    return Explanation(
        source=source,
        tree=tuple(tree_lines(expression)),
        rewritten=spell(push_negations(formula.expression)),
        words=spell(expression, words=True),
        shell=shell_safe(expression),
        space=space,
        concepts=tuple(_concerned(registry, table) for table in formula.tables.values()),
        probability=math.exp(formula.log_prior(uniform)),
        n_decisions=len(formula.nodes),
        n_branches=branches.n_branches,
        branches=_listed(branches),
        notes=tuple(_notes(expression, formula)),
    )


def _listed(branches: Branches) -> tuple[tuple[str, float], ...]:
    """The branches as text with their shares, likely ones first."""
    if branches.n_branches > MAX_LISTED:
        return ()
    found = [(branches.text(branch), share) for branch, share in branches.shares()]
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def tree_lines(expression: Expression) -> Iterator[str]:
    """The tree drawn in text, one line per node; equal operators in a row are one node."""
    if isinstance(expression, Literal):
        yield spell(expression)
        return
    yield _WORDS[type(expression)]
    children = _children(expression)
    for i, child in enumerate(children):
        last = i == len(children) - 1
        lines = tree_lines(child)
        yield ("└── " if last else "├── ") + next(lines)
        yield from (("    " if last else "│   ") + line for line in lines)


def _children(expression: Expression) -> list[Expression]:
    """The operands of a node; those of a & b & c are three."""
    if isinstance(expression, Not):
        return [expression.term]
    assert isinstance(expression, (And, Or, Implies))
    if isinstance(expression, Implies):
        return [expression.left, expression.right]
    sides = (expression.left, expression.right)
    return [
        operand
        for side in sides
        for operand in (_children(side) if type(side) is type(expression) else [side])
    ]


def _concerned(registry: Registry, table: Table) -> Concerned:
    record = registry.get("concept", table.concept)
    statements = []
    uniform = chance(table.factor)
    rows = list(zip(table.truths, table.probabilities(uniform, uniform), strict=True))
    for i, (literal, cells) in enumerate(zip(table.literals, table.covered, strict=True)):
        share = math.fsum(p for truth, p in rows if truth[i])
        statements.append(Statement(text=spell(literal), cells=cells, share=share))
    return Concerned(
        name=record.name,
        kind=table.factor.kind,
        n_cells=table.factor.n_cells,
        method=record.method or "",
        sha256=record.sha256,
        fingerprint=record.fingerprint,
        file=record.file,
        present=registry.file(record).is_file(),
        statements=tuple(statements),
    )


def _notes(expression: Expression, formula: Formula) -> Iterator[str]:
    """What may surprise a reader of the formula."""
    for name in concept_names(expression):
        if name not in formula.tables:
            yield f"{name} does not matter: the formula means the same without it"
    for literal in formula.understood:
        yield (
            f"{spell(literal)} is understood: all pictures of {literal.name} show one, and without "
            "it the formula would be true of an empty floor"
        )
    for name, table in formula.tables.items():
        values = [literal.statement for literal in table.literals if literal.comparison == "="]
        if len(values) > 1 and table.factor.kind == "categorical":
            yield f"{', '.join(values)} exclude each other: a picture has one {name}"
    weights = {literal.name: literal.weight for literal in literals(expression)}
    for name, weight in weights.items():
        if weight != 1:
            yield f"what the picture says about {name} counts {number_text(weight)} times"
