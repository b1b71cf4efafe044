"""Training requests, checked and resolved before anything runs or is written."""

import math
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ebmcli.core.concepts import METHODS
from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import DatasetInfo, read_info, read_labels
from ebmcli.errors import ConfigError, OutputExistsError, UnknownNameError, UsageError
from ebmcli.registry import Kind, Registry, checkpoint_file, read_registry
from ebmcli.registry.schema import check_name, twin_names
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.origin import has_seen
from ebmcli.workflows.partners import check_blanks, check_hues, check_partner
from ebmcli.workflows.runs import STATE
from ebmcli.workflows.settings import Settings, changed, default_settings, idle_keys

MIN_IMAGES = 100
N_SEEDS = 1 << 32  # torch reads the low 32 bits of a seed only


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What ``ebm train-base`` and ``ebm train`` were asked for."""

    name: str
    data: Path
    registry: Path
    factor: str | None = None  # a concept's; None: the factor of the concept's own name
    method: str = "posterior"
    base: str | None = None  # None: the only base of the space
    minutes: float | None = None
    steps: int | None = None
    assignments: tuple[str, ...] = ()  # key=value
    start: str | None = None  # begin from the weights of this entry of the same kind and shape
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False  # replace a trained entry of this name
    restart: bool = False  # drop an unfinished run of this name
    command: str = ""  # as typed, for the record
    to: tuple[str, ...] = ()  # frozen concepts it is added to, by ebm add-concept
    independent_of: str | None = None  # a frozen concept, see core/independence


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request, resolved: what would run. ``ebm train --dry-run`` shows it."""

    kind: str  # base or concept
    request: TrainRequest
    info: DatasetInfo
    factor: Factor | None
    method: str  # of a concept, or "base"
    base: str | None
    settings: Settings
    folder: Path
    weights: Path
    device: torch.device
    resting: tuple[str, ...] = ()  # concepts on the base of this name, which is to be replaced

    @property
    def notes(self) -> list[str]:
        """What a person should know before it runs."""
        idle = idle_keys(self.method, self.request.assignments, on_base=self.base is not None)
        what = "a base" if self.method == "base" else f"--method {self.method}"
        return [f"note: --set {', '.join(idle)} changes nothing for {what}"] if idle else []

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for people and for config.json."""
        return {
            "kind": self.kind,
            "name": self.request.name,
            "space": self.info.space,
            "data": str(self.request.data),
            "data_digest": self.info.digest,
            "factor": self.factor.to_dict() if self.factor else None,
            "method": self.method,
            "base": self.base,
            "start": self.request.start,
            "independent_of": self.request.independent_of,
            "seed": self.request.seed,
            "device": str(self.device),
            "folder": str(self.folder),
            "weights": str(self.weights),
            "replaces_base_of": list(self.resting),
            "settings": self.settings.to_dict(),
        }


def plan_base(request: TrainRequest) -> Plan:
    """Check a request for a base and resolve it; nothing is written."""
    return _plan(request, kind="base", method="base")


def plan_concept(request: TrainRequest) -> Plan:
    """Check a request for a concept and resolve it; nothing is written."""
    if request.method not in METHODS:
        raise UnknownNameError("method", request.method, METHODS)
    plan = _plan(request, kind="concept", method=request.method)
    if plan.factor is not None and plan.factor.kind == "objects":
        _check_objects(request)
    return plan


def _check_objects(request: TrainRequest) -> None:
    """Refuse what a list of objects cannot be trained as."""
    if request.method != "posterior":
        problem = f"--method {request.method} has no energy of a list of objects"
        raise UsageError(problem, hint="leave --method out, or write --method posterior")
    if request.to:
        hint = f"train it by itself: ebm train {request.name} --data {request.data}"
        raise UsageError("add-concept cannot compare lists of objects", hint=hint)


def _plan(request: TrainRequest, *, kind: str, method: str) -> Plan:
    check_name(request.name)
    _check_numbers(request)
    registry = read_registry(request.registry)
    info = read_info(request.data)
    if info.n_images < MIN_IMAGES:
        hint = "render or import more"
        raise UsageError(f"{info.n_images} images are too few, {MIN_IMAGES} at least", hint=hint)
    refuse_existing(registry, kind, request)
    refuse_judged(registry, info)
    factor = _factor(request, info) if kind == "concept" else None
    base = _base(request, registry, info.space) if kind == "concept" else None
    if request.start is not None:
        registry.get("base" if kind == "base" else "concept", request.start)
    device = resolve_device(request.device)
    defaults = default_settings(method, size=info.size, on_gpu=device.type == "cuda")
    settings = changed(defaults, request.assignments)
    if method == "posterior" and settings.trunk.decoder:
        hint = "leave it out, or train a base or by --method conditional"
        raise ConfigError("a posterior has no decoder: it draws nothing by itself", hint=hint)
    check_hues(factor, method, settings)
    check_blanks(method, request.independent_of, settings)
    if request.independent_of is not None and factor is not None:
        _check_independence(request, registry, info, factor, settings)
    if request.steps is not None:
        training = replace(settings.training, n_steps=request.steps)
        settings = replace(settings, training=training)
    folder = registry.path.parent
    saved_as: Kind = "base" if kind == "base" else "concept"
    refuse_clash(registry, saved_as, request.name)
    return Plan(
        kind=kind,
        request=request,
        info=info,
        factor=factor,
        method=method,
        base=base,
        settings=settings,
        folder=run_folder(registry, kind, request.name),
        weights=folder / checkpoint_file(request.name, kind=saved_as),
        device=device,
        resting=tuple(c.name for c in registry.resting_on(request.name)) if kind == "base" else (),
    )


def _check_independence(
    request: TrainRequest, registry: Registry, info: DatasetInfo, factor: Factor, settings: Settings
) -> None:
    """Refuse, before anything runs, a posterior that cannot be made independent."""
    if request.method != "posterior":
        problem = f"--independent-of trains a posterior, not --method {request.method}"
        raise UsageError(problem, hint="leave one of them out")
    name = str(request.independent_of)
    check_partner(registry, name, info=info, factor=factor, settings=settings)


def run_folder(registry: Registry, kind: str, name: str) -> Path:
    """Where a training of this name runs."""
    return registry.path.parent / "runs" / (f"base-{name}" if kind == "base" else name)


def refuse_existing(registry: Registry, kind: str, request: TrainRequest) -> None:
    """Refuse a name that is taken, unless it is to be replaced.

    Raises:
        OutputExistsError: It is taken.
    """
    known = registry.bases if kind == "base" else registry.concepts
    if request.name in known and not request.overwrite:
        if request.resume and not (run_folder(registry, kind, request.name) / STATE).exists():
            hint = "its training is finished; --start trains it further, under another name"
            raise OutputExistsError(f"{kind} {request.name} of {registry.path}", hint=hint)
        hint = "give the new one another name"
        if kind == "concept":
            hint += f", with --factor {request.factor or request.name}"
        hint += ", or add --overwrite to replace the old one"
        raise OutputExistsError(f"{kind} {request.name} of {registry.path}", hint=hint)


def _check_numbers(request: TrainRequest) -> None:
    check_length(request.steps, request.minutes, request.seed)
    given = "--steps" if request.steps is not None else "--minutes"
    if steps_set(request) and (request.steps, request.minutes) != (None, None):
        hint = "give one of them"
        raise ConfigError(f"{given} and --set n_steps exclude each other", hint=hint)
    if request.resume and request.restart:
        raise ConfigError("--resume and --restart exclude each other", hint="give one of them")


def check_length(steps: int | None, minutes: float | None, seed: int) -> None:
    """Refuse updates, minutes and a seed that no training can have.

    Raises:
        ConfigError: Fewer than one update, no time, both given, or a seed that torch cannot read.
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {steps}")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be positive, got {minutes:g}")
    if steps is not None and minutes is not None:
        raise ConfigError("--steps and --minutes exclude each other", hint="give one of them")
    if not 0 <= seed < N_SEEDS:
        raise ConfigError(f"--seed is between 0 and 2^32 - 1, got {seed}")


