"""Locks of a registry and of a run: one command at a time changes them; others can say who does.

The lock itself is the operating system's, on an empty file beside what is locked, and is gone when
its process is. Who holds it stands in a second file, which is advice only.
"""

import json
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ebmcli.errors import ConfigError, OutputError, RegistryError

SECONDS = 10.0  # chosen: an edit takes milliseconds; EBM_LOCK_TIMEOUT overrides it


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a registry.yaml; through a link that of its target, which is written.

    Raises:
        RegistryError: Another command holds it for too long, or no lock can be made there.
        ConfigError: EBM_LOCK_TIMEOUT is not a number of seconds.
    """
    from filelock import Timeout

    seconds, target = _seconds(), path.resolve()
    lock = _lock_of(target, seconds=seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise RegistryError(
            f"{path} is locked{_described(_holder(target))}; waited {seconds:g} s",
            hint="try again when it is done; EBM_LOCK_TIMEOUT=60 waits longer",
        ) from error
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RegistryError(
            f"cannot change {path}: its folder cannot be written or locked ({reason.lower()})",
            hint="--registry PATH or EBM_REGISTRY chooses another; on network disks without locks "
            "set EBM_LOCK=soft",
        ) from error
    with _held(lock, target):
        yield


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Hold the lock of a training run's folder, without waiting: two would spoil each other.

    Raises:
        OutputError: Another command is training there, or no lock can be made.
    """
    from filelock import Timeout

    lock = _lock_of(folder, seconds=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        hint = "wait until it is done, or train under another name"
        problem = f"the run {folder} is being trained{_described(_holder(folder))}"
        raise OutputError(problem, hint=hint) from error
    except OSError as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        hint = "choose another registry; on network disks without locks set EBM_LOCK=soft"
        raise OutputError(f"cannot write or lock {folder}: {reason}", hint=hint) from error
    with _held(lock, folder):
        yield


def refuse_locked(folder: Path) -> None:
    """Raise OutputError where another command is training in this folder; nothing is left behind.

    A run that was never begun has no lock to try.
    """
    if _lock_file(folder).exists():
        with locked_run(folder):
            return


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _holder(path: Path) -> Path:
    return path.with_name(f".{path.name}.holder")


def _lock_of(path: Path, *, seconds: float) -> Any:
    """The lock of a path, not yet held; EBM_LOCK=soft is for disks without locks."""
    from filelock import FileLock, SoftFileLock

    kind = SoftFileLock if os.environ.get("EBM_LOCK") == "soft" else FileLock
    return kind(_lock_file(path), timeout=seconds)


@contextmanager
def _held(lock: Any, path: Path) -> Iterator[None]:
    """Note who holds a lock, and give it back at the end."""
    holder = _holder(path)
    try:
        with suppress(OSError):
            holder.write_text(json.dumps(_myself()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _seconds() -> float:
    """How long to wait."""
    text = os.environ.get("EBM_LOCK_TIMEOUT", "")
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"EBM_LOCK_TIMEOUT is not a number of seconds: {text!r}")
    return seconds


def _myself() -> dict[str, str | int]:
    program = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": program}


def _described(holder: Path) -> str:
    """Who holds the lock, as far as the advice can be read."""
    try:
        who = json.loads(holder.read_text(encoding="utf-8"))
        return f" by process {who['pid']} on {who['host']}: {who['command']}"
    except (OSError, ValueError, KeyError, TypeError):
        return " by another command"
