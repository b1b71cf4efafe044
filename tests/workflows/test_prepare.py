"""A dry run refuses what the run would be refused for, in the same words, and writes nothing."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import SPACE, TINY, put_base, squares_file

from ebmcli.checkpoint import write_checkpoint
from ebmcli.errors import ConfigError, EbmError, InterruptedRun, OutputError, OutputExistsError
from ebmcli.registry import create_registry, read_registry
from ebmcli.registry.lock import locked_run
from ebmcli.training.loop import StepReport
from ebmcli.workflows import train as workflow
from ebmcli.workflows.plans import Plan, TrainRequest, plan_base, plan_concept
from ebmcli.workflows.prepare import rehearse
from ebmcli.workflows.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "squares.h5")


@pytest.fixture
def ask(data: Path, tmp_path: Path) -> Any:
    """Plan a training of ``color``, or of a base where the name begins so."""
    registry = create_registry(tmp_path / "trained")
    put_base(registry)

    def plan(**changes: Any) -> Plan:
        settings: dict[str, Any] = {"name": "color", "data": data, "registry": registry}
        settings |= {"assignments": TINY, "device": "cpu", "precision": "fp32", "steps": 4}
        request = TrainRequest(**settings | {"command": "ebm train color"} | changes)
        return (plan_base if request.name.startswith("base") else plan_concept)(request)

    return plan


def quiet(_: StepReport) -> None:
    """Show nothing."""


def interrupt(update: StepReport) -> None:
    if update.step == 2:
        os.kill(os.getpid(), signal.SIGINT)


def interrupted(plan: Plan) -> None:
    with pytest.raises(InterruptedRun):
        train(plan, report=interrupt)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(run: Callable[[], Any]) -> EbmError:
    with pytest.raises(EbmError) as caught:
        run()
    return caught.value


def same_refusal(plan: Plan, problem: str) -> None:
    """Of dry run and run, with the same hint, and no file changed by either."""
    before = files(plan.request.registry.parent)
    dry = refused(lambda: rehearse(plan))
    assert files(plan.request.registry.parent) == before
    real = refused(lambda: train(plan, report=quiet))
    assert problem in dry.problem
    assert (type(dry), dry.problem, dry.hint) == (type(real), real.problem, real.hint)


WIDER = (*TINY, "widths=4,16")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"name": "base-new", "start": SPACE, "assignments": WIDER}, "has another shape"),
        ({"name": "base-new", "start": SPACE, "assignments": (*TINY, "n_components=4")}, "shape"),
        ({"resume": True}, "no run to resume"),
    ],
)
def test_what_does_not_fit_is_refused_by_both(
    ask: Any, changes: dict[str, Any], problem: str
) -> None:
    same_refusal(ask(**changes), problem)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "the unfinished run"),
        ({"resume": True, "method": "both"}, "another method: posterior"),
        ({"resume": True, "assignments": WIDER}, "shape of a network cannot change"),
        ({"resume": True, "steps": None, "minutes": 1.0}, "keeps the number of updates"),
        ({"resume": True, "steps": 1}, "2 updates are done, 1 are asked for in all"),
    ],
)
def test_an_unfinished_run_is_noticed_by_both(
    ask: Any, changes: dict[str, Any], problem: str
) -> None:
    interrupted(ask())
    same_refusal(ask(**changes), problem)


def test_a_rehearsal_of_what_can_run_changes_nothing(ask: Any) -> None:
    interrupted(ask())
    before = files(ask().request.registry.parent)
    rehearse(ask(resume=True, assignments=("learning_rate=0.0001",)))
    rehearse(ask(restart=True))
    rehearse(ask(name="base-new", start=SPACE))
    assert files(ask().request.registry.parent) == before


def test_a_damaged_base_is_noticed_by_both(ask: Any) -> None:
    plan = ask()
    registry = read_registry(plan.request.registry)
    registry.file(registry.get("base", SPACE)).write_bytes(b"damaged")
    same_refusal(plan, "is not a checkpoint")


def test_the_checkpoint_of_another_network_is_noticed_by_both(ask: Any) -> None:
    interrupted(ask())
    plan = ask(resume=True)
    header = {"kind": "run", "space": SPACE, "name": "color"}
    write_checkpoint(plan.folder / "state.safetensors", {"x": torch.zeros(1)}, header)
    assert "is not of this network" in refused(lambda: rehearse(plan)).problem
    assert "is not of this network" in refused(lambda: train(plan, report=quiet)).problem


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": None, "minutes": 2.0, "assignments": ("n_steps = 4",)},
        {"steps": 3, "assignments": ("n_steps=4",)},
        {"resume": True, "restart": True},
    ],
)
def test_options_that_contradict_each_other_are_refused(ask: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        ask(**changes)


def test_a_place_that_cannot_hold_a_run_is_noticed_by_the_dry_run(ask: Any) -> None:
    plan = ask()
    plan.folder.parent.write_text("a file where the folder of runs should be")
    with pytest.raises(OutputError, match="cannot write"):
        rehearse(plan)
    with pytest.raises(OutputError, match="cannot write"):
        train(plan, report=quiet)


def test_two_trainings_of_one_name_do_not_meet(ask: Any) -> None:
    """The second is told which process is there; the lock is free again when the first is done."""
    plan = ask()

    def second(_: StepReport) -> None:
        before = files(plan.folder)
        same_refusal(ask(restart=True), f"is being trained by process {os.getpid()}")
        assert files(plan.folder) == before

    train(plan, report=second)
    train(ask(overwrite=True), report=quiet)


def test_a_run_is_free_again_after_ctrl_c_and_after_an_error(ask: Any) -> None:
    interrupted(ask())
    refused(lambda: train(ask(), report=quiet))
    with locked_run(ask().folder):
        pass
    train(ask(resume=True), report=quiet)


def test_a_base_that_was_replaced_meanwhile_cannot_be_resumed_on(ask: Any) -> None:
    interrupted(ask())
    put_base(ask().request.registry, seed=1)
    same_refusal(ask(resume=True), f"the base {SPACE} was replaced")
    config = ask().folder / "config.json"
    older = json.loads(config.read_text())
    del older["history"]["base"]  # a run that was begun before digests of bases were kept
    config.write_text(json.dumps(older))
    rehearse(ask(resume=True))


def test_an_existing_name_is_refused_before_the_rehearsal(ask: Any) -> None:
    train(ask(), report=quiet)
    with pytest.raises(OutputExistsError, match="exists"):
        ask()


def test_the_record_of_a_run_says_what_was_changed_on_the_way(ask: Any) -> None:
    """Its command and settings alone would not train it again."""

    def press_at(step: int) -> Callable[[StepReport], None]:
        return lambda update: os.kill(os.getpid(), signal.SIGINT) if update.step == step else None

    interrupted(ask(steps=5))
    slower = ask(steps=6, assignments=("learning_rate=1e-4",), resume=True, command="ebm slower")
    with pytest.raises(InterruptedRun):
        train(slower, report=press_at(4))
    again = ask(steps=None, assignments=(), resume=True, command="ebm same")
    record = train(again, report=quiet).record
    assert record.provenance["command"] == "ebm train color"
    assert record.provenance["steps"] == 6
    assert record.provenance["resumed"] == [{"step": 2, "command": "ebm slower"}]
    with pytest.raises(OutputExistsError, match="exists") as caught:
        ask(resume=True)
    assert "its training is finished" in (caught.value.hint or "")


def test_ctrl_c_before_the_first_update_says_that_nothing_was_trained(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "prepare", pressed)
    with pytest.raises(InterruptedRun, match="interrupted before the first update"):
        train(ask(), report=quiet)
