"""Archives that were damaged on their way: told from files that never were archives."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from registry_examples import COLOR

from ebmcli.checkpoint import write_checkpoint
from ebmcli.errors import FileFormatError
from ebmcli.registry import Record, create_registry, edit_registry, read_registry
from ebmcli.workflows.archives import export, import_archive
from ebmcli.workflows.registry import verify

STEP = 9  # bytes between those that are changed: all parts of the file, in a second


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One concept without weights: small, so that every byte of it can be damaged in turn."""
    path = create_registry(tmp_path / "mine")
    fields = {"kind": "concept", "name": "color", "space": "scenes-64"}
    file = "checkpoints/color.safetensors"
    digest = write_checkpoint(path.parent / file, {}, fields)
    record = Record(
        kind="concept", name="color", space="scenes-64", file=file, sha256=digest, factor=COLOR,
        method="posterior",
    )  # fmt: skip
    with edit_registry(path) as editor:
        editor.put(record)
    out = tmp_path / "color.zip"
    export(read_registry(path), [record], out, overwrite=False)
    return out


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return create_registry(tmp_path / "theirs")


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
    assert import_archive(other, archive) == []
    assert read_registry(other).get("concept", "color").measured == {"least": 0.3}
    (again,) = import_archive(other, archive, overwrite=True)
    assert read_registry(other).get("concept", "color") == again == known
