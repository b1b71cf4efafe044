"""scripts/bundle: what comes with the package is whole, portable and named in both registries."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from script import ROOT, load_script

from ebmcli.errors import DigestError, UsageError
from ebmcli.registry import Record, read_registry
from ebmcli.workflows.results_file import is_current

script = load_script("bundle")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty source tree."""
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def test_what_is_bundled_is_whole_and_the_same_in_both_registries() -> None:
    """Of this source tree, not of an example: every file there, every digest right."""
    if not (ROOT / script.FOLDER / "registry.yaml").is_file():
        pytest.fail("nothing is bundled: run scripts/bundle REGISTRY")
    assert script.disagreements(ROOT) == []


@pytest.mark.parametrize("pattern", ["*-64.json", "*-32.json", "logic.json"])
def test_figures_are_of_the_weights_that_are_bundled(pattern: str) -> None:
    """Rows of other weights would be told of as if they were these."""
    registry = read_registry(ROOT / "registry.yaml")
    files = list((ROOT / "docs" / "results").glob(pattern))
    assert files
    for path in files:
        document = json.loads(path.read_text(encoding="utf-8"))
        judges = document["judges"]
        assert {n: registry.judges[n].sha256 for n in judges} == {
            n: judge["sha256"] for n, judge in judges.items()
        }, path.name
        old = [
            row.get("template", row.get("row"))
            for row in document["rows"]
            if not is_current(row["digests"], registry)
        ]
        assert old == [], path.name


def test_everything_is_copied_and_both_files_name_it(filled: Path, tree: Path) -> None:
    assert script.main([str(filled), "--root", str(tree)]) == 0
    source, bundled = read_registry(filled), read_registry(tree / script.FOLDER / "registry.yaml")
    top = read_registry(tree / "registry.yaml")
    assert list(top.concepts) == list(bundled.concepts) == ["color", "size", "old"]
    for record in source.records():
        copy = bundled.get(record.kind, record.name)
        assert copy.sha256 == record.sha256
        assert top.checked_file(top.get(record.kind, record.name)) == bundled.checked_file(copy)


def test_twice_gives_the_same_bytes_and_leaves_no_stray_file(filled: Path, tree: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file()}

    script.main([str(filled), "--root", str(tree)])
    first = content()
    script.main([str(filled), "base:scenes-64", "color", "--root", str(tree)])
    assert content() == first
    script.main(["--remove", "size", "--root", str(tree)])
    assert not (tree / script.FOLDER / "size.safetensors").exists()
    assert script.disagreements(tree) == []


def test_a_concept_without_its_base_is_refused(filled: Path, tree: Path) -> None:
    with pytest.raises(UsageError, match="needs the base scenes-64"):
        script.bundle(tree, filled, ["color"], [])
    assert list(tree.rglob("*.safetensors")) == []


def test_too_much_is_refused_before_anything_is_written(
    filled: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="MB at most"):
        script.bundle(tree, filled, [], [])
    assert list(tree.rglob("*")) == []


def test_what_the_user_trained_at_the_top_is_not_overwritten(
    filled: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "registry.yaml").write_bytes(filled.read_bytes())
    assert script.main([str(filled), "--root", str(tree)]) == 2
    assert "not bundled" in capsys.readouterr().err


def test_damaged_weights_are_not_bundled(filled: Path, tree: Path) -> None:
    file = filled.parent / "checkpoints" / "color.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(DigestError, match="has changed"):
        script.bundle(tree, filled, [], [])


def test_a_command_that_does_not_tell_what_was_done_is_reported(
    register: Callable[..., Record], registry_path: Path, tree: Path
) -> None:
    provenance = {"command": "ebm train-base scenes-64 --steps 15000", "steps": 12000}
    register("base", "scenes-64", provenance=provenance)
    script.bundle(tree, registry_path, [], [])
    (problem,) = script.disagreements(tree)
    assert "--steps 15000, 12000 were done" in problem


def test_paths_of_the_machine_are_cut_from_the_record(
    register: Callable[..., Record], registry_path: Path, tree: Path
) -> None:
    command = (
        "ebm train-base scenes-64 --data /tmp/data/scenes.h5 --registry '/tmp/a/registry.yaml'"
    )
    register("base", "scenes-64", provenance={"command": command, "seed": 3})
    script.bundle(tree, registry_path, [], [])
    kept = read_registry(tree / "registry.yaml").bases["scenes-64"].provenance
    assert kept["command"] == (
        "ebm train-base scenes-64 --data scenes.h5 --registry 'registry.yaml'"
    )
    assert kept["seed"] == 3
