"""One line of ``ebm bench logic``: pictures drawn, judged and counted; refusals counted too."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcli.core.expression import Expression, parse
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.errors import ExpressionError
from ebmcli.evaluation.alternatives import (
    AlternativeShare,
    alternative_shares,
    largest_gap,
    prior_shares,
)
from ebmcli.evaluation.formulas import N_PRIOR, OR_ROWS, prior_share, uniform_readings
from ebmcli.evaluation.judge import Judge, Readings
from ebmcli.evaluation.metrics import share, weighted_frechet_distance
from ebmcli.evaluation.truth import holds
from ebmcli.evaluation.verdicts import Verdict, by_concept, ceiling, equal_weights, verdict
from ebmcli.registry import Registry
from ebmcli.workflows.bench_pictures import kept
from ebmcli.workflows.bench_plan import OURS, Group, Line, sampling_of, strength_of
from ebmcli.workflows.drawing import Progress
from ebmcli.workflows.generate_request import GenerateRequest
from ebmcli.workflows.judging import Reference, judge_record, read_all
from ebmcli.workflows.loading import load_concept
from ebmcli.workflows.scoring import plain

MIN_REFERENCE = 50  # fewer real pictures that satisfy a formula give no FID; chosen

Row = dict[str, Any]
Report = Callable[[str], None]


class Drawing(Protocol):
    """What a line needs to know about drawn pictures."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, S, S, 3)."""

    @property
    def attempts(self) -> list[int]:
        """Draws each picture took."""

    @property
    def n_energy_calls(self) -> int:
        """Of one draw of one picture."""

    @property
    def seconds(self) -> float:
        """Time it took."""

    @property
    def digests(self) -> dict[str, str]:
        """The weights it took."""


Draw = Callable[[Sequence[GenerateRequest], Progress], Sequence[Drawing | ExpressionError]]


@dataclass(kw_only=True)
class Tally:
    """What was counted of one line."""

    by_seed: dict[int, list[Verdict]] = field(default_factory=dict)
    by_formula: dict[str, list[Verdict]] = field(default_factory=dict)
    features: list[Tensor] = field(default_factory=list)
    groups: list[Row] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)  # reason -> groups
    digests: dict[str, str] = field(default_factory=dict)
    images: list[NDArray[np.uint8]] = field(default_factory=list)  # (n, S, S, 3) of each group
    seconds: float = 0.0
    energy_calls: int = 0  # of all pictures

    def add(self, group: Group, found: Verdict) -> None:
        """Count the pictures of one formula and seed."""
        self.by_seed.setdefault(group.seed, []).append(found)
        self.by_formula.setdefault(group.formula, []).append(found)
        counts = {"right": int(found.right.sum()), "absent": int(found.absent.sum())}
        self.groups.append(asdict(group) | counts)

    def refuse(self, group: Group, reason: str) -> None:
        """Count a formula that a rule has no energy for."""
        self.refused[reason] += 1
        self.groups.append(asdict(group) | {"refused": reason})


