"""ebm train, train-base and add-concept as typed: status, what is printed, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from squares import COLOR, SPACE, TALL, TINY, put_base, put_concept, random_registry, squares_file
from typer.testing import CliRunner, Result

from ebmcli.checkpoint import file_digest, read_checkpoint
from ebmcli.cli.app import app
from ebmcli.registry import create_registry, edit_registry, places, read_registry
from ebmcli.workflows import add_concept
from ebmcli.workflows.generate import GenerateRequest

QUICK = [*(word for text in TINY for word in ("--set", text)), "--device", "cpu"]
QUICK += ["--precision", "fp32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder whose name a shell would take apart."""
    return squares_file(tmp_path_factory.mktemp("my data; echo $HOME") / "squares.h5")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = create_registry(tmp_path / "trained")
    put_base(path)
    return path


@pytest.fixture
def ebm(data: Path, registry: Path) -> Any:
    """Run a command in this process, with the file and the registry given."""

    def run(*words: str) -> Result:
        options = ["--data", str(data), "--registry", str(registry), *QUICK]
        return CliRunner().invoke(app, [*words, *options])

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_a_command_that_is_right_copies_the_bundled_registry(
    data: Path, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a slip would keep a user on today's bundle for good."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("EBM_REGISTRY", raising=False)
    monkeypatch.setattr(places, "BUNDLED", registry)
    own = tmp_path / "home" / "registry.yaml"
    monkeypatch.setattr(places, "user_registry", lambda: own)

    def run(*words: str) -> int:
        return CliRunner().invoke(app, [*words]).exit_code

    given = ["--data", str(data), "--steps", "2", *QUICK]
    unseen = str(squares_file(tmp_path / "unseen.h5", seed=7))
    put_concept(registry, replace(COLOR, name="hue"))
    assert run("rename", "nothing", "other") == 2
    assert run("train", "color", "--data", "nothing.h5") == 1
    assert run("train", "color", *given, "--base", "nothing") == 2
    assert run("train", "color", *given, "--precision", "fp8") == 2
    assert run("train-base", "mine", *given, "--start", SPACE, "--set", "head=9") == 2
    assert run("add-concept", "color", *given, "--to", "nothing") == 2
    assert run("add-concept", "size", *given, "--to", "hue") == 2  # the file labels no such factor
    assert run("union", "both", SPACE, "nothing") == 2
    assert run("union", SPACE, SPACE, "nothing") == 2
    assert run("mend-base", "nothing", "--data", str(data)) == 2
    assert run("mend-base", SPACE, "--undo") == 2
    assert run("mend-base", SPACE, "--undo", "--data", str(data)) == 2
    assert run("mend-base", SPACE, "--undo", "--steps", "9") == 2
    assert run("train-judge", "judge", "--data", "nothing.h5") == 1
    assert run("train-judge", "judge", "--data", unseen, "--minutes", "0") == 2
    assert run("train-judge", "judge", "--data", unseen, "--minutes", "1", "--steps", "9") == 2
    assert run("train-judge", "judge", "--data", unseen, "--dry-run") == 0
    assert run("import", str(data)) == 1
    assert not own.parent.exists()
    assert run("train", "color", *given) == 0
    assert "color" in read_registry(own).concepts
    assert list(read_registry(registry).concepts) == ["hue"]


def test_an_edit_that_is_refused_copies_no_bundled_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = create_registry(tmp_path / "theirs")
    put_base(theirs, seed=1)
    archive = str(tmp_path / "theirs.zip")
    words = ["export", SPACE, "-o", archive, "--registry", str(theirs)]
    assert CliRunner().invoke(app, words).exit_code == 0
    monkeypatch.setattr(places, "BUNDLED", random_registry(tmp_path / "bundled", (COLOR, TALL)))
    own = tmp_path / "home" / "registry.yaml"
    monkeypatch.setattr(places, "user_registry", lambda: own)

    def run(*words: str) -> int:
        return CliRunner().invoke(app, [*words]).exit_code

    assert run("rename", "color", "tall") == 1
    assert run("rename", "color", "and") == 2
    assert run("rm", "color", SPACE, "--yes") == 2  # tall is on that base
    assert run("import", archive) == 1
    assert not own.parent.exists()
    assert run("import", archive, "--overwrite") == 0
    assert run("rename", "color", "hue") == 0
    assert list(read_registry(own).concepts) == ["hue", "tall"]


def test_train_prints_held_out_numbers_and_registers(ebm: Any, registry: Path) -> None:
    result = ebm("train", "color", "--steps", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["sigma", "accuracy", "log_loss", "ece"]
    assert len(lines) == 1 + 6
    assert "saved" in result.stderr
    record = read_registry(registry).get("concept", "color")
    assert record.provenance["command"].startswith("ebm")  # the words are pytest's own here


def test_train_base_prints_a_loss_per_noise_level(ebm: Any, registry: Path) -> None:
    result = ebm("train-base", "second", "--steps", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["sigma", "loss"]
    assert "second" in read_registry(registry).bases


def test_json_is_one_document_on_stdout(ebm: Any) -> None:
    result = ebm("train", "tall", "--steps", "1", "--json")
    document = json.loads(result.stdout)
    assert document["name"] == "tall"
    assert document["factor"]["kind"] == "binary"
    assert 0 <= document["measured"]["accuracy"] <= 1


@pytest.mark.parametrize(
    "words",
    [("train", "color"), ("train-base", "second"), ("add-concept", "width", "--to", "color")],
)
def test_a_dry_run_shows_the_plan_and_writes_nothing(
    ebm: Any, registry: Path, words: tuple[str, ...]
) -> None:
    if words[0] == "add-concept":
        put_concept(registry, COLOR)
        words += ("--factor", "size")
    before = files(registry.parent)
    result = ebm(*words, "--dry-run", "--steps", "9")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["name"] == words[1]
    assert plan["settings"]["n_steps"] == 9
    assert "minutes" not in plan
    assert plan.get("to") == (["color"] if words[0] == "add-concept" else None)
    plan = json.loads(ebm(*words, "--dry-run", "--minutes", "3").stdout)
    assert (plan["minutes"], plan["settings"]["n_steps"]) == (3.0, None)
    assert files(registry.parent) == before


def test_a_dry_run_does_not_copy_the_bundled_registry(
    data: Path, registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebmcli.registry.places.BUNDLED", registry.resolve())
    before = files(home)
    words = ["train", "color", "--data", str(data), "--dry-run", *QUICK]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert files(home) == before


def test_settings_that_change_nothing_are_told(ebm: Any, registry: Path) -> None:
    """QUICK has some for all: each command has no use for one of them."""
    put_concept(registry, TALL)
    quick = {"train-base": "score_batch changes nothing for a base"}
    quick |= dict.fromkeys(("train", "add-concept"), "n_components changes nothing for --method")
    names = {"train-base": "new", "train": "color", "add-concept": "color"}
    for command, note in quick.items():
        words = [command, names[command], *(("--to", "tall") if command == "add-concept" else ())]
        assert note in ebm(*words, "--dry-run").stderr
    both = ebm("train", "color", "--dry-run", "--method", "both", "--set", "ratio_weight=1")
    assert "note: --set n_components, score_batch changes nothing for --method both" in both.stderr
    assert "ratio_weight" not in both.stderr
    with edit_registry(registry) as editor:
        editor.remove("concept", "tall")
        editor.remove("base", SPACE)
    alone = ebm("train", "color", "--dry-run", "--method", "conditional")  # its own Gaussian
    assert "note: --set score_batch changes nothing for --method conditional" in alone.stderr


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        (("train", "hue"), 2, "unknown factor 'hue'"),
        (("train", "color", "--method", "magic"), 2, "unknown method 'magic'"),
        (("train", "color", "--set", "lr=1"), 2, "unknown setting 'lr'"),
        (("train", "color", "--minutes", "0"), 2, "--minutes must be positive"),
        (("train", "color", "--minutes", "soon"), 2, "minutes"),
        (("train", "color", "--steps", "-1"), 2, "--steps must be at least 1"),
        (("train", "color", "--base", "none"), 2, "unknown base 'none'"),
        (("train", "No"), 2, "no name"),
        (("train", "color", "--resume"), 2, "no run to resume"),
        (("train-base", SPACE), 1, "exists"),
        (("add-concept", "size", "--to", "colour"), 2, "unknown concept 'colour'"),
        (("add-concept", "size", "--to", " , "), 2, "no concept to add to"),
    ],
)
def test_mistakes_have_a_status_and_a_message(
    ebm: Any, registry: Path, words: tuple[str, ...], status: int, problem: str
) -> None:
    before = files(registry.parent)
    result = ebm(*words)
    assert result.exit_code == status, result.output
    assert "error: " in result.stderr
    assert problem in result.stderr
    assert result.stdout == ""
    assert files(registry.parent) == before


def test_divergence_ends_with_advice_and_keeps_a_checkpoint(ebm: Any, registry: Path) -> None:
    result = ebm(
        "train-base", "wild", "--steps", "60", "--set", "learning_rate=1e9", "--set", "n_warmup=0"
    )
    assert result.exit_code == 1, result.output
    assert "error: training diverged at step" in result.stderr
    assert "hint: lower the learning rate: --set learning_rate=3.3e+08" in result.stderr
    state = registry.parent / "runs" / "base-wild" / "state.safetensors"
    assert read_checkpoint(state, kind="run")
    again = ebm("train-base", "wild", "--steps", "60")
    assert again.exit_code == 1
    assert "--resume" in again.stderr
    assert ebm("train-base", "wild", "--steps", "2", "--restart").exit_code == 0
    assert not state.exists()


def one_thread() -> dict[str, str]:
    """Sums depend on the number of threads in their last bits; runs to compare have one each."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def spawned(words: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ebmcli", *words],
        env=one_thread(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, *, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size > 0):
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_prints_a_command_that_goes_on(data: Path, registry: Path, tmp_path: Path) -> None:
    """A real process, a real signal, and the hint pasted into a real shell."""
    words = ["train", "color", "--data", str(data), "--registry", str(registry), *QUICK]
    words += ["--steps", "250", "--set", "score_weight=0"]
    process = spawned(words)
    wait_for(registry.parent / "runs" / "color" / "metrics.jsonl")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    stopped = re.search(r"interrupted at step (\d+) of 250, saved", err)
    assert stopped
    command = re.search(r"^hint: resume with: (ebm .*)$", err, re.MULTILINE)
    assert command
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ebm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ebmcli "$@"\n')
    program.chmod(0o755)
    environment = one_thread() | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command[1], shell=True, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = read_registry(registry).get("concept", "color")
    assert record.provenance["steps"] == 250
    interrupted = file_digest(read_registry(registry).file(record))
    whole = spawned([*words, "--overwrite"])
    _, err = whole.communicate(timeout=200)
    assert whole.returncode == 0, err
    record = read_registry(registry).get("concept", "color")
    assert record.sha256 == interrupted


def test_add_concept_shows_that_nothing_was_forgotten(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(**settings: Any) -> GenerateRequest:
        return GenerateRequest(**settings | {"n": 2, "steps": 2, "corrector_steps": 0})

    monkeypatch.setattr(add_concept, "GenerateRequest", quick)
    monkeypatch.setattr(add_concept, "N_COMPOSED", 2)
    registry = random_registry(tmp_path / "two", [COLOR, TALL])
    options = ["--data", str(data), "--registry", str(registry), "--steps", "1", *QUICK]
    shown = CliRunner().invoke(app, ["add-concept", "size", "--to", "color, tall", *options])
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert [row[0] for row in rows if "unchanged" in row] == ["color", "tall"]
    put_concept(registry, COLOR, name="hue")
    listed = CliRunner().invoke(
        app, ["add-concept", "width", "--factor", "size", "--to", "hue", "--json", *options]
    )
    document = json.loads(listed.stdout)
    assert [kept["name"] for kept in document["kept"]] == ["hue"]
