"""Training from a dataset file to a registered energy; resuming, and what that refuses."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, SPACE, TALL, TINY, put_base, put_concept, squares, squares_file

from ebmcli.checkpoint import file_digest, read_checkpoint
from ebmcli.core.concepts import METHODS, PosteriorConcept
from ebmcli.errors import (
    ConfigError,
    DivergedError,
    InterruptedRun,
    OutputExistsError,
    UsageError,
)
from ebmcli.evaluation.held_out import loss_per_level, posterior_quality
from ebmcli.registry import Record, create_registry, edit_registry, read_registry
from ebmcli.training.loop import StepReport
from ebmcli.workflows import train as workflow
from ebmcli.workflows.loading import load_base, load_concept
from ebmcli.workflows.plans import TrainRequest, plan_base, plan_concept
from ebmcli.workflows.prepare import load_images
from ebmcli.workflows.train import Trained, quality_table, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "squares.h5")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = create_registry(tmp_path / "trained")
    put_base(path)
    return path


@pytest.fixture
def ask(data: Path, registry: Path) -> Any:
    def request(**changes: Any) -> TrainRequest:
        settings: dict[str, Any] = {"name": "color", "data": data, "registry": registry}
        settings |= {"assignments": TINY, "device": "cpu", "precision": "fp32", "steps": 3}
        return TrainRequest(**settings | {"command": "ebm train color"} | changes)

    return request


def go(request: TrainRequest, report: Callable[[StepReport], None] = lambda _: None) -> Trained:
    plan = plan_base(request) if request.name.startswith("base") else plan_concept(request)
    return train(plan, report=report)


def press_ctrl_c_at(step: int) -> Callable[[StepReport], None]:
    def report(update: StepReport) -> None:
        if update.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report


def test_a_trained_base_is_registered_and_loads(ask: Any, registry: Path) -> None:
    trained = go(ask(name="base-two"))
    known = read_registry(registry)
    record = known.get("base", "base-two")
    assert record == trained.record
    assert record.sha256 == file_digest(trained.weights)
    assert set(record.measured) == {"loss", "held_out"}
    assert len(quality_table(record.measured)) == 8
    assert record.provenance["steps"] == 3
    assert record.provenance["command"] == "ebm train color"
    base = load_base(known, "base-two")
    assert all(not parameter.requires_grad for parameter in base.parameters())
    assert record.provenance["parameters"] == sum(p.numel() for p in base.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_trained_concept_measures_as_it_was_recorded(
    ask: Any, registry: Path, data: Path, method: str
) -> None:
    """Read back from its file, rounded to float16: the same held-out numbers but for rounding."""
    record = go(ask(method=method)).record
    assert (record.factor, record.method, record.base) == (COLOR, method, SPACE)
    assert {"loss", "loss_per_sigma", "accuracy", "held_out"} <= set(record.measured)
    concept = load_concept(read_registry(registry), "color")
    held = load_images(plan_concept(ask(overwrite=True)).info, COLOR, device=torch.device("cpu"))[1]
    again = posterior_quality(concept, held)
    for row in again:
        noted = record.measured["held_out"][f"{row.sigma:g}"]
        assert noted["log_loss"] == pytest.approx(row.log_loss, abs=0.02)
        assert noted["accuracy"] == pytest.approx(row.accuracy, abs=0.05)
    folder = plan_concept(ask(overwrite=True)).folder
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "metrics.jsonl"]


def test_the_pictures_of_a_judge_train_no_energy(ask: Any, registry: Path, data: Path) -> None:
    digest = plan_concept(ask()).info.digest
    judge = Record(
        kind="judge", name="strict", space=SPACE, file="strict.safetensors",
        sha256=f"sha256:{'0' * 64}", provenance={"data": digest},
    )  # fmt: skip
    with edit_registry(registry) as editor:
        editor.put(judge)
    with pytest.raises(UsageError, match="has trained the judge strict"):
        plan_concept(ask())


def test_the_last_images_are_held_out(ask: Any) -> None:
    info = plan_concept(ask()).info
    images, held = load_images(info, COLOR, device=torch.device("cpu"))
    assert (len(images), len(held)) == (66, 64)


def test_the_same_seed_trains_the_same_weights(ask: Any) -> None:
    first = go(ask()).record.sha256
    assert go(ask(overwrite=True)).record.sha256 == first
    assert go(ask(overwrite=True, seed=1)).record.sha256 != first


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_in_the_same_file(ask: Any, registry: Path, method: str) -> None:
    whole = go(ask(method=method, steps=5)).record
    with pytest.raises(InterruptedRun):
        go(ask(method=method, steps=5, overwrite=True), press_ctrl_c_at(2))
    resumed = go(
        ask(method=method, steps=None, assignments=(), overwrite=True, resume=True, command="x")
    )
    assert resumed.record.sha256 == whole.sha256
    assert resumed.record.measured == whole.measured
    assert resumed.record.provenance["command"] == "ebm train color"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "base-two", "assignments": (*TINY, "hue_share=0.5")},
        {"name": "tall", "assignments": (*TINY, "hue_share=0.5")},
        {"name": "tall", "independent_of": "color"},
    ],
    ids=["base with hues", "concept with hues", "independent concept"],
)
def test_so_does_a_run_in_other_colours_or_independent_of_a_concept(
    ask: Any, registry: Path, changes: dict[str, Any]
) -> None:
    put_concept(registry, COLOR)
    whole = go(ask(steps=5, **changes)).record
    with pytest.raises(InterruptedRun):
        go(ask(steps=5, overwrite=True, **changes), press_ctrl_c_at(2))
    again = changes | {"assignments": (), "steps": None, "overwrite": True, "resume": True}
    resumed = go(ask(**again)).record
    assert resumed.sha256 == whole.sha256
    plain = go(ask(steps=5, name=changes["name"], overwrite=True)).record
    assert plain.sha256 != whole.sha256


def test_minutes_become_updates_by_the_speed_of_this_machine(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that takes 0.25 s for each update 240 of them fill a minute."""
    clock = count(0.0, 0.25)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    plan = plan_concept(ask(steps=None, minutes=1.0))
    images, _ = load_images(plan.info, COLOR, device=plan.device)
    base = load_base(read_registry(plan.request.registry), SPACE)
    assert workflow.steps_in(1.0, plan, images, base, autocast=False) == 240


