"""The lock of a registry: one command at a time changes it, and a waiting one can say who does.

The lock itself is the operating system's, on an empty file beside the registry, and is gone when
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

from ebmcli.errors import ConfigError, RegistryError

SECONDS = 10.0  # chosen: an edit takes milliseconds; EBM_LOCK_TIMEOUT overrides it


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a registry.yaml.

    Raises:
        RegistryError: Another command holds it for too long, or no lock can be made there.
        ConfigError: EBM_LOCK_TIMEOUT is not a number of seconds.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    seconds = _seconds()
    kind = SoftFileLock if os.environ.get("EBM_LOCK") == "soft" else FileLock
    lock = kind(path.with_name(f".{path.name}.lock"), timeout=seconds)
    holder = path.with_name(f".{path.name}.holder")
    try:
        lock.acquire()
    except Timeout as error:
        raise RegistryError(
            f"{path} is locked{_described(holder)}; waited {seconds:g} s",
            hint="try again when it is done; EBM_LOCK_TIMEOUT=60 waits longer",
        ) from error
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RegistryError(
            f"cannot change {path}: its folder cannot be written or locked ({reason.lower()})",
            hint="--registry PATH or EBM_REGISTRY chooses another; on network disks without locks "
            "set EBM_LOCK=soft",
        ) from error
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
