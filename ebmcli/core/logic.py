"""What a formula means: exact probabilities of statements about factors.

Notation: f formula, l literal (a statement about one factor), k cell of a factor, q_k(x) the
posterior of a concept, pi_k its prior, m_l(k) the membership of cell k in the statement l, t the
vector of truths of all literals on one concept. Given the image, concepts are independent, the
cells of one concept exclude each other, and

    P(t | x) = sum_k q_k(x) A_t(k),        A_t(k) = prod_l m_l(k)^t_l (1 - m_l(k))^(1 - t_l)
    P(f | x) = sum over the assignments that satisfy f of prod over concepts P_c(t_c | x)

All terms are non-negative: nothing is subtracted, so that P near 0 and near 1 keep their digits.
Ranges of one scalar (``size>0.3 & size<0.5``) cut its cells at their bounds instead: A_t(k) is
then the share of cell k on which exactly the literals of t are true. Statements about objects have
their P(t | x) from ``fields``; the rest is the same. Where a concept has learned from pictures that
all show an object, a formula that an empty floor satisfies, such as ``~object(color=red)``, means
that there is one besides: P(f & object | x).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from ebmcli.core.diagram import FALSE, TRUE, Diagrams, Node
from ebmcli.core.expression import (
    And,
    Expression,
    Literal,
    Or,
    concept_names,
    interpret,
    literals,
    number_text,
    push_negations,
)
from ebmcli.core.factors import Factor, point_membership
from ebmcli.core.fields import MAX_FIELD_LITERALS, FieldTable, field_table
from ebmcli.core.statements import at, resolve
from ebmcli.core.tables import EventTable
from ebmcli.errors import ExpressionError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Table = EventTable | FieldTable
MAX_ROWS = 1024  # chosen: truth vectors of the literals on one concept


@dataclass(frozen=True, eq=False)
class Formula:
    """A compiled expression: tables of events and a decision diagram over concepts.

    ``nodes`` are decisions with children before parents, the root last; a child is TRUE, FALSE,
    or 2 plus an index into ``nodes``. Concepts on which the truth does not depend are gone.
    ``understood`` are statements that the expression leaves out and the diagram has: that there is
    an object.
    """

    expression: Expression
    tables: Mapping[str, Table]
    nodes: tuple[Node, ...]
    understood: tuple[Literal, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts that decide the formula, in the order of first appearance."""
        return tuple(self.tables)

    def log_probability(self, tables: Mapping[str, "Tensor"]) -> "Tensor":
        """log P(f | x): (B,), nats.

        Args:
            tables: For every concept log P(t | x), (B, T), finite; see
                ``composition.event_log_probs``. One logsumexp over (B, T) per node.
        """
        import torch

        values: list[Tensor] = []
        for node in self.nodes:
            table = tables[self.concepts[node.variable]]
            terms = [
                table[:, row] if child == TRUE else table[:, row] + values[child - 2]
                for row, child in enumerate(node.children)
                if child != FALSE
            ]
            values.append(torch.logsumexp(torch.stack(terms, dim=1), dim=1))
        return values[-1]

    def probability(
        self,
        posteriors: Mapping[str, Sequence[float]],
        priors: Mapping[str, Sequence[float]] | None = None,
    ) -> float:
        """P(f | x) for the posteriors (K,) of one image, in plain Python.

        ``priors`` (K,) are needed for weights other than 1.
        """
        rows = {
            name: table.probabilities(posteriors[name], priors[name] if priors else None)
            for name, table in self.tables.items()
        }
        values = [0.0, 1.0]  # FALSE, TRUE, then one per node
        for node in self.nodes:
            events = rows[self.concepts[node.variable]]
            pairs = zip(events, node.children, strict=True)
            values.append(math.fsum(p * values[child] for p, child in pairs))
        return values[-1]

    def log_prior(self, log_priors: Mapping[str, Sequence[float]]) -> float:
        """log P(f) before seeing an image, nats; weights leave a prior as it is."""
        priors = {name: [math.exp(v) for v in log_priors[name]] for name in self.concepts}
        probability = self.probability(priors, priors)
        return math.log(probability) if probability > 0 else -math.inf


