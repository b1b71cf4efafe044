"""From a dataset file to a trained base or concept: run, checkpoint, held-out numbers, record."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ebmcli
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.factors import Factor
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import TrainingImages
from ebmcli.core.networks import parameter_count
from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_labels
from ebmcli.errors import ConfigError, InterruptedRun
from ebmcli.registry import Record, Registry, read_registry
from ebmcli.training.independent import Partner
from ebmcli.training.loop import Objective, StepReport, TrainingState
from ebmcli.workflows.builders import (
    Built,
    build_base,
    build_trained_concept,
    held_out_numbers,
)
from ebmcli.workflows.device import resolve_precision
from ebmcli.workflows.honesty import object_share, unconditional_or_one_value
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.loading import Concept, load_base, load_concept
from ebmcli.workflows.partners import load_partner
from ebmcli.workflows.plans import Plan, resume_command, steps_set
from ebmcli.workflows.runs import Run, open_run, refuse_unfinished, save_config, train_to_end
from ebmcli.workflows.settings import Settings, changed

DEFAULT_MINUTES = {"base": 30.0, "concept": 8.0}  # chosen: what a laptop can spare
N_DRAWN = 64  # pictures per number of corrector steps in the honest test; chosen
WARM_UP_UPDATES, TIMED_UPDATES = 3, 8


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a finished run left."""

    record: Record
    weights: Path
    seconds: float


