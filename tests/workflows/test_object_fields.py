"""A list of objects from a dataset to a trained field, and from pictures back to objects."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from several import OBJECT, SIZE, TRUNK, draw_several, several, several_file
from squares import put_base, random_registry
from typer.testing import CliRunner

from ebmcli.cli.app import app
from ebmcli.cli.evaluate import show
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.expression import parse
from ebmcli.core.inference import Estimate
from ebmcli.core.logic import compile_formula
from ebmcli.core.statements import resolve
from ebmcli.core.targets import field_weights, label_prior
from ebmcli.datasets.hdf5 import read_info, read_labels
from ebmcli.datasets.labels import holds
from ebmcli.datasets.object_lists import decode_things, encode_things
from ebmcli.errors import UsageError
from ebmcli.evaluation.held_out_fields import field_quality
from ebmcli.evaluation.object_counts import objects_read
from ebmcli.registry import create_registry, read_registry
from ebmcli.training.loop import TrainingConfig, TrainingState, training_run
from ebmcli.training.objectives import ObjectiveConfig, posterior_objective
from ebmcli.workflows import own_samples
from ebmcli.workflows.add_concept import add
from ebmcli.workflows.bench_logic import bench_logic
from ebmcli.workflows.bench_plan import BenchRequest
from ebmcli.workflows.calibrate import CalibrateRequest, fit
from ebmcli.workflows.evaluate import EvalRequest, evaluate
from ebmcli.workflows.finished import acceptance
from ebmcli.workflows.generate import GenerateRequest, draw_pictures, draw_together
from ebmcli.workflows.infer import Item, Reading, answers, plan_inference
from ebmcli.workflows.judge import JudgeRequest, train_judge
from ebmcli.workflows.judging import load_judge
from ebmcli.workflows.loading import load_concepts
from ebmcli.workflows.plans import TrainRequest, plan_concept
from ebmcli.workflows.readings import Score, csv_line, json_line, table_row
from ebmcli.workflows.registry import accuracy, values
from ebmcli.workflows.scoring import map_values
from ebmcli.workflows.train import quality_table, train

N_UPDATES = 150  # a few seconds
SETTINGS = (
    "widths=8,16", "depths=1,1", "embedding=8", "head=16", "n_components=8", "batch_size=8",
    "score_batch=2",
)  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return several_file(tmp_path / "several.h5")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = create_registry(tmp_path / "trained")
    put_base(path)
    return path


def request(data: Path, registry: Path, **changes: Any) -> TrainRequest:
    given: dict[str, Any] = {"name": "object", "data": data, "registry": registry}
    given |= {"assignments": SETTINGS, "device": "cpu", "precision": "fp32", "steps": 2}
    return TrainRequest(**given | changes)


def test_a_field_is_trained_saved_and_read(data: Path, registry: Path) -> None:
    trained = train(plan_concept(request(data, registry)), report=lambda _: None)
    record = read_registry(registry).get("concept", "object")
    assert record.factor == OBJECT
    assert record.factor.fewest == 1  # every picture of the data shows one
    assert {"found", "held_out"} <= set(record.measured)
    assert {"sigma", "found", "invented", "ece"} <= set(quality_table(trained.record.measured)[0])
    plan = plan_inference([data], read_registry(registry))
    concepts = load_concepts(read_registry(registry), plan.concepts)
    readings, score = list(answers(plan, concepts)), Score(concepts)
    assert len(readings) == 130
    for reading in readings:
        score.add(reading)
    (line,) = score.lines()
    assert line.startswith("object: ")
    assert "objects found" in line
    words = ["infer", "--images", str(data), "--format", "jsonl", "--registry", str(registry)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    read = [json.loads(row) for row in shown.stdout.splitlines()]
    assert len(read) == 130
    assert all(isinstance(each["object"]["value"], list) for each in read)


def test_found_objects_are_written_as_text_and_as_data() -> None:
    cube = {"height": "low", "color": "red", "position": (0.31234, -0.42), "probability": 0.98766}
    picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    reading = Reading(
        item=Item(file="a.png", stem="a", picture=picture),
        estimates={"object": Estimate(value=[cube, cube], probability=0.9, cell=0)},
        log_posteriors={},
    )
    one = "red low (0.31,-0.42) 0.99"
    assert table_row(reading) == ["a.png", f"{one}; {one}", "0.900"]
    assert csv_line(reading) == f'a.png,"{one}; {one}",0.9'
    found = json.loads(json_line(reading))["object"]
    assert found["probability"] == 0.9
    assert found["value"][0] == {
        "height": "low", "color": "red", "position": [0.3123, -0.42], "probability": 0.9877
    }  # fmt: skip


def test_a_score_counts_found_and_invented_objects() -> None:
    cube = {"height": "low", "color": "red", "position": (0.3, -0.4)}
    item = Item(
        file="a.png", stem="a", picture=np.zeros((SIZE, SIZE, 3), dtype=np.uint8),
        truth={"object": [cube, {**cube, "color": "blue"}]},
    )  # fmt: skip
    seen = [{**cube, "probability": 0.9}, {**cube, "height": "tall", "probability": 0.8}]
    estimates = {"object": Estimate(value=seen, probability=0.9, cell=0)}
    score = Score({"object": PosteriorConcept(OBJECT, TRUNK, torch.zeros(OBJECT.n_cells))})
    for _ in range(2):
        score.add(Reading(item=item, estimates=estimates, log_posteriors={}))
    assert score.lines() == ["object: 2 of 4 objects found, 2 invented"]


def test_a_short_training_finds_objects() -> None:
    """Some hundred updates on tiny pictures: the loss falls, and most objects are found."""
    images, held = several(1500), several(60, seed=9)
    assert images.labels is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        concept = PosteriorConcept(OBJECT, TRUNK, label_prior(OBJECT, images.labels))
    (before,) = field_quality(concept, held, sigmas=[0.05])
    objective = posterior_objective(concept, images, batch_size=32, config=ObjectiveConfig())
    config = TrainingConfig(
        n_steps=N_UPDATES, batch_size=32, learning_rate=3e-3, n_warmup=10, ema_limit=0.9
    )
    state = TrainingState(concept, config, seed=0)
    for _ in training_run(state, objective, config):
        pass
    state.use_average()
    (after,) = field_quality(concept.eval(), held, sigmas=[0.05])
    assert after.log_loss < 0.7 * before.log_loss
    assert after.count_error < before.count_error


def test_pictures_are_drawn_from_a_formula_about_objects(tmp_path: Path) -> None:
    """With random weights: every step runs, and the probability is one."""
    known = read_registry(random_registry(tmp_path / "random", [OBJECT]))
    formula = "object(color=red, position=(-0.5,0)) & ~object(color=blue, height=tall)"
    asked = GenerateRequest(expression=formula, n=2, steps=3, attempts=1, device="cpu")
    drawn = draw_pictures(asked, known)
    assert drawn.images.shape == (2, SIZE, SIZE, 3)
    assert bool(((drawn.probabilities >= 0) & (drawn.probabilities <= 1)).all())
    assert set(drawn.digests) == {"base squares-16", "concept object"}


def test_an_object_at_a_place_is_accepted_at_half_the_probability_per_coordinate() -> None:
    formula = compile_formula(parse("object(color=red, position=(0,0))"), {"object": OBJECT})
    assert acceptance(formula, {}) == 0.125
    assert acceptance(compile_formula(parse("object(color=red)"), {"object": OBJECT}), {}) == 0.5


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"method": "conditional"}, "no energy of a list"), ({"to": ("color",)}, "cannot compare")],
)
def test_what_a_field_cannot_be_trained_as_is_refused_before(
    data: Path, registry: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        plan_concept(request(data, registry, **changes))


def test_concepts_are_not_added_to_a_list_of_objects(data: Path, tmp_path: Path) -> None:
    registry = random_registry(tmp_path / "random", [OBJECT])
    with pytest.raises(UsageError, match="cannot compare object, a list of objects"):
        add(request(data, registry, name="new"), others=["object"], report=lambda _: None)


def test_a_list_of_objects_is_listed_with_its_parts_and_what_was_found(tmp_path: Path) -> None:
    known = read_registry(random_registry(tmp_path / "random", [OBJECT]))
    record = known.get("concept", "object")
    assert values(record) == "up to 3 objects: height, color, position"
    assert accuracy(record) is None
    assert accuracy(replace(record, measured={"held_out": {"0.05": {"found": 0.75}}})) == 0.75
    odd = {"low": {"found": 1.0}, "0.5": {"found": 0.5}}
    assert accuracy(replace(record, measured={"held_out": odd})) == 0.5
    assert accuracy(replace(record, measured={"held_out": {"low": {"found": 1.0}}})) is None


def test_the_calibration_of_a_list_of_objects_is_measured_and_not_fitted(tmp_path: Path) -> None:
    registry = random_registry(tmp_path / "random", [OBJECT])
    known = read_registry(registry)
    fresh = several_file(tmp_path / "fresh.h5", n=40, seed=5)
    asked = EvalRequest(
        targets=("calibration",), sampling=GenerateRequest(device="cpu"), n=20, seeds=2,
        data=fresh, output=tmp_path / "charts",
    )  # fmt: skip
    document = evaluate(asked, known, draw=lambda _: [], report=lambda *_: None)
    (row,) = document["rows"]
    assert (row["template"], row["n"]) == ("object", 40)
    assert row["charts"] == ["object-reliability.png"]
    assert {path.name for path in (tmp_path / "charts").glob("*.png")} == {"object-reliability.png"}
    for level in row["levels"]:
        assert sum(level["bins"]["count"]) == 40
        assert (level["temperature"], level["mean_error"]) == (1, None)
        assert 0 <= level["accuracy"] <= 1
    with pytest.raises(UsageError, match="object is a field of cells and has no temperatures"):
        fit(CalibrateRequest(name="object", data=fresh), known, report=lambda *_: None)


def test_a_judge_reads_lists_of_objects_and_scores_pictures_and_inference(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = random_registry(tmp_path / "random", [OBJECT])
    judge = JudgeRequest(name="judge", data=data, registry=registry, steps=1)
    record = train_judge(judge, report=lambda _: None)
    assert set(record.measured["object"]) == {"found", "invented", "all_right"}
    known = read_registry(registry)
    assert load_judge(known, "squares-16").factors == {"object": OBJECT}
    sampling = GenerateRequest(expression="", steps=2, attempts=1, device="cpu")
    fresh = several_file(tmp_path / "fresh.h5", n=40, seed=5)
    asked = EvalRequest(
        targets=("single", "inference", "object(color=?) | ~object"), sampling=sampling, n=6,
        seeds=2, data=fresh, output=tmp_path / "results.json",
    )  # fmt: skip
    draw = partial(draw_together, registry=known)
    document = evaluate(asked, known, draw=draw, report=lambda *_: None)
    single, inference, formula = document["rows"]
    assert single["template"] == "object(height=?, color=?, position=?)"
    assert single["tolerances"] == {"position": 0.2}
    assert "accuracy_at_0.4" in single
    assert formula["n"] == 12
    assert inference["accuracy"]["n"] == inference["n"] == 12
    assert 12 <= inference["objects"]["true"] <= 36
    show(document)
    assert "objects found" in capsys.readouterr().err
    with pytest.raises(UsageError, match="reads none"):
        bench_logic(
            BenchRequest(sampling=sampling, space="squares-16", folder=tmp_path),
            known,
            draw=draw,
            report=lambda *_: None,
        )


def test_a_certain_field_is_read_as_its_labels() -> None:
    images, lists = draw_several(8)
    rows = torch.from_numpy(encode_things(OBJECT, lists))
    log_q = field_weights(OBJECT, rows).clamp_min(1e-9).log()
    certain: Any = SimpleNamespace(
        factor=OBJECT, log_prior=torch.zeros(OBJECT.n_cells), log_posterior=lambda x, _: log_q
    )
    read = map_values(certain, torch.from_numpy(images), device=torch.device("cpu"))
    assert objects_read(read, rows, OBJECT).all_right.all()


def test_what_a_base_is_mended_with_is_true_of_pictures_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some objects of a picture, each by some of its parts."""
    known = read_registry(random_registry(tmp_path / "random", [OBJECT]))
    info = read_info(several_file(tmp_path / "several.h5"))
    asked: list[GenerateRequest] = []

    def noting(request: GenerateRequest, _: object) -> SimpleNamespace:
        asked.append(request)
        return SimpleNamespace(images=np.zeros((request.n, SIZE, SIZE, 3), np.uint8))

    monkeypatch.setattr(own_samples, "draw_pictures", noting)
    wanted = own_samples.SampleRequest(
        base="squares-16", data=info, n=20 * own_samples.CHUNK, seed=0, device=torch.device("cpu")
    )
    own_samples.own_samples(wanted, known, tmp_path / "samples", progress=lambda *_: None)
    formulas = [request.expression for request in asked if request.base is None]
    assert 0 < len(formulas) < 20
    assert any(" & " in formula for formula in formulas)
    lists = [decode_things(OBJECT, rows) for rows in read_labels(info.path, "object", 0, 130)]
    for formula in formulas:
        expression = resolve(parse(formula), {"object": OBJECT})
        assert any(holds(expression, {"object": things}, {"object": OBJECT}) for things in lists)
