"""Branches: the ways in which a formula can be true, one of which every picture is given.

Notation as in ``logic``: f formula, t_c the joint outcome (row) of all statements on concept c. A
branch b is a path of the decision diagram of f that ends in TRUE: it fixes the rows of the concepts
it meets and says nothing of the others. Branches exclude each other and cover f. If concepts are
independent before any image is seen,

    p(x | f) = sum_b P(b | f) p(x | b),        P(b | f) = prod_c pi_c(b) / P(f)
    P(b | x) = prod_c sum_{t in b_c} P(t | x)

and a picture may be given its branch first, by its prior, and be drawn from p(x | b) then. A chain
annealed through p(x) P(f | x, sigma)^s, s > 1, gives more than its share to the branch that is
recognised sooner, from more noise. A formula with one branch, as every plain AND, has no choice.

Source: ancestral sampling over the paths of a decision diagram (Bryant, 1986).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebmcli.core.diagram import FALSE, TRUE
from ebmcli.core.fields import FieldTable
from ebmcli.core.logic import Formula, Table

if TYPE_CHECKING:
    from torch import Tensor

HARDLY = 1e-9  # of a cell: a bound at its edge, but for rounding
SHOWN = 4  # branches that a line of text names


@dataclass(frozen=True)
class Branch:
    """The rows that are allowed of every concept on a path; other concepts are free."""

    rows: Mapping[str, tuple[int, ...]]


class Branches:
    """The branches of a formula and their shares.

    Outcomes of one concept that lead to the same are branches of their own where they have nothing
    in common, as two colors or two places far apart. Places that overlap are one branch, and so are
    ranges that touch. Statements about objects do not exclude each other at all:
    ``object(color=red) | object(color=blue)`` is one branch.

    Concepts are decided in the order in which the formula names them: ``old | male`` has the
    branches ``old`` and ``~old & male``, ``male | old`` others with the same sum.

    Args:
        formula: A compiled formula.
        log_priors: log pi of the cells of every concept, (K,).
    """

    def __init__(self, formula: Formula, log_priors: Mapping[str, Sequence[float]]) -> None:
        self.formula = formula
        self._choices: list[list[tuple[float, int, tuple[int, ...]]]] = []  # weight, child, rows
        self._counts, self._values = [0, 1], [0.0, 1.0]  # of FALSE and TRUE
        priors = {name: [math.exp(v) for v in log_priors[name]] for name in formula.concepts}
        for node in formula.nodes:
            name = formula.concepts[node.variable]
            table = formula.tables[name]
            shares = table.probabilities(priors[name], priors[name])
            choices = []
            for child, rows in _groups(table, node.children):
                weight = math.fsum(shares[row] for row in rows) * self._values[child]
                if weight > 0:
                    choices.append((weight, child, rows))
            self._choices.append(choices)
            self._values.append(math.fsum(weight for weight, _, _ in choices))
            self._counts.append(sum(self._counts[child] for _, child, _ in choices))

    @property
    def n_branches(self) -> int:
        """How many have a prior above zero."""
        return self._counts[-1]

    @property
    def probability(self) -> float:
        """P(f) by the prior."""
        return self._values[-1]

    def draw(self, uniforms: Sequence[float]) -> Branch:
        """The branch of one picture, with probability P(b | f).

        Args:
            uniforms: One number in [0, 1) per concept of the formula.
        """
        rows: dict[str, tuple[int, ...]] = {}
        index = len(self._choices) + 1
        while index not in (FALSE, TRUE):
            variable = self.formula.nodes[index - 2].variable
            choices = self._choices[index - 2]
            left = uniforms[variable] * self._values[index]
            for weight, child, allowed in choices:
                index = child
                rows[self.formula.concepts[variable]] = allowed
                left -= weight
                if left < 0:
                    break
        return Branch(rows)

    def shares(self) -> Iterator[tuple[Branch, float]]:
        """Every branch with its P(b | f); there can be many."""

        def below(index: int, rows: dict[str, tuple[int, ...]], share: float) -> Iterator[Any]:
            if index == TRUE:
                yield Branch(rows), share / self.probability
                return
            name = self.formula.concepts[self.formula.nodes[index - 2].variable]
            for weight, child, allowed in self._choices[index - 2]:
                part = share * weight / self._values[child]
                yield from below(child, rows | {name: allowed}, part)

        yield from below(len(self._choices) + 1, {}, 1.0)

    def text(self, branch: Branch) -> str:
        """A branch as a conjunction of statements, such as ``color=red & ~old``."""
        return " & ".join(
            _statement(self.formula.tables[name], rows) for name, rows in branch.rows.items()
        )

    def masks(self, branches: Sequence[Branch]) -> "dict[str, Tensor]":
        """For every concept which rows the branch of a picture allows: (B, T) bool."""
        import torch

        found = {}
        for name, table in self.formula.tables.items():
            mask = torch.zeros(len(branches), table.n_rows, dtype=torch.bool)
            for i, branch in enumerate(branches):
                mask[i, list(branch.rows.get(name, range(table.n_rows)))] = True
            found[name] = mask
        return found


def tally(texts: Sequence[str]) -> str:
    """How often which branch was drawn, the most frequent first: ``color=red 5, color=blue 3``."""
    counts = Counter(texts).most_common()
    parts = [f"{text} {n}" for text, n in counts[:SHOWN]]
    rest = sum(n for _, n in counts[SHOWN:])
    return ", ".join([*parts, f"others {rest}"] if rest else parts)


def _groups(table: Table, children: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """Children other than FALSE with the rows that lead there and are one choice."""
    groups: list[tuple[int, tuple[int, ...]]] = []
    for row, child in enumerate(children):
        if child == FALSE:
            continue
        same = [g for g in groups if g[0] == child and any(_touch(table, row, r) for r in g[1])]
        merged = sorted([row, *(r for _, rows in same for r in rows)])
        groups = [g for g in groups if g not in same] + [(child, tuple(merged))]
    return sorted(groups, key=lambda group: group[1])


def _touch(table: Table, one: int, other: int) -> bool:
    """Have two outcomes a cell in common, or neighbouring ones of a number?"""
    if isinstance(table, FieldTable):
        return True
    here, there = (
        {k for k, a in enumerate(table.membership[r]) if a > HARDLY} for r in (one, other)
    )
    if table.factor.kind == "scalar":
        here = {k + step for k in here for step in (-1, 0, 1)}
    return not here.isdisjoint(there)


def _statement(table: Table, rows: Sequence[int]) -> str:
    """Some outcomes of a concept in words: statements joined by ``&``, or several such by ``|``."""
    common = _common(table, rows)
    like = [r for r, truth in enumerate(table.truths) if all(truth[i] == v for i, v in common)]
    parts = [_literal(table, i, value) for i, value in _needed(table, common)]
    missing = [row for row in like if row not in rows]
    if len(missing) == 1:
        free = [i for i in range(len(table.literals)) if i not in dict(common)]
        parts.append(
            f"({' | '.join(_literal(table, i, not table.truths[missing[0]][i]) for i in free)})"
        )
    elif missing:
        parts = [f"({' | '.join(_statement(table, [row]) for row in rows)})"]
    return " & ".join(parts)


def _common(table: Table, rows: Sequence[int]) -> list[tuple[int, bool]]:
    """The literals on which some rows agree, with their truth."""
    found = [{table.truths[row][i] for row in rows} for i in range(len(table.literals))]
    return [(i, values.pop()) for i, values in enumerate(found) if len(values) == 1]


def _needed(table: Table, common: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    """Without what follows from the others: of ``color=red & ~color=blue`` the second."""
    kept = list(common)
    for item in sorted(common, key=lambda item: item[1]):  # what is not so goes first
        rest = [other for other in kept if other != item]
        like = (truth for truth in table.truths if all(truth[i] == value for i, value in rest))
        if all(truth[item[0]] == item[1] for truth in like):
            kept = rest
    return kept


def _literal(table: Table, index: int, value: bool) -> str:
    return f"{'' if value else '~'}{table.literals[index]}"
