"""Jobs on a registry: list, describe, verify, rename and remove what is trained; without torch."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ebmcli.checkpoint import read_header
from ebmcli.core.statements import usage
from ebmcli.errors import (
    EbmError,
    FileFormatError,
    OutputError,
    OutputExistsError,
    UnknownNameError,
)
from ebmcli.registry import (
    Kind,
    Record,
    Registry,
    checkpoint_file,
    edit_registry,
    rehearse_edits,
)
from ebmcli.workflows.keeping import discard


def summaries(
    registry: Registry, *, space: str | None = None, kind: Kind | None = None
) -> list[dict[str, Any]]:
    """One row per record, in the order of the file; the digests are not checked.

    Raises:
        UnknownNameError: No record of a registry that has some is of this space.
    """
    spaces = list(dict.fromkeys(record.space for record in registry.records()))
    if space is not None and spaces and space not in spaces:
        raise UnknownNameError("space", space, spaces, where=f" in {registry.path}")
    return [
        {
            "name": record.name,
            "kind": record.kind,
            "space": record.space,
            "factor": record.factor.kind if record.factor else None,
            "values": values(record),
            "method": record.method,
            "accuracy": accuracy(record),
            "bytes": registry.file(record).stat().st_size if present(registry, record) else None,
            "status": "ok" if present(registry, record) else "missing",
        }
        for record in registry.records()
        if space in (None, record.space) and kind in (None, record.kind)
    ]


def present(registry: Registry, record: Record) -> bool:
    """Is the file of a record there?"""
    return registry.file(record).is_file()


def values(record: Record) -> str:
    """The values of a concept in a few words: red, blue, ... or 0.1 to 0.5."""
    factor = record.factor
    if factor is None:
        return ""
    if factor.names:
        return ", ".join(factor.names)
    if factor.kind == "objects":
        parts = ", ".join(part.name for part in factor.parts)
        return f"up to {factor.most} objects: {parts}"
    axes = " in x and y" if factor.kind == "position" else ""
    return f"{factor.low:g} to {factor.high:g}{axes}"


def accuracy(record: Record) -> float | None:
    """The accuracy on held-out images at the lowest noise measured, in [0, 1].

    Of a list of objects it is the share of objects that were found. What was measured has no fixed
    form: a noise level that is no number counts for nothing.
    """
    levels = record.measured.get("held_out")
    by_sigma = {_sigma(key): row for key, row in levels.items()} if isinstance(levels, dict) else {}
    sigmas = [sigma for sigma in by_sigma if sigma is not None]
    if not sigmas:
        return None
    lowest = by_sigma[min(sigmas)]
    found = lowest.get("accuracy", lowest.get("found")) if isinstance(lowest, dict) else None
    return float(found) if isinstance(found, (int, float)) else None


def _sigma(key: Any) -> float | None:
    """A noise level by which numbers were recorded, or None."""
    try:
        return float(key)
    except (TypeError, ValueError):
        return None


def description(registry: Registry, record: Record) -> dict[str, Any]:
    """Everything that is known about a record, in plain types."""
    there, of_base = present(registry, record), record.kind == "base"
    return {
        "name": record.name,
        "kind": record.kind,
        **record.to_dict(),
        "registry": str(registry.path),
        "bytes": registry.file(record).stat().st_size if there else None,
        "status": "ok" if there else "missing",
        "usage": usage(record.name, record.factor) if record.factor else None,
        "used_by": [c.name for c in registry.resting_on(record.name)] if of_base else [],
        "trained_against_another": undermined(registry, record.name) if of_base else [],
        "warning": other_base(registry, record),
    }


def undermined(registry: Registry, base: str) -> list[str]:
    """The concepts that name a base and were trained against another one, by name."""
    return [c.name for c in registry.resting_on(base) if registry.has_other_base(c)]


def other_base(registry: Registry, record: Record) -> str | None:
    """That a concept was trained against another base than the one of that name, in words."""
    if not registry.has_other_base(record):
        return None
    then, now = str(record.trained_base)[:19], registry.get("base", str(record.base)).sha256[:19]
    return f"trained against another base {record.base} ({then}, now {now})"


@dataclass(frozen=True, kw_only=True)
class Check:
    """What :func:`verify` found about one record.

    ``problem`` is None where the file is the one that was recorded; ``warning`` is None unless the
    concept was trained against another base than the one it has now.
    """

    record: Record
    problem: str | None
    warning: str | None = None


def verify(registry: Registry, records: Sequence[Record]) -> list[Check]:
    """Hash every file again and compare its header with the record."""
    return [
        Check(
            record=record,
            problem=_problem(registry, record),
            warning=other_base(registry, record),
        )
        for record in records
    ]


def mismatch(record: Record, header: dict[str, Any]) -> str | None:
    """Where the header of a file contradicts its record, in words."""
    said: dict[str, Any] = {"kind": record.kind, "space": record.space}
    if record.kind == "concept" and record.factor:
        said |= {"method": record.method, "factor": record.factor.to_dict()}
    for key, value in said.items():
        if key in header and header[key] != value:
            return f"its header says {key} {header[key]}, the registry {value}"
    return None


def rename(path: Path, old: str, new: str, *, kind: Kind | None = None) -> Record:
    """Give a record another name, and its file where that has the name.

    Raises:
        UnknownNameError: There is none of the old name.
        OutputExistsError: The new name, or a file of it, is there already.
        UsageError: The new name is not allowed.
    """
    copied: list[Record] = []
    try:
        with edit_registry(path) as editor:
            record = editor.registry.find(old, kind)
            editor.rename(record.kind, old, new)
            renamed = editor.registry.get(record.kind, new)
            source = editor.registry.file(record)
            if record.file != checkpoint_file(old, kind=record.kind):
                return renamed
            moved = replace(renamed, file=checkpoint_file(new, kind=record.kind))
            if not source.is_file():  # removed by hand: the old name is free for another
                if editor.registry.file(moved).exists():
                    return renamed
                editor.put(moved, overwrite=True)
                return moved
            renamed = moved
            _duplicate(source, editor.registry.file(renamed))
            copied.append(renamed)
            editor.put(renamed, overwrite=True)
            editor.drop(source)
    except BaseException:  # Ctrl-C too, which can come after the new name has become the valid one
        discard(path, copied)
        raise
    return renamed


def check_rename(path: Path, old: str, new: str, *, kind: Kind | None = None) -> None:
    """Refuse what :func:`rename` would refuse because of names, and write nothing."""
    editor = rehearse_edits(path)
    editor.rename(editor.registry.find(old, kind).kind, old, new)


def check_removal(path: Path, records: Sequence[Record]) -> None:
    """Refuse records that cannot be removed one after the other, and write nothing.

    Raises:
        UnknownNameError, UsageError: As :func:`remove`.
    """
    editor = rehearse_edits(path)
    for record in records:
        editor.remove(record.kind, record.name)


def remove(path: Path, name: str, *, kind: Kind | None = None, keep_file: bool = False) -> Record:
    """Take a record out of the registry and delete its file.

    Raises:
        UnknownNameError: There is none.
        UsageError: It is a base that concepts use.
        OutputError: The file cannot be deleted; the record is gone.
    """
    with edit_registry(path) as editor:
        record = editor.registry.find(name, kind)
        editor.remove(record.kind, name)
        if not keep_file:
            editor.drop(editor.registry.file(record))
    return record


def _problem(registry: Registry, record: Record) -> str | None:
    """What is wrong with the file of a record, in words."""
    path = registry.file(record)
    try:
        header = read_header(path)
        registry.checked_file(record)
    except FileFormatError as error:
        return error.problem.removeprefix(f"{path}: ")
    except EbmError as error:
        return error.problem
    if record.base is not None and record.base not in registry.bases:
        return f"its base {record.base} is not in the registry"
    return mismatch(record, header)


def _duplicate(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the disk has no links; nothing is overwritten."""
    try:
        os.link(source, target)
    except FileExistsError as error:
        raise OutputExistsError(target, hint="move it away or choose another name") from error
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise OutputError(f"cannot write {target}: {error.strerror}") from error
