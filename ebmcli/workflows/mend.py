"""Mend the mass of a base energy: contrast the data with pictures from its own chains.

Score matching hardly sees how much mass separated modes have, such as "an object" and "no object".
The contrast sees nothing else: see ``objectives.mend_objective``. The chains that are mended are
those that will be used, with their corrector.
"""

import copy
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ebmcli.checkpoint import read_checkpoint, write_checkpoint
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.images import TrainingImages
from ebmcli.errors import ConfigError
from ebmcli.registry import read_registry
from ebmcli.training.loop import StepReport, TrainingState
from ebmcli.training.objectives import mend_objective
from ebmcli.workflows.device import resolve_precision
from ebmcli.workflows.honesty import draw_plain
from ebmcli.workflows.loading import load_base
from ebmcli.workflows.plans import Plan, TrainRequest, plan_base
from ebmcli.workflows.runs import Run, interruption, open_run, train_to_end
from ebmcli.workflows.train import Trained, finished, load_images

DEFAULT_STEPS = 2000  # updates
LEARNING_RATE = 2e-4  # a tenth of training's: the energy is nearly right
CHAIN_BATCH = 32
SAMPLES = "samples.safetensors"  # in the run's folder

Progress = Callable[[int, int], None]


def mend_base(
    request: TrainRequest,
    *,
    n_samples: int,
    n_corrector: int,
    report: Callable[[StepReport], None],
    progress: Progress | None = None,
) -> Trained:
    """Draw from a base's own chains, fine-tune it against them, replace it.

    Args:
        request: Names a base of the registry; ``steps`` are updates of the fine-tune.
        n_samples: Pictures drawn from the chains.
        n_corrector: Langevin steps per noise level of those chains.
        report: Told about every update.
        progress: Told how many pictures are drawn.

    Raises:
        ConfigError: A number is out of range.
        InterruptedRun: Ctrl-C; the run can be resumed.
    """
    if n_samples < 16 or n_corrector < 0:
        raise ConfigError("--samples must be at least 16 and --corrector-steps not negative")
    start = time.monotonic()
    registry = read_registry(request.registry)
    record = registry.get("base", request.name)
    plan = _plan(replace(request, overwrite=True))
    base = load_base(registry, request.name, device=plan.device)
    run = _run(plan, source=record.sha256)
    samples = _samples(run, base, n_samples, n_corrector, plan.device, progress)
    images, held = load_images(plan.info, None, device=plan.device)
    reference = copy.deepcopy(base)
    base.requires_grad_(True).train()
    base.gaussian.requires_grad_(False)
    base.autocast = reference.autocast = bool(run.config["autocast"])
    drawn = TrainingImages(samples, device=plan.device)
    objective = mend_objective(
        base, reference, images, drawn, batch_size=plan.settings.training.batch_size
    )
    state = TrainingState(base, plan.settings.training, seed=request.seed)
    train_to_end(run, state, objective, plan.settings.training, report=report)
    state.use_average()
    history = {"mended_from": record.sha256, "trained": record.provenance}
    seconds = time.monotonic() - start
    return finished(plan, base, held, None, seconds, history=history)


def _plan(request: TrainRequest) -> Plan:
    plan = plan_base(request)
    if request.minutes is not None:
        raise ConfigError("a fine-tune is counted in updates", hint="use --steps")
    training = replace(
        plan.settings.training,
        n_steps=request.steps or DEFAULT_STEPS,
        learning_rate=LEARNING_RATE,
    )
    folder = plan.folder.with_name(f"mend-{request.name}")
    return replace(plan, folder=folder, settings=replace(plan.settings, training=training))


def _run(plan: Plan, *, source: str) -> Run:
    request = plan.request
    words = ["ebm", "mend-base", request.name, "--data", str(request.data)]
    words += ["--registry", str(request.registry), "--steps", str(plan.settings.training.n_steps)]
    config: dict[str, Any] = plan.to_dict() | {
        "autocast": resolve_precision(request.precision, plan.device),
        "source": source,
        "resume_command": shlex.join([*words, "--resume"]),
    }
    run = Run(folder=plan.folder, name=request.name, space=plan.info.space, config=config)
    run = open_run(run, resume=request.resume, overwrite=not request.resume)
    if not request.resume:
        (run.folder / SAMPLES).unlink(missing_ok=True)
    if run.config["source"] != source:
        raise ConfigError(f"the run mended another {request.name}", hint="leave --resume out")
    return run


def _samples(
    run: Run,
    base: BaseEnergy,
    n: int,
    n_corrector: int,
    device: torch.device,
    progress: Progress | None,
) -> Tensor:
    """Pictures of the base's own chains, uint8 (n, S, S, 3); kept in the run's folder."""
    path = run.folder / SAMPLES
    if path.is_file():
        return read_checkpoint(path, kind="run")[0]["images"]
    parts = []
    with interruption() as interrupted:
        for first in range(0, n, CHAIN_BATCH):
            seeds = range(first, min(first + CHAIN_BATCH, n))
            size = base.config.size
            parts.append(
                draw_plain(
                    base.energy,
                    base.gaussian,
                    seeds,
                    size=size,
                    n_corrector=n_corrector,
                    device=device,
                )
            )
            if progress:
                progress(first + len(seeds), n)
            if interrupted.is_set():
                raise KeyboardInterrupt
    images = torch.cat(parts)
    write_checkpoint(path, {"images": images}, {"kind": "run", "space": run.space})
    return images
