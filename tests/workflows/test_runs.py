"""A run on disk: killed or interrupted, resumed, it equals the uninterrupted one bit for bit."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, random_base, random_concept, squares
from torch import Tensor

from ebmcli.checkpoint import read_checkpoint
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept
from ebmcli.errors import (
    ConfigError,
    DivergedError,
    FileFormatError,
    InterruptedRun,
    OutputExistsError,
)
from ebmcli.training.gradients import Objective
from ebmcli.training.loop import StepReport, TrainingConfig, TrainingState
from ebmcli.training.objectives import (
    ObjectiveConfig,
    base_objective,
    both_objective,
    conditional_objective,
    posterior_objective,
)
from ebmcli.workflows import runs
from ebmcli.workflows.runs import Run, interruption, open_run, train_to_end

CONFIG = TrainingConfig(n_steps=8, batch_size=4, n_warmup=2)
KINDS = ("base", "posterior", "conditional", "both")


def quiet(_: StepReport) -> None:
    return None


class Killed(BaseException):
    """What ends a process without asking."""


def started(kind: str, config: TrainingConfig = CONFIG) -> tuple[TrainingState, Objective]:
    """A fresh network, channels last as in training, and its objective."""
    settings = ObjectiveConfig(score_batch=2)
    network = random_base() if kind == "base" else random_concept(kind, COLOR)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data, n = squares(COLOR), config.batch_size
    match network:
        case BaseEnergy():
            objective = base_objective(network, data, batch_size=n)
        case PosteriorConcept():
            base = random_base().requires_grad_(False)
            objective = posterior_objective(network, data, batch_size=n, config=settings, base=base)
        case ConditionalConcept():
            objective = conditional_objective(network, data, batch_size=n, config=settings)
        case BothConcept():
            objective = both_objective(network, data, batch_size=n, config=settings)
    return TrainingState(network, config, seed=5), objective


def run_in(folder: Path) -> Run:
    config = {"resume_command": "ebm train color --resume"}
    return Run(folder=folder, name="color", space="squares-16", config=config)


def train(
    folder: Path,
    kind: str = "base",
    *,
    resume: bool = False,
    report: Callable[[StepReport], None] = quiet,
    config: TrainingConfig = CONFIG,
) -> dict[str, Tensor]:
    """A run to its end, or to whatever ``report`` does; the state it left, but for its time."""
    run = open_run(run_in(folder), resume=resume, restart=False)
    state, objective = started(kind, config)
    train_to_end(run, state, objective, config, report=report)
    left = read_checkpoint(run.state_path, kind="run")[0]
    assert float(left.pop("seconds")) > 0
    return left


def steps_logged(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of metrics after every second update."""
    monkeypatch.setattr(runs, "LOG_EVERY", 2)


def at(step: int, action: Callable[[], None]) -> Callable[[StepReport], None]:
    def report(update: StepReport) -> None:
        if update.step == step:
            action()

    return report


def kill() -> None:
    raise Killed


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_resumes_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """Ctrl-C during update 3 of 8: weights, average, moments and random source end the same."""
    whole = train(tmp_path / "whole", kind)
    with pytest.raises(InterruptedRun, match="interrupted at step 3 of 8, saved") as caught:
        train(tmp_path / "cut", kind, report=at(3, press_ctrl_c))
    assert caught.value.hint == "resume with: ebm train color --resume"
    assert caught.value.exit_code == 130
    resumed = train(tmp_path / "cut", kind, resume=True)
    assert set(resumed) == set(whole)
    assert {name.split(".")[0] for name in whole} == {
        "step", "generator", "weights", "average", "optimizer", "buffer",
    }  # fmt: skip
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    assert steps_logged(tmp_path / "cut") == steps_logged(tmp_path / "whole") == [2, 4, 6, 8]


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after update 3, killed after 7: no line of the metrics is there twice."""
    whole = train(tmp_path / "whole")
    clock = iter([0.0, 0, 0, 100, *[100] * 99])  # start, then one look per update
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(Killed):
        train(tmp_path / "cut", report=at(7, kill))
    monkeypatch.undo()
    monkeypatch.setattr(runs, "LOG_EVERY", 2)
    assert int(read_checkpoint(tmp_path / "cut" / "state.safetensors")[0]["step"]) == 3
    assert steps_logged(tmp_path / "cut") == [2, 4, 6]
    resumed = train(tmp_path / "cut", resume=True)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert steps_logged(tmp_path / "cut") == [2, 4, 6, 8]
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text()


def test_a_line_cut_short_by_the_kill_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRun):
        train(tmp_path, report=at(4, press_ctrl_c))
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')
    train(tmp_path, resume=True)
    assert steps_logged(tmp_path) == [2, 4, 6, 8]


def test_metrics_hold_losses_rate_and_norm(tmp_path: Path) -> None:
    train(tmp_path)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert set(first) == {"step", "gradient_norm", "learning_rate", "loss", "sigma"}


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    whole = train(tmp_path)
    resumed = train(tmp_path, resume=True, report=at(1, kill))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    config = TrainingConfig(n_steps=50, batch_size=4, n_warmup=0, learning_rate=1e9)
    with pytest.raises(DivergedError, match="training diverged at step") as caught:
        train(tmp_path, config=config)
    assert "--set learning_rate=3.3e+08" in (caught.value.hint or "")
    assert str(tmp_path) in (caught.value.hint or "")
    assert caught.value.exit_code == 1
    state, _ = read_checkpoint(tmp_path / "state.safetensors", kind="run")
    floats = [tensor for tensor in state.values() if tensor.is_floating_point()]
    assert all(bool(tensor.isfinite().all()) for tensor in floats)


def test_an_unfinished_run_is_not_started_over_by_accident(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRun):
        train(tmp_path, report=at(1, press_ctrl_c))
    with pytest.raises(OutputExistsError, match="unfinished run") as caught:
        train(tmp_path)
    assert "--resume" in (caught.value.hint or "")
    assert "--restart" in (caught.value.hint or "")
    run = open_run(run_in(tmp_path), resume=False, restart=True)
    assert not run.state_path.exists()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to resume"):
        open_run(run_in(tmp_path), resume=True, restart=False)


def test_damaged_settings_of_a_run_are_reported(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FileFormatError, match="cannot be read"):
        open_run(run_in(tmp_path), resume=True, restart=False)


@pytest.fixture
def default_handler() -> Iterator[Any]:
    before = signal.getsignal(signal.SIGINT)
    yield before
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_waits_and_the_second_does_not(default_handler: Any) -> None:
    with interruption() as interrupted:
        assert not interrupted.is_set()
        press_ctrl_c()
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is default_handler


def test_outside_the_main_thread_nothing_is_caught() -> None:
    """Signals reach the main thread only, where Python allows handlers."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with interruption() as interrupted:
                assert not interrupted.is_set()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []
