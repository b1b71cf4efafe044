"""Finished pictures: is the formula true of them, do they look real, and what is good enough?"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebmcli.core.concepts import ConditionalConcept, TrainedConcept
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.expression import Literal, Value, concept_names, literals
from ebmcli.core.factors import Factor, point_membership
from ebmcli.core.fields import (
    appearance_of,
    floor_of,
    outcomes,
    place_membership,
    thing_of_row,
)
from ebmcli.core.images import TrainingImages
from ebmcli.core.logic import Formula
from ebmcli.evaluation.held_out import batches
from ebmcli.registry import Registry

READ_SIGMAS = (0.1, 0.3, 0.5)  # intensity; measured on 96 first draws of a shape: of those kept at
# 0.1 alone 87 % are right, of those kept at all three 90 %, errors 3.5 points; 98 % of real pass
N_NOISES = 2  # per level
ODD = 0.05  # share of real pictures that look less right than any that is kept; chosen
MOST = 0.95  # that is ever asked of one concept: posteriors that are sure of all they see are rare
FLOOR = 0.5  # that is asked of one concept, halved per coordinate at a point
UNKNOWN = 0.8  # asked of words whose concept was not measured; chosen
N_SLOW = 64  # held-out pictures of conditional concepts, each of which takes a pass per cell
TINY = 1e-30  # weight of a cell that a label has no part in


def mean_reading(
    function: NoisyEnergy,
    x: Tensor,
    *,
    sigmas: Sequence[float] = READ_SIGMAS,
    n_noises: int = N_NOISES,
) -> Tensor:
    """Mean over noise levels and noises of a function of noisy images: (B, ...), nats.

    A chain that follows log P(f | x) can end where one noise level is deceived; the same picture
    under other noise tells.

    Args:
        function: From noisy images (B, 3, S, S) and levels (B,) to (B, ...).
        x: Finished pictures (B, 3, S, S).
        sigmas: Noise levels, intensity.
        n_noises: Noises per level.
    """
    several = noised(x, sigmas=sigmas, n_noises=n_noises)
    readings = [function(noisy, level) for noisy, level in several]
    return torch.stack(readings).mean(0)


def noised(x: Tensor, *, sigmas: Sequence[float], n_noises: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The pictures under ``n_noises`` noises of each level, and the level (B,).

    The noise is the same for every picture and every call, so that a batch changes nothing.
    """
    generator = torch.Generator().manual_seed(0)
    for sigma in sigmas:
        level = torch.full((len(x),), sigma, device=x.device)
        for _ in range(n_noises):
            yield x + sigma * torch.randn(x.shape[1:], generator=generator).to(x.device), level


Least = float | Mapping[str, float]  # of a list of objects by the parts that are asked for


def acceptance(formula: Formula, least: Mapping[str, Least]) -> float:
    """The P(f | x) below which a picture is drawn again: about what 19 of 20 real ones reach.

        max(floor, product over the concepts of f of min(least, MOST)),    floor = FLOOR / 2^k

    Args:
        formula: f, with numbers at points in k coordinates.
        least: What 19 of 20 held-out pictures reach for their own label, by concept, see
            :func:`least_probability`; UNKNOWN for a concept that is not there. Never less than
            FLOOR is asked, so that labels which are often wrong switch nothing off; half of it per
            coordinate, since a right picture has its probability spread over neighbouring nodes.
            Ranges ask for FLOOR; every statement about an object for what its own parts reach, and
            several for the product. With a weight below 1 that much less is asked, down to the
            floor: it takes P towards the prior.
    """
    asked: dict[str, list[Literal]] = {}
    for literal in literals(formula.expression):
        asked.setdefault(literal.name, []).append(literal)
    floors = {name: FLOOR * 0.5 ** _n_points(own) for name, own in asked.items()}
    product = math.prod(
        _least_of(own, least.get(name), floor=floors[name]) for name, own in asked.items()
    )
    return max(FLOOR * 0.5 ** sum(_n_points(own) for own in asked.values()), product)


def known_least(registry: Registry, formula: Formula) -> dict[str, Least]:
    """What real pictures reach, of the concepts of a formula of which it was measured."""
    found = {}
    for name in concept_names(formula.expression):
        record = registry.get("concept", name)  # a calibrated posterior was measured again
        found[name] = record.calibration.get("least", record.measured.get("least"))
    return {name: least for name, least in found.items() if least is not None}


def _least_of(own: Sequence[Literal], known: Least | None, *, floor: float) -> float:
    """Of all statements on one concept."""
    if any(literal.comparison not in ("=", None) for literal in own):
        return floor
    if any(literal.parts for literal in own):
        each = [_least_of_parts(literal, known) for literal in set(own)]
        if None in each:
            return floor
        asked = math.prod(min(part, MOST) for part in each if part is not None)
        return max(floor, asked * min(1.0, own[0].weight))
    if isinstance(known, Mapping):
        return floor
    if known is None:
        known = 2 * floor if _n_points(own) else UNKNOWN
    return max(floor, min(known, MOST) * min(1.0, own[0].weight))


