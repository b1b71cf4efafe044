"""One row of ``ebm eval``: pictures drawn or read for one case, judged and counted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcli.core.concepts import refuse_nan
from ebmcli.core.expression import And, Expression, concept_names, literals, map_literals
from ebmcli.core.factors import Factor, difference
from ebmcli.core.fields import floor_of
from ebmcli.core.found import TOLERANCE, found_objects
from ebmcli.core.images import to_intensity
from ebmcli.core.inference import log_posterior_at, map_estimate
from ebmcli.errors import ExpressionError, UsageError
from ebmcli.evaluation.judge import Judge, Readings
from ebmcli.evaluation.metrics import (
    Estimate,
    average,
    calibration_error,
    pairwise_distance,
    share,
    weighted_frechet_distance,
)
from ebmcli.evaluation.object_counts import objects_read
from ebmcli.evaluation.object_reader import rows_of
from ebmcli.evaluation.truth import (
    PRESENT,
    holds,
    places_of,
    spoken_of,
    tolerance_of,
    tolerances,
    wide_tolerance_of,
)
from ebmcli.evaluation.verdicts import equal_weights
from ebmcli.registry import Registry
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.drawing import Progress
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.generate_request import GenerateRequest
from ebmcli.workflows.infer import NOISE_SEED, SIGMAS
from ebmcli.workflows.judging import Reference, judge_record, read_all
from ebmcli.workflows.loading import Concept, load_concept
from ebmcli.workflows.suites import Case, groups

SEED_STRIDE, GROUP_STRIDE = 1_000_000, 10_000  # seeds of pictures never meet
READ_BATCH = 64

Report = Callable[[str], None]


class Drawing(Protocol):
    """What scoring needs to know about drawn pictures."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, S, S, 3)."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """P(f | x) as the model has it, (N,)."""

    @property
    def seconds(self) -> float:
        """Time it took."""

    @property
    def digests(self) -> dict[str, str]:
        """The weights it took."""


Draw = Callable[[Sequence[GenerateRequest], Progress], Sequence[Drawing | ExpressionError]]


@dataclass(kw_only=True)
class _Tally:
    """What was counted for one seed, group by group."""

    right: list[Tensor] = field(default_factory=list)
    wide: list[Tensor] = field(default_factory=list)  # with the wider tolerance of places
    absent: list[Tensor] = field(default_factory=list)
    parts: dict[str, list[Tensor]] = field(default_factory=dict)  # by concept, of conjunctions
    features: list[Tensor] = field(default_factory=list)
    confidence: list[Tensor] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(kw_only=True)