def refuse_judged(registry: Registry, info: DatasetInfo) -> None:
    """Refuse pictures that a judge has learned from: it would judge what it knows."""
    for record in registry.judges.values():
        if known := has_seen(record, info):
            hint = "render with another --seed, or import another part by --skip"
            raise UsageError(f"{known}; an energy needs other data", hint=hint)


def refuse_clash(registry: Registry, kind: Kind, name: str) -> None:
    """Refuse, before anything is trained, a name that could not be registered afterwards.

    Raises:
        UsageError: Its file is another entry's, or only - and _ tell it from another name.
    """
    file, hint = checkpoint_file(name, kind=kind), "choose another name"
    for record in registry.records():
        if record.file == file and (record.kind, record.name) != (kind, name):
            raise UsageError(f"{file} belongs to the {record.kind} {record.name}", hint=hint)
    twins = twin_names([*(other for other in registry.section(kind) if other != name), name])
    if twins:
        raise UsageError(f"{kind}s {twins[0]} and {twins[1]} differ by - and _ only", hint=hint)


def _factor(request: TrainRequest, info: DatasetInfo) -> Factor:
    name = request.factor or request.name
    if name not in info.factors:
        hint = "" if request.factor else f"say which with --factor: {', '.join(info.factors)}"
        raise UnknownNameError(
            "factor", name, list(info.factors), where=f" in {info.path}", hint=hint
        )
    read_labels(info.path, name, 0, info.n_images)  # which refuses what is no value of it
    return info.factors[name]


