"""Archives that were damaged on their way: told from files that never were archives."""

import errno
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registry_examples import COLOR

from ebmcli.checkpoint import write_checkpoint
from ebmcli.errors import FileFormatError, OutputError, OutputExistsError, UsageError
from ebmcli.registry import Record, create_registry, edit_registry, editing, read_registry
from ebmcli.workflows.archives import Imported, export, import_archive
from ebmcli.workflows.registry import verify

STEP = 9  # bytes between those that are changed: all parts of the file, in a second


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One concept without weights: small, so that every byte of it can be damaged in turn."""
    return packed(tmp_path / "mine", "color")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return create_registry(tmp_path / "theirs")


def put(path: Path, name: str, *, file: str = "", note: str = "", **fields: Any) -> Record:
    """A concept without weights in a registry; another note makes it another file."""
    file = file or f"checkpoints/{name}.safetensors"
    header = {"kind": "concept", "name": name, "space": "scenes-64", "note": note}
    digest = write_checkpoint(path.parent / file, {}, {k: v for k, v in header.items() if v})
    record = Record(
        kind="concept", name=name, space="scenes-64", file=file, sha256=digest, factor=COLOR,
        method="posterior", **fields,
    )  # fmt: skip
    with edit_registry(path) as editor:
        editor.put(record, overwrite=True)
    return record


def packed(folder: Path, *names: str) -> Path:
    """An archive of concepts in a registry of their own."""
    path = create_registry(folder)
    records = [put(path, name) for name in names]
    out = folder.with_name(f"{folder.name}.zip")
    export(read_registry(path), records, out, overwrite=False)
    return out


def damage(file: Path, how: str) -> None:
    """Spoil a file, or remove it."""
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)


def content(path: Path) -> dict[str, bytes]:
    """Every file beside a registry and below, but its lock."""
    found = [file for file in path.parent.rglob("*") if file.is_file() and ".lock" not in file.name]
    return {str(file): file.read_bytes() for file in found}


def refusal(registry: Path, archive: Path) -> str:
    """Why an archive is not imported; empty where it is."""
    try:
        import_archive(registry, archive)
    except FileFormatError as error:
        return error.problem
    return ""


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_called_damaged(archive: Path, other: Path, share: float) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: max(60, int(share * len(data)))])
    with pytest.raises(FileFormatError, match="is damaged: it is truncated") as caught:
        import_archive(other, archive)
    assert "download it again" in str(caught.value.hint)
    assert read_registry(other).concepts == {}


def test_no_changed_byte_makes_an_archive_foreign(archive: Path, other: Path) -> None:
    """Refused as damaged or as contradicting its manifest, or, in an unused byte, read rightly."""
    data, before = archive.read_bytes(), other.read_bytes()
    refused = 0
    for place in range(0, len(data), STEP):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        archive.write_bytes(changed)
        problem = refusal(other, archive)
        if problem:
            refused += 1
            assert "is not an archive" not in problem, place
            assert other.read_bytes() == before
            continue
        known = read_registry(other)
        assert [check.problem for check in verify(known, known.records())] == [None]
        (other.parent / "checkpoints/color.safetensors").unlink()
        other.write_bytes(before)
    assert refused > 0.8 * len(data) / STEP  # the rest: dates, versions, attributes


def test_other_zip_files_stay_foreign(other: Path, tmp_path: Path) -> None:
    """Among them those of other programs with a manifest.json of their own."""
    source = tmp_path / "x.zip"
    for name, text in (("readme.txt", "hello"), ("manifest.json", '{"format": "other"}')):
        with zipfile.ZipFile(source, "w") as file:
            file.writestr(name, text)
        with pytest.raises(FileFormatError, match="is not an archive of ebm export"):
            import_archive(other, source)
    source.write_bytes(b"")
    with pytest.raises(FileFormatError, match="is not an archive of ebm export"):
        import_archive(other, source)


def test_what_was_measured_of_the_same_weights_is_replaced_when_asked_for(
    archive: Path, other: Path
) -> None:
    import_archive(other, archive)
    known = read_registry(other).get("concept", "color")
    with edit_registry(other) as editor:
        editor.put(replace(known, measured={"least": 0.3}), overwrite=True)
    assert import_archive(other, archive) == Imported()
    assert read_registry(other).get("concept", "color").measured == {"least": 0.3}
    (again,) = import_archive(other, archive, overwrite=True).added
    assert read_registry(other).get("concept", "color") == again == known


# weights that are damaged or missing


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("how", ["missing", "truncated", "changed"])
def test_weights_are_restored_from_their_archive(
    archive: Path, other: Path, how: str, overwrite: bool
) -> None:
    (record,) = import_archive(other, archive).added
    before = content(other)
    damage(read_registry(other).file(record), how)
    done = import_archive(other, archive, overwrite=overwrite)
    assert done == Imported(restored=[record])
    assert content(other) == before
    assert import_archive(other, archive, overwrite=overwrite) == Imported()


def test_restored_weights_lie_where_they_are_registered(archive: Path, other: Path) -> None:
    """Also where that is not the usual file, and the name is another one."""
    (record,) = import_archive(other, archive, new_name="hue").added
    registry = read_registry(other)
    place = registry.file(record).with_name("elsewhere.safetensors")
    registry.file(record).rename(place)
    with edit_registry(other) as editor:
        editor.put(replace(record, file="checkpoints/elsewhere.safetensors"), overwrite=True)
    before = content(other)
    damage(place, "changed")
    assert [r.name for r in import_archive(other, archive, new_name="hue").restored] == ["hue"]
    assert content(other) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_weights_are_restored_under_other_temperatures(
    archive: Path, other: Path, overwrite: bool
) -> None:
    """One's own temperatures are kept, or replaced when asked for."""
    (plain,) = import_archive(other, archive).added
    mine = replace(plain, calibration={"temperatures": {"0.1": 2.0}})
    with edit_registry(other) as editor:
        editor.put(mine, overwrite=True)
    damage(read_registry(other).file(mine), "changed")
    done = import_archive(other, archive, overwrite=overwrite)
    assert done == Imported(restored=[mine], added=[plain] if overwrite else [])
    known = read_registry(other)
    assert known.get("concept", "color") == (plain if overwrite else mine)
    assert [check.problem for check in verify(known, known.records())] == [None]


