"""Weights that replace others: the registry never names a file that is not whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ebmcli.registry.editing as editing
from ebmcli.checkpoint import file_digest
from ebmcli.errors import (
    DigestError,
    OutputError,
    OutputExistsError,
    RegistryError,
    UnknownNameError,
    UsageError,
)
from ebmcli.registry import Record, read_registry
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.registry import rename
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


def test_old_weights_go_before_the_lock_is_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards another command may have put weights of the same digest in their place."""
    keep(path, 1.0)
    seen, real = [], editing.locked

    @contextmanager
    def watched(file: Path) -> Iterator[None]:
        with real(file):
            yield
            seen.append(files(path))

    monkeypatch.setattr(editing, "locked", watched)
    kept = keep(path, 2.0, overwrite=True)
    assert seen == [[Path(kept.file).name]]


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


def test_only_the_weights_that_new_ones_were_made_from_are_replaced(path: Path) -> None:
    """A base that was trained anew while it was mended stays as it is."""
    weights = {"weight": torch.full((3,), 9.0)}
    first = keep(path, 1.0)
    keep(path, 2.0, overwrite=True)
    before = content(path)
    for record, error in ((blank(), DigestError), (blank("hue"), UnknownNameError)):
        with pytest.raises(error):
            keep_trained(
                path, record, weights, HEADER, overwrite=True, expected_sha256=first.sha256
            )
        assert content(path) == before


def test_a_concept_on_a_base_that_is_gone_is_refused(path: Path) -> None:
    before = content(path)
    with pytest.raises(RegistryError, match="has no base gone any more") as caught:
        keep_trained(path, replace(blank(), base="gone"), {}, HEADER, overwrite=False)
    assert "ebm import" in str(caught.value.hint)
    assert content(path) == before


def test_a_refused_name_leaves_no_file(path: Path) -> None:
    keep(path, 1.0, name="black_hair")
    with pytest.raises(UsageError, match="differ"):
        keep(path, 2.0, name="black-hair")
    assert files(path) == ["black_hair.safetensors"]


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """No room for registry.yaml; for weights there is."""

    def full(file: Path, data: bytes) -> None:
        raise OutputError(f"cannot write {file}: no room")

    def make() -> None:
        monkeypatch.setattr(editing, "write_bytes", full)

    return make


def content(path: Path) -> dict[str, bytes]:
    """Every file beside a registry and below, but its lock."""
    found = [file for file in path.parent.rglob("*") if file.is_file() and ".lock" not in file.name]
    return {str(file): file.read_bytes() for file in found}


def test_a_registry_that_cannot_be_written_keeps_the_old_weights(
    path: Path, no_room: Callable[[], None]
) -> None:
    first = keep(path, 1.0)
    before = content(path)
    no_room()
    with pytest.raises(OutputError):
        keep(path, 2.0, overwrite=True)
    assert content(path) == before
    assert file_digest(path.parent / first.file) == first.sha256


def test_a_registry_that_cannot_be_written_gets_no_new_weights(
    path: Path, no_room: Callable[[], None]
) -> None:
    keep(path, 1.0, name="hue")
    before = content(path)
    no_room()
    with pytest.raises(OutputError):
        keep(path, 2.0)
    assert content(path) == before


def test_weights_that_are_missing_stay_so_when_the_registry_cannot_be_written(
    path: Path, no_room: Callable[[], None]
) -> None:
    """Others in their place would be taken for damaged ones."""
    (path.parent / keep(path, 1.0).file).unlink()
    no_room()
    with pytest.raises(OutputError):
        keep(path, 2.0, overwrite=True)
    assert files(path) == []


def test_a_file_that_was_there_is_not_removed_with_the_new_ones(
    path: Path, no_room: Callable[[], None]
) -> None:
    """Its name ends in the digest: a killed command left it, or it belongs to another record."""
    keep(path, 1.0)
    second = keep(path, 2.0, overwrite=True)
    rename(path, "color", "hue")  # the file's name is not the usual one, and stays
    keep(path, 1.0)
    before = content(path)
    with pytest.raises(UsageError, match="belongs to the concept hue"):
        keep(path, 2.0, overwrite=True)
    assert content(path) == before
    assert file_digest(path.parent / second.file) == second.sha256


def test_weights_that_are_registered_stay_whatever_comes_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C when registry.yaml has been replaced, and its lock is not yet given back."""
    real = editing.write_bytes

    def interrupted(file: Path, data: bytes) -> None:
        real(file, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(editing, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep(path, 1.0)
    registry = read_registry(path)
    assert registry.checked_file(registry.get("concept", "color")).is_file()
    with pytest.raises(KeyboardInterrupt):
        rename(path, "color", "hue")
    registry = read_registry(path)
    assert registry.checked_file(registry.get("concept", "hue")).is_file()


def test_a_file_that_two_entries_share_stays_when_one_is_renamed(path: Path) -> None:
    """An editor refuses to make such entries; a hand can write them."""
    keep(path, 1.0)
    keep(path, 2.0, name="hue")
    text = path.read_text(encoding="utf-8")
    shared = text.replace("checkpoints/hue", "checkpoints/color")
    path.write_text(shared, encoding="utf-8")
    rename(path, "color", "shade")
    registry = read_registry(path)
    assert all(registry.file(record).is_file() for record in registry.records())