@dataclass(kw_only=True)
class Bench:
    """Measures lines of one space."""

    registry: Registry
    space: str
    judge: Judge
    factors: Mapping[str, Factor]  # by concept
    reference: Reference
    draw: Draw
    sampling: GenerateRequest

    def row(
        self, line: Line, groups: list[Group], *, report: Report
    ) -> tuple[Row, NDArray[np.uint8]]:
        """All numbers of one line in plain types, and its pictures (N, S, S, 3)."""
        start = time.monotonic()
        tally = Tally()

        def told(done: int, total: int) -> None:
            report(f"{line.title}, {100 * done // total} % drawn")

        for group, drawn in zip(groups, self._drawn(line, groups, told), strict=True):
            self._count(tally, line, group, drawn)
        judge = judge_record(self.registry, self.space)
        expressions = [parse(formula) for formula in tally.by_formula]
        row = asdict(line) | {"strength": strength_of(line, self.sampling)}
        row |= estimates(tally)
        row["prior"] = self._prior(groups)
        row["ceiling"] = self._ceiling(expressions)
        row["fid"] = self._fid(tally.features, expressions)
        if line.row in OR_ROWS:
            row["branches"] = self._alternatives(tally)
        row["digests"] = tally.digests | {f"judge {judge.name}": judge.sha256}
        row["seconds"] = round(time.monotonic() - start, 2)
        return row, np.concatenate(tally.images) if tally.images else np.empty(0, dtype=np.uint8)

    def features(self, row: Row, *, folder: Path) -> Tensor | None:
        """The judge's features (N, F) of the kept pictures of a line; None where they are gone."""
        images = kept(folder, row)
        return None if images is None else read_all(self.judge, torch.from_numpy(images))[1]

    def first_pictures(self, line: Line, groups: list[Group]) -> list[NDArray[np.uint8]]:
        """The first picture of every group, (S, S, 3), drawn again."""
        found = []
        alone = [replace(group, n=1) for group in groups]
        for drawn in self._drawn(line, alone, lambda *_: None):
            if isinstance(drawn, ExpressionError):
                raise drawn
            found.append(drawn.images[0])
        return found

    def _drawn(
        self, line: Line, groups: list[Group], progress: Progress
    ) -> Sequence[Drawing | ExpressionError]:
        """The pictures of several groups, or why there are none of them."""
        sampling = sampling_of(line, self.sampling)
        requests = [
            replace(sampling, expression=group.formula, n=group.n, seed=group.first_picture_seed)
            for group in groups
        ]
        return self.draw(requests, progress)

    def _count(
        self, tally: Tally, line: Line, group: Group, drawn: Drawing | ExpressionError
    ) -> None:
        if isinstance(drawn, ExpressionError):
            if line.rule == OURS:
                raise drawn
            tally.refuse(group, drawn.problem.partition("\n")[0])
            return
        readings, features = read_all(self.judge, torch.from_numpy(drawn.images))
        expression = parse(group.formula)
        tally.images.append(drawn.images)
        tally.add(group, verdict(line.row, expression, by_concept(readings, self.factors)))
        tally.features.append(features)
        tally.digests |= drawn.digests
        tally.seconds += drawn.seconds
        tally.energy_calls += drawn.n_energy_calls * sum(drawn.attempts)

    @cached_property
    def _labels(self) -> Readings:
        return uniform_readings(self.factors, N_PRIOR, seed=0)

    @cached_property
    def _true(self) -> Readings:
        return by_concept(self.reference.truth, self.factors)

    def _prior(self, groups: list[Group]) -> float:
        """Mean prior of the formulas that are asked."""
        formulas = dict.fromkeys(group.formula for group in groups)
        priors = [prior_share(parse(formula), self._labels) for formula in formulas]
        return sum(priors) / len(priors)

    def _ceiling(self, expressions: list[Expression]) -> float | None:
        """The judge's own accuracy on real pictures, every formula counting alike."""
        read = by_concept(self.reference.readings, self.factors)
        shares = [ceiling(expression, self._true, read) for expression in expressions]
        known = [value for value in shares if value is not None]
        return sum(known) / len(known) if known else None

    def _fid(self, features: list[Tensor], expressions: list[Expression]) -> Row:
        """FID against real pictures of the formulas, every formula counting alike.

        Fewer pictures than features give none: even real ones would be far from their own kind.
        """
        masks = [holds(expression, self._true) for expression in expressions]
        n = int(torch.stack(masks).any(0).sum()) if masks else 0
        found: Row = {"value": None, "n_reference": n, "data": self.reference.digest}
        drawn = torch.cat(features) if features else torch.empty(0)
        enough = n >= MIN_REFERENCE and len(drawn) >= self.reference.features.shape[1]
        if enough and all(bool(mask.any()) for mask in masks):
            weights = equal_weights(masks)
            found["value"] = weighted_frechet_distance(drawn, self.reference.features, weights)
        return found

    def _alternatives(self, tally: Tally) -> Row:
        """The share of every alternative, and the one farthest from the prior's."""
        shares: list[AlternativeShare] = []
        for source, verdicts in tally.by_formula.items():
            formula = compile_formula(parse(source), self.factors)
            log_priors = {
                name: load_concept(self.registry, name).log_prior for name in formula.concepts
            }
            wanted = prior_shares(formula, self._labels, log_priors)
            names = list(verdicts[0].alternatives)
            holding = {name: torch.cat([v.alternatives[name] for v in verdicts]) for name in names}
            right = torch.cat([v.right for v in verdicts])
            shares += alternative_shares(source, holding, right, wanted)
        found = largest_gap(shares)
        return {
            "largest_gap": None if found is None else found.gap,
            "noise": None if found is None else found.noise,
            "shares": [asdict(one) for one in shares],
        }


def estimates(tally: Tally) -> Row:
    """Shares over seeds and costs per picture; None where no picture was drawn."""
    asked = len(tally.groups)
    n = sum(len(found.right) for verdicts in tally.by_seed.values() for found in verdicts)
    n_refused = sum(tally.refused.values())
    return {
        "n": n,
        "accuracy": _over_seeds(tally, lambda found: found.right),
        "absent": _over_seeds(tally, lambda found: found.absent),
        "unwanted": _over_seeds(tally, lambda found: found.unwanted),
        "refused": {
            "formulas": n_refused,
            "of": asked,
            "share": n_refused / asked,
            "reasons": dict(tally.refused),
        },
        "energy_calls": tally.energy_calls / n if n else None,
        "seconds_per_picture": tally.seconds / n if n else None,
        "groups": tally.groups,
    }


def _over_seeds(tally: Tally, part: Callable[[Verdict], Tensor | None]) -> Row | None:
    """A share over the seeds that have pictures."""
    per_seed = []
    for verdicts in tally.by_seed.values():
        parts = [found for found in map(part, verdicts) if found is not None]
        if parts:
            per_seed.append(torch.cat(parts))
    return plain(share(per_seed)) if per_seed else None


def same_plan(row: Row, groups: list[Group]) -> bool:
    """Was a row made of these very formulas and seeds?"""
    planned = [asdict(group) for group in groups]
    keys = planned[0] if planned else {}
    return [{key: made[key] for key in keys} for made in row["groups"]] == planned