def _least_of_parts(literal: Literal, known: Least | None) -> float | None:
    """What is known for the parts of one statement about an object."""
    if isinstance(known, Mapping):
        return known.get(parts_key(name for name, _ in literal.parts))
    return known


def _n_points(own: Sequence[Literal]) -> int:
    """Coordinates in which statements on one concept ask for points."""
    return sum(_n_coordinates(value) for literal in set(own) for value in _values(literal))


def parts_key(names: Iterable[str]) -> str:
    """How the limit of statements with these parts is kept: ``color position``."""
    return " ".join(sorted(names))


def least_probability(concept: TrainedConcept, held: TrainingImages) -> Least:
    """The P(label | x) that all but ODD of real pictures exceed, read as finished ones are.

    Of a list of objects it is the P of a statement on the first, for every choice of the parts that
    it may name, see :func:`parts_key`: that there is an object *here* can be sure where its shape
    is not. Pictures of nothing do not count. Rounded to four digits.
    """
    factor = concept.factor
    if factor.kind != "objects":
        return _reached(concept, held, [()])[0]
    names = [part.name for part in (*appearance_of(factor), floor_of(factor))]
    several = (itertools.combinations(names, n) for n in range(1, len(names) + 1))
    asked = [parts for some in several for parts in some]
    return dict(zip(map(parts_key, asked), _reached(concept, held, asked), strict=True))


@torch.no_grad()
def _reached(
    concept: TrainedConcept, held: TrainingImages, asked: Sequence[Sequence[str]]
) -> list[float]:
    """The P that all but ODD of real pictures exceed, of statements with these parts of objects."""
    slow = isinstance(concept, ConditionalConcept)
    some = held.take_last(N_SLOW) if slow else held

    readings = []
    for index in batches(len(some)):
        x, labels = some.take(index)
        if concept.factor.kind == "objects":  # pictures of nothing have no statement
            shown = labels[:, 0, 0] > 0
            x, labels = x[shown], labels[shown]
        if not len(x):
            continue
        shares = [_memberships(concept.factor, labels, parts).to(x.device) for parts in asked]

        def log_p(noisy: Tensor, level: Tensor, shares: list[Tensor] = shares) -> Tensor:
            log_q = concept.log_posterior(noisy, level)
            if concept.factor.kind == "objects":
                n_groups = concept.factor.n_groups
                each = [_log_some_cell(log_q, share, n_groups=n_groups) for share in shares]
            else:
                each = [torch.logsumexp(log_q + s.clamp_min(TINY).log(), dim=1) for s in shares]
            return torch.stack(each, dim=1)

        how: dict[str, Any] = {"sigmas": READ_SIGMAS[:1], "n_noises": 1} if slow else {}
        readings.append(mean_reading(log_p, x, **how))
    if not readings:
        return [0.0] * len(asked)
    reached: list[float] = torch.cat(readings).exp().quantile(ODD, dim=0).tolist()
    return [round(p, 4) for p in reached]


def _memberships(factor: Factor, labels: Tensor, parts: Sequence[str]) -> Tensor:
    """Which cells a statement of each label counts, (B, K), as a formula has it."""
    if factor.kind == "objects":
        return torch.stack([_first_object(factor, rows, parts) for rows in labels])
    values: list[Any] = labels.tolist()
    if factor.names:
        values = [factor.names[int(cell)] for cell in values]
    if factor.kind == "position":
        values = [tuple(pair) for pair in values]
    return torch.tensor([point_membership(factor, value) for value in values])


def _first_object(factor: Factor, rows: Tensor, parts: Sequence[str]) -> Tensor:
    """m(g, k) of a statement with some parts on the first object of a label, (G K,)."""
    thing, floor = thing_of_row(factor, rows[0].tolist()), floor_of(factor).name
    look = {name: thing[name] for name in parts if name != floor}
    looks = torch.tensor([False, *(look.items() <= other.items() for other in outcomes(factor))])
    place = thing[floor]
    assert isinstance(place, tuple)
    here = place_membership(factor, place) if floor in parts else [1.0] * factor.n_groups
    return (torch.tensor(here)[:, None] * looks).flatten()


def _log_some_cell(log_q: Tensor, share: Tensor, *, n_groups: int) -> Tensor:
    """log (1 - prod_g (1 - sum_k q_g(k) m(g, k))): (B,), for q and m (B, G K)."""
    met = (log_q.exp() * share).reshape(len(log_q), n_groups, -1).sum(2)
    none = torch.log1p(-met.clamp_max(1 - 1e-6)).sum(1)
    return torch.log(-torch.expm1(none) + TINY)


def _values(literal: Literal) -> list[Value]:
    """What a statement asks for at a point: its value, or the values of its parts."""
    if literal.comparison == "=" and literal.value is not None:
        return [literal.value]
    return [value for _, value in literal.parts]


def _n_coordinates(value: Value) -> int:
    """Numbers in a value: none in a word."""
    if isinstance(value, str):
        return 0
    return 2 if isinstance(value, tuple) else 1
