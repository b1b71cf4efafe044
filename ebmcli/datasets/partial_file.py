"""The file that a dataset is until it is complete: OUT.h5.partial, and its arrays."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def partial_path(path: Path) -> Path:
    """Where a dataset is written until it is complete."""
    return path.with_name(path.name + ".partial")


def is_allocated(partial: Path) -> bool:
    """False for a file whose making was interrupted: there is nothing in it to go on with.

    A file that cannot be read as HDF5 or is locked counts as true, so that it is never overwritten.
    """
    try:
        with h5py.File(partial, "r") as file:
            names = json.loads(file.attrs.get("factor_order", b'["?"]'))
            return all(f"factors/{name}" in file for name in names)  # in the order of making
    except OSError:
        return partial.stat().st_size > 0


def allocate(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """A contiguous array with its space taken at once and no time stamp."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.CONTIGUOUS)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    return file.create_dataset(name, shape=shape, dtype=dtype, dcpl=settings)
