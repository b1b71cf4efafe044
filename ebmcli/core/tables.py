"""Tables: the joint outcomes of all statements on one concept, and their probabilities.

Notation as in ``logic``: k cell, q_k posterior, pi_k prior, t truths of the literals, A_t(k) the
share of cell k in which exactly the literals of t are true.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ebmcli.core.expression import Literal
from ebmcli.core.factors import Factor

FLOOR = -1e4  # nats, chosen: finite, and exp of it is 0 in every float type


@dataclass(frozen=True, eq=False)
class EventTable:
    """The joint outcomes of all literals on one concept.

    ``truths[t][l]`` says whether literal l is true in row t; ``membership[t][k]`` is A_t(k), in
    [0, 1], every column summing to 1. Rows without any cell are left out. ``weight`` w
    tempers the posterior: q_k is replaced by pi_k (q_k / pi_k)^w, normalised.
    """

    concept: str
    factor: Factor
    literals: tuple[Literal, ...]
    weight: float
    truths: tuple[tuple[bool, ...], ...]
    membership: tuple[tuple[float, ...], ...]

    @property
    def n_rows(self) -> int:
        """The number T of rows."""
        return len(self.truths)

    @property
    def covered(self) -> tuple[float, ...]:
        """Of every literal the number of cells it covers; a cell counts by its membership."""
        return tuple(
            math.fsum(
                math.fsum(row) for t, row in zip(self.truths, self.membership, strict=True) if t[i]
            )
            for i in range(len(self.literals))
        )

    def probabilities(
        self, posterior: Sequence[float], prior: Sequence[float] | None = None
    ) -> list[float]:
        """P(t | x) of every row, for the posterior (K,) of one image, in plain Python.

        Raises:
            ValueError: The weight is not 1 and no prior is given.
        """
        q = [float(value) for value in posterior]
        if self.weight != 1:
            if prior is None:
                raise ValueError(f"the weight of {self.concept} needs a prior")
            q = tempered(q, [float(value) for value in prior], self.weight)
        return [math.fsum(a * b for a, b in zip(q, row, strict=True)) for row in self.membership]


def tempered(posterior: Sequence[float], prior: Sequence[float], weight: float) -> list[float]:
    """pi_k (q_k / pi_k)^w, normalised; in logs, since a large power leaves the range of floats."""

    def log_power(q: float, p: float) -> float:
        if p == 0 or (q == 0 and weight > 0):
            return -math.inf
        return math.log(p) + (weight * (math.log(q) - math.log(p)) if weight > 0 else 0.0)

    logs = [log_power(q, p) for q, p in zip(posterior, prior, strict=True)]
    powers = [math.exp(value - max(logs)) for value in logs]
    total = math.fsum(powers)
    return [power / total for power in powers]
