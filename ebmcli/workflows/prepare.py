"""All that a training does before its first update, and all it can be refused for; no writing.

``ebm train`` prepares and goes on; ``--dry-run`` prepares and stops. So both refuse the same.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ebmcli.core.factors import Factor
from ebmcli.core.images import TrainingImages
from ebmcli.core.union import Base
from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_labels, verify_digest
from ebmcli.errors import ConfigError, OutputError
from ebmcli.registry import Registry, read_registry
from ebmcli.registry.lock import refuse_locked
from ebmcli.registry.places import BUNDLED
from ebmcli.training.independent import Partner
from ebmcli.training.loop import TrainingState
from ebmcli.workflows.builders import Built, build_base, build_trained_concept
from ebmcli.workflows.device import resolve_precision
from ebmcli.workflows.loading import load_base, load_concept
from ebmcli.workflows.partners import load_partner
from ebmcli.workflows.plans import Plan
from ebmcli.workflows.runs import Run, open_run, refuse_unfinished, restore, steps_done
from ebmcli.workflows.settings import Settings, changed


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training that nothing speaks against: only its updates are missing.

    ``resumed`` is the run to go on with, or None; ``history`` what its record will say of the
    weights it began with and of its base.
    """

    plan: Plan
    resumed: Run | None
    images: TrainingImages
    held: TrainingImages
    base: Base | None
    built: Built
    autocast: bool
    history: dict[str, Any]


def prepare(plan: Plan) -> Prepared:
    """Load, build and compare everything that the first update needs; nothing is written.

    Raises:
        ConfigError: Settings, start or resumed run do not fit.
        OutputExistsError: There is an unfinished run, and it is neither resumed nor dropped.
        OutputError: The folder of the run cannot be written.
        FileFormatError, DigestError: Data, base or checkpoint are damaged.
    """
    request, registry = plan.request, read_registry(plan.request.registry)
    resumed = None
    if request.resume:
        resumed, plan = _resumed(plan, registry)
    else:
        refuse_unfinished(plan.folder, restart=request.restart)
    _refuse_unwritable(plan)
    images, held = load_images(plan.info, plan.factor, device=plan.device)
    base = load_base(registry, plan.base, device=plan.device) if plan.base else None
    if resumed is not None:
        autocast, history = bool(resumed.config["autocast"]), resumed.config["history"]
    else:
        autocast = resolve_precision(request.precision, plan.device)
        history = started_from(registry, plan)
    built = build(plan, images, base, autocast=autocast)
    if request.start is not None and resumed is None:
        start_from(built.network, registry, plan)
    return Prepared(
        plan=plan,
        resumed=resumed,
        images=images,
        held=held,
        base=base,
        built=built,
        autocast=autocast,
        history=history,
    )


def rehearse(plan: Plan) -> None:
    """Refuse, without writing, whatever the run of this plan would be refused for.

    Raises:
        As :func:`prepare`, and OutputError where the run is being trained by another command.
    """
    refuse_locked(plan.folder)
    ready = prepare(plan)
    if ready.resumed is not None:
        training = ready.plan.settings.training
        state = TrainingState(ready.built.network, training, seed=plan.request.seed)
        restore(ready.resumed, state)


