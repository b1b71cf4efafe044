"""Import a published dataset and read it back: for the tests of every importer."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_info, read_labels
from ebmcli.workflows.import_data import import_dataset, plan_import


def import_all(kind: str, source: Path, out: Path, **options: Any) -> DatasetInfo:
    """Import to the end; what was written."""
    for _ in import_dataset(plan_import(kind, source, out, **options)):
        pass
    return read_info(out)


def rows_of(info: DatasetInfo) -> NDArray[np.uint8]:
    """All images."""
    return read_images(info.path, 0, info.n_images)


def labels_of(info: DatasetInfo, factor: str) -> NDArray[np.generic]:
    """All labels of a factor."""
    return read_labels(info.path, factor, 0, info.n_images)