def test_other_weights_come_in_the_place_of_missing_ones(archive: Path, other: Path) -> None:
    old = put(other, "color", note="other")
    damage(read_registry(other).file(old), "missing")
    (record,) = import_archive(other, archive, overwrite=True).added
    assert record.file == old.file
    known = read_registry(other)
    assert [check.problem for check in verify(known, known.records())] == [None]


def test_replaced_weights_go_before_the_lock_is_given_back(
    archive: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(other, "color", note="other")
    seen, real = [], editing.locked

    @contextmanager
    def watched(path: Path) -> Iterator[None]:
        with real(path):
            yield
            seen.append([file for file in content(other) if file.endswith(".safetensors")])

    monkeypatch.setattr(editing, "locked", watched)
    (record,) = import_archive(other, archive, overwrite=True).added
    assert seen == [[str(read_registry(other).file(record))]]


def test_a_concept_named_as_the_file_of_its_base_travels_with_it(
    other: Path, tmp_path: Path
) -> None:
    path = create_registry(tmp_path / "mine")
    digest = write_checkpoint(path.parent / "b", {}, {"kind": "base", "space": "scenes-64"})
    base = Record(kind="base", name="shape", space="scenes-64", file="b", sha256=digest)
    with edit_registry(path) as editor:
        editor.put(base)
    concept = put(path, "base-shape", base="shape")
    out = tmp_path / "both.zip"
    export(read_registry(path), [concept], out, overwrite=False)
    assert [record.name for record in import_archive(other, out).added] == ["shape", "base-shape"]
    known = read_registry(other)
    assert [check.problem for check in verify(known, known.records())] == [None, None]


def test_what_is_refused_restores_nothing(other: Path, tmp_path: Path) -> None:
    both = packed(tmp_path / "mine", "color", "hue")
    color = put(other, "color")
    put(other, "hue", note="other")
    damage(read_registry(other).file(color), "changed")
    before = content(other)
    with pytest.raises(OutputExistsError, match="hue"):
        import_archive(other, both)
    assert content(other) == before


def test_no_room_for_weights_leaves_the_damaged_ones_and_nothing_else(
    other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for the first file, which is new, and none for the one to restore."""
    both = packed(tmp_path / "mine", "color", "hue")
    color = put(other, "color")
    damage(read_registry(other).file(color), "changed")
    before, calls = content(other), []
    real = os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"color\.safetensors"):
        import_archive(other, both)
    assert content(other) == before
    assert len(calls) == 2


def test_a_refused_import_removes_no_file_of_another_record(archive: Path, other: Path) -> None:
    """The digest in the name leads to weights that a renamed concept has already."""
    digest = import_archive(other, archive).added[0].sha256.removeprefix("sha256:")
    with edit_registry(other) as editor:
        record = editor.remove("concept", "color")
        file = editor.registry.file(record).with_name(f"color-{digest[:8]}.safetensors")
        editor.registry.file(record).rename(file)
        editor.put(replace(record, name="hue", file=f"checkpoints/{file.name}"))
    put(other, "color", note="other")
    before = content(other)
    with pytest.raises(UsageError, match="belongs to the concept hue"):
        import_archive(other, archive, overwrite=True)
    assert content(other) == before
