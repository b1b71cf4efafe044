"""What ``ebm eval`` asks for: single concepts, conjunctions, inference, calibration, formulas.

A template is a formula in which ``color=?`` stands for a value that is drawn by a seed, so that
one row of a table speaks about all values of its concepts; in ``object(color=?)`` it is part of an
object.
"""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from ebmcli.core.expression import KEYWORDS, NAME, value_text
from ebmcli.core.factors import Factor, Value, as_typed
from ebmcli.core.fields import appearance_of, floor_of
from ebmcli.errors import UnknownNameError, UsageError

CALIBRATION = "calibration"
SUITES = ("single", "conjunction", "inference", CALIBRATION)
N_GROUPS = 20  # values that a row with numbers or several concepts draws per seed; chosen
MIN_GROUP = 5  # pictures of one formula; fewer would make chains of many batches of one
INNER = 0.9  # of the range of a position: places whose object is wholly in the picture
APART = 0.4  # of the range: least distance, in one coordinate, of the places of two objects
MAX_TRIES, MAX_DRAWS = 50, 300  # of one place, and of all places of a formula
MAX_LISTED = 20_000  # combinations of names that are put into an order; of more some are drawn
_PLACED, _THING = "object(position=?)", "object(shape=?, color=?, position=?)"
CONJUNCTIONS: dict[str, tuple[str, ...]] = {  # by recipe
    "scenes": (
        "color=? & position=?",
        "shape=? & color=?",
        "shape=? & color=? & position=?",
    ),
    "clutter": (
        _PLACED,
        f"{_PLACED} & {_PLACED}",
        f"{_PLACED} & {_PLACED} & {_PLACED}",
        f"{_THING} & {_THING}",
        f"{_THING} & {_THING} & {_THING}",
        "object(color=?) & count=?",
        "~object(color=?)",
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
        templates = [_single(name, factor) for name, factor in factors.items()]
        return [Case(suite=suite, space=space, template=template) for template in templates]
    recipe = space.rpartition("-")[0]
    singles = [_single(name, factor) for name, factor in factors.items()]
    pairs = [f"{a} & {b}" for a, b in pairwise(singles)]
    listed = [t for t in CONJUNCTIONS.get(recipe, ()) if set(named(t)) <= set(factors)]
    return [Case(suite=suite, space=space, template=template) for template in listed or pairs]


def _single(name: str, factor: Factor) -> str:
    """A template that asks for one value of a concept; of objects for one with all that is read."""
    if factor.kind != "objects":
        return f"{name}=?"
    read = [*appearance_of(factor), floor_of(factor)]
    return f"{name}({', '.join(f'{part.name}=?' for part in read)})"


def named(template: str) -> list[str]:
    """The concepts of a template, from left to right; parts of objects are none."""
    plain = re.sub(rf"=\s*{NAME}", "=", template)
    found = re.finditer(NAME, plain)
    return [match[0] for match in found if _described(plain[: match.start()]) is None]


def _described(before: str) -> str | None:
    """The concept in whose brackets a text ends, as ``object`` of ``~object(color=red, ``."""
    depth = 0
    for index in range(len(before) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(before[index], 0)
        if depth < 0:
            opened = re.search(rf"({NAME})\s*$", before[:index])
            if opened and opened[1] not in KEYWORDS:
                return opened[1]
            depth = 0  # a bracket around formulas; one further out may be a description
    return None


@dataclass(frozen=True)
class _Open:
    """One open place of a template: what is asked for, and whether it is a part of an object."""

    factor: Factor
    of_object: bool


def _open_places(template: str, factors: Mapping[str, Factor]) -> list[_Open]:
    """The open places of a template, from left to right.

    Raises:
        UnknownNameError: No such concept, or no such part.
    """
    places = []
    for match in _OPEN.finditer(template):
        owner = _described(template[: match.start()])
        where = f" in {template}"
        if (owner or match[1]) not in factors:
            raise UnknownNameError("concept", owner or match[1], sorted(factors), where=where)
        if owner is None:
            places.append(_Open(factors[match[1]], of_object=False))
            continue
        parts = {part.name: part for part in factors[owner].parts}
        if match[1] not in parts:
            raise UnknownNameError(f"part of {owner}", match[1], list(parts), where=where)
        places.append(_Open(parts[match[1]], of_object=True))
    return places


def groups(
    template: str, factors: Mapping[str, Factor], *, n: int, seed: int
) -> list[tuple[str, int]]:
    """Formulas and how many pictures of each, n in all.

    A formula as typed is one group. Combinations of open names come in turn, where they are too
    many in an order of the seed, none twice before all have come; numbers are uniform.
    """
    places = _open_places(template, factors)
    if not places:
        return [(template, n)]
    source = random.Random(f"{seed} {template}")
    names = [place.factor.names or (None,) for place in places]
    n_words = math.prod(map(len, names))
    only_names = len(places) == 1 and n_words > 1
    n_groups = n_words if only_names else max(1, min(N_GROUPS, n // MIN_GROUP))
    words = _words(names, n_groups, source)
    values = [_values(places, words[i % len(words)], source) for i in range(min(n, n_groups))]
    counts = [n // len(values) + (i < n % len(values)) for i in range(len(values))]
    return [(fill(template, value), count) for value, count in zip(values, counts, strict=True)]


def _words(
    names: Sequence[Sequence[str | None]], n: int, source: random.Random
) -> list[Sequence[str | None]]:
    """At least n combinations of names, or all there are; where there are more, in random order."""
    n_all = math.prod(map(len, names))
    if n_all <= MAX_LISTED:
        listed: list[Sequence[str | None]] = list(product(*names))
        if n_all > n:
            source.shuffle(listed)
        return listed
    chosen: list[Sequence[str | None]] = []
    for number in source.sample(range(n_all), n):
        rest, words = number, []
        for some in names:
            rest, index = divmod(rest, len(some))
            words.append(some[index])
        chosen.append(words)
    return chosen


def _values(
    places: Sequence[_Open], words: Sequence[str | None], source: random.Random
) -> list[Value]:
    """A value for every open place, words as given; places of objects are apart.

    Raises:
        UsageError: None were found in MAX_DRAWS draws: too many objects for the floor.
    """
    for _ in range(MAX_DRAWS):
        values = _apart(places, words, source)
        if values is not None:
            return values
    raise UsageError("so many objects find no place apart", hint="ask for fewer places with =?")


def _apart(
    places: Sequence[_Open], words: Sequence[str | None], source: random.Random
) -> list[Value] | None:
    """Values one after another, each place tried until it is apart; None where one never is.

    Apart: APART of the range in some coordinate, from all places of objects before it.
    """
    values: list[Value] = []
    taken: list[tuple[float, float]] = []
    for place, word in zip(places, words, strict=True):
        least = APART * (place.factor.high - place.factor.low)
        for _ in range(MAX_TRIES):
            value = draw_value(place.factor, source) if word is None else word
            if not (place.of_object and isinstance(value, tuple)):
                break
            if all(max(abs(value[0] - x), abs(value[1] - y)) >= least for x, y in taken):
                taken.append(value)
                break
        else:
            return None
        values.append(value)
    return values


def draw_value(factor: Factor, source: random.Random) -> Value:
    """A value of a factor, uniform; numbers as people type them, see ``factors.as_typed``."""
    if factor.names:
        return source.choice(factor.names)
    if factor.kind == "scalar":
        return as_typed(factor, source.uniform(factor.low, factor.high))
    return _place(factor, source)


def _place(factor: Factor, source: random.Random) -> tuple[float, float]:
    """A place whose object is wholly in the picture, uniform, as people type it."""
    middle, half = (factor.low + factor.high) / 2, (factor.high - factor.low) / 2
    low, high = middle - INNER * half, middle + INNER * half
    x, y = (as_typed(factor, source.uniform(low, high)) for _ in range(2))
    return (x, y)


def fill(template: str, values: Sequence[Value]) -> str:
    """The formula of a template, its open places filled from left to right."""
    waiting = iter(values)
    return _OPEN.sub(lambda match: f"{match[1]}={value_text(next(waiting))}", template)
