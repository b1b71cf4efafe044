"""Branches: the ways in which a formula can be true, one of which every picture is given.

Notation as in ``logic``: f formula, t_c the joint outcome (row) of all statements on concept c. A
branch b is a path of the decision diagram of f that ends in TRUE: it fixes the rows of the concepts
it meets and says nothing of the others. Branches exclude each other and cover f, so that

    p(x | f) = sum_b P(b | f) p(x | b),        P(b | f) = prod_c pi_c(b) / P(f)
    P(b | x) = prod_c sum_{t in b_c} P(t | x)

and a picture may be given its branch first, by its prior, and be drawn from p(x | b) then. With
p(x) P(f | x)^s, s > 1, the branch whose pictures are recognised sooner gets more than its share;
drawn this way every branch has its own at any s. A formula with one branch, as every plain AND, is
drawn as before.

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

SHOWN = 4  # branches that a line of text names


@dataclass(frozen=True)
class Branch:
    """The rows that are allowed of every concept on a path; other concepts are free."""

    rows: Mapping[str, tuple[int, ...]]


class Branches:
    """The branches of a formula and their shares.

    Statements on one concept exclude each other, and each of their rows is a branch. Statements
    about objects do not: ``object(color=red) | object(color=blue)`` is one branch, since the rows
    of a picture with one of them would forbid the other.

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
    """Children other than FALSE with the rows that lead there, which are one choice."""
    leading = [(child, row) for row, child in enumerate(children) if child != FALSE]
    if not isinstance(table, FieldTable):
        return [(child, (row,)) for child, row in leading]
    return [
        (child, tuple(row for other, row in leading if other == child))
        for child in dict.fromkeys(child for child, _ in leading)
    ]


def _statement(table: Table, rows: Sequence[int]) -> str:
    """What the rows of one concept have in common, as statements joined by ``&``.

    What follows from the others is left out: of ``color=red & ~color=blue`` the second.
    """
    columns = range(len(table.literals))
    found = [{table.truths[row][i] for row in rows} for i in columns]
    kept = {i: values.pop() for i, values in enumerate(found) if len(values) == 1}
    for i in sorted(kept, key=lambda i: kept[i]):  # what is not so goes first
        rest = {j: value for j, value in kept.items() if j != i}
        like = (truth for truth in table.truths if all(truth[j] == v for j, v in rest.items()))
        if all(truth[i] == kept[i] for truth in like):
            kept = rest
    parts = [f"{'' if value else '~'}{table.literals[i]}" for i, value in kept.items()]
    return " & ".join(parts) or f"any {table.concept}"
