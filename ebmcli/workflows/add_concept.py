"""Continual learning: train a concept beside frozen ones, then measure that nothing was lost.

The frozen files do not change, so that each old concept reads what it read before: the table says
it with digests and shares. What can change is how it draws beside the new one; that is read by the
judge of the space where there is one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ebmcli.checkpoint import file_digest
from ebmcli.core.concepts import TrainedConcept
from ebmcli.core.expression import And, Literal
from ebmcli.core.factors import Factor, Value, difference
from ebmcli.core.images import TrainingImages
from ebmcli.core.targets import label_tensor
from ebmcli.datasets.hdf5 import DatasetInfo, read_info
from ebmcli.errors import DigestError, UsageError
from ebmcli.evaluation.held_out import BATCH
from ebmcli.evaluation.truth import holds
from ebmcli.registry import Record, Registry, read_registry
from ebmcli.training.loop import StepReport
from ebmcli.workflows.generate import GenerateRequest, draw_pictures
from ebmcli.workflows.judging import load_judge, read_all, same_factors_hint
from ebmcli.workflows.loading import load_concept
from ebmcli.workflows.plans import Plan, TrainRequest, plan_concept
from ebmcli.workflows.prepare import load_images
from ebmcli.workflows.train import Trained, train

READ_SIGMA = 0.1  # intensity; noise at which values are read
N_COMPOSED = 16  # pictures drawn for each old concept together with the new one


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One frozen concept before and after."""

    name: str
    digest: str  # the same before and after, or DigestError
    before: float  # share of held-out images whose value is read rightly
    after: float
    composed: float  # share of pictures of "old & new" in which the old value is right
    reader: str  # who says so: the judge of the space, or the old concept where there is none


@dataclass(frozen=True, kw_only=True)
class Added:
    """What add-concept did."""

    trained: Trained
    kept: tuple[Kept, ...]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of the "nothing forgotten" table."""
        headers = ["concept", "before", "after", "with the new one", "read by", "file"]
        rows = [
            [
                kept.name,
                f"{100 * kept.before:.1f} %",
                f"{100 * kept.after:.1f} %",
                f"{100 * kept.composed:.1f} %",
                kept.reader,
                f"unchanged {kept.digest[7:19]}",
            ]
            for kept in self.kept
        ]
        return headers, rows

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for --json."""
        kept = [dict(vars(item)) for item in self.kept]
        return {"added": self.trained.record.to_dict(), "kept": kept}


def add(
    request: TrainRequest,
    *,
    others: Sequence[str],
    report: Callable[[StepReport], None],
    announce: Callable[[str], None] = lambda _: None,
) -> Added:
    """Train ``request`` with the named concepts frozen, and compare them before and after.

    ``announce`` is told what is measured after the last update.

    Raises:
        UsageError: As :func:`plan_added`.
        DigestError: A frozen file changed meanwhile.
    """
    plan, frozen = plan_added(request, others)
    registry = read_registry(request.registry)
    digests = {record.file: file_digest(registry.file(record)) for record in frozen}
    before = {r.name: _share_read(registry, r, request) for r in frozen if r.kind == "concept"}
    trained = train(plan, report=report, announce=announce)
    announce("drawing pictures of each frozen concept together with the new one")
    registry = read_registry(request.registry)
    for record in frozen:
        if file_digest(registry.file(record)) != digests[record.file]:
            hint = "another command replaced it meanwhile; ebm verify tells the state"
            raise DigestError(registry.file(record), "a frozen file changed", hint=hint)
    kept = []
    for record in frozen:
        if record.kind == "concept":
            composed, reader = _share_composed(registry, record, trained.record, request)
            kept.append(
                Kept(
                    name=record.name,
                    digest=digests[record.file],
                    before=before[record.name],
                    after=_share_read(registry, record, request),
                    composed=composed,
                    reader=reader,
                )
            )
    return Added(trained=trained, kept=tuple(kept))


def plan_added(request: TrainRequest, others: Sequence[str]) -> tuple[Plan, list[Record]]:
    """Check all that can be said of a request before anything is measured; nothing is written.

    Returns:
        What would be trained, and the records whose files must not change: the named concepts and
        their bases.

    Raises:
        UnknownNameError: There is no concept of a name.
        UsageError: A named concept is of another space or base, cannot be compared on these data,
            or is the new one itself.
    """
    registry = read_registry(request.registry)
    info = read_info(request.data)
    frozen = _frozen(registry, others, request.name, info.space)
    plan = plan_concept(replace(request, to=tuple(dict.fromkeys(others))))
    _check_bases(frozen, plan.base)
    for record in frozen:
        if record.kind == "concept":
            _check_labels(info, record)
    return plan, frozen