def compile_formula(expression: Expression, factors: Mapping[str, Factor]) -> Formula:
    """Check an expression against its factors and compile it.

    Args:
        expression: Any tree; repeated concepts, negated groups and weights are allowed.
        factors: The factor of every known concept, by the concept's name.

    Raises:
        UnknownNameError: A concept or a value that nothing answers to.
        ExpressionError: A literal does not fit its factor, two weights on one concept, or a formula
            that is never or always true.
        UsageError: The formula is too large to be exact.
    """
    resolved = resolve(expression, factors)
    tables, diagrams, diagram = _diagrams(resolved, factors)
    root = diagram(resolved)
    if root == FALSE:
        raise _never_true(resolved, diagrams, diagram)
    if root == TRUE:
        hint = "it asks for nothing; remove or change a part"
        raise ExpressionError("the formula is always true", *at(resolved), hint=hint)
    understood = tuple(_objects_of_empty(tables, diagrams, root))
    if understood:
        meant = reduce(And, understood, resolved)
        tables, diagrams, diagram = _diagrams(meant, factors)
        root = diagram(meant)
        if root == FALSE:
            name = understood[0].name
            problem = f"the formula is never true: every picture of {name} shows one at least"
            hint = f"ask for some {name}, or train {name} on pictures of nothing too"
            raise ExpressionError(problem, *at(resolved), hint=hint)
    formula = _formula(resolved, tables, diagrams, root)
    return replace(formula, understood=understood)


def _diagrams(
    resolved: Expression, factors: Mapping[str, Factor]
) -> tuple[dict[str, Table], Diagrams, Callable[[Expression], int]]:
    """The tables of an expression, diagrams over them, and its translation into those."""
    names = concept_names(resolved)
    tables = {name: event_table(name, resolved, factors[name]) for name in names}
    diagrams = Diagrams([tables[name].n_rows for name in names])
    return tables, diagrams, _translator(diagrams, tables)


def _objects_of_empty(
    tables: Mapping[str, Table], diagrams: Diagrams, root: int
) -> Iterator[Literal]:
    """A bare ``object`` for every list of objects without which a formula can be true.

    Only of a concept whose pictures all show one; not where the statements are at their limit.
    """
    for variable, (name, table) in enumerate(tables.items()):
        if not table.factor.fewest or len(table.literals) >= MAX_FIELD_LITERALS:
            continue
        empty = diagrams.decision(variable, [FALSE if any(t) else TRUE for t in table.truths])
        if diagrams.conjunction(root, empty) != FALSE:
            yield Literal(name, weight=table.weight)


def _formula(
    expression: Expression, tables: Mapping[str, Table], diagrams: Diagrams, root: int
) -> Formula:
    """Keep the nodes under the root and the concepts they decide, numbered anew."""
    names = list(tables)
    order = diagrams.reachable(root)
    number = {FALSE: FALSE, TRUE: TRUE} | {node: i + 2 for i, node in enumerate(order)}
    kept = sorted({diagrams.nodes[node].variable for node in order})
    nodes = tuple(
        Node(kept.index(variable), tuple(number[child] for child in children))
        for variable, children in (diagrams.nodes[node] for node in order)
    )
    return Formula(expression, {names[v]: tables[names[v]] for v in kept}, nodes)


def _translator(diagrams: Diagrams, tables: Mapping[str, Table]) -> Callable[[Expression], int]:
    """A function from expressions to diagrams."""
    variables = {name: i for i, name in enumerate(tables)}

    def event(literal: Literal) -> int:
        table = tables[literal.name]
        column = table.literals.index(literal)
        outcomes = [TRUE if truth[column] else FALSE for truth in table.truths]
        return diagrams.decision(variables[literal.name], outcomes)

    def diagram(expression: Expression) -> int:
        return interpret(
            expression,
            literal=event,
            conjunction=diagrams.conjunction,
            disjunction=diagrams.disjunction,
            negation=diagrams.negation,
        )

    return diagram


