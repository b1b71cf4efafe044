"""Decision diagrams: a formula as a graph with one decision per concept, exact and shared.

A variable v has R_v rows (its joint outcomes). A node decides one variable and has one child per
row; the variables grow along every path; TRUE and FALSE end it. Equal nodes are one node and a
node whose children are all the same is that child, so that for a given order of variables every
formula has exactly one diagram: never true means FALSE, always true means TRUE.

Source: Bryant (1986), Graph-based algorithms for Boolean function manipulation, for two rows.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from ebmcli.errors import UsageError

FALSE, TRUE = 0, 1
MAX_EDGES = 100_000  # chosen: about a second of work and 50 MB


class Node(NamedTuple):
    """One decision: ``children[r]`` is where row r of ``variable`` leads."""

    variable: int
    children: tuple[int, ...]


class Diagrams:
    """All diagrams over the same variables, as indices into one list of shared nodes.

    Args:
        n_rows: The number of rows of every variable, in the order of decision.
    """

    def __init__(self, n_rows: Sequence[int]) -> None:
        last = len(n_rows)
        self.n_rows = tuple(n_rows)
        self.nodes = [Node(last, ()), Node(last, ())]  # FALSE, TRUE
        self._index: dict[Node, int] = {}
        self._conjunctions: dict[tuple[int, int], int] = {}
        self._negations: dict[int, int] = {FALSE: TRUE, TRUE: FALSE}
        self._n_edges = 0
        self._began = time.monotonic()

    def decision(self, variable: int, children: Sequence[int]) -> int:
        """The diagram that goes to ``children[r]`` when the variable is in row r."""
        if all(child == children[0] for child in children):
            return children[0]
        node = Node(variable, tuple(children))
        if node not in self._index:
            self._n_edges += len(children)
            if self._n_edges > MAX_EDGES:
                seconds = time.monotonic() - self._began
                raise UsageError(
                    f"the formula is too entangled: its decision diagram has more than "
                    f"{MAX_EDGES:,} edges over {len(self.n_rows)} concepts after {seconds:.1f} s, "
                    f"and may need one for each of {math.prod(self.n_rows):.1e} joint outcomes",
                    hint="split it, or write alternatives that share concepts next to each other",
                )
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
        return self._index[node]

    def negation(self, term: int) -> int:
        """The diagram of ``~term``."""
        if term not in self._negations:
            node = self.nodes[term]
            opposite = self.decision(node.variable, [self.negation(c) for c in node.children])
            self._negations[term] = opposite
        return self._negations[term]

    def conjunction(self, left: int, right: int) -> int:
        """The diagram of ``left & right``."""
        if FALSE in (left, right):
            return FALSE
        if left in (TRUE, right):
            return right
        if right == TRUE:
            return left
        pair = (min(left, right), max(left, right))
        if pair not in self._conjunctions:
            variable = min(self.nodes[left].variable, self.nodes[right].variable)
            lefts, rights = self._children(left, variable), self._children(right, variable)
            children = [self.conjunction(a, b) for a, b in zip(lefts, rights, strict=True)]
            self._conjunctions[pair] = self.decision(variable, children)
        return self._conjunctions[pair]

    def disjunction(self, left: int, right: int) -> int:
        """The diagram of ``left | right``, as ``~(~left & ~right)``."""
        return self.negation(self.conjunction(self.negation(left), self.negation(right)))

    def _children(self, diagram: int, variable: int) -> Sequence[int]:
        """Where each row of a variable leads; a diagram that does not decide it stays itself."""
        node = self.nodes[diagram]
        if node.variable == variable:
            return node.children
        return (diagram,) * self.n_rows[variable]

    def reachable(self, root: int) -> list[int]:
        """The decision nodes under a root, children before parents, the root last."""
        found: dict[int, None] = {}

        def visit(diagram: int) -> None:
            if diagram in (FALSE, TRUE) or diagram in found:
                return
            for child in self.nodes[diagram].children:
                visit(child)
            found[diagram] = None

        visit(root)
        return list(found)
