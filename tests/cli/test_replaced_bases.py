"""A base that is replaced under its concepts: said when it happens, and known afterwards."""

import json
from pathlib import Path

import pytest
from squares import COLOR, SPACE, TALL, TINY, put_base, put_concept, random_registry, squares_file
from typer.testing import CliRunner, Result

from ebmcli.cli.app import app
from ebmcli.registry import create_registry, read_registry

QUICK = [*(word for text in TINY for word in ("--set", text)), "--device", "cpu"]
QUICK += ["--precision", "fp32", "--steps", "1"]


def run(registry: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--registry", str(registry)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "squares.h5")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A base and two concepts of an older version, which did not keep the digest of the base."""
    return random_registry(tmp_path / "trained", (COLOR, TALL))


def results(registry: Path) -> dict[str, str]:
    found = run(registry, "verify", "--json")
    assert found.exit_code == 0, found.output  # every file is what was recorded
    return {row["name"]: row["result"] for row in json.loads(found.stdout)}


def test_train_base_names_the_concepts_before_and_after(registry: Path, data: Path) -> None:
    old = read_registry(registry).get("base", SPACE).sha256
    words = ["train-base", SPACE, "--data", str(data), *QUICK, "--overwrite"]
    planned = run(registry, *words, "--dry-run")
    assert json.loads(planned.stdout)["replaces_base_of"] == ["color", "tall"]
    assert set(results(registry).values()) == {"ok"}
    done = run(registry, *words)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("warning: color, tall were trained against") == 2
    now = read_registry(registry)
    assert [now.get("concept", name).trained_base for name in ("color", "tall")] == [old, old]
    shown = results(registry)
    assert shown[SPACE] == "ok"
    assert shown["color"].startswith(f"trained against another base {SPACE} ({old[:19]}, now ")
    assert "warning: concepts on another base" in run(registry, "verify").stderr
    assert "warning  trained against another base" in run(registry, "show", "color").stdout
    base = json.loads(run(registry, "show", SPACE, "--json").stdout)
    assert base["trained_against_another"] == ["color", "tall"]


def test_a_concept_trained_again_rests_on_the_new_base(registry: Path, data: Path) -> None:
    put_base(registry, seed=1)
    words = ["train", "color", "--data", str(data), *QUICK, "--overwrite"]
    assert run(registry, *words).exit_code == 0
    now = read_registry(registry)
    assert now.get("concept", "color").trained_base == now.get("base", SPACE).sha256
    shown = results(registry)
    assert shown["color"] == "ok"
    assert shown["tall"].startswith("trained against another base")
    assert run(registry, "rename", SPACE, "other").exit_code == 0
    assert results(registry)["color"] == "ok"


def test_the_old_base_put_back_makes_all_well(registry: Path) -> None:
    put_base(registry, seed=1)
    put_base(registry, seed=2)
    assert results(registry)["color"].startswith("trained against another base")
    put_base(registry)
    assert set(results(registry).values()) == {"ok"}


def test_import_names_the_concepts_of_the_base_it_replaces(registry: Path, tmp_path: Path) -> None:
    theirs = create_registry(tmp_path / "theirs")
    put_base(theirs, seed=1)
    put_concept(theirs, TALL, method="conditional")
    archive = tmp_path / "theirs.zip"
    assert run(theirs, "export", "tall", "-o", str(archive)).exit_code == 0
    done = run(registry, "import", str(archive), "--overwrite")
    assert done.exit_code == 0, done.output
    assert f"warning: color were trained against another base {SPACE}" in done.stderr
    shown = results(registry)
    assert shown["color"].startswith("trained against another base")
    assert shown["tall"] == "ok"  # it came with its base


def test_the_same_base_again_replaces_nothing(registry: Path) -> None:
    put_base(registry)
    assert read_registry(registry).get("concept", "color").trained_base is None
    assert set(results(registry).values()) == {"ok"}
