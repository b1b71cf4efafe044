"""Fields: a list of objects as a grid of floor cells, each empty or with one object.

Notation: g one of G cells of the floor (x slow, y fast), k one of K outcomes of a cell: 0 for
empty, else a combination of names (shape, colour), the last part fastest; q_g(k) the posterior of
cell g; l a literal such as ``object(color=red, position=(0.4,-0.2))``, m_l(g, k) in [0, 1] how far
an object k in cell g is what l asks for; S a set of literals. Given the image, cells are
independent, and in one cell exactly the literals of S are met with probability

    r_g(S) = sum_k q_g(k) prod_l m_l(g, k)^[l in S] (1 - m_l(g, k))^[l not in S]

A literal is true of the picture when some cell meets it, so that the truths t of all literals are
the union of G independent random sets:

    P(t | x) = sum over S_1 ... S_G with union t of prod_g r_g(S_g)

This is summed cell by cell, one state per set met so far: exact, and all terms are non-negative.
For one literal it is 1 - prod_g (1 - r_g), without the subtraction.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ebmcli.core.expression import Literal
from ebmcli.core.factors import N_FIELD_CELLS, Factor, Value, fading
from ebmcli.core.statements import at
from ebmcli.core.tables import tempered
from ebmcli.errors import ExpressionError

MAX_FIELD_LITERALS = 6  # chosen: 64 sets, 4,096 pairs of them


def floor_of(factor: Factor) -> Factor:
    """The part that says where an object stands."""
    return next(part for part in factor.parts if part.kind == "position")


def appearance_of(factor: Factor) -> tuple[Factor, ...]:
    """The parts with names: what a cell says about its object."""
    return tuple(part for part in factor.parts if part.names)


def cell_nodes(factor: Factor) -> tuple[float, ...]:
    """The middles of the cells along one axis of the floor."""
    floor = floor_of(factor)
    width = (floor.high - floor.low) / N_FIELD_CELLS
    return tuple(floor.low + (i + 0.5) * width for i in range(N_FIELD_CELLS))


def outcomes(factor: Factor) -> list[dict[str, str]]:
    """What an object can look like: the names of outcome k stand at k - 1, for k from 1."""
    parts = appearance_of(factor)
    combinations = itertools.product(*(part.names for part in parts))
    return [
        {part.name: name for part, name in zip(parts, names, strict=True)} for names in combinations
    ]


def thing_of_row(factor: Factor, row: Sequence[float]) -> dict[str, Value]:
    """The object in one row of a label, see ``Factor.columns``; a name that is NaN is left out."""
    numbers = dict(zip(factor.columns, row, strict=True))
    thing: dict[str, Value] = {}
    for part in factor.parts:
        values = [numbers[column] for column in part.columns]
        if part.names:
            if not math.isnan(values[0]):
                thing[part.name] = part.names[round(values[0])]
        else:
            thing[part.name] = (values[0], values[1]) if len(values) == 2 else values[0]
    return thing


def place_membership(factor: Factor, place: tuple[float, float]) -> list[float]:
    """Membership of every cell of the floor in "about this place", highest value 1: (G,).

    The rule of ``factors.point_membership`` with the middles of cells as nodes: a Gaussian of half
    a cell's width per coordinate, cut to 0 beyond three times that, the nearest cell 1.
    """
    nodes = cell_nodes(factor)
    x, y = (fading(nodes, part, spacing=nodes[1] - nodes[0]) for part in place)
    return [mx * my for mx in x for my in y]


@dataclass(frozen=True, eq=False)
class FieldTable:
    """The joint outcomes of all literals on one concept of kind ``objects``.

    ``truths[t][l]`` says whether literal l is true in row t; rows that cannot be are left out.
    m_l(g, k) = ``places[l][g]`` if ``looks[l][k]``, else 0. ``weight`` w tempers every cell:
    q_g(k) is replaced by pi_g(k) (q_g(k) / pi_g(k))^w, normalised.
    """

    concept: str
    factor: Factor
    literals: tuple[Literal, ...]
    weight: float
    truths: tuple[tuple[bool, ...], ...]
    places: tuple[tuple[float, ...], ...]
    looks: tuple[tuple[bool, ...], ...]

    @property
    def n_rows(self) -> int:
        """The number T of rows."""
        return len(self.truths)

    @property
    def covered(self) -> tuple[float, ...]:
        """Of every literal the number of cells and outcomes it covers, of G K."""
        pairs = zip(self.places, self.looks, strict=True)
        return tuple(math.fsum(place) * sum(look) for place, look in pairs)

    def shares(self, cell: int, outcome: int) -> dict[int, float]:
        """With an object k in cell g: the probability of every set S of literals it meets.

        Sets are numbers, literal l the bit 2^l; sets with probability 0 are left out.
        """
        sets = {0: 1.0}
        for index, (place, look) in enumerate(zip(self.places, self.looks, strict=True)):
            met = place[cell] if look[outcome] else 0.0
            parts = [(bit, part) for bit, part in ((0, 1.0 - met), (1 << index, met)) if part > 0]
            sets = {
                number | bit: share * part for number, share in sets.items() for bit, part in parts
            }
        return sets

    def probabilities(
        self, posterior: Sequence[float], prior: Sequence[float] | None = None
    ) -> list[float]:
        """P(t | x) of every row, for the posterior (G K,) of one image, in plain Python.

        Raises:
            ValueError: The weight is not 1 and no prior is given.
        """
        if self.weight != 1 and prior is None:
            raise ValueError(f"the weight of {self.concept} needs a prior")
        met = {0: 1.0}
        n_outcomes = self.factor.n_outcomes
        for cell in range(N_FIELD_CELLS**2):
            span = slice(cell * n_outcomes, (cell + 1) * n_outcomes)
            q = [float(value) for value in posterior[span]]
            if self.weight != 1 and prior is not None:
                q = tempered(q, [float(value) for value in prior[span]], self.weight)
            met = _united(met, self._cell_sets(cell, q))
        return [met.get(number_of(truth), 0.0) for truth in self.truths]

    def _cell_sets(self, cell: int, posterior: Sequence[float]) -> dict[int, float]:
        """r_g(S) of one cell."""
        sets: dict[int, float] = {}
        for outcome, q in enumerate(posterior):
            for number, share in self.shares(cell, outcome).items():
                sets[number] = sets.get(number, 0.0) + q * share
        return sets


def _united(first: dict[int, float], second: dict[int, float]) -> dict[int, float]:
    """The distribution of the union of two independent random sets."""
    union: dict[int, float] = {}
    for (a, p), (b, q) in itertools.product(first.items(), second.items()):
        union[a | b] = union.get(a | b, 0.0) + p * q
    return union


def number_of(truth: Sequence[bool]) -> int:
    """The set of true literals as a number."""
    return sum(1 << index for index, holds in enumerate(truth) if holds)


def field_table(name: str, literals: Sequence[Literal], *, factor: Factor) -> FieldTable:
    """The joint outcomes of resolved, distinct literals of one weight on one concept.

    Raises:
        ExpressionError: More than MAX_FIELD_LITERALS literals.
    """
    if len(literals) > MAX_FIELD_LITERALS:
        n = len(literals)
        problem = (
            f"{n} statements about {name}, at most {MAX_FIELD_LITERALS}: {n} would take "
            f"{4 ** (n - MAX_FIELD_LITERALS)} times as long, {4**n:,} sums over the floor a picture"
        )
        extra = literals[MAX_FIELD_LITERALS]
        hint = "ask for fewer objects, or for fewer different things of them"
        raise ExpressionError(problem, *at(extra), hint=hint)
    asked = [dict(literal.parts) for literal in literals]
    table = FieldTable(
        concept=name,
        factor=factor,
        literals=tuple(literals),
        weight=literals[0].weight,
        truths=(),
        places=tuple(tuple(_places(factor, parts)) for parts in asked),
        looks=tuple(tuple(_looks(factor, parts)) for parts in asked),
    )
    truths = tuple(
        tuple(bool(number >> index & 1) for index in range(len(literals)))
        for number in _possible(table)
    )
    return FieldTable(**{**vars(table), "truths": truths})


def _places(factor: Factor, parts: dict[str, Value]) -> list[float]:
    """Membership of every cell in what a literal says about the place: (G,)."""
    place = parts.get(floor_of(factor).name)
    if not isinstance(place, tuple):
        return [1.0] * N_FIELD_CELLS**2
    return place_membership(factor, place)


def _looks(factor: Factor, parts: dict[str, Value]) -> list[bool]:
    """Which outcomes have the names a literal asks for; an empty cell never has: (K,)."""
    names = {part.name: parts[part.name] for part in appearance_of(factor) if part.name in parts}
    return [False, *(names.items() <= look.items() for look in outcomes(factor))]


def _possible(table: FieldTable) -> list[int]:
    """The sets of literals that some picture makes true, as sorted numbers."""
    met = {0}
    for cell in range(N_FIELD_CELLS**2):
        looks = range(table.factor.n_outcomes)
        sets = {number for outcome in looks for number in table.shares(cell, outcome)}
        met = {one | other for one in met for other in sets}
    return sorted(met)


def chance(factor: Factor) -> list[float]:
    """What an image shows before anything is known: (n_cells,).

    Every cell alike; for objects (most + 1) / 2 of them on average, anywhere, of any look.
    """
    if factor.kind != "objects":
        return [1.0 / factor.n_cells] * factor.n_cells
    present = (factor.most + 1) / 2 / N_FIELD_CELLS**2
    look = present / (factor.n_outcomes - 1)
    return [1.0 - present, *[look] * (factor.n_outcomes - 1)] * N_FIELD_CELLS**2
