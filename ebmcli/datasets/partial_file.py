"""The file that a dataset is until it is complete: OUT.h5.partial, its lock and its arrays."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ebmcli.errors import OutputError

WAIT = "wait for the other command, or choose another path"


def partial_path(path: Path) -> Path:
    """Where a dataset is written until it is complete."""
    return path.with_name(path.name + ".partial")


def refuse_locked(partial: Path) -> None:
    """Refuse a partial file that another command is writing; nothing in it is changed.

    A writer locks its file against readers. Opening a file to write it anew empties it before the
    lock is asked for, so the lock is tested first.

    Raises:
        OutputError: Another process has the file open for writing.
    """
    if not partial.is_file():
        return
    try:
        h5py.File(partial, "r").close()
    except BlockingIOError as error:
        raise OutputError(f"{partial} is being written", hint=WAIT) from error
    except (OSError, RuntimeError):
        return  # no HDF5, or damaged: nobody is writing it


def is_allocated(partial: Path) -> bool:
    """False for a file whose making was interrupted: there is nothing in it to go on with.

    A file that cannot be read as HDF5 or is locked counts as true, so that it is never overwritten.
    """
    try:
        with h5py.File(partial, "r") as file:
            names = json.loads(file.attrs.get("factor_order", b'["?"]'))
            return all(f"factors/{name}" in file for name in names)  # in the order of making
    except (OSError, ValueError, TypeError, RuntimeError):
        return partial.stat().st_size > 0


def allocate(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """A contiguous array with its space taken at once and no time stamp."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.CONTIGUOUS)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    return file.create_dataset(name, shape=shape, dtype=dtype, dcpl=settings)