def _base(request: TrainRequest, registry: Registry, space: str) -> str | None:
    """The base a concept is trained on: the one asked for, or the only one of its space."""
    if request.base is not None:
        record = registry.get("base", request.base)
        if record.space != space:
            problem = f"base {record.name} is of {record.space}, the data of {space}"
            raise UsageError(problem, hint=_base_hint(request, registry, space))
        return record.name
    fitting = [record.name for record in registry.bases.values() if record.space == space]
    if len(fitting) > 1:
        hint = f"choose one with --base: {', '.join(fitting)}"
        raise UsageError(f"{len(fitting)} bases of {space}", hint=hint)
    if not fitting and request.method == "posterior":
        hint = _base_hint(request, registry, space)
        raise UsageError(f"no base of {space} in {registry.path}", hint=hint)
    return fitting[0] if fitting else None


def _base_hint(request: TrainRequest, registry: Registry, space: str) -> str:
    """The bases of a space, or how to get one."""
    fitting = [record.name for record in registry.bases.values() if record.space == space]
    if fitting:
        return f"of {space}: --base {', --base '.join(fitting)}"
    return f"train one: ebm train-base {space} --data {shlex.quote(str(request.data))}"


def steps_set(request: TrainRequest) -> bool:
    """Has the number of updates been asked for by ``--set``?"""
    return any(text.partition("=")[0].strip() == "n_steps" for text in request.assignments)


def resume_command(plan: Plan) -> str:
    """The command that goes on with an interrupted run."""
    request = plan.request
    verb = "train-base" if plan.kind == "base" else "add-concept" if request.to else "train"
    words = ["ebm", verb, request.name]
    words += ["--data", str(request.data)]
    if plan.kind == "concept":
        words += ["--factor", plan.factor.name if plan.factor else "", "--method", plan.method]
        words += ["--base", plan.base] if plan.base else []
    other = request.independent_of
    words += ["--independent-of", other] if other else []
    words += ["--to", ",".join(request.to)] if request.to else []
    words += ["--seed", str(request.seed)] if request.seed else []
    asked = request.device != "auto" or plan.device.type != "cpu"
    words += ["--device", str(plan.device)] if asked else []
    words += ["--registry", str(request.registry), "--resume"]
    return shlex.join(words + (["--overwrite"] if request.overwrite else []))
