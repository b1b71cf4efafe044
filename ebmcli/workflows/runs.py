"""A training run on disk: one folder with its settings, its last checkpoint and its history.

``config.json`` holds every setting, resolved; ``state.safetensors`` weights, average, optimiser
and random source; ``metrics.jsonl`` one line per report. A run resumes in its own folder and then
equals the uninterrupted one bit for bit on the same machine.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ebmcli.checkpoint import read_checkpoint, write_bytes, write_checkpoint
from ebmcli.errors import (
    ConfigError,
    DeadError,
    DivergedError,
    FileFormatError,
    InterruptedRun,
    OutputExistsError,
)
from ebmcli.training.gradients import Objective
from ebmcli.training.loop import (
    StepReport,
    TrainingConfig,
    TrainingState,
    training_run,
)

STATE = "state.safetensors"  # the last checkpoint; gone when a training is finished
SAVE_SECONDS = 60.0  # chosen: at most a minute is lost to kill -9
LOG_EVERY = 50  # updates between lines of metrics.jsonl

Reporter = Callable[[StepReport], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run lives and what it is."""

    folder: Path
    name: str
    space: str
    config: dict[str, Any]  # plain types, as in config.json

    @property
    def state_path(self) -> Path:
        """The last checkpoint."""
        return self.folder / STATE

    @property
    def resume_hint(self) -> str:
        """The command that goes on."""
        return f"resume with: {self.config['resume_command']}"


def open_run(run: Run, *, resume: bool, restart: bool) -> Run:
    """Make the folder of a new run, or read the settings of the one to resume.

    Raises:
        OutputExistsError: There is an unfinished run of this name, and neither flag was given.
        ConfigError: There is nothing to resume.
    """
    config_path = run.folder / "config.json"
    if resume:
        refuse_missing(run.folder)
        try:
            config = json.loads(config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = f"remove {run.folder} and start again"
            raise FileFormatError(config_path, "cannot be read", hint=hint) from error
        return Run(folder=run.folder, name=run.name, space=run.space, config=config)
    refuse_unfinished(run.folder, restart=restart)
    for name in (STATE, "metrics.jsonl"):
        (run.folder / name).unlink(missing_ok=True)
    save_config(run)
    return run


def refuse_missing(folder: Path) -> None:
    """Refuse to go on where there is nothing to go on with.

    Raises:
        ConfigError: There is no unfinished run.
    """
    if not (folder / STATE).is_file():
        hint = "leave --resume out to start"
        raise ConfigError(f"no run to resume in {folder}", hint=hint)


def refuse_unfinished(folder: Path, *, restart: bool) -> None:
    """Refuse to start where a run was interrupted, unless it is to be dropped.

    Raises:
        OutputExistsError: There is an unfinished run.
    """
    if (folder / STATE).exists() and not restart:
        hint = "add --resume to go on with it, or --restart to drop it and start again"
        raise OutputExistsError(f"the unfinished run {folder}", hint=hint)


def save_config(run: Run) -> None:
    """Write the settings of a run."""
    text = json.dumps(run.config, indent=2, sort_keys=True)
    write_bytes(run.folder / "config.json", f"{text}\n".encode())


def train_to_end(
    run: Run,
    state: TrainingState,
    objective: Objective,
    config: TrainingConfig,
    *,
    report: Reporter,
) -> None:
    """Update until the last step, with checkpoints; Ctrl-C finishes the step and saves.

    Raises:
        InterruptedRun: Ctrl-C; the hint resumes.
        DivergedError: Numbers are not finite; the last good checkpoint is kept.
        DeadError: The gradient stays 0.
    """
    if run.state_path.exists():
        restore(run, state)
    begun = saved = time.monotonic()
    earlier = state.seconds
    history = run.folder / "metrics.jsonl"
    _forget_after(history, state.step)
    with interruption() as interrupted, history.open("a", encoding="utf-8") as log:
        try:
            for update in training_run(state, objective, config):
                report(update)
                now = time.monotonic()
                state.seconds = earlier + now - begun
                if update.step % LOG_EVERY == 0 or update.step == config.n_steps:
                    log.write(json.dumps(_plain(update)) + "\n")
                    log.flush()
                if interrupted.is_set():
                    save_state(run, state)
                    problem = f"interrupted at step {update.step} of {config.n_steps}, saved"
                    raise InterruptedRun(problem, hint=run.resume_hint)
                if now - saved > SAVE_SECONDS:
                    save_state(run, state)
                    saved = now
        except DeadError:
            raise  # its checkpoint is no place to go on from
        except DivergedError as error:
            if not run.state_path.exists():
                save_state(run, state)  # the update that failed has left the weights alone
            hint = f"{error.hint} in {run.folder}; {run.resume_hint}, with that --set"
            raise DivergedError(error.problem, hint=hint) from error
    save_state(run, state)


def restore(run: Run, state: TrainingState) -> None:
    """Put the last checkpoint of a run into a state.

    Raises:
        FileFormatError: It is damaged, or of another network.
    """
    tensors, _ = read_checkpoint(run.state_path, kind="run")
    try:
        state.load(tensors)
    except (KeyError, RuntimeError) as error:
        hint = "start again: --restart instead of --resume"
        raise FileFormatError(run.state_path, "is not of this network", hint=hint) from error


def steps_done(run: Run) -> int:
    """The updates of the last checkpoint of a run.

    Raises:
        FileFormatError: It is damaged.
    """
    tensors, _ = read_checkpoint(run.state_path, kind="run")
    return int(tensors["step"])


def save_state(run: Run, state: TrainingState) -> None:
    """Replace the checkpoint of a run."""
    header = {"kind": "run", "space": run.space, "name": run.name}
    write_checkpoint(run.state_path, state.tensors(), header)


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(_signum: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _forget_after(history: Path, step: int) -> None:
    """Drop the lines of updates that a killed run did after its last checkpoint."""
    if not history.exists():
        return
    kept = []
    for line in history.read_text(encoding="utf-8").splitlines():
        try:
            done = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            break  # cut short by the kill
        if done <= step:
            kept.append(f"{line}\n")
    write_bytes(history, "".join(kept).encode())


def _plain(update: StepReport) -> dict[str, float]:
    return {
        "step": update.step,
        "gradient_norm": update.gradient_norm,
        "learning_rate": update.learning_rate,
        **update.losses,
    }
