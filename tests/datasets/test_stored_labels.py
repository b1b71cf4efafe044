"""Labels that are no values of their factor are refused where they are read, with row and count."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from squares import TINY, put_base, squares_file

from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import read_labels
from ebmcli.datasets.stored_labels import check_labels, some_of
from ebmcli.errors import FileFormatError
from ebmcli.registry import create_registry
from ebmcli.workflows.plans import TrainRequest, plan_concept

OBJECTS = Factor(
    name="object",
    kind="objects",
    parts=(
        Factor(name="color", kind="categorical", names=("red", "blue")),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
    ),
    most=2,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return squares_file(tmp_path / "squares.h5")


def spoil(path: Path, factor: str, rows: list[int], value: object) -> None:
    with h5py.File(path, "r+") as file:
        for row in rows:
            file["factors"][factor][row] = value


WRONG = [
    ("size", np.nan, r"2 of 130 labels of size that are not finite.* is row 7,.*: nan$"),
    ("size", np.inf, r"labels of size that are not finite.*: inf$"),
    ("size", 0.7, r"2 of 130 labels of size outside its range, 0\.2 to 0\.5;.*row 7,.*: 0\.7$"),
    ("position", [0.0, np.nan], r"2 of 130 labels of position that are not finite.*: 0, nan$"),
    ("position", [0.0, -30.0], r"labels of position outside its range, -1 to 1.*: 0, -30$"),
    ("color", 3, r"2 of 130 labels of color without a name; its 3 names.*row 7,.*: 3$"),
    ("tall", -1, r"labels of tall without a name; its 2 names.*: -1$"),
]


@pytest.mark.parametrize(("factor", "value", "message"), WRONG)
def test_a_wrong_label_is_told_before_training(
    data: Path, tmp_path: Path, factor: str, value: object, message: str
) -> None:
    """Of any of them training would say that it diverged, or learn a value that is not there."""
    spoil(data, factor, [7, 40], value)
    registry = create_registry(tmp_path / "trained")
    put_base(registry)
    request = TrainRequest(name=factor, data=data, registry=registry, assignments=TINY)
    with pytest.raises(FileFormatError, match=message):
        plan_concept(request)


def test_the_row_counts_from_the_start_of_the_file(data: Path) -> None:
    spoil(data, "size", [107], np.nan)
    assert len(read_labels(data, "size", 0, 100)) == 100
    with pytest.raises(FileFormatError, match=r"1 of 30 labels of size.* is row 107"):
        read_labels(data, "size", 100, 130)


def test_rounding_to_float32_is_no_mistake() -> None:
    factor = Factor(name="angle", kind="scalar", low=0.1, high=6.283185)
    check_labels(Path("x"), factor, np.array([0.1, 2 * np.pi], dtype=np.float32))


def test_a_range_without_numbers_is_refused() -> None:
    factor = Factor(name="angle", kind="scalar", low=1.0, high=1.0)
    with pytest.raises(FileFormatError, match="angle has the range 1 to 1"):
        check_labels(Path("x"), factor, np.ones(3, dtype=np.float32))


def test_lists_of_objects_are_checked_too() -> None:
    rows = np.zeros((3, 2, 4), dtype=np.float32)
    rows[:, 0] = [1, 1, 0.5, 0.5]
    check_labels(Path("x"), OBJECTS, rows)
    rows[1, 1, 0] = np.nan  # is there an object?
    with pytest.raises(FileFormatError, match=r"1 of 3 labels of object.* is row 1"):
        check_labels(Path("x"), OBJECTS, rows)
    rows[1, 1] = [1, 2, 0, 0]
    with pytest.raises(FileFormatError, match="objects with a color outside its range"):
        check_labels(Path("x"), OBJECTS, rows)


def test_some_of_names_the_first_and_counts_the_rest() -> None:
    assert some_of(["a"]) == "a"
    assert some_of(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
