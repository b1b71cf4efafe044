"""Where the registry is: the order of lookup, new ones, the user's copy of the bundled one."""

import logging
import os
import shutil
import uuid
from pathlib import Path

from ebmcli.checkpoint import write_bytes
from ebmcli.errors import OutputError, OutputExistsError, RegistryError
from ebmcli.registry.lock import locked
from ebmcli.registry.records import CHOOSE, Kind, read_registry

FILE_NAME = "registry.yaml"
BUNDLED = Path(__file__).resolve().parent.parent / "bundled" / FILE_NAME
EMPTY = """\
# What is trained, and where its weights are. Comments survive; paths are relative to this file.
schema: 1
bases: {}
concepts: {}
judges: {}
"""

log = logging.getLogger(__name__)  # without a handler, warnings are plain lines on stderr


def find_registry(explicit: Path | None = None) -> Path:
    """The registry.yaml to read; see :func:`locate_registry`."""
    return locate_registry(explicit)[0]


def locate_registry(explicit: Path | None = None) -> tuple[Path, str]:
    """The registry.yaml to read and what decided it, the first there is of:

    the argument, ``EBM_REGISTRY``, the nearest registry.yaml from the working directory upward, the
    user's copy of the bundled one, the bundled one.

    Raises:
        RegistryError: The one asked for is missing, or there is none at all.
    """
    asked = explicit or os.environ.get("EBM_REGISTRY")
    if asked:
        path = Path(asked).expanduser()
        path = path / FILE_NAME if path.is_dir() else path
        reason = "--registry" if explicit else "EBM_REGISTRY"
        if not path.is_file():
            folder = path.parent if path.suffix in (".yaml", ".yml") else path
            hint = f"ebm registry init {folder} makes one"
            raise RegistryError(f"{path}: no such registry (from {reason})", hint=hint)
        return path, reason
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME, "nearest to the working directory"
    if user_registry().is_file():
        return user_registry(), "your own copy of the bundled one"
    if BUNDLED.is_file():
        return BUNDLED, "bundled with ebm, read-only"
    raise RegistryError("there is no registry here", hint=CHOOSE)


def writable_registry(explicit: Path | None = None) -> Path:
    """The registry.yaml to change: as :func:`find_registry`, the bundled one copied first.

    Raises:
        RegistryError: There is none.
        OutputError: The user's data folder cannot be written.
    """
    path = find_registry(explicit)
    if path.resolve() != BUNDLED:
        return path
    return _copy_bundled()


def user_registry() -> Path:
    """Where the user's copy of the bundled registry is, or would be."""
    from platformdirs import user_data_path

    return user_data_path("ebm", appauthor=False) / FILE_NAME


def create_registry(folder: Path) -> Path:
    """Write an empty registry.yaml into a folder, which is made where missing.

    Raises:
        OutputExistsError: There is one.
        OutputError: The folder cannot be written.
    """
    path = folder / FILE_NAME
    if path.exists():
        raise OutputExistsError(path, hint=f"use it: --registry {path.absolute()}")
    write_bytes(path, EMPTY.encode())
    return path


def checkpoint_file(name: str, *, kind: Kind = "concept") -> str:
    """Where new weights go, relative to the registry's folder."""
    return f"checkpoints/{'' if kind == 'concept' else f'{kind}-'}{name}.safetensors"


def _copy_bundled() -> Path:
    """Copy the bundled registry and its weights to the user's data folder, the YAML last."""
    target = user_registry()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_copied(target, error) from error
    with locked(target):
        if target.is_file():  # another command was first
            return target
        bundled = read_registry(BUNDLED)
        try:
            for record in bundled.records():
                _copy(bundled.checked_file(record), target.parent / record.file)
        except OSError as error:
            raise _not_copied(target, error) from error
        write_bytes(target, BUNDLED.read_bytes())
    log.warning("copied the bundled concepts to %s; changes go there", target.parent)
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy one file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _not_copied(target: Path, error: OSError) -> OutputError:
    reason = (error.strerror or str(error)).lower()
    return OutputError(
        f"cannot copy the bundled registry to {target.parent}: {reason}", hint=CHOOSE
    )
