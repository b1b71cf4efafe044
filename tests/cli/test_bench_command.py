"""ebm bench logic as typed: what is refused, and what is printed."""

import json
from pathlib import Path
from typing import Any

import pytest
from bench_documents import document, line
from squares import COLOR, SPACE, TALL, random_registry, squares_file
from typer.testing import CliRunner, Result

from ebmcli.cli import bench
from ebmcli.cli.app import app
from ebmcli.errors import UsageError
from ebmcli.evaluation.formulas import ROWS
from ebmcli.registry import read_registry
from ebmcli.workflows import bench_logic as workflow
from ebmcli.workflows.bench_plan import QUICK_ROWS, BenchRequest
from ebmcli.workflows.judge import JudgeRequest, train_judge


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    path = random_registry(folder, [COLOR, TALL])
    request = JudgeRequest(
        name="judge-squares", data=squares_file(folder / "judge.h5", seed=1), registry=path,
        held=squares_file(folder / "held.h5", seed=2), steps=1,
    )  # fmt: skip
    train_judge(request, report=lambda *_: None)
    return path


def run(registry: Path, *words: str) -> Result:
    options = ["--registry", str(registry), "--data", str(registry.parent / "held.h5")]
    return CliRunner().invoke(app, ["bench", "logic", "--space", SPACE, *options, *words])


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (("--rules", "exact,papre"), "unknown rule 'papre'", "did you mean 'paper'?"),
        (("--rows", "and2"), "unknown row 'and2'", "did you mean 'and-2'?"),
        (("--rows", ","), "no row to measure", "nested-5"),
        (("--space", "moons-64"), "no concepts of the space 'moons-64'", SPACE),
        (("-n", "1"), "-n must be at least 2, got 1", ""),
        (("--seeds", "0"), "--seeds must be at least 1, got 0", ""),
        (("--attempts", "0"), "--attempts must be at least 1, got 0", ""),
        (("--strength", "0"), "--strength is above 0", ""),
        (("--corrector-steps", "-1"), "--corrector-steps must not be negative", ""),
        (("--rows", "and-3"), "nothing to measure in squares-16: and-3 needs 3 concepts", ""),
    ],
)
def test_bad_input_is_one_clear_error(
    registry: Path, words: tuple[str, ...], problem: str, hint: str
) -> None:
    result = run(registry, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert problem in result.stderr
    assert hint in result.stderr
    assert not Path("bench-logic").exists()


def test_a_small_benchmark_prints_its_lines_its_aims_and_where_the_page_is(registry: Path) -> None:
    words = ["-n", "2", "--seeds", "1", "--rows", "and-2", "--rules", "exact", "--attempts", "1"]
    words += ["--steps", "2", "--corrector-steps", "0", "-o", "out"]
    result = run(registry, *words)
    assert result.exit_code == 0, result.output
    assert "energy calls" in result.stdout
    assert "and-2: right" in result.stdout
    assert "page: out/logic.md" in result.stderr
    files = {path.name for path in Path("out").iterdir()}
    assert files == {"logic.json", "logic.md", "logic.png", "pictures"}
    again = run(registry, *words)
    assert again.exit_code == 1
    assert "out/logic.json exists" in again.stderr
    resumed = run(registry, *words, "--resume", "--json")
    assert json.loads(resumed.stdout) == json.loads(Path("out/logic.json").read_text())
    assert read_registry(registry).judges  # the registry is as it was


def test_missed_aims_are_shown_as_such(capsys: Any) -> None:
    found = document(line("and-2", "exact", [9, 9, 9, 9]), line("and-2", "paper", [None] * 4))
    bench.show(found, Path("out"))
    shown = capsys.readouterr().out
    assert "missed" in shown
    assert "100 %" in shown


def test_the_group_shows_its_command() -> None:
    result = CliRunner().invoke(app, ["bench"])
    assert result.exit_code == 0
    assert "logic" in result.stdout
    assert "Example: ebm bench logic" in CliRunner().invoke(app, ["bench", "logic", "-h"]).stdout


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ((), ROWS),
        (("--quick",), QUICK_ROWS),
        (("--quick", "--rows", "and-3,not"), ("and-3", "not")),
    ],
)
def test_quick_takes_one_row_of_each_kind_unless_rows_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, registry: Path, words: tuple[str, ...], rows: tuple[str, ...]
) -> None:
    asked: list[BenchRequest] = []

    def bench_logic(request: BenchRequest, *_: Any, **__: Any) -> Any:
        asked.append(request)
        raise UsageError("enough")

    monkeypatch.setattr(workflow, "bench_logic", bench_logic)
    assert "enough" in run(registry, *words).stderr
    assert asked[0].rows == rows
