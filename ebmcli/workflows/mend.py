"""``ebm mend-base``: a residual energy for a base, learned from samples of its own chains.

The weights of the base stay as they are; the residual lies beside them in the same file, and
``undo`` takes it away again. The registry changes at the very end, in one step.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmcli.checkpoint import read_header
from ebmcli.core.base_energy import BaseEnergy, Residual
from ebmcli.core.images import TrainingImages
from ebmcli.core.union import UnionEnergy
from ebmcli.datasets.hdf5 import DatasetInfo, read_info, verify_digest
from ebmcli.errors import ConfigError, InterruptedRun, UsageError
from ebmcli.evaluation.held_out import batches
from ebmcli.evaluation.residual import ResidualQuality, residual_quality
from ebmcli.registry import Record, Registry, read_registry
from ebmcli.registry.lock import locked_run
from ebmcli.training.loop import StepReport, TrainingConfig, TrainingState, training_run
from ebmcli.training.objectives import residual_objective
from ebmcli.workflows.builders import held_out_numbers
from ebmcli.workflows.device import resolve_device, resolve_precision
from ebmcli.workflows.finished import ODD, mean_reading
from ebmcli.workflows.honesty import object_share
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.loading import load_base
from ebmcli.workflows.origin import created, data_origin, versions
from ebmcli.workflows.own_samples import Progress, SampleRequest, own_samples, refuse_foreign
from ebmcli.workflows.plans import refuse_judged
from ebmcli.workflows.prepare import load_images
from ebmcli.workflows.train import N_DRAWN

MIN_SAMPLES = 64
HELD_OUT = 8  # one of so many samples judges the residual; chosen
LEARNING_RATE = 5e-4
N_REAL = 1000  # held-out pictures that say what a real one looks like
BATCH = 32  # of data, and as many samples


@dataclass(frozen=True, kw_only=True)
class MendRequest:
    """What ``ebm mend-base`` was asked for."""

    name: str
    data: Path
    registry: Path
    samples: int = 2000
    steps: int = 2000  # updates of the residual
    seed: int = 0
    device: str = "auto"
    command: str = ""  # as typed

    def __post_init__(self) -> None:
        if self.samples < MIN_SAMPLES:
            raise ConfigError(f"--samples must be at least {MIN_SAMPLES}, got {self.samples}")
        if self.steps < 1:
            raise ConfigError(f"--steps must be at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Mended:
    """What a finished run left."""

    record: Record
    quality: list[ResidualQuality]
    before: Mapping[str, Any]  # what was measured of the base before

    @property
    def learned_by_heart(self) -> bool:
        """Is what was learned worse than no residual, on samples that it has not seen?"""
        return sum(row.log_loss for row in self.quality) > len(self.quality) * math.log(2)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for --json."""
        rows = [asdict(row) for row in self.quality]
        return {"name": self.record.name, "quality": rows, "before": dict(self.before)} | {
            "record": self.record.to_dict()
        }


