"""The scripts that make published numbers: honest verdicts, fresh tables, commands from records."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_documents import document as logic_document
from bench_documents import line
from script import load_script

from ebmcli.errors import EbmError
from ebmcli.registry import Record

results = load_script("reproduce/results")
bundled = load_script("reproduce/bundled")
bench = load_script("reproduce/bench")
logic = load_script("reproduce/logic")


def estimate(mean: float, spread: float | None = 0.01, n: int = 300) -> dict[str, Any]:
    """A share as ebm eval writes it."""
    return {"mean": mean, "seed_error": spread, "binomial_error": 0.02, "n": n, "n_seeds": 3}


def row(suite: str, template: str, mean: float, **more: Any) -> dict[str, Any]:
    """A row as ebm eval writes it."""
    plain = {"suite": suite, "template": template, "accuracy": estimate(mean), "fid": None}
    return plain | {"absent": estimate(0.0), "seconds_per_picture": 1.5} | more


@pytest.fixture
def document() -> dict[str, Any]:
    """Two formulas and two inferences."""
    return {
        "rows": [
            row("single", "color=?", 0.95),
            row("formula", "color=red | color=blue", 0.8999),
            row("inference", "color", 0.98),
            row("inference", "position", 0.5, mae=estimate(0.06)),
        ],
        "settings": {
            "n": 100, "seeds": [0, 1, 2],
            "sampling": {
                "strength": 4.0, "attempts": 3,
                "corrector_steps": 6,
            },
        },
        "versions": {"ebm": "1", "torch": "2", "python": "3"},
        "device": "cpu", "machine": "x86_64", "threads": 2, "created": "2026-11-24T00:00:00Z",
        "command": "ebm eval single", "judges": {"j": {"measured": {"color": {"accuracy": 1.0}}}},
    }  # fmt: skip


def test_an_aim_is_met_by_the_mean_and_nothing_is_rounded_up(document: dict[str, Any]) -> None:
    verdicts = [results.verdict(row) for row in document["rows"]]
    assert verdicts == ["met", "missed", "met", "missed"]


def test_tables_show_errors_aims_and_misses(document: dict[str, Any]) -> None:
    short = results.short_table({"scenes-64": document})
    assert "| `color=?` (scenes-64) | 300 | 95.0 ± 1.3 % | 95 % | met |" in short
    assert "scenes-64: 100 pictures for each of 3 seeds, cpu, x86_64, 2 threads" in short
    assert "color=red \\| color=blue" in short
    assert "2 of 4 aims are met" in short
    assert "0.0600 ± 0.0100 | error 0.03 | missed" in short
    page = results.long_page({"scenes-64": document})
    assert "ebm eval single" in page
    assert "j on clean held-out pictures: color accuracy 1" in page


def test_a_share_has_the_error_of_counting_or_of_seeds() -> None:
    assert results.percent(estimate(0.5, spread=None)) == "50.0 ± 2.9 %"
    assert results.percent(estimate(0.5, spread=0.05)) == "50.0 ± 5.0 %"


def test_a_page_that_differs_from_its_numbers_is_stale(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    (tmp_path / "README.md").write_text(f"head\n{results.BEGIN}\nold\n{results.END}\ntail\n")
    assert results.stale() == 1
    for path, text in results.pages().items():
        path.write_text(text, encoding="utf-8")
    assert results.stale() == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("head\n")
    assert text.endswith("\ntail\n")


def test_weights_are_made_before_those_that_start_from_them() -> None:
    first = {"command": "ebm train-base scenes-64 --data scenes-train.h5 --steps 9"}
    provenance = {
        "command": "ebm train-base scenes-64 --data scenes-train.h5 --start scenes-64 --steps 5",
        "start": {"sha256": "sha256:0", "provenance": first},
    }
    commands = bundled.commands(provenance)
    assert [words[-1] for words in commands] == ["9", "5"]
    assert bundled.placed(commands[1], Path("again"))[-1] == "--overwrite"


def test_a_recorded_command_is_run_on_data_and_registry_of_the_folder() -> None:
    words = ["ebm", "train", "old", "--data", "old/faces-train.h5", "--registry", "r", "--resume"]
    placed = bundled.placed(words, Path("again"))
    assert placed == ["ebm", "train", "old", "--data", "again/faces-train.h5"]


def test_an_interrupted_run_is_found_where_the_program_keeps_it(tmp_path: Path) -> None:
    base, concept = ["ebm", "train-base", "one"], ["ebm", "train", "one"]
    for words, run in ((base, "base-one"), (concept, "one")):
        assert not bundled.interrupted(words, tmp_path)
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "state.safetensors").touch()
        assert bundled.interrupted(words, tmp_path)


def test_on_a_gpu_what_a_cpu_trained_keeps_its_own_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["ebm", "train", "old", "--data", "d.h5", "--set", "batch_size=32"]
    assert bundled.as_on(words, "cpu") == words  # on this machine
    monkeypatch.setattr(bundled, "resolve_device", lambda _: torch.device("cuda"))
    again = bundled.as_on(words, "cpu")
    assert again[: len(words)] == words
    kept = ["score_batch=8", "learning_rate=0.001", "score_weight=0.0"]
    assert again[len(words) :] == [word for one in kept for word in ("--set", one)]
    assert bundled.as_on(words, "cuda") == words


def test_data_that_nothing_describes_are_refused_by_name(tmp_path: Path) -> None:
    record = Record(
        kind="base", name="pets-64", space="pets-64", file="a", sha256="",
        provenance={"command": "ebm train-base pets-64 --data pets.h5"},
    )  # fmt: skip
    with pytest.raises(EbmError, match=r"nothing says how to make pets\.h5"):
        bundled.data_commands([record], tmp_path)


def test_speeds_are_shown_beside_their_aims() -> None:
    found = {"median": 0.3, "least": 0.2, "most": 2.0, "runs": 7}
    document = {
        "start": {"ebm --help": found},
        "draw": {"command": "ebm generate x", "command_in_all": found | {"median": 61.0}},
        "render": None, "machine": "m", "device": "cpu", "threads": 2, "load": 0.1,
        "versions": {"ebm": "1"}, "created": "2026-11-24T00:00:00Z",
    }  # fmt: skip
    page = bench.page(document)
    assert "| `ebm --help` | 0.30 (0.20 to 2.00) | 7 | at most 0.4 | met |" in page
    assert "at most 60 | missed |" in page


def test_a_calibrated_concept_is_calibrated_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "ebm calibrate hue --data fresh-scenes-64.h5"
    record = Record(
        kind="concept", name="hue", space="scenes-64", file="hue.safetensors", sha256="sha256:0",
        provenance={"command": "ebm train hue --data scenes-train.h5 --steps 9"},
        calibration={"command": words, "temperatures": {"1": 2.0}},
    )  # fmt: skip
    rendered = [line[2] for line in bundled.data_commands([record], tmp_path)]
    assert rendered == [str(tmp_path / name) for name in ("scenes-train.h5", "fresh-scenes-64.h5")]
    bundled.make(record, tmp_path, dry=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["train", "calibrate"]
    assert str(tmp_path / "fresh-scenes-64.h5") in lines[1]


def test_the_benchmark_of_logic_goes_on_with_the_results_of_this_tree() -> None:
    first = logic.command_line([], exists=False)
    assert first == ["bench", "logic", "-o", "docs/results"]
    assert logic.command_line([], exists=True) == [*first, "--resume"]
    assert "--resume" not in logic.command_line(["--overwrite"], exists=True)
    assert logic.command_line(["-o", "x"], exists=True) == ["bench", "logic", "-o", "x"]


def test_a_page_of_logic_that_differs_from_its_numbers_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logic, "FOLDER", tmp_path)
    assert logic.stale() == 0
    found = logic_document(line("and-2", "exact", [10, 10, 9, 9]))
    (tmp_path / "logic.json").write_text(json.dumps(found), encoding="utf-8")
    assert logic.stale() == 1
    (tmp_path / "logic.md").write_text(logic.page(), encoding="utf-8")
    assert logic.stale() == 0