@pytest.mark.parametrize(
    ("length", "n"),
    [
        ({"steps": 5}, 64),
        ({"steps": None, "minutes": 1.0}, 16),
        ({"steps": None, "minutes": 20.0}, 40),
        ({"steps": None, "minutes": 300.0}, 64),
        ({"steps": None}, 16),  # the eight minutes that a concept has by default
    ],
)
def test_the_honest_test_of_a_short_training_is_short(
    ask: Any, length: dict[str, Any], n: int
) -> None:
    assert workflow.n_drawn(plan_concept(ask(**length))) == n


def interrupted(ask: Any, **changes: Any) -> None:
    with pytest.raises(InterruptedRun):
        go(ask(**changes), press_ctrl_c_at(1))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"method": "conditional"}, "another method: posterior"),
        ({"factor": "tall"}, "another factor: "),
        ({"seed": 4}, "another seed: 0"),
        ({"independent_of": "tall"}, "another independent_of: None"),
        ({"minutes": 5.0}, "keeps the number of updates"),
        ({"assignments": ("head=9",)}, "shape of a network cannot change"),
        ({"assignments": ("n_components=4",)}, "shape of a network cannot change"),
    ],
)
def test_a_run_is_resumed_as_it_was_begun(
    ask: Any, registry: Path, changes: dict[str, Any], problem: str
) -> None:
    put_concept(registry, TALL)
    interrupted(ask)
    options = {"steps": None, "assignments": (), "resume": True} | changes
    with pytest.raises(ConfigError, match=problem):
        go(ask(**options))