class Scorer:
    """Evaluates the cases of one space."""

    registry: Registry
    judge: Judge
    reference: Reference | None
    draw: Draw
    sampling: GenerateRequest
    n: int
    seeds: list[int]
    fid: bool

    def row(self, case: Case, *, report: Report) -> dict[str, Any]:
        """All numbers of one case, in plain types."""
        start = time.monotonic()
        measure = self._inferred if case.suite == "inference" else self._drawn
        numbers = measure(case, report)
        record = judge_record(self.registry, case.space)
        numbers["digests"][f"judge {record.name}"] = record.sha256
        head = {"suite": case.suite, "space": case.space, "template": case.template}
        return head | numbers | {"seconds": round(time.monotonic() - start, 2)}

    def _drawn(self, case: Case, report: Report) -> dict[str, Any]:
        """Draw, read, count."""
        tallies = [self._tally(case, seed, report) for seed in self.seeds]
        sources = {group["formula"] for tally in tallies for group in tally.groups}
        judged = [self._judged(source) for source in sources]
        spoken = {f.name: f for s in judged for f in spoken_of(s, self.judge.factors)}
        places = [place for s in judged for place in places_of(s, self.judge.factors)]
        features = torch.cat([f for tally in tallies for f in tally.features])
        right = torch.cat([r for tally in tallies for r in tally.right])
        confidence = torch.cat([c for tally in tallies for c in tally.confidence])
        return _estimates(tallies, places=places) | {
            "tolerances": tolerances(spoken[name] for name in sorted(spoken)),
            "fid": self._fid(features, sources),
            "variety": pairwise_distance(features),
            "own_calibration_error": calibration_error(confidence, right),
            "seconds_per_picture": sum(tally.seconds for tally in tallies) / len(right),
            "groups": [group for tally in tallies for group in tally.groups],
            "digests": dict(tallies[0].digests),
        }

    def _tally(self, case: Case, seed: int, report: Report) -> _Tally:
        """All pictures of one seed."""
        factors = self.registry.factors(case.space)
        tally = _Tally()
        parts = groups(case.template, factors, n=self.n, seed=seed)
        firsts = [seed * SEED_STRIDE + index * GROUP_STRIDE for index in range(len(parts))]
        requests = [
            replace(self.sampling, expression=source, n=n, seed=first)
            for (source, n), first in zip(parts, firsts, strict=True)
        ]

        def told(done: int, total: int) -> None:
            report(f"seed {seed}, {case.template}, {100 * done // total} % drawn")

        found = self.draw(requests, told)
        for (source, n), first, drawn in zip(parts, firsts, found, strict=True):
            if isinstance(drawn, ExpressionError):
                raise drawn
            readings, features = read_all(self.judge, torch.from_numpy(drawn.images))
            self._count(tally, source, readings)
            tally.features.append(features)
            tally.confidence.append(torch.from_numpy(drawn.probabilities))
            tally.digests |= drawn.digests
            tally.seconds += drawn.seconds
            group = {"formula": source, "n": n, "seed": seed, "first_picture_seed": first}
            tally.groups.append(group | {"accuracy": float(tally.right[-1].double().mean())})
        return tally

    def _count(self, tally: _Tally, source: str, readings: Readings) -> None:
        expression = self._judged(source)
        present = readings.present > PRESENT
        tally.absent.append(~present)
        tally.right.append(holds(expression, readings) & present)
        wide = holds(expression, readings, wide=True)
        tally.wide.append(wide & present)
        parts = conjuncts(expression)
        for part in parts if len(parts) > 1 else []:
            name = " ".join(concept_names(part))
            tally.parts.setdefault(name, []).append(holds(part, readings) & present)

    def _judged(self, source: str) -> Expression:
        """A formula in terms of what the judge reads: concepts may have names of their own."""
        formula, space = formula_of(self.registry, source)
        known = self.registry.factors(space)
        for literal in literals(formula.expression):
            judge_factor(self.judge, known[literal.name], space)
        return map_literals(
            formula.expression, lambda literal: replace(literal, name=known[literal.name].name)
        )

    def _fid(self, features: Tensor, sources: set[str]) -> dict[str, Any] | None:
        """FID against real pictures of the formulas, every formula counting alike, and its floor.

        The floor is the FID of other real pictures, as many as were drawn: with few pictures it is
        far from 0. Fewer pictures than features give no FID; formulas that no real picture
        satisfies do not count.
        """
        if not self.fid or self.reference is None:
            return None
        real, half = self.reference.features, len(self.reference.features) // 2
        masks = [holds(self._judged(source), self.reference.truth) for source in sorted(sources)]
        known = [m for m in masks if bool(m[:half].any()) and bool(m[half:].any())]
        shown = torch.stack(known).any(0) if known else torch.zeros(len(real), dtype=torch.bool)
        n = min(len(features), int(shown[:half].sum()))
        n_reference = int(shown[half:].sum())
        found = {"n": n, "n_reference": n_reference, "data": self.reference.digest}
        if n < features.shape[1]:
            return {"value": None, "floor": None, **found}
        generator = torch.Generator().manual_seed(0)
        weights = equal_weights([mask[half:] for mask in known])
        mixed = features[torch.randperm(len(features), generator=generator)[:n]]
        others = equal_weights([mask[:half] for mask in known])
        chosen = real[torch.multinomial(others, n, generator=generator)]
        value = weighted_frechet_distance(mixed, real[half:], weights)
        floor = weighted_frechet_distance(chosen, real[half:], weights)
        return {"value": value, "floor": floor, **found}

    def _inferred(self, case: Case, report: Report) -> dict[str, Any]:
        """Read the value of a concept in real pictures: one part of them per seed."""
        assert self.reference is not None
        device = resolve_device(self.sampling.device)
        concept = load_concept(self.registry, case.template, device=device)
        factor = judge_factor(self.judge, concept.factor, case.space)
        data = self.reference.data
        n = min(self.n, len(data.images) // len(self.seeds))
        found, truths, seconds = [], [], 0.0
        for index, seed in enumerate(self.seeds):
            report(f"seed {seed}")
            part = data.part(slice(index * n, (index + 1) * n))
            start = time.monotonic()
            values = map_values(concept, part.images, device=device)
            seconds += time.monotonic() - start
            found.append(values)
            truths.append(part.labels[factor.name])
        return _inference_estimates(found, truths, factor) | {
            "seconds_per_picture": seconds / (n * len(self.seeds)),
            "data": self.reference.digest,
            "digests": {
                f"concept {case.template}": self.registry.get("concept", case.template).fingerprint
            },
        }


def judge_factor(judge: Judge, factor: Factor, space: str) -> Factor:
    """The judge's factor that a concept speaks about.

    Raises:
        UsageError: The judge does not read it.
    """
    read = judge.factors.get(factor.name)
    if read is None:
        hint = f"it reads {', '.join(judge.factors)}; ebm train-judge makes another"
        raise UsageError(f"the judge of {space} does not read {factor.name}", hint=hint)
    if read != factor:
        problem = f"the judge of {space} has another {factor.name} than the concept: it"
        hint = "train one on data like the concept's: ebm train-judge; see docs/import.md on --like"
        raise UsageError(f"{problem} {difference(read, factor)}", hint=hint)
    return factor


def conjuncts(expression: Expression) -> list[Expression]:
    """The terms of a formula that are joined by & at its top."""
    if isinstance(expression, And):
        return conjuncts(expression.left) + conjuncts(expression.right)
    return [expression]


@torch.inference_mode()
def map_values(concept: Concept, images: Tensor, *, device: torch.device) -> Tensor:
    """MAP values of pictures uint8 (N, S, S, 3): cells (N,), numbers (N,) or places (N, 2).

    Of a list of objects those that are found, as rows (N, 2 most, columns) of a label. As
    ``ebm infer`` reads them; ``concept`` is on ``device``, the values are on the CPU.
    """
    log_prior, values = concept.log_prior.cpu(), []
    for batch in images.split(READ_BATCH):  # type: ignore[no-untyped-call]  # torch has no type
        x = to_intensity(batch).to(device)
        n_groups = concept.factor.n_groups
        log_q = log_posterior_at(concept, x, SIGMAS, seed=NOISE_SEED, n_groups=n_groups)
        log_q = log_q.float().cpu()
        refuse_nan(log_q, concept.factor.name)
        for single in log_q:
            if concept.factor.kind == "objects":
                values.append(rows_of(found_objects(single, concept.factor), concept.factor))
                continue
            found = map_estimate(single[None], log_prior, concept.factor)
            value = found.cell if concept.factor.names else found.value
            values.append(torch.tensor(value))
    return torch.stack(values)


def _estimates(tallies: list[_Tally], *, places: list[Factor]) -> dict[str, Any]:
    """Shares over seeds of everything that was counted."""

    def over_seeds(lists: list[list[Tensor]]) -> dict[str, Any]:
        return plain(share([torch.cat(tensors) for tensors in lists]))

    numbers = {
        "n": sum(len(right) for tally in tallies for right in tally.right),
        "accuracy": over_seeds([tally.right for tally in tallies]),
        "absent": over_seeds([tally.absent for tally in tallies]),
        "parts": {
            name: over_seeds([tally.parts[name] for tally in tallies]) for name in tallies[0].parts
        },
    }
    if places:
        numbers[wide_key(places)] = over_seeds([t.wide for t in tallies])
    return numbers


def _inference_estimates(
    found: list[Tensor], truths: list[Tensor], factor: Factor
) -> dict[str, Any]:
    """Accuracy of names; mean absolute error and share within tolerances of numbers.

    A list of objects is right when none is missed and none invented; ``objects`` has the numbers of
    true objects, of found ones, and of those that are both, in all pictures together.
    """
    if factor.kind == "objects":
        counts = [objects_read(*pair, factor) for pair in zip(found, truths, strict=True)]
        return {
            "n": sum(len(count.true) for count in counts),
            "accuracy": plain(share([count.all_right for count in counts])),
            "objects": {
                name: sum(int(getattr(count, name).sum()) for count in counts)
                for name in ("true", "found", "both")
            },
            "tolerances": {floor_of(factor).name: TOLERANCE},
        }
    errors = [(one - other).abs() for one, other in zip(found, truths, strict=True)]
    numbers: dict[str, Any] = {"n": sum(len(error) for error in errors)}
    if factor.names:
        return numbers | {"accuracy": plain(share([error == 0 for error in errors]))}
    numbers["mae"] = plain(average([error.flatten() for error in errors])) | {"n": numbers["n"]}
    numbers["unit"] = factor.unit
    numbers["tolerances"] = tolerances([factor])
    largest = [error.view(len(error), -1).amax(1) for error in errors]
    numbers["accuracy"] = plain(share([error <= tolerance_of(factor) for error in largest]))
    if factor.kind == "position":
        wide = plain(share([error <= wide_tolerance_of(factor) for error in largest]))
        numbers[wide_key([factor])] = wide
    return numbers


def wide_key(places: list[Factor]) -> str:
    """The key of the share right within the wider tolerance of places: ``accuracy_at_0.4``.

    Where a formula speaks about places of different ranges it is ``accuracy_at_twice``.
    """
    widths = {wide_tolerance_of(place) for place in places}
    return f"accuracy_at_{widths.pop():g}" if len(widths) == 1 else "accuracy_at_twice"


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate as plain types."""
    return asdict(estimate)