def event_table(name: str, expression: Expression, factor: Factor) -> Table:
    """The joint outcomes of all literals on one concept of a resolved expression."""
    distinct = list(dict.fromkeys(item for item in literals(expression) if item.name == name))
    weight = distinct[0].weight
    for literal in distinct:
        if literal.weight != weight:
            problem = (
                f"{name} has the weights {number_text(weight)} and {number_text(literal.weight)}"
            )
            hint = "a concept has one weight in a formula"
            raise ExpressionError(problem, *at(literal), hint=hint)
    if factor.kind == "objects":
        return field_table(name, distinct, factor=factor)
    ranges = [literal for literal in distinct if literal.comparison in ("<", ">")]
    points = [literal for literal in distinct if literal.comparison in (None, "=")]
    rows = range_rows(ranges, factor)
    for literal in points:
        value = "yes" if literal.value is None else literal.value
        rows = split_rows(rows, point_membership(factor, value))
        if len(rows) > MAX_ROWS:
            raise UsageError(
                f"{len(distinct)} statements about {name} have over {MAX_ROWS:,} joint outcomes "
                f"of up to 2^{len(points)}: work and memory grow with them",
                hint="use fewer values of this concept, or a range such as size>0.4",
            )
    return EventTable(
        concept=name,
        factor=factor,
        literals=(*ranges, *points),
        weight=weight,
        truths=tuple(rows),
        membership=tuple(tuple(row) for row in rows.values()),
    )


Rows = dict[tuple[bool, ...], list[float]]


def split_rows(rows: Rows, membership: Sequence[float]) -> Rows:
    """Split every row by one more literal; rows without any cell are left out."""
    split: Rows = {}
    for truth, row in rows.items():
        inside = [a * m for a, m in zip(row, membership, strict=True)]
        outside = [a * (1.0 - m) for a, m in zip(row, membership, strict=True)]
        for holds, part in ((True, inside), (False, outside)):
            if any(part):
                split[(*truth, holds)] = part
    return split


def range_rows(ranges: Sequence[Literal], factor: Factor) -> Rows:
    """The joint outcomes of range literals: one row per interval between their bounds.

    A node's cell reaches half a spacing to each side and its mass is spread evenly over it.
    Without literals there is one row, which holds everything.
    """
    if not ranges:
        return {(): [1.0] * factor.n_cells}
    bounds = sorted(
        {float(literal.value) for literal in ranges if isinstance(literal.value, float)}
    )
    half = factor.spacing / 2
    cells = [(max(n - half, factor.low), min(n + half, factor.high)) for n in factor.nodes]
    rows: Rows = {}
    for low, high in zip([-math.inf, *bounds], [*bounds, math.inf], strict=True):
        truth = tuple(
            low >= literal.value if literal.comparison == ">" else high <= literal.value
            for literal in ranges
            if isinstance(literal.value, float)
        )
        share = [max(0.0, min(b, high) - max(a, low)) / (b - a) for a, b in cells]
        if any(share):
            rows[truth] = share
    return rows


def _never_true(
    expression: Expression, diagrams: Diagrams, diagram: Callable[[Expression], int]
) -> ExpressionError:
    """Say which parts of a formula contradict each other: none of them can be spared."""
    core = _conjuncts(push_negations(expression))
    for part in list(core):
        rest = [other for other in core if other is not part]
        if rest and reduce(diagrams.conjunction, map(diagram, rest)) == FALSE:
            core = rest
    names = list(dict.fromkeys(name for part in core for name in concept_names(part)))
    texts = [f"({part})" if isinstance(part, Or) else str(part) for part in core]
    hint = "remove or change one of them"
    if len(core) == 1:
        reason = f"no value of {' and '.join(names)} makes {core[0]} true"
        hint = "remove or change it"
    else:
        clash = "exclude each other" if len(core) == 2 else "cannot all be true"
        reason = f"{', '.join(texts[:-1])} and {texts[-1]} {clash}"
    if len(names) == 1 and all(isinstance(p, Literal) and p.comparison == "=" for p in core):
        reason += f": there is one {names[0]}"
        hint = f"for either of them write {' | '.join(texts)}"
    return ExpressionError(f"the formula is never true: {reason}", *at(core[-1]), hint=hint)


def _conjuncts(expression: Expression) -> list[Expression]:
    """The parts joined by the outermost ``&``."""
    if isinstance(expression, And):
        return _conjuncts(expression.left) + _conjuncts(expression.right)
    return [expression]
