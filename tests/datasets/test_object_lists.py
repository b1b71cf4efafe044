"""Lists of objects: what is written is read back, in memory and in a file."""

import json

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from ebmcli.cli.app import app
from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter, read_info, read_labels
from ebmcli.datasets.object_lists import check_things, decode_things
from ebmcli.datasets.stored_labels import encode_labels
from ebmcli.errors import FileFormatError
from ebmcli.workflows.dataset import show_dataset

OBJECT = Factor(
    name="object",
    kind="objects",
    most=3,
    parts=(
        Factor(name="shape", kind="categorical", names=("cube", "sphere")),
        Factor(name="color", kind="categorical", names=("red", "green")),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
        Factor(name="size", kind="scalar", low=0.25, high=0.5),
    ),
)
COUNT = Factor(name="count", kind="categorical", names=("1", "2", "3"))
CUBE = {"shape": "cube", "color": "green", "position": (0.5, -0.25), "size": 0.25}
BALL = {"shape": "sphere", "color": "red", "position": (-1.0, 1.0), "size": 0.5}
LISTS = [[CUBE, BALL], [BALL]]


def test_rows_hold_presence_and_parts():
    rows = encode_labels(OBJECT, LISTS)
    assert rows.dtype == np.float32
    assert rows.tolist() == [
        [[1, 0, 1, 0.5, -0.25, 0.25], [1, 1, 0, -1, 1, 0.5], [0] * 6],
        [[1, 1, 0, -1, 1, 0.5], [0] * 6, [0] * 6],
    ]
    assert [decode_things(OBJECT, each) for each in rows] == LISTS


def test_a_list_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="at most 3"):
        encode_labels(OBJECT, [[CUBE] * 4])


@pytest.mark.parametrize(("column", "value"), [(1, 2), (2, -1), (3, 1.5), (5, 0.6)])
def test_values_outside_their_range_are_found(column, value):
    rows = encode_labels(OBJECT, LISTS)
    assert check_things(OBJECT, rows) == ""
    rows[1, 1, column] = value  # no object there
    assert check_things(OBJECT, rows) == ""
    rows[1, 0, column] = value
    assert "outside its range" in check_things(OBJECT, rows)


@pytest.fixture
def path(tmp_path):
    info = DatasetInfo(
        path=tmp_path / "data.h5", recipe="clutter", size=16, n_images=2, seed=3,
        factors={"count": COUNT, "object": OBJECT}, digest="", versions={},
    )  # fmt: skip
    with DatasetWriter(info) as writer:
        labels = {"count": np.array([1, 0]), "object": encode_labels(OBJECT, LISTS)}
        writer.write(np.full((2, 16, 16, 3), 90, dtype=np.uint8), labels)
        return writer.finish().path


def test_a_file_keeps_the_lists_and_says_what_its_columns_are(path):
    assert read_info(path).factors["object"] == OBJECT
    rows = read_labels(path, "object", 0, 2)
    assert [decode_things(OBJECT, each) for each in rows] == LISTS
    with h5py.File(path) as file:
        assert file.attrs["version"] == 2
        columns = json.loads(file["factors/object"].attrs["columns"])
    assert columns == ["present", "shape", "color", "x", "y", "size"]


def test_objects_are_counted_and_shown_from_left_to_right(path, tmp_path):
    count, objects = show_dataset(path, sheet=tmp_path / "sheet.png").factors
    assert count.text == "1: 1, 2: 1, 3: 0"
    assert objects.text == "3 objects"
    assert [part.text for part in objects.parts[:2]] == ["cube 1, sphere 2", "red 2, green 1"]
    shown = CliRunner().invoke(app, ["dataset", "show", str(path)]).stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["object", "objects", "3", "objects"] in rows
    assert ["color", "categorical", "red", "2,", "green", "1"] in rows
    plain = show_dataset(path).to_dict()["labels"]["object"]
    assert plain["n_objects"] == 3
    assert plain["parts"]["shape"] == {"cube": 1, "sphere": 2}
    assert plain["parts"]["size"] == [{"low": 0.25, "mean": pytest.approx(1.25 / 3), "high": 0.5}]


def test_a_damaged_list_is_told(path):
    with h5py.File(path, "r+") as file:
        file["factors/object"][0, 0, 1] = 9
    with pytest.raises(FileFormatError, match="objects with a shape outside"):
        show_dataset(path)
