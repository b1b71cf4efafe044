"""Train a judge on data of its own, measure it on clean held-out pictures, register it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import DatasetInfo, read_info, verify_digest
from ebmcli.errors import OutputExistsError, UsageError
from ebmcli.evaluation.judge import Judge, JudgeConfig, disturb, judge_losses
from ebmcli.evaluation.negatives import empty_floors, without_object
from ebmcli.evaluation.object_counts import objects_read
from ebmcli.evaluation.truth import PRESENT, tolerance_of
from ebmcli.registry import Record, read_registry
from ebmcli.registry.schema import check_name
from ebmcli.training.gradients import Losses
from ebmcli.training.loop import (
    StepReport,
    TrainingConfig,
    TrainingState,
    training_run,
)
from ebmcli.workflows.judging import BATCH, Labelled, load_labelled, read_all
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.origin import created, data_origin, has_seen, same_pictures, versions
from ebmcli.workflows.plans import check_length, refuse_clash

N_STEPS = 2500  # updates; chosen
N_FLOORS = 128  # empty pictures that negatives are made with
N_NEGATIVE = 64  # negatives beside each batch of positives
MIN_HELD, MIN_TRAINING = 32, 64  # pictures; chosen
WARM_UP_UPDATES, TIMED_UPDATES = 2, 5
TRAINING = TrainingConfig(
    n_steps=N_STEPS, batch_size=128, learning_rate=3e-3, n_warmup=100, weight_decay=1e-3
)


@dataclass(frozen=True, kw_only=True)
class JudgeRequest:
    """What ``ebm train-judge`` was asked for."""

    name: str
    data: Path
    registry: Path
    held: Path | None = None  # None: the last twentieth of the data, MIN_HELD at least
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    overwrite: bool = False
    command: str = ""  # as typed, for the record


def train_judge(request: JudgeRequest, *, report: Callable[[StepReport], None]) -> Record:
    """Train, measure, save and register a judge.

    Raises:
        UsageError: The data are those of an energy, or of the held-out file.
        OutputExistsError: There is a judge of this name.
        DivergedError: Numbers became infinite.
    """
    start = time.monotonic()
    info, held_info = check_judge(request)
    data = load_labelled(info)
    if held_info is None:
        n_held = _n_held(info)
        held = data.part(slice(-n_held, None))
        data = data.part(slice(None, -n_held))
    else:
        held = load_labelled(held_info)
    config = _config(request, info, data)
    judge = fit_judge(info.factors, data, config, seed=request.seed, report=report)
    measured = measure(judge, held, seed=request.seed)
    provenance = {
        "command": request.command,
        **data_origin(info),
        "held": held_info.digest if held_info else f"last {len(held.images)} pictures of the data",
        "seed": request.seed,
        "steps": config.n_steps,
        "seconds": round(time.monotonic() - start, 1),
        "created": created(),
        "versions": versions(),
    }
    return save_judge(judge, request, info.space, measured=measured, provenance=provenance)


def fit_judge(
    factors: dict[str, Factor],
    data: Labelled,
    config: TrainingConfig,
    *,
    seed: int,
    report: Callable[[StepReport], None],
) -> Judge:
    """A judge trained on labelled pictures, with weights rounded as they are saved."""
    judge, state, objective = _prepared(factors, data, config, seed=seed)
    for update in training_run(state, objective, config):
        report(update)
    judge.eval().requires_grad_(False)
    for tensor in judge.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())
    return judge


def measure(judge: Judge, held: Labelled, *, seed: int) -> dict[str, Any]:
    """What a judge gets right on clean held-out pictures, per factor, and about presence.

    Names: accuracy. Numbers: mean absolute error, per coordinate for positions, and the share
    within the tolerances of ``truth.py``. Objects: the share that is found, of those found the
    share that is none, and the pictures in which neither happens. Presence: the share of clean
    pictures called present, of slightly disturbed ones, and of pictures without an object called
    absent.
    """
    readings, _ = read_all(judge, held.images)
    measured: dict[str, Any] = {"n": len(readings)}
    for name, factor in judge.factors.items():
        value, label = readings.values[name], held.labels[name]
        if factor.names:
            measured[name] = {"accuracy": _mean(value == label)}
            continue
        if factor.kind == "objects":
            measured[name] = objects_read(value, label, factor).shares()
            continue
        error = (value - label).abs()
        limit = tolerance_of(factor)
        inside = error.view(len(error), -1) <= limit
        measured[name] = {"mae": _mean(error), f"within_{limit:g}": _mean(inside.all(1))}
    generator = Generator().manual_seed(seed)
    pictures, labels = held.take(slice(None))
    floors = empty_floors(pictures[:2000], N_FLOORS, generator=generator)
    absent = without_object(pictures, labels, judge.factors, floors=floors, generator=generator)
    measured["present"] = {
        "clean": _mean(readings.present > PRESENT),
        "disturbed": _mean(_presence(judge, disturb(pictures, generator=generator)) > PRESENT),
        "absent_refused": _mean(_presence(judge, absent) <= PRESENT),
    }
    return measured


def save_judge(
    judge: Judge,
    request: JudgeRequest,
    space: str,
    *,
    measured: dict[str, Any],
    provenance: dict[str, Any],
) -> Record:
    """Write the weights beside the registry and record them."""
    header = {
        "kind": "judge",
        "space": space,
        "name": request.name,
        "factors": [factor.to_dict() for factor in judge.factors.values()],
        "config": judge.config.to_dict(),
    }
    record = Record(
        kind="judge",
        name=request.name,
        space=space,
        file="",
        sha256="",
        factor=None,
        method=None,
        base=None,
        calibration={},
        measured=measured,
        provenance=provenance,
    )
    return keep_trained(
        request.registry, record, judge.state_dict(), header, overwrite=request.overwrite
    )


def check_judge(request: JudgeRequest) -> tuple[DatasetInfo, DatasetInfo | None]:
    """The data files, and that of held-out pictures, once nothing speaks against using them.

    Raises:
        ConfigError: --steps, --minutes or --seed are out of range, or two lengths are given.
        OutputExistsError: There is a judge of this name.
        UsageError: The data are those of an energy, or of the held-out file, or too few; or the
            name is too close to another.
        FileFormatError, DigestError: They cannot be read, or are not what was written.
    """
    check_name(request.name)
    check_length(request.steps, request.minutes, request.seed)
    registry = read_registry(request.registry)
    if request.name in registry.judges and not request.overwrite:
        hint = "give the new one another name, or add --overwrite to replace the old one"
        raise OutputExistsError(f"judge {request.name} of {registry.path}", hint=hint)
    refuse_clash(registry, "judge", request.name)
    info = read_info(request.data)
    held = read_info(request.held) if request.held else None
    users = [*registry.bases.values(), *registry.concepts.values()]
    for record in users:
        if known := has_seen(record, info):
            hint = "render with another --seed, or import another part by --skip"
            raise UsageError(f"{known}; a judge needs other data", hint=hint)
    if held is not None and same_pictures(held, info):
        raise UsageError(f"{held.path} holds the training data", hint="give another file to --held")
    if held is not None and (held.size, held.factors) != (info.size, info.factors):
        raise UsageError(f"{held.path} is not of the same space as {info.path}")
    for file in (info, held):
        if file is not None:
            verify_digest(file.path)
    least = MIN_TRAINING + (_n_held(info) if held is None else 0)
    if info.n_images < least:
        problem = f"{info.n_images} images are too few, {least} at least"
        raise UsageError(problem, hint="render or import more")
    return info, held


def planned_judge(request: JudgeRequest) -> dict[str, Any]:
    """What would be trained, for ``--dry-run``; minutes give no number of updates before they are.

    Raises:
        EbmError: As :func:`check_judge`.
    """
    info, held = check_judge(request)
    n_held = held.n_images if held else _n_held(info)
    n_steps = None if request.minutes else request.steps or N_STEPS
    return {
        "kind": "judge",
        "name": request.name,
        "space": info.space,
        "data": str(info.path),
        "data_digest": info.digest,
        "held": str(held.path) if held else None,
        "factors": [factor.to_dict() for factor in info.factors.values()],
        "n_training": info.n_images - (0 if held else n_held),
        "n_held": n_held,
        "seed": request.seed,
        "settings": {**asdict(TRAINING), "n_steps": n_steps},
        **({"minutes": request.minutes} if request.minutes else {}),
    }


def _n_held(info: DatasetInfo) -> int:
    """How many pictures of a file are held out where no other file is given."""
    return max(MIN_HELD, info.n_images // 20)


def _config(request: JudgeRequest, info: DatasetInfo, data: Labelled) -> TrainingConfig:
    """The number of updates: as asked, or what fits into the minutes on this machine."""
    if request.steps is not None:
        return replace(TRAINING, n_steps=request.steps)
    if request.minutes is None:
        return TRAINING
    config = replace(TRAINING, n_steps=WARM_UP_UPDATES + TIMED_UPDATES)
    _, state, objective = _prepared(info.factors, data, config, seed=request.seed)
    times = [time.perf_counter() for _ in training_run(state, objective, config)]
    seconds = (times[-1] - times[WARM_UP_UPDATES - 1]) / TIMED_UPDATES
    return replace(TRAINING, n_steps=max(1, round(60 * request.minutes / seconds)))


def _prepared(
    factors: dict[str, Factor], data: Labelled, config: TrainingConfig, *, seed: int
) -> tuple[Judge, TrainingState, Callable[[Generator], Losses]]:
    """A fresh judge, the state of its training and what it minimises."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # fresh weights are drawn from the global source
        judge = Judge(factors, JudgeConfig(size=data.images.shape[1]))
    judge = judge.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's gap
    generator = Generator().manual_seed(seed)
    some = torch.randperm(len(data.images), generator=generator)[:2000]
    floors = empty_floors(data.take(some)[0], N_FLOORS, generator=generator)

    def objective(generator: Generator) -> Losses:
        n = config.batch_size + N_NEGATIVE
        x, labels = data.take(torch.randint(len(data.images), (n,), generator=generator))
        head, tail = slice(None, config.batch_size), slice(config.batch_size, None)
        spoilt = without_object(
            x[tail],
            {k: v[tail] for k, v in labels.items()},
            factors,
            floors=floors,
            generator=generator,
        )
        positives = disturb(x[head], generator=generator)
        negatives = disturb(spoilt, generator=generator)
        return judge_losses(judge, positives, negatives, {k: v[head] for k, v in labels.items()})

    return judge, TrainingState(judge, config, seed=seed), objective


def _presence(judge: Judge, x: Tensor) -> Tensor:
    """Probability of an object, (B,)."""
    parts = x.split(BATCH)  # type: ignore[no-untyped-call]  # torch has no type
    return torch.cat([judge.read(part).present for part in parts])


def _mean(values: Tensor) -> float:
    """A number for a record: four digits are more than a held-out file can tell."""
    return round(float(values.double().mean()), 4)