def test_other_data_are_refused_on_resume(ask: Any, tmp_path: Path) -> None:
    interrupted(ask)
    other = squares_file(tmp_path / "other.h5", seed=9)
    with pytest.raises(ConfigError, match="another data_digest"):
        go(ask(data=other, resume=True))


def test_what_a_resume_changes_is_kept_for_the_next_one(ask: Any, registry: Path) -> None:
    """After a divergence: a lower learning rate, and that rate again after another Ctrl-C."""
    interrupted(ask)
    lower = ask(steps=4, assignments=("learning_rate=0.0001",), resume=True)
    with pytest.raises(InterruptedRun):
        go(lower, press_ctrl_c_at(2))
    config = json.loads((registry.parent / "runs" / "color" / "config.json").read_text())
    assert config["settings"]["learning_rate"] == 0.0001
    rates: list[float] = []
    record = go(
        ask(steps=None, assignments=(), resume=True),
        lambda update: rates.append(update.learning_rate),
    ).record
    assert max(rates) <= 0.0001
    assert len(rates) == 2
    assert record.provenance["steps"] == 4


def test_an_unfinished_run_is_noticed_before_anything_is_timed(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(ask)
    monkeypatch.setattr(workflow, "steps_in", None)
    with pytest.raises(OutputExistsError, match="unfinished run"):
        go(ask(steps=None, minutes=1.0))
    with pytest.raises(OutputExistsError, match="unfinished run") as caught:
        go(ask(overwrite=True))  # replaces what is trained, not what is being trained
    assert "--resume" in (caught.value.hint or "")
    assert go(ask(restart=True)).record.name == "color"


def test_ctrl_c_while_the_result_is_measured_loses_nothing(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "held_out_numbers", impatient)
    with pytest.raises(InterruptedRun, match="training is done") as caught:
        go(ask())
    assert (caught.value.hint or "").endswith("--resume")
    monkeypatch.undo()
    steps: list[int] = []
    go(ask(resume=True), lambda update: steps.append(update.step))
    assert steps == []


def test_a_diverged_run_registers_nothing(ask: Any, registry: Path) -> None:
    with pytest.raises(DivergedError):
        go(ask(steps=50, assignments=(*TINY, "learning_rate=1e9", "n_warmup=0")))
    assert "color" not in read_registry(registry).concepts
    assert read_checkpoint(registry.parent / "runs" / "color" / "state.safetensors", kind="run")


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(ask: Any, registry: Path) -> None:
    plan = plan_concept(ask())
    other = go(ask(seed=1))
    with pytest.raises(OutputExistsError):
        train(plan, report=lambda _: None)
    assert file_digest(other.weights) == other.record.sha256


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_short_training_reads_colours(tmp_path: Path) -> None:
    """Squares of three pure colours: 95 % right at noise 0.2, on held-out pictures."""
    registry = create_registry(tmp_path / "trained")
    put_base(registry)
    data = squares_file(tmp_path / "squares.h5", n=1500)
    request = TrainRequest(
        name="color", data=data, registry=registry, device="cpu", precision="fp32", steps=700,
        assignments=("widths=8,16", "depths=1,1", "batch_size=32", "learning_rate=0.003"),
    )  # fmt: skip
    record = train(plan_concept(request), report=lambda _: None).record
    assert record.measured["held_out"]["0.2"]["accuracy"] >= 0.95
    concept = load_concept(read_registry(registry), "color")
    assert isinstance(concept, PosteriorConcept)
    assert posterior_quality(concept, squares(COLOR, n=300, seed=77))[1].accuracy >= 0.93


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_short_training_beats_the_gaussian_of_the_space(tmp_path: Path) -> None:
    registry = create_registry(tmp_path / "trained")
    data = squares_file(tmp_path / "squares.h5", n=1500)
    request = TrainRequest(
        name=SPACE, data=data, registry=registry, device="cpu", precision="fp32", steps=800,
        assignments=("widths=16,32", "depths=1,1", "n_components=64"),
    )  # fmt: skip
    record = train(plan_base(request), report=lambda _: None).record
    base = load_base(read_registry(registry), SPACE)
    info = plan_base(replace(request, overwrite=True)).info
    held = load_images(info, None, device=torch.device("cpu"))[1]
    plain = loss_per_level(
        lambda x, sigma, _: base.gaussian.denoise(x, sigma), base.gaussian.posterior_scale, held
    )
    learned = {sigma: record.measured["held_out"][f"{sigma:g}"] for sigma in plain}
    assert all(learned[sigma] < plain[sigma] for sigma in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2))
    for sigma in (0.4, 0.8, 1.6):  # where it is decided what is seen; measured: 23 to 33 % less
        assert learned[sigma] < 0.85 * plain[sigma]