def load_images(
    info: DatasetInfo, factor: Factor | None, *, device: torch.device
) -> tuple[TrainingImages, TrainingImages]:
    """The images to train on, and the last twentieth (64 to 2,000), which is held out."""
    images = torch.from_numpy(read_images(info.path, 0, info.n_images))
    labels = None
    if factor is not None:
        labels = torch.from_numpy(read_labels(info.path, factor.name, 0, info.n_images))
    held = min(2000, max(64, info.n_images // 20), info.n_images // 2)
    return TrainingImages(images, labels, device=device).split(held)


def train(plan: Plan, *, report: Callable[[StepReport], None]) -> Trained:
    """Run a plan to its end, evaluate on held-out images, save, register.

    Raises:
        InterruptedRun: Ctrl-C; the run can be resumed.
        DivergedError: Numbers became infinite; the last good checkpoint is kept.
    """
    registry = read_registry(plan.request.registry)
    images, held = load_images(plan.info, plan.factor, device=plan.device)
    base = load_base(registry, plan.base, device=plan.device) if plan.base else None
    run, plan = _opened(plan, images, base, started_from(registry, plan))
    autocast = bool(run.config["autocast"])
    built = _build(plan, images, base, autocast=autocast)
    if plan.request.start is not None and not plan.request.resume:
        start_from(built.network, registry, plan)
    state = TrainingState(built.network, plan.settings.training, seed=plan.request.seed)
    train_to_end(run, state, built.objective, plan.settings.training, report=report)
    state.use_average()
    history = run.config["history"]
    try:
        return finished(plan, built.network, held, base, state.seconds, history=history)
    except KeyboardInterrupt as error:
        problem = "interrupted while the result was measured; the training is done and saved"
        raise InterruptedRun(problem, hint=run.resume_hint) from error


def start_from(network: nn.Module, registry: Registry, plan: Plan) -> None:
    """Fill fresh weights with those of a trained entry, to train it further or to transfer it.

    The prior of a concept stays that of the new data; the Gaussian comes with the weights. A
    decoder that the entry does not have stays fresh: it changes nothing until it is trained.

    Raises:
        ConfigError: It has another shape.
    """
    name = str(plan.request.start)
    whole = plan.kind == "base"
    source = load_base(registry, name) if whole else load_concept(registry, name)
    given, fresh = source.state_dict(), network.state_dict()
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
    """For the record: which weights a run began with, and how those were trained."""
    if plan.request.start is None or plan.request.resume:  # a run to resume has noted it
        return {}
    source = registry.get("base" if plan.kind == "base" else "concept", plan.request.start)
    return {"start": {"sha256": source.sha256, "provenance": source.provenance}}


def _opened(
    plan: Plan, images: TrainingImages, base: BaseEnergy | None, history: dict[str, Any]
) -> tuple[Run, Plan]:
    """The run's folder; on resume its own settings, else the number of steps for the minutes."""
    request = plan.request
    if not request.resume:
        refuse_unfinished(plan.folder, restart=request.restart)
        autocast = resolve_precision(request.precision, plan.device)
        if request.steps is None and not steps_set(request):
            minutes = request.minutes or DEFAULT_MINUTES[plan.kind]
            n_steps = steps_in(minutes, plan, images, base, autocast=autocast)
            training = replace(plan.settings.training, n_steps=n_steps)
            plan = replace(plan, settings=replace(plan.settings, training=training))
        config = plan.to_dict() | {"autocast": autocast, "command": request.command}
        config["history"] = history
        config["resume_command"] = resume_command(plan)
    else:
        config = {}
    run = Run(folder=plan.folder, name=request.name, space=plan.info.space, config=config)
    run = open_run(run, resume=request.resume, restart=request.restart)
    return _resumed(run, plan) if request.resume else (run, plan)


def _resumed(run: Run, plan: Plan) -> tuple[Run, Plan]:
    """A run to go on with, and its own settings but for what was asked to change."""
    request = plan.request
    for key in ("data_digest", "method", "base", "seed", "factor", "independent_of"):
        begun_with = run.config.get(key)  # runs of older versions lack the last
        if begun_with != plan.to_dict()[key]:
            problem = f"the run was started with another {key}: {begun_with}"
            raise ConfigError(problem, hint="give the same options, or --restart")
    if request.minutes is not None:
        hint = "leave --minutes out, or set the updates in all by --steps"
        raise ConfigError("a run keeps the number of updates it was started with", hint=hint)
    begun = Settings.from_dict(run.config["settings"])
    steps = () if request.steps is None else (f"n_steps={request.steps}",)
    settings = changed(begun, (*request.assignments, *steps))
    if (settings.trunk, settings.gaussian) != (begun.trunk, begun.gaussian):
        hint = "start again: --restart instead of --resume"
        raise ConfigError("the shape of a network cannot change in a run", hint=hint)
    run = replace(run, config=run.config | {"settings": settings.to_dict()})
    save_config(run)  # so that the next --resume knows what this one changed
    command = run.config.get("command", request.command)
    request = replace(request, command=command, start=run.config["start"])
    return run, replace(plan, settings=settings, request=request)


def _build(plan: Plan, images: TrainingImages, base: BaseEnergy | None, *, autocast: bool) -> Built:
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


def steps_in(
    minutes: float,
    plan: Plan,
    images: TrainingImages,
    base: BaseEnergy | None,
    *,
    autocast: bool,
) -> int:
    """Updates that fit into some minutes on this machine, from a few timed ones."""
    built = _build(plan, images, base, autocast=autocast)
    config = plan.settings.training
    state = TrainingState(built.network, config, seed=plan.request.seed)
    for _ in range(WARM_UP_UPDATES):
        _update(state, built.objective)
    start = time.perf_counter()
    for _ in range(TIMED_UPDATES):
        _update(state, built.objective)
    seconds = (time.perf_counter() - start) / TIMED_UPDATES
    return max(1, round(60 * minutes / seconds))


def _update(state: TrainingState, objective: Objective) -> None:
    """One update whose only use is its duration."""
    losses = objective(state.generator)
    state.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    for group in state.optimizer.param_groups:
        group["lr"] = 0.0
    state.optimizer.step()


def finished(
    plan: Plan,
    network: nn.Module,
    held: TrainingImages,
    base: BaseEnergy | None,
    seconds: float,
    *,
    history: dict[str, Any] | None = None,
) -> Trained:
    """Numbers on held-out images, the weights file, the record; ``history`` goes into it."""
    network.requires_grad_(False).eval()
    assert isinstance(network, BaseEnergy | Concept)
    network.autocast = False
    if base is not None:
        base.autocast = False
    measured = held_out_numbers(network, held, base=base)
    shares = _object_share(plan, network, base)
    if shares is not None:
        measured["object_share"] = shares
    header: dict[str, Any] = {
        "kind": plan.kind,
        "space": plan.info.space,
        "name": plan.request.name,
        "config": network.config.to_dict(),
    }
    if not isinstance(network, PosteriorConcept):
        gaussian = network.gaussian if isinstance(network, BaseEnergy) else network.own_gaussian
        header["n_components"] = len(gaussian.variances)
    if plan.factor is not None:
        header |= {"factor": plan.factor.to_dict(), "method": plan.method, "base": plan.base}
    record = Record(
        kind=plan.kind,  # type: ignore[arg-type]  # base or concept
        name=plan.request.name,
        space=plan.info.space,
        file="",
        sha256="",
        factor=plan.factor,
        method=plan.method if plan.kind == "concept" else None,
        base=plan.base,
        calibration={},
        measured=measured,
        provenance=provenance(plan, network, seconds) | (history or {}),
    )
    kept = keep_trained(
        plan.request.registry,
        record,
        network.state_dict(),
        header,
        overwrite=plan.request.overwrite,
    )
    (plan.folder / "state.safetensors").unlink(missing_ok=True)  # settings and metrics stay
    weights = plan.request.registry.parent / kept.file
    return Trained(record=kept, weights=weights, seconds=seconds)


def _object_share(
    plan: Plan, network: BaseEnergy | Concept, base: BaseEnergy | None
) -> dict[str, float] | None:
    """The honest test: a base by itself, a concept asked for its values in turn.

    A list of objects has no values in turn, and no judge.
    """
    if plan.factor is not None and plan.factor.kind == "objects":
        return None
    return object_share(
        unconditional_or_one_value(network, base),
        _gaussian(network, base),
        read_registry(plan.request.registry),
        plan.info.space,
        size=plan.info.size,
        n=N_DRAWN,
        device=plan.device,
    )


def _gaussian(network: BaseEnergy | Concept, base: BaseEnergy | None) -> GaussianEnergy:
    """The Gaussian from which an energy's chains start."""
    if isinstance(network, BaseEnergy):
        return network.gaussian
    if isinstance(network, PosteriorConcept):
        assert base is not None
        return base.gaussian
    return network.own_gaussian


def provenance(plan: Plan, network: nn.Module, seconds: float) -> dict[str, Any]:
    """Where weights come from: enough to train them again."""
    return {
        "command": plan.request.command,
        "data": plan.info.digest,
        "seed": plan.request.seed,
        "steps": plan.settings.training.n_steps,
        "parameters": parameter_count([network]) or _parameter_total(network),
        "seconds": round(seconds, 1),
        "device": str(plan.device),
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {
            "ebm": ebmcli.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _parameter_total(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def quality_table(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The held-out numbers as rows, one per noise level."""
    return [
        {"sigma": float(sigma), **(row if isinstance(row, dict) else {"loss": row})}
        for sigma, row in measured.get("held_out", {}).items()
    ]
