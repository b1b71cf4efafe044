import h5py
import numpy as np
import pytest
from PIL import Image

from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter
from ebmcli.errors import ConfigError, DigestError, FileFormatError, OutputExistsError
from ebmcli.workflows.dataset import show_dataset, verify_dataset

FACTORS = {
    "color": Factor(name="color", kind="categorical", names=("red", "green")),
    "old": Factor(name="old", kind="binary", names=("no", "yes")),
    "size": Factor(name="size", kind="scalar", low=0.3, high=0.6, unit="world units"),
    "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
}


@pytest.fixture
def path(tmp_path):
    info = DatasetInfo(
        path=tmp_path / "data.h5", recipe="scenes", size=16, n_images=4, seed=3,
        factors=FACTORS, digest="", versions={}, settings={"fix": ["old=no"]},
    )  # fmt: skip
    images = np.full((4, 16, 16, 3), 90, dtype=np.uint8)
    labels = {
        "color": np.array([0, 1, 1, 1]),
        "old": np.array([0, 0, 0, 1]),
        "size": np.array([0.3, 0.4, 0.4, 0.5], dtype=np.float32),
        "position": np.array([[0, 0], [1, 0.5], [-1, 0], [0, 0.5]], dtype=np.float32),
    }
    with DatasetWriter(info) as writer:
        writer.write(images, labels)
        return writer.finish().path


def test_labels_are_counted_and_ranged(path):
    color, old, size, position = show_dataset(path).factors
    assert color.counts == {"red": 1, "green": 3}
    assert color.text == "red 1, green 3"
    assert old.counts == {"no": 3, "yes": 1}
    assert size.ranges[0] == pytest.approx((0.3, 0.4, 0.5))
    assert size.text == "0.3 to 0.5, mean 0.4 world units"
    assert position.ranges == ((-1.0, 0.0, 1.0), (0.0, 0.25, 0.5))
    assert position.text == "x -1 to 1, mean 0; y 0 to 0.5, mean 0.25"


def test_the_summary_is_plain_for_json(path):
    plain = show_dataset(path).to_dict()
    assert plain["space"] == "scenes-16"
    assert plain["settings"] == {"fix": ["old=no"]}
    assert plain["labels"]["color"] == {"red": 1, "green": 3}
    assert plain["labels"]["position"][1] == {"low": 0.0, "mean": 0.25, "high": 0.5}
    assert plain["path"] == str(path)


def test_the_sheet_is_a_picture_and_is_not_replaced_unasked(path, tmp_path):
    sheet = tmp_path / "sheet.png"
    show_dataset(path, sheet=sheet)
    with Image.open(sheet) as image:
        assert image.width > 4 * 16
    with pytest.raises(OutputExistsError):
        show_dataset(path, sheet=sheet)
    show_dataset(path, sheet=sheet, overwrite=True)


def test_a_sheet_with_the_name_of_something_else_is_refused(path, tmp_path):
    for name, shown in (("sheet.txt", "as .txt"), ("sheet", "without a suffix")):
        with pytest.raises(ConfigError, match=f"not {shown}") as caught:
            show_dataset(path, sheet=tmp_path / name)
        assert caught.value.hint == f"-o {tmp_path / 'sheet.png'}"
        assert not (tmp_path / name).exists()


def test_verify_finds_a_changed_label(path):
    assert verify_dataset(path).n_images == 4
    with h5py.File(path, "r+") as file:
        file["factors/old"][0] = 1
    with pytest.raises(DigestError):
        verify_dataset(path)


def test_labels_without_a_name_are_told(path):
    with h5py.File(path, "r+") as file:
        file["factors/color"][0] = 7
    with pytest.raises(FileFormatError, match="labels of color"):
        show_dataset(path)