def test_a_run_begins_with_the_weights_of_another_and_says_so(ask: Any, registry: Path) -> None:
    """With a learning rate of almost nothing the weights stay what they were."""
    first = go(ask())
    still = (*TINY, "learning_rate=1e-12")
    again = go(ask(name="hue", factor="color", start="color", seed=5, assignments=still))
    before = load_concept(read_registry(registry), "color").state_dict()
    after = load_concept(read_registry(registry), "hue").state_dict()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)
    begun = again.record.provenance["start"]
    assert begun == {"sha256": first.record.sha256, "provenance": first.record.provenance}


def test_a_resumed_run_remembers_what_it_began_with(
    ask: Any, registry: Path, tmp_path: Path
) -> None:
    """From other data, so that Gaussian and prior of the two files differ."""
    other = squares_file(tmp_path / "other.h5", seed=9)
    first = go(ask(name="base-old", data=other)).record
    begun = {"name": "base-new", "start": "base-old"}
    whole = go(ask(**begun)).record
    with pytest.raises(InterruptedRun):
        go(ask(**begun, overwrite=True), press_ctrl_c_at(1))
    resumed = go(ask(name="base-new", steps=None, overwrite=True, resume=True)).record
    assert resumed.sha256 == whole.sha256
    assert resumed.provenance["start"] == whole.provenance["start"]
    assert resumed.provenance["start"]["sha256"] == first.sha256


def test_a_concept_begun_with_another_has_the_prior_of_its_own_data(
    ask: Any, registry: Path, tmp_path: Path
) -> None:
    go(ask())
    other = squares_file(tmp_path / "other.h5", seed=9)
    go(ask(name="plain", factor="color", data=other))
    go(ask(name="hue", factor="color", data=other, start="color"))
    old, plain, hue = (
        load_concept(read_registry(registry), name).log_prior for name in ("color", "plain", "hue")
    )
    assert torch.equal(hue, plain)
    assert not torch.equal(hue, old)


def test_a_decoder_can_be_added_to_a_trained_base(ask: Any, registry: Path) -> None:
    """It starts at zero: before it has learned, the base is what it was."""
    still = (*TINY, "learning_rate=1e-12", "decoder=1")
    go(ask(name="base-new", start=SPACE, assignments=still))
    opened = read_registry(registry)
    before, after = load_base(opened, SPACE), load_base(opened, "base-new")
    assert after.network.decoder is not None
    x, sigma = torch.randn(4, 3, 16, 16), torch.tensor([0.05, 0.5, 1.0, 4.0])
    torch.testing.assert_close(after.denoise(x, sigma), before.denoise(x, sigma))


def test_a_posterior_has_no_decoder(ask: Any) -> None:
    with pytest.raises(ConfigError, match="decoder"):
        plan_concept(ask(assignments=(*TINY, "decoder=1")))


def test_other_shapes_cannot_be_begun_with(ask: Any) -> None:
    go(ask())
    wider = (*TINY, "widths=4,16")
    with pytest.raises(ConfigError, match="another shape"):
        go(ask(name="hue", factor="color", start="color", assignments=wider))
