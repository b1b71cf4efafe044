"""Results of long measurements: one JSON file, written row by row, with which one can go on."""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ebmcli.checkpoint import write_bytes
from ebmcli.errors import ConfigError, FileFormatError, OutputExistsError
from ebmcli.registry import Registry
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.origin import created, versions

Document = dict[str, Any]


def circumstances(device: str) -> Document:
    """When, where and with which versions something is measured."""
    return {
        "created": created(),
        "machine": platform.machine(),
        "device": str(resolve_device(device)),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def open_results(
    fresh: Document, path: Path | None, *, by: str, resume: bool, overwrite: bool
) -> Document:
    """A fresh document, or the one in the file to go on with.

    Args:
        fresh: Has ``format``, ``version``, ``settings`` and no rows yet.
        path: The results file; None keeps nothing.
        by: The command that writes such files, for messages.
        resume: Go on with what is there.
        overwrite: Begin again.

    Raises:
        OutputExistsError: The file is there and neither resumed nor overwritten.
        FileFormatError: It holds something else.
        ConfigError: It was made with other settings.
    """
    if path is None or not path.exists():
        write_results(fresh, path)  # a folder that cannot be written is found before anything long
        return fresh
    if not resume:
        if overwrite:
            return fresh
        raise OutputExistsError(path, hint="add --resume to go on with it, or --overwrite")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != fresh["format"] or document["version"] > fresh["version"]:
            raise ValueError("another format")
        settings = document["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(path, f"holds no results of {by}") from error
    mine = json.loads(json.dumps(fresh["settings"]))
    other = [key for key in mine if settings.get(key) != mine[key]]
    if other:
        problem = f"{path} was made with another {other[0]}: {settings.get(other[0])}"
        raise ConfigError(problem, hint="give the same options, or another -o")
    assert isinstance(document, dict)
    return document


@contextmanager
def nothing_left_by_failure(path: Path | None) -> Iterator[None]:
    """Take a results file without rows away again when a measurement fails.

    It would block the corrected command. Ctrl-C leaves it, to be gone on with.
    """
    try:
        yield
    except Exception:  # raised again below: whatever failed, the file goes; Ctrl-C is none of these
        with suppress(OSError, ValueError, KeyError, TypeError):
            if path is not None and not json.loads(path.read_text(encoding="utf-8"))["rows"]:
                path.unlink()
        raise


def write_results(document: Document, path: Path | None) -> None:
    """Write the whole file, or nothing."""
    if path is not None:
        text = json.dumps(document, indent=2, allow_nan=False)
        write_bytes(path, f"{text}\n".encode())


def is_current(digests: Mapping[str, str], registry: Registry) -> bool:
    """Was something made with the weights that are registered now?"""
    known = {f"{r.kind} {r.name}": r.fingerprint for r in registry.records()}
    return all(known.get(name) == digest for name, digest in digests.items())