@dataclass(frozen=True, kw_only=True)
class MendPlan:
    """A request, checked: nothing is written yet."""

    request: MendRequest
    registry: Registry
    record: Record
    header: Mapping[str, Any]  # of its file, for undo
    data: DatasetInfo
    base: BaseEnergy
    device: torch.device

    @property
    def folder(self) -> Path:
        """Where the samples lie; those of other weights, data or seeds have another folder."""
        name = self.request.name
        records = (*self.registry.bases.values(), *self.registry.concepts.values())
        drawn_with = {r.name: r.fingerprint for r in records if name in (r.name, r.base)}
        text = json.dumps([drawn_with, self.data.digest, self.request.seed], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.registry.path.parent / "runs" / f"mend-{name}" / digest


def plan_mend(request: MendRequest) -> MendPlan:
    """Check a request.

    Raises:
        UnknownNameError: There is no such base.
        UsageError: The pictures are of another space or trained a judge, or it is mended already.
        DigestError: They are not what was written.
    """
    registry = read_registry(request.registry)
    record = registry.get("base", request.name)
    data = read_info(request.data)
    refuse_foreign(data, record.space)
    refuse_judged(registry, data)
    device = resolve_device(request.device)
    base = load_base(registry, request.name, device=device)
    if isinstance(base, UnionEnergy):
        hint = "mend its parts, then ebm union again"
        raise UsageError(f"{request.name} is a union, which is not mended itself", hint=hint)
    if base.residual is not None:
        hint = f"take the old residual away first: ebm mend-base {request.name} --undo"
        raise UsageError(f"{request.name} has been mended already", hint=hint)
    verify_digest(request.data)
    return MendPlan(
        request=request,
        registry=registry,
        record=record,
        header=read_header(registry.file(record)),
        data=data,
        base=base,
        device=device,
    )


def draw_samples(plan: MendPlan, *, progress: Progress) -> Tensor:
    """Samples of the base's own chains, uint8 (n, S, S, 3), kept in ``runs/mend-NAME``.

    Raises:
        InterruptedRun: Ctrl-C; the same command goes on.
        OutputError: Another command is mending this base.
    """
    request = plan.request
    sampling = SampleRequest(
        base=request.name, data=plan.data, n=request.samples, seed=request.seed, device=plan.device
    )
    with locked_run(plan.folder.parent), _going_on():
        return own_samples(sampling, plan.registry, plan.folder, progress=progress)


def mend(plan: MendPlan, pictures: Tensor, *, report: Callable[[StepReport], None]) -> Mended:
    """Learn the residual from samples, measure, replace the base's file, forget the samples.

    Raises:
        InterruptedRun: Ctrl-C; the same command goes on.
        DigestError: Another command replaced the base meanwhile; it stays.
    """
    base = plan.base
    with locked_run(plan.folder.parent), _going_on():
        images, held = load_images(plan.data, None, device=plan.device)
        n_held = len(pictures) // HELD_OUT
        own, held_own = TrainingImages(pictures, device=plan.device).split(n_held)
        learn(plan.request, base, images, own, report=report)
        quality = residual_quality(base, held.take_last(n_held), held_own)
        assert base.residual is not None
        base.residual.least.copy_(least_ratio(base, held.take_last(N_REAL)))
        measured = _measured(plan, held) | {"residual": _rows(quality)}
    kept = _keep(plan, measured)
    shutil.rmtree(plan.folder, ignore_errors=True)  # the base is mended, whatever stays there
    return Mended(record=kept, quality=quality, before=plan.record.measured)


@contextmanager
def _going_on() -> Iterator[None]:
    """Ctrl-C says how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        problem = "interrupted; the samples drawn so far are kept"
        raise InterruptedRun(problem, hint="type the same command again to go on") from error


def learn(
    request: MendRequest,
    base: BaseEnergy,
    images: TrainingImages,
    own: TrainingImages,
    *,
    report: Callable[[StepReport], None],
) -> None:
    """Give a frozen base a residual that tells data from samples, its weights averaged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        residual = Residual(base.config)
    base.residual = residual.to(images.device)
    base.autocast = resolve_precision("auto", images.device)
    config = TrainingConfig(n_steps=request.steps, learning_rate=LEARNING_RATE, batch_size=BATCH)
    if images.device.type == "cuda":
        own.settle()
    state = TrainingState(base.residual, config, seed=request.seed)
    objective = residual_objective(base, images, own, batch_size=BATCH)
    for update in training_run(state, objective, config):
        report(update)
    state.use_average()
    base.requires_grad_(False)
    base.autocast = False


@torch.no_grad()
def least_ratio(base: BaseEnergy, real: TrainingImages) -> Tensor:
    """The log ratio that all but ODD of real pictures exceed, read as finished pictures are."""
    ratios = [mean_reading(base.log_ratio, real.take(index)[0]) for index in batches(len(real))]
    return torch.cat(ratios).quantile(ODD)


def undo(path: Path, name: str) -> Record:
    """Take the residual of a base away: the file is again what it was before, to the byte.

    Its header is the one it had then; :func:`mend` puts it into the record. It has the name that
    the base was trained under, which a renamed base's record no longer has.

    Raises:
        UnknownNameError, UsageError: As :func:`check_undo`.
        DigestError: Another command replaced the weights meanwhile; they stay.
    """
    record, base, before = check_undo(path, name)
    base.residual = None
    provenance = {k: v for k, v in record.provenance.items() if k != "mended"}
    record = replace(record, measured=before["measured"], provenance=provenance)
    return keep_trained(
        path,
        record,
        base.state_dict(),
        before["header"],
        overwrite=True,
        expected_sha256=record.sha256,
    )


def check_undo(path: Path, name: str) -> tuple[Record, BaseEnergy, dict[str, Any]]:
    """A mended base, and what was known before: ``measured``, and the ``header`` of its file.

    Records of older versions do not have that header: it is the present one, without its mark.

    Raises:
        UnknownNameError: There is no such base.
        UsageError: It has no residual.
    """
    registry = read_registry(path)
    record = registry.get("base", name)
    base = load_base(registry, name)
    before = record.provenance.get("mended", {}).get("before")
    if isinstance(base, UnionEnergy) or base.residual is None or before is None:
        hint = "ebm show tells how it was trained"
        raise UsageError(f"{name} has not been mended", hint=hint)
    present = read_header(registry.file(record))
    unmarked = {key: value for key, value in present.items() if key != "mended"}
    return record, base, {"header": unmarked} | before


def header(record: Record, base: BaseEnergy) -> dict[str, Any]:
    """The header of a base's file."""
    plain: dict[str, Any] = {
        "kind": "base",
        "space": record.space,
        "name": record.name,
        "config": base.config.to_dict(),
        "n_components": len(base.gaussian.variances),
    }
    return plain if base.residual is None else plain | {"mended": True}


def _measured(plan: MendPlan, held: TrainingImages) -> dict[str, Any]:
    base = plan.base
    measured = held_out_numbers(base, held, base=None)
    shares = object_share(
        base.energy,
        base.gaussian,
        plan.registry,
        plan.record.space,
        size=base.config.size,
        n=N_DRAWN,
        device=plan.device,
    )
    return measured if shares is None else measured | {"object_share": shares, "n_drawn": N_DRAWN}


def _keep(plan: MendPlan, measured: dict[str, Any]) -> Record:
    request, record = plan.request, plan.record
    mended = {
        "command": request.command,
        **data_origin(plan.data),
        "samples": request.samples,
        "steps": request.steps,
        "seed": request.seed,
        "before": {
            "sha256": record.sha256,
            "header": dict(plan.header),
            "measured": record.measured,
        },
        "created": created(),
        "versions": versions(),
    }
    record = replace(record, measured=measured, provenance=record.provenance | {"mended": mended})
    head = header(record, plan.base)
    return keep_trained(
        request.registry,
        record,
        plan.base.state_dict(),
        head,
        overwrite=True,
        expected_sha256=record.sha256,
    )


def _rows(quality: list[ResidualQuality]) -> dict[str, Any]:
    return {
        f"{row.sigma:g}": {k: round(v, 4) for k, v in asdict(row).items() if k != "sigma"}
        for row in quality
    }