def _refuse_unwritable(plan: Plan) -> None:
    """Refuse a folder that cannot be made or written; the bundled registry is copied first."""
    if plan.request.registry.resolve() == BUNDLED:
        return
    place = next(p for p in (plan.folder, *plan.folder.absolute().parents) if p.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        problem = f"cannot write {plan.folder}: {place} is no folder you can write to"
        raise OutputError(problem, hint="choose another registry: --registry PATH")


def load_images(
    info: DatasetInfo, factor: Factor | None, *, device: torch.device
) -> tuple[TrainingImages, TrainingImages]:
    """The images to train on, and the last twentieth (64 to 2,000), which is held out.

    Raises:
        DigestError: The content is not what was written, and a record would name other pictures.
    """
    verify_digest(info.path)
    images = torch.from_numpy(read_images(info.path, 0, info.n_images))
    labels = None
    if factor is not None:
        labels = torch.from_numpy(read_labels(info.path, factor.name, 0, info.n_images))
    held = min(2000, max(64, info.n_images // 20), info.n_images // 2)
    loaded = TrainingImages(images, labels, device=device)
    if device.type == "cuda":
        _settle(loaded, info)
    return loaded.split(held)


def _settle(images: TrainingImages, info: DatasetInfo) -> None:
    """Bring a whole dataset to a GPU, where graphs draw from it.

    Raises:
        ConfigError: It would leave less than half of the free memory.
    """
    free, _ = torch.cuda.mem_get_info(images.device)
    if images.images.nbytes > free // 2:
        problem = f"{info.path} has {images.images.nbytes / 1e9:.1f} GB, the GPU {free / 1e9:.1f}"
        raise ConfigError(f"{problem} free", hint="take fewer or smaller pictures, or --device cpu")
    images.settle()


def start_from(network: nn.Module, registry: Registry, plan: Plan) -> None:
    """Fill fresh weights with those of a trained entry, to train it further or to transfer it.

    The prior of a concept stays that of the new data; the Gaussian comes with the weights. A
    decoder that the entry does not have stays fresh: it changes nothing until it is trained. What a
    base was mended by is left behind: it belongs to those very weights.

    Raises:
        ConfigError: It has another shape.
    """
    name = str(plan.request.start)
    whole = plan.kind == "base"
    source = load_base(registry, name) if whole else load_concept(registry, name)
    fresh = network.state_dict()
    given = {k: v for k, v in source.state_dict().items() if not k.startswith("residual.")}
    added = {k for k in fresh if ".decoder." in k and k not in given}
    kept = {k: v.clone() for k, v in fresh.items() if k.endswith("log_prior") or k in added}
    try:
        network.load_state_dict(given | kept)
    except RuntimeError as error:
        hint = "give --set the settings it was trained with, or leave --start out"
        raise ConfigError(
            f"{name} has another shape than {plan.request.name}", hint=hint
        ) from error


def started_from(registry: Registry, plan: Plan) -> dict[str, Any]:
    """For the record: the digest of its base, and the weights it began with and their origin."""
    history: dict[str, Any] = {}
    if plan.base is not None:
        history["base"] = registry.get("base", plan.base).sha256
    if plan.request.start is None:
        return history
    source = registry.get("base" if plan.kind == "base" else "concept", plan.request.start)
    return history | {"start": {"sha256": source.sha256, "provenance": source.provenance}}


def build(plan: Plan, images: TrainingImages, base: Base | None, *, autocast: bool) -> Built:
    """A fresh network for a plan, on its device, with what it is to minimise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.request.seed)  # fresh weights are drawn from the global source
        if plan.kind == "base":
            return build_base(images, plan.settings, device=plan.device, autocast=autocast)
        assert plan.factor is not None
        return build_trained_concept(
            plan.method,
            plan.factor,
            images,
            plan.settings,
            base=base,
            device=plan.device,
            autocast=autocast,
            partner=_partner(plan, len(images)),
        )


def _partner(plan: Plan, n: int) -> Partner | None:
    """The concept to be independent of, if one was asked for."""
    name = plan.request.independent_of
    if name is None:
        return None
    registry = read_registry(plan.request.registry)
    return load_partner(registry, name, plan.info, n=n, device=plan.device)


def _resumed(plan: Plan, registry: Registry) -> tuple[Run, Plan]:
    """A run to go on with, and its own settings but for what was asked to change."""
    request = plan.request
    run = Run(folder=plan.folder, name=request.name, space=plan.info.space, config={})
    run = open_run(run, resume=True, restart=False)
    for key in ("data_digest", "method", "base", "seed", "factor", "independent_of"):
        begun_with = run.config.get(key)  # runs of older versions lack the last
        if begun_with != plan.to_dict()[key]:
            problem = f"the run was started with another {key}: {begun_with}"
            raise ConfigError(problem, hint="give the same options, or --restart")
    place = torch.device(run.config.get("device", plan.device))  # absent in older runs
    if (place.type == "cuda") != (plan.device.type == "cuda"):
        problem = f"the run was begun on {place}, and its random numbers are those of {place.type}"
        raise ConfigError(problem, hint=f"add --device {place}, or start again: --restart")
    begun_on = run.config["history"].get("base")  # absent in runs of older versions
    if plan.base is not None and begun_on not in (None, registry.get("base", plan.base).sha256):
        problem = f"the base {plan.base} was replaced since the run was started"
        raise ConfigError(problem, hint="start again: --restart instead of --resume")
    if request.minutes is not None:
        hint = "leave --minutes out, or set the updates in all by --steps"
        raise ConfigError("a run keeps the number of updates it was started with", hint=hint)
    begun = Settings.from_dict(run.config["settings"])
    steps = () if request.steps is None else (f"n_steps={request.steps}",)
    settings = changed(begun, (*request.assignments, *steps))
    if (settings.trunk, settings.gaussian) != (begun.trunk, begun.gaussian):
        hint = "start again: --restart instead of --resume"
        raise ConfigError("the shape of a network cannot change in a run", hint=hint)
    changes = run.config.get("changes", [])
    if settings != begun:
        done = steps_done(run)
        if settings.training.n_steps < done:
            hint = "ask for more, or start again: --restart instead of --resume"
            problem = f"{done} updates are done, {settings.training.n_steps} are asked for in all"
            raise ConfigError(problem, hint=hint)
        changes = [*changes, {"step": done, "command": request.command}]
    run = replace(run, config=run.config | {"settings": settings.to_dict(), "changes": changes})
    command = run.config.get("command", request.command)
    request = replace(request, command=command, start=run.config["start"])
    return run, replace(plan, settings=settings, request=request)
