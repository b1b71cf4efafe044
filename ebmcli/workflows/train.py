"""From a dataset file to a trained base or concept: run, checkpoint, held-out numbers, record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import TrainingImages
from ebmcli.core.networks import parameter_count
from ebmcli.core.union import Base
from ebmcli.datasets.hdf5 import read_labels
from ebmcli.errors import DivergedError, InterruptedRun
from ebmcli.evaluation.association import classes, cramers_v
from ebmcli.registry import Record, read_registry
from ebmcli.registry.lock import locked_run
from ebmcli.training.loop import StepReport, TrainingState, training_run
from ebmcli.workflows.builders import held_out_numbers
from ebmcli.workflows.honesty import object_share, unconditional_or_one_value
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.loading import Concept
from ebmcli.workflows.origin import created, data_origin, versions
from ebmcli.workflows.plans import Plan, resume_command, steps_set
from ebmcli.workflows.prepare import Prepared, build, prepare
from ebmcli.workflows.runs import STATE, Run, open_run, refuse_missing, save_config, train_to_end

DEFAULT_MINUTES = {"base": 30.0, "concept": 8.0}  # chosen: what a laptop can spare
N_DRAWN = 64  # pictures per number of corrector steps in the honest test; chosen
DRAWN_PER_MINUTE, FEWEST_DRAWN = 2, 16  # of training: the test takes a fifth of it; chosen
N_LABELS = 20_000  # of which it is measured what goes together
TOGETHER = 0.1  # Cramer's V from which two factors do; chosen
WARM_UP_UPDATES, TIMED_UPDATES = 3, 8
UNMOVED = 1e-9  # a rate at which timed updates change nothing


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a finished run left."""

    record: Record
    weights: Path
    seconds: float


def _silent(_: str) -> None:
    """Announce nothing."""


def train(
    plan: Plan,
    *,
    report: Callable[[StepReport], None],
    announce: Callable[[str], None] = _silent,
) -> Trained:
    """Run a plan to its end, evaluate on held-out images, save, register.

    What follows the last update takes minutes of its own; ``announce`` is told what it is.

    Raises:
        ConfigError, OutputExistsError, OutputError: As :func:`ebmcli.workflows.prepare.prepare`.
        InterruptedRun: Ctrl-C; the run can be resumed.
        DivergedError: Numbers became infinite; the last good checkpoint is kept.
    """
    if plan.request.resume:
        refuse_missing(plan.folder)  # before a lock is left where nothing else is
    with locked_run(plan.folder):
        try:
            ready = prepare(plan)
            run, plan = _opened(ready)
        except KeyboardInterrupt as error:
            problem = "interrupted before the first update"
            raise InterruptedRun(problem, hint="nothing was lost: repeat the command") from error
        state = TrainingState(ready.built.network, plan.settings.training, seed=plan.request.seed)
        train_to_end(run, state, ready.built.objective, plan.settings.training, report=report)
        state.use_average()
        network, history = ready.built.network, run.config["history"]
        if changes := run.config.get("changes"):  # by --resume with other settings
            history = history | {"resumed": changes}
        try:
            return finished(
                plan,
                network,
                ready.held,
                ready.base,
                state.seconds,
                history=history,
                announce=announce,
            )
        except KeyboardInterrupt as error:
            problem = "interrupted while the result was measured; the training is done and saved"
            raise InterruptedRun(problem, hint=run.resume_hint) from error


def _opened(ready: Prepared) -> tuple[Run, Plan]:
    """The run's folder; of a new run after the number of steps for the minutes was found."""
    plan, request = ready.plan, ready.plan.request
    if ready.resumed is not None:
        save_config(ready.resumed)  # so that the next --resume knows what this one changed
        return ready.resumed, plan
    if request.steps is None and not steps_set(request):
        minutes = request.minutes or DEFAULT_MINUTES[plan.kind]
        n_steps = steps_in(minutes, plan, ready.images, ready.base, autocast=ready.autocast)
        training = replace(plan.settings.training, n_steps=n_steps)
        plan = replace(plan, settings=replace(plan.settings, training=training))
    config = plan.to_dict() | {"autocast": ready.autocast, "command": request.command}
    config["history"] = ready.history
    config["resume_command"] = resume_command(plan)
    run = Run(folder=plan.folder, name=request.name, space=plan.info.space, config=config)
    return open_run(run, resume=False, restart=request.restart), plan


def steps_in(
    minutes: float,
    plan: Plan,
    images: TrainingImages,
    base: Base | None,
    *,
    autocast: bool,
) -> int:
    """Updates that fit into some minutes on this machine, from a few timed ones."""
    built = build(plan, images, base, autocast=autocast)
    n_timed = WARM_UP_UPDATES + TIMED_UPDATES
    config = replace(plan.settings.training, n_steps=n_timed, learning_rate=UNMOVED)
    state = TrainingState(built.network, config, seed=plan.request.seed)
    try:
        times = [time.perf_counter() for _ in training_run(state, built.objective, config)]
    except DivergedError as error:
        hint = "look at the pictures and labels: ebm dataset show; or lower the learning rate"
        raise DivergedError(f"{error.problem}, before anything moved", hint=hint) from error
    seconds = (times[-1] - times[WARM_UP_UPDATES - 1]) / TIMED_UPDATES
    return max(1, round(60 * minutes / seconds))


