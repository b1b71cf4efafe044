"""ebm eval calibration: its rows, aims, charts and table, without a judge."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from several import OBJECT
from squares import COLOR, PLACE, SPACE, TALL, WIDTH, random_registry, squares_file

from ebmcli.cli import evaluate as command
from ebmcli.datasets.hdf5 import read_info
from ebmcli.errors import OutputExistsError, UnknownNameError, UsageError
from ebmcli.pictures import read_png_metadata
from ebmcli.registry import Registry, edit_registry, read_registry
from ebmcli.workflows.calibration_scores import AIM, SIGMAS
from ebmcli.workflows.evaluate import EvalRequest, evaluate, list_cases
from ebmcli.workflows.generate import GenerateRequest


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    random_registry(folder, (COLOR, TALL, WIDTH, PLACE))
    squares_file(folder / "fresh.h5", n=64, seed=7)
    return folder


@pytest.fixture
def registry(home: Path) -> Registry:
    return read_registry(home / "registry.yaml")


def ask(home: Path, *targets: str, **changes: Any) -> EvalRequest:
    sampling = GenerateRequest(expression="", device="cpu")
    settings: dict[str, Any] = {"n": 30, "seeds": 2, "data": home / "fresh.h5"}
    return EvalRequest(targets=targets, sampling=sampling, **settings | changes)


def go(request: EvalRequest, registry: Registry) -> dict[str, Any]:
    def never(asked: GenerateRequest) -> Any:
        raise AssertionError(asked)

    return evaluate(request, registry, draw=never, report=lambda *_: None)


def test_what_follows_the_word_calibration_names_concepts(home: Path, registry: Registry) -> None:
    cases = list_cases(ask(home, "color=red", "calibration", "tall", "color"), registry)
    found = [(case.suite, case.template) for case in cases]
    assert found == [("formula", "color=red"), ("calibration", "tall"), ("calibration", "color")]
    every = list_cases(ask(home, "calibration"), registry)
    assert [case.template for case in every] == ["color", "tall", "size", "position"]
    field = replace(registry.get("concept", "color"), name="object", factor=OBJECT)
    beside = replace(registry, concepts={**registry.concepts, "object": field})
    assert [c.template for c in list_cases(ask(home, "calibration"), beside)][4:] == ["object"]
    with pytest.raises(UnknownNameError, match="concept 'colour'"):
        list_cases(ask(home, "calibration", "colour"), registry)
    with pytest.raises(UsageError, match="color is no concept of moons-64"):
        list_cases(ask(home, "calibration", "color", space="moons-64"), registry)
    with pytest.raises(UsageError, match="can be rendered"):
        list_cases(ask(home, "calibration", data=None), registry)


@pytest.mark.parametrize(
    ("option", "value"), [("logic", "paper"), ("sampler", "mala"), ("steps", 8), ("strength", 2.0)]
)
def test_how_to_draw_is_refused_where_nothing_is_drawn(
    home: Path, registry: Registry, option: str, value: Any
) -> None:
    sampling = replace(GenerateRequest(), **{option: value})
    for targets in (("calibration",), ("inference",), ("inference", "calibration", "tall")):
        with pytest.raises(UsageError, match=f"draws no pictures: --{option} has no effect"):
            go(replace(ask(home, *targets), sampling=sampling), registry)


def test_every_concept_has_its_levels_aims_and_charts(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    out = tmp_path / "calibration"
    document = go(ask(home, "calibration", output=out), registry)
    assert json.loads((out / "results.json").read_text())["rows"] == document["rows"]
    assert [row["template"] for row in document["rows"]] == ["color", "tall", "size", "position"]
    assert document["judges"] == {}
    for row in document["rows"]:
        assert row["n"] == 60
        assert [level["sigma"] for level in row["levels"]] == list(SIGMAS)
        for level in row["levels"]:
            assert sum(level["bins"]["count"]) == 60
            assert 0 <= level["ece"] <= 1
            assert level["log_loss"]["n_seeds"] == 2
            assert level["met"] == (level["ece"] <= AIM if level["sigma"] <= 1 else None)
        names = [f"{row['template']}-{kind}.png" for kind in ("reliability", "evidence")]
        assert row["charts"] == names
        for name in names:
            text = read_png_metadata(out / name)
            assert text["ebm:concept"] == row["template"]
            assert text["ebm:data"] == read_info(home / "fresh.h5").digest


def test_charts_of_a_json_file_stand_in_a_folder_named_like_it(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    out = tmp_path / "found.json"
    go(ask(home, "calibration", "tall", output=out), registry)
    assert out.is_file()
    assert (tmp_path / "found" / "tall-evidence.png").is_file()
    out.unlink()
    with pytest.raises(OutputExistsError, match=r"tall-reliability\.png exists"):
        go(ask(home, "calibration", "tall", output=out), registry)
    go(ask(home, "calibration", "tall", output=out, overwrite=True), registry)


def test_a_calibrated_concept_is_measured_again_on_resume(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other temperatures are another posterior, though the weights are the same."""
    path = random_registry(tmp_path / "own", (COLOR, TALL))
    out = tmp_path / "results.json"
    first = go(ask(home, "calibration", output=out), read_registry(path))
    record = read_registry(path).get("concept", "color")
    digest = read_info(home / "fresh.h5").digest
    calibration = {"temperatures": {"1": 3.0}, "data": digest}
    with edit_registry(path) as editor:
        editor.put(replace(record, calibration=calibration), overwrite=True)
    second = go(ask(home, "calibration", output=out, resume=True), read_registry(path))
    rows = {row["template"]: row for row in first["rows"]}
    again = {row["template"]: row for row in second["rows"]}
    assert again["tall"] == rows["tall"]
    assert again["color"]["digests"] != rows["color"]["digests"]
    assert again["color"]["levels"][0]["temperature"] == pytest.approx(3)
    assert rows["color"]["levels"][0]["temperature"] == 1
    assert (rows["color"]["seen"], again["color"]["seen"]) == (None, "calibration")


def test_pictures_that_do_not_fit_are_refused_before_anything_is_read(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    dots = squares_file(tmp_path / "dots.h5", recipe="dots", n=20)
    with pytest.raises(UsageError, match=f"color is a concept of {SPACE}"):
        go(ask(home, "calibration", "color", data=dots), registry)


def test_the_table_marks_what_is_missed(
    home: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    document = go(ask(home, "calibration", "color", "tall"), registry)
    command.show(document)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 1 + 2 * len(SIGMAS)
    levels = [level for row in document["rows"] for level in row["levels"]]
    for line, level in zip(lines[1:], levels, strict=True):
        verdict = {None: "", True: "met", False: "missed"}[level["met"]]
        assert line.endswith(verdict)
        assert f"{level['ece']:.4f}" in line
    n_met = sum(level["met"] is True for level in levels)
    assert f"{n_met} of 8 aims are met" in shown.err
    assert "15 equal bins" in shown.err
