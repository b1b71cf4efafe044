"""Concepts to and from one zip file: a manifest and the weights, checked before anything is kept.

The manifest holds the entries of a registry.yaml as JSON; equal content gives equal bytes.
"""

import json
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from ebmcli.checkpoint import bytes_digest, check_digest, file_digest, header_of, write_bytes
from ebmcli.errors import FileFormatError, OutputExistsError, UsageError
from ebmcli.registry import (
    Editor,
    Kind,
    Record,
    Registry,
    checkpoint_file,
    edit_registry,
    registry_from_dict,
    rehearse_edits,
)
from ebmcli.workflows.keeping import discard, place
from ebmcli.workflows.registry import mismatch

FORMAT = "ebm-archive"
VERSION = 1
MANIFEST = "manifest.json"
MAX_BYTES = 4_000_000_000  # chosen: unpacked; refuses archives made to fill a disk
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first date: the time of export is not content
_HEAD = 256  # bytes; chosen: what an archive begins with is in its first 60
_HINT = "export it again: ebm export NAME -o FILE.zip"
_AGAIN = "copy or download it again, or " + _HINT
_BROKEN = (  # all that zipfile raises on damaged files
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What :func:`import_archive` did."""

    added: list[Record] = field(default_factory=list)  # or put in the place of another record
    restored: list[Record] = field(default_factory=list)  # whose weights were damaged or missing


@dataclass(frozen=True, kw_only=True)
class _Files:
    """What becomes of files while an archive is imported."""

    new: list[Record] = field(default_factory=list)  # not there before
    written: list[tuple[Path, bytes]] = field(default_factory=list)  # at the end
    damaged: list[tuple[Path, bytes]] = field(default_factory=list)  # written after them


def export(
    registry: Registry, records: Sequence[Record], out: Path, *, overwrite: bool
) -> list[Record]:
    """Write records, and the bases that concepts among them use, into one zip file.

    Returns:
        What was written, the bases first.

    Raises:
        OutputExistsError: The file exists and was not to be overwritten.
        FileFormatError: The weights of a record are missing.
        DigestError: The weights of a record are not those that were recorded.
    """
    if out.exists() and not overwrite:
        raise OutputExistsError(out)
    bases = [registry.get("base", record.base) for record in records if record.base]
    chosen = {(record.kind, record.name): record for record in [*bases, *records]}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        content = list(chosen.values())
        _add(archive, MANIFEST, json.dumps(_manifest(content), indent=1, sort_keys=True).encode())
        for record in sorted(content, key=_member):
            _add(archive, _member(record), registry.checked_file(record).read_bytes())
    write_bytes(out, buffer.getvalue())
    return content


def import_archive(
    path: Path, source: Path, *, new_name: str | None = None, overwrite: bool = False
) -> Imported:
    """Check a zip file of :func:`export` and add what it holds to a registry.

    A record that is there already, with the same weights and temperatures, is left as it is. Where
    its file is missing, or has other bytes than were recorded, it gets those of the archive; so
    does a record of the same weights with other temperatures, which it keeps unless ``overwrite``.

    If anything fails, registry and files are as they were; but weights that were restored stay so
    where only registry.yaml could not be written: it names them, before and after.

    Args:
        path: The registry.yaml to change.
        source: The zip file.
        new_name: Another name for its only concept.
        overwrite: Replace records of the same name with other weights, or measured again.

    Returns:
        What was added, and of what the weights were restored.

    Raises:
        FileFormatError: Not such a zip file, a damaged one, or its content contradicts its
            manifest.
        DigestError: Weights are not those of the manifest.
        OutputExistsError: A name is taken by other weights.
        OutputError: No permission or no room.
    """
    content = _renamed(_read(source), new_name)
    done, files = Imported(), _Files()
    try:
        with edit_registry(path) as editor:
            for record, data in content:
                _take(editor, record, data, done=done, files=files, overwrite=overwrite)
            for file, data in [*files.written, *files.damaged]:  # what is refused changes nothing
                write_bytes(file, data)
    except BaseException:  # Ctrl-C too: what is not registered is not left behind
        discard(path, files.new)
        raise
    return done


def _take(
    editor: Editor, record: Record, data: bytes, *, done: Imported, files: _Files, overwrite: bool
) -> None:
    """Add one record, and note which files there are to write; see import_archive."""
    old = editor.registry.section(record.kind).get(record.name)
    if old is not None and old.sha256 == record.sha256:
        damaged = not _holds(editor.registry.file(old), old.sha256)
        if damaged:
            files.damaged.append((editor.registry.file(old), data))
            done.restored.append(old)
        if overwrite:
            settled = _measured(old) == _measured(record)
        else:
            settled = damaged or old.fingerprint == record.fingerprint
        if not settled:
            record = replace(record, file=old.file)
            _put(editor, record, overwrite=overwrite)
            done.added.append(record)
        return
    record = place(editor, record)
    _put(editor, record, overwrite=overwrite)
    done.added.append(record)
    file = editor.registry.file(record)
    if not _holds(file, record.sha256):
        if not file.exists():
            files.new.append(record)
        files.written.append((file, data))
    if old is not None and old.file != record.file:
        editor.drop(editor.registry.file(old))


def _holds(file: Path, sha256: str) -> bool:
    """Is a file there and whole?"""
    try:
        return file_digest(file) == sha256
    except FileFormatError:
        return False


def check_archive(
    path: Path, source: Path, *, new_name: str | None = None, overwrite: bool = False
) -> None:
    """Read all of a zip file, check every digest, header and name, and add nothing.

    Raises:
        FileFormatError, DigestError, UsageError, OutputExistsError: As :func:`import_archive`.
    """
    content = _renamed(_read(source), new_name)
    editor, files = rehearse_edits(path), _Files()
    for record, data in content:
        _take(editor, record, data, done=Imported(), files=files, overwrite=overwrite)


def _measured(record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of weights: by it a record of the same weights may be newer."""
    return record.measured, record.calibration


def _manifest(records: Sequence[Record]) -> dict[str, Any]:
    sections: dict[str, Any] = {"schema": 1, "bases": {}, "concepts": {}, "judges": {}}
    for record in records:
        entry = record.to_dict() | {"file": _member(record)}
        sections[f"{record.kind}s"][record.name] = entry
    return {"format": FORMAT, "version": VERSION, "registry": sections}


def _member(record: Record) -> str:
    """The name of a record's weights inside the zip file.

    A concept base-X has a folder of its own: beside the base X, which it may rest on, both would
    have one name.
    """
    if record.kind == "concept" and record.name.startswith(("base-", "judge-")):
        return f"concepts/{record.name}.safetensors"
    return checkpoint_file(record.name, kind=record.kind)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.create_system = 3  # Unix, wherever it is written
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


def _read(source: Path) -> list[tuple[Record, bytes]]:
    """Everything in an archive, bases first, after every check that needs no registry."""
    ours = _begins_as_ours(source)
    try:
        with zipfile.ZipFile(source) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            members = {entry.filename: entry.file_size for entry in files}
            ours = ours or MANIFEST in members
            if MANIFEST not in members or sum(members.values()) > MAX_BYTES:
                raise zipfile.BadZipFile("no manifest, or impossible sizes")
            records = _records(source, archive.read(MANIFEST))
            _compare(source, members, records)
            content = [(record, archive.read(record.file)) for record in records]
    except OSError as error:
        raise FileFormatError(source, f"cannot be read: {error.strerror or error}") from error
    except _BROKEN as error:
        raise (_damaged(source) if ours else _foreign(source)) from error
    for record, data in content:
        member = source / record.file
        check_digest(member, bytes_digest(data), record.sha256)
        problem = mismatch(record, header_of(data, path=member))
        if problem:
            raise FileFormatError(member, problem, hint=_HINT)
    return content


def _begins_as_ours(source: Path) -> bool:
    """Does a file begin as :func:`export` writes it: the manifest first, its format named first?

    A truncated archive has lost its table of contents, which is at the end of a zip file; its
    beginning still says what it was.
    """
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise FileFormatError(source, "no such file") from error
    except OSError as error:
        raise FileFormatError(source, f"cannot be read: {error.strerror or error}") from error
    return MANIFEST.encode() in head or f'"{FORMAT}"'.encode() in head


def _records(source: Path, text: bytes) -> list[Record]:
    """The records of a manifest, bases first."""
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ValueError("another format")
        version, sections = int(manifest["version"]), manifest["registry"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _foreign(source) from error
    if version > VERSION:
        problem = f"is version {version} of the format; this ebm reads up to {VERSION}"
        raise FileFormatError(source, problem, hint="upgrade ebm: pip install --upgrade ebmcli")
    registry = registry_from_dict(sections, path=source / MANIFEST)
    return [*registry.bases.values(), *registry.concepts.values(), *registry.judges.values()]


def _compare(source: Path, members: dict[str, int], records: Sequence[Record]) -> None:
    """The archive must hold what its manifest names, and nothing else."""
    named = {record.file for record in records}
    for name in sorted(set(members) - named - {MANIFEST}):
        raise FileFormatError(
            source, f"holds {name!r}, which its manifest does not name", hint=_HINT
        )
    for name in sorted(named - set(members)):
        raise FileFormatError(source, f"lacks {name}, which its manifest names", hint=_HINT)


def _renamed(content: list[tuple[Record, bytes]], new: str | None) -> list[tuple[Record, bytes]]:
    """The content with its only concept under another name."""
    if new is None:
        return content
    concepts = [record.name for record, _ in content if record.kind == "concept"]
    if len(concepts) != 1:
        problem = f"--as names one concept, the archive holds {len(concepts)}"
        raise UsageError(problem, hint="import without --as, then ebm rename OLD NEW")
    return [
        (replace(record, name=new) if record.kind == "concept" else record, data)
        for record, data in content
    ]


def _put(editor: Editor, record: Record, *, overwrite: bool) -> None:
    kind: Kind = record.kind
    if record.name in editor.registry.section(kind) and not overwrite:
        hint = "--as NEW imports it under another name, --overwrite replaces yours"
        if kind != "concept":
            hint = f"ebm rename {record.name} NEW keeps yours, --overwrite replaces it"
        raise OutputExistsError(f"another {kind} {record.name!r}", hint=hint)
    editor.put(record, overwrite=overwrite)


def _damaged(source: Path) -> FileFormatError:
    problem = "is damaged: it is truncated, or bytes of it have changed; nothing was imported"
    return FileFormatError(source, problem, hint=_AGAIN)


def _foreign(source: Path) -> FileFormatError:
    return FileFormatError(source, "is not an archive of ebm export", hint=_HINT)
