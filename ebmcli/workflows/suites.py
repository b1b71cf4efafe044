"""What ``ebm eval`` asks for: single concepts, conjunctions, inference, calibration, formulas.

A template is a formula in which ``color=?`` stands for a value that is drawn by a seed, so that
one row of a table speaks about all values of its concepts.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from ebmcli.core.expression import NAME, value_text
from ebmcli.core.factors import Factor, Value

CALIBRATION = "calibration"
SUITES = ("single", "conjunction", "inference", CALIBRATION)
N_GROUPS = 20  # values that a row with numbers or several concepts draws per seed; chosen
MIN_GROUP = 5  # pictures of one formula; fewer would make chains of many batches of one
INNER = 0.9  # of the range of a position: places whose object is wholly in the picture
CONJUNCTIONS: dict[str, tuple[str, ...]] = {  # by recipe
    "scenes": (
        "color=? & position=?",
        "shape=? & color=?",
        "shape=? & color=? & position=?",
    ),
    "faces": (
        "old & male & ~wavy",
        "smiling & glasses & ~hat",
        "male & beard & black_hair & ~old",
        "old=? & male=? & wavy=? & smiling=?",
    ),
}
_OPEN = re.compile(rf"({NAME})=\?")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table: a formula or a template, drawn n times per seed."""

    suite: str  # one of SUITES, or formula
    space: str
    template: str  # for inference and calibration the name of the concept


def suite_cases(suite: str, space: str, factors: Mapping[str, Factor]) -> list[Case]:
    """The rows of a suite, for the concepts of one space.

    Conjunctions of recipes that ship with the program are listed in CONJUNCTIONS, less those with
    a concept that is not there; of other spaces neighbours in the registry are paired.
    """
    if suite in ("inference", CALIBRATION):
        return [Case(suite=suite, space=space, template=name) for name in factors]
    if suite == "single":
        return [Case(suite=suite, space=space, template=f"{name}=?") for name in factors]
    recipe = space.rpartition("-")[0]
    names = list(factors)
    pairs = [f"{a}=? & {b}=?" for a, b in pairwise(names)]
    listed = [t for t in CONJUNCTIONS.get(recipe, ()) if set(named(t)) <= set(factors)]
    return [Case(suite=suite, space=space, template=template) for template in listed or pairs]


def named(template: str) -> list[str]:
    """The concepts of a template, from left to right."""
    return re.findall(NAME, re.sub(rf"=\s*{NAME}", "=", template))


def groups(
    template: str, factors: Mapping[str, Factor], *, n: int, seed: int
) -> list[tuple[str, int]]:
    """Formulas and how many pictures of each, n in all.

    A formula as typed is one group. Combinations of open names come in turn, where they are too
    many in an order of the seed, none twice before all have come; numbers are uniform.
    """
    open_names = _OPEN.findall(template)
    if not open_names:
        return [(template, n)]
    source = random.Random(f"{seed} {template}")
    combinations = list(product(*(factors[name].names or (None,) for name in open_names)))
    only_names = len(open_names) == 1 and len(combinations) > 1
    n_groups = len(combinations) if only_names else max(1, min(N_GROUPS, n // MIN_GROUP))
    if len(combinations) > n_groups:
        source.shuffle(combinations)
    values: list[Sequence[Value]] = [
        [
            draw_value(factors[name], source) if word is None else word
            for name, word in zip(open_names, combinations[i % len(combinations)], strict=True)
        ]
        for i in range(min(n, n_groups))
    ]
    counts = [n // len(values) + (i < n % len(values)) for i in range(len(values))]
    return [(fill(template, value), count) for value, count in zip(values, counts, strict=True)]


def draw_value(factor: Factor, source: random.Random) -> Value:
    """A value of a factor, uniform; numbers have two decimals."""
    if factor.names:
        return source.choice(factor.names)
    middle, half = (factor.low + factor.high) / 2, (factor.high - factor.low) / 2
    if factor.kind == "scalar":
        return round(source.uniform(factor.low, factor.high), 2)
    low, high = middle - INNER * half, middle + INNER * half
    return (round(source.uniform(low, high), 2), round(source.uniform(low, high), 2))


def fill(template: str, values: Sequence[Value]) -> str:
    """The formula of a template, its open places filled from left to right."""
    waiting = iter(values)
    return _OPEN.sub(lambda match: f"{match[1]}={value_text(next(waiting))}", template)