def finished(
    plan: Plan,
    network: nn.Module,
    held: TrainingImages,
    base: Base | None,
    seconds: float,
    *,
    history: dict[str, Any] | None = None,
    announce: Callable[[str], None] = _silent,
) -> Trained:
    """Numbers on held-out images, the weights file, the record; ``history`` goes into it."""
    network.requires_grad_(False).eval()
    assert isinstance(network, BaseEnergy | Concept)
    network.autocast = False
    if base is not None:
        base.autocast = False
    measured = held_out_numbers(network, held, base=base)
    n = n_drawn(plan)
    shares = _object_share(plan, network, base, n=n, announce=announce)
    if shares is not None:
        measured |= {"object_share": shares, "n_drawn": n}
    if together := goes_with(plan):
        measured["goes_with"] = together
    header: dict[str, Any] = {
        "kind": plan.kind,
        "space": plan.info.space,
        "name": plan.request.name,
        "config": network.config.to_dict(),
    }
    if not isinstance(network, PosteriorConcept):
        gaussian = network.gaussian if isinstance(network, BaseEnergy) else network.own_gaussian
        header["n_components"] = len(gaussian.variances)
    factor = network.factor if isinstance(network, Concept) else None
    if factor is not None:
        header |= {"factor": factor.to_dict(), "method": plan.method, "base": plan.base}
    record = Record(
        kind=plan.kind,  # type: ignore[arg-type]  # base or concept
        name=plan.request.name,
        space=plan.info.space,
        file="",
        sha256="",
        factor=factor,
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
    (plan.folder / STATE).unlink(missing_ok=True)  # settings and metrics stay
    weights = plan.request.registry.parent / kept.file
    return Trained(record=kept, weights=weights, seconds=seconds)


def n_drawn(plan: Plan) -> int:
    """Pictures of the honest test: after few minutes of training it should not take longer."""
    minutes = minutes_of(plan)
    if minutes is None:
        return N_DRAWN
    return max(FEWEST_DRAWN, min(N_DRAWN, round(DRAWN_PER_MINUTE * minutes)))


def minutes_of(plan: Plan) -> float | None:
    """The minutes that decide the number of updates; None where that is given."""
    request = plan.request
    if request.steps is not None or steps_set(request) or request.resume:
        return None
    return request.minutes or DEFAULT_MINUTES[plan.kind]


def planned_length(plan: Plan) -> dict[str, Any]:
    """For a plan that is only shown: minutes, and then no number of updates, which is not known."""
    minutes = minutes_of(plan)
    if minutes is None:
        return {}
    return {"minutes": minutes, "settings": plan.settings.to_dict() | {"n_steps": None}}


def _object_share(
    plan: Plan,
    network: BaseEnergy | Concept,
    base: Base | None,
    *,
    n: int,
    announce: Callable[[str], None],
) -> dict[str, float] | None:
    """The honest test: a base by itself, a concept asked for its values in turn.

    A list of objects has no values in turn.
    """
    if plan.factor is not None and plan.factor.kind == "objects":
        return None
    registry = read_registry(plan.request.registry)
    if any(record.space == plan.info.space for record in registry.judges.values()):
        announce(f"trained; drawing {3 * n} pictures to see whether they keep their objects")
    return object_share(
        unconditional_or_one_value(network, base),
        _gaussian(network, base),
        registry,
        plan.info.space,
        size=plan.info.size,
        n=n,
        device=plan.device,
    )


def goes_with(plan: Plan) -> dict[str, float]:
    """The other factors that go together with a concept's in its pictures, and how closely.

    See :mod:`ebmcli.evaluation.association`; what is below TOGETHER counts as chance.
    """
    if plan.factor is None:
        return {}
    n = min(plan.info.n_images, N_LABELS)
    found = {}
    for name, factor in plan.info.factors.items():
        labels = torch.from_numpy(read_labels(plan.info.path, name, 0, n))
        found[name] = classes(factor, labels)
    own = found.pop(plan.factor.name)
    if own is None:
        return {}
    values = {name: cramers_v(own, other) for name, other in found.items() if other is not None}
    return {name: round(v, 3) for name, v in values.items() if v >= TOGETHER}


def _gaussian(network: BaseEnergy | Concept, base: Base | None) -> GaussianEnergy:
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
        **data_origin(plan.info),
        "seed": plan.request.seed,
        "steps": plan.settings.training.n_steps,
        "parameters": parameter_count([network]) or _parameter_total(network),
        "seconds": round(seconds, 1),
        "device": str(plan.device),
        "created": created(),
        "versions": versions(),
    }


def _parameter_total(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def quality_table(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The held-out numbers as rows, one per noise level."""
    return [
        {"sigma": float(sigma), **(row if isinstance(row, dict) else {"loss": row})}
        for sigma, row in measured.get("held_out", {}).items()
    ]
