"""Weights that replace others: the registry never names a file that is not whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ebmcli.registry.editing as editing
from ebmcli.checkpoint import file_digest
from ebmcli.errors import OutputError, OutputExistsError, UsageError
from ebmcli.registry import Record, read_registry
from ebmcli.workflows.keeping import keep_trained
from tests.registry_examples import record as example

HEADER = {"kind": "concept", "space": "scenes-64", "name": "color"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.yaml"
    path.write_text("schema: 1\n", encoding="utf-8")
    return path


def blank(name: str = "color") -> Record:
    return replace(example(name), base=None, method="conditional", file="", sha256="")


def keep(path: Path, value: float, *, overwrite: bool = False, name: str = "color") -> Record:
    weights = {"weight": torch.full((3,), value)}
    return keep_trained(path, blank(name), weights, HEADER, overwrite=overwrite)


def files(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.glob("checkpoints/*.safetensors"))


def test_new_weights_have_the_usual_file(path: Path) -> None:
    kept = keep(path, 1.0)
    assert kept.file == "checkpoints/color.safetensors"
    assert read_registry(path).get("concept", "color") == kept
    assert file_digest(path.parent / kept.file) == kept.sha256


def test_replacing_leaves_one_file(path: Path) -> None:
    keep(path, 1.0)
    kept = keep(path, 2.0, overwrite=True)
    assert files(path) == [Path(kept.file).name]
    assert file_digest(read_registry(path).file(kept)) == kept.sha256
    again = keep(path, 3.0, overwrite=True)
    assert again.file == "checkpoints/color.safetensors"  # the usual name is free again
    assert files(path) == ["color.safetensors"]


def test_the_same_weights_again_keep_their_file(path: Path) -> None:
    first = keep(path, 1.0)
    assert keep(path, 1.0, overwrite=True) == first
    assert files(path) == ["color.safetensors"]


def test_a_taken_name_is_refused_and_nothing_changes(path: Path) -> None:
    first = keep(path, 1.0)
    text = path.read_text(encoding="utf-8")
    with pytest.raises(OutputExistsError):
        keep(path, 2.0)
    assert path.read_text(encoding="utf-8") == text
    assert file_digest(path.parent / first.file) == first.sha256
    assert files(path) == ["color.safetensors"]


def test_a_refused_name_leaves_no_file(path: Path) -> None:
    keep(path, 1.0, name="black_hair")
    with pytest.raises(UsageError, match="differ"):
        keep(path, 2.0, name="black-hair")
    assert files(path) == ["black_hair.safetensors"]


def test_a_registry_that_cannot_be_written_keeps_the_old_weights(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after kill -9 between the two writes: old record, old file, both whole."""
    first = keep(path, 1.0)

    def full(file: Path, data: bytes) -> None:
        raise OutputError(f"cannot write {file}: no room")

    monkeypatch.setattr(editing, "write_bytes", full)
    with pytest.raises(OutputError):
        keep(path, 2.0, overwrite=True)
    monkeypatch.undo()
    known = read_registry(path).get("concept", "color")
    assert known == first
    assert file_digest(path.parent / known.file) == first.sha256