def _frozen(registry: Registry, names: Sequence[str], new: str, space: str) -> list[Record]:
    """The concepts to keep, and their bases."""
    if not names:
        raise UsageError("no concept to add to", hint="name them: --to color,position")
    if new in names:
        raise UsageError(f"{new} cannot be added to itself", hint="remove it from --to")
    records = [registry.get("concept", name) for name in dict.fromkeys(names)]
    for record in records:
        if record.space != space:
            problem = f"{record.name} is of {record.space}, the data of {space}"
            raise UsageError(problem, hint=f"ebm list --space {space} shows what fits")
        if record.factor is not None and record.factor.kind == "objects":
            problem = f"add-concept cannot compare {record.name}, a list of objects"
            raise UsageError(problem, hint="leave it out of --to; its file is not touched anyway")
    bases = dict.fromkeys(record.base for record in records if record.base)
    return records + [registry.get("base", name) for name in bases]


def _check_bases(frozen: Sequence[Record], base: str | None) -> None:
    """Refuse, before training, concepts that no formula could join."""
    names = {r.base for r in frozen if r.kind == "concept" and r.base} | ({base} if base else set())
    if len(names) > 1:
        problem = f"concepts of one formula share one base, these have {', '.join(sorted(names))}"
        raise UsageError(problem, hint="choose it with --base, or leave concepts out of --to")


def _check_labels(info: DatasetInfo, record: Record) -> None:
    """Refuse a concept whose factor the file does not label."""
    assert record.factor is not None
    name = record.factor.name
    if name not in info.factors:
        known = ", ".join(info.factors)
        problem = f"{info.path} has no labels of {name}, so {record.name} cannot be compared"
        raise UsageError(problem, hint=f"its factors: {known}")
    if info.factors[name] != record.factor:
        what = difference(info.factors[name], record.factor)
        problem = f"{info.path} has another {name} than {record.name} has learned: it {what}"
        raise UsageError(problem, hint=same_factors_hint(info))


def _share_read(registry: Registry, record: Record, request: TrainRequest) -> float:
    """Share of the file's held-out images whose value the concept reads rightly."""
    assert record.factor is not None
    info = read_info(request.data)
    held = load_images(info, record.factor, device=torch.device("cpu"))[1]
    return read_share(load_concept(registry, record.name), held)


def read_share(concept: TrainedConcept, held: TrainingImages) -> float:
    """Share of images whose MAP cell is right: the name, or within one spacing per coordinate."""
    rights = []
    for start in range(0, len(held), BATCH):
        index = torch.arange(start, min(start + BATCH, len(held)))
        x, labels = held.take(index)
        rights.append(_right(concept, x, labels))
    return float(torch.cat(rights).float().mean())


def _right(concept: TrainedConcept, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    factor = concept.factor
    sigma = torch.full((len(x),), READ_SIGMA)
    noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cell = concept.log_posterior(x + READ_SIGMA * noise, sigma).argmax(1)
    if factor.names:
        return cell == labels
    values = torch.tensor([factor.cell_value(int(k)) for k in cell]).view(len(x), -1)
    return ((values - labels.view(len(x), -1)).abs() <= factor.spacing).all(1)


def _share_composed(
    registry: Registry, old: Record, new: Record, request: TrainRequest
) -> tuple[float, str]:
    """Share of pictures of "old & new" that show what was asked of the old one, and who read it."""
    assert old.factor is not None
    assert new.factor is not None
    left, right = literal(old.name, old.factor, 1), literal(new.name, new.factor, 1)
    drawn = draw_pictures(
        GenerateRequest(
            expression=str(And(left, right)),
            n=N_COMPOSED,
            seed=request.seed,
            device=request.device,
            attempts=1,
        ),
        registry,
    )
    images = torch.from_numpy(drawn.images)
    judges = [r for r in registry.judges.values() if r.space == old.space]
    judge = load_judge(registry, old.space) if len(judges) == 1 else None
    if judge is not None and judge.factors.get(old.factor.name) == old.factor:
        readings, _ = read_all(judge, images)
        shown = holds(replace(left, name=old.factor.name), readings)
        return float(shown.float().mean()), judges[0].name
    concept = load_concept(registry, old.name)
    value = left.value if left.value is not None else "yes"
    labels = label_tensor(old.factor, value).expand(N_COMPOSED, *[-1] * _extra(old.factor))
    return read_share(concept, TrainingImages(images, labels)), "itself"


def _extra(factor: Factor) -> int:
    return 1 if factor.kind == "position" else 0


def literal(name: str, factor: Factor, index: int) -> Literal:
    """A statement about a factor: its index-th value, or a place or number off the middle."""
    value: Value
    if factor.kind == "binary":
        return Literal(name)
    if factor.kind == "categorical":
        return Literal(name, "=", factor.names[index % len(factor.names)])
    quarter = round(factor.low + 0.75 * (factor.high - factor.low), 3)
    value = quarter if factor.kind == "scalar" else (quarter, quarter)
    return Literal(name, "=", value)
