"""Imports of small files made exactly as the published ones are; CelebA has its own file."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from imported import import_all, labels_of, rows_of
from PIL import Image

from ebmcli.datasets import importers
from ebmcli.datasets.hdf5 import read_info
from ebmcli.datasets.importers import HUES, chosen_rows
from ebmcli.datasets.partial_file import partial_path
from ebmcli.errors import (
    ConfigError,
    EbmError,
    FileFormatError,
    OutputError,
    OutputExistsError,
    UnknownNameError,
)
from ebmcli.workflows.import_data import plan_import

# --- 3D Shapes


@pytest.fixture
def shapes3d(tmp_path: Path) -> Path:
    """96 rows in the published order; the red channel of an image holds its row number."""
    axes = [[0.0, 0.9], [0.3], [0.0, 0.5], [0.75, 1.25], [0, 1, 2, 3], [-30.0, 0.0, 30.0]]
    labels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 6)
    images = np.zeros((len(labels), 64, 64, 3), np.uint8)
    images[..., 0] = np.arange(len(labels))[:, None, None]
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file.create_dataset("images", data=images, compression="gzip")
        file.create_dataset("labels", data=labels.astype(np.float64))
    return tmp_path / "3dshapes.h5"


def test_3d_shapes_rows_are_shuffled_with_their_labels(
    shapes3d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importers, "BLOCK", 7)  # several blocks and batches, with remainders
    monkeypatch.setattr(importers, "BATCH", 10)
    info = import_all("3dshapes", shapes3d, tmp_path / "s.h5", size=64)
    with h5py.File(shapes3d) as file:
        published = file["labels"][:]
    rows = rows_of(info)[:, 0, 0, 0].astype(int)
    assert sorted(rows) == list(range(96))
    assert rows.tolist() != list(range(96))
    names = np.array(HUES)
    assert (labels_of(info, "floor_hue") == published[rows, 0] * 10).all()
    assert set(names[labels_of(info, "object_hue")]) == {"red", "cyan"}
    assert (labels_of(info, "shape") == published[rows, 4]).all()
    assert np.allclose(labels_of(info, "scale"), published[rows, 3])
    assert np.allclose(labels_of(info, "orientation"), published[rows, 5])
    assert info.space == "shapes3d-64"
    assert info.factors["shape"].names == ("cube", "cylinder", "sphere", "capsule")
    assert (info.factors["orientation"].low, info.factors["orientation"].high) == (-30, 30)


def test_a_limit_takes_a_random_subset_the_same_each_time(shapes3d: Path, tmp_path: Path) -> None:
    first = import_all("3dshapes", shapes3d.parent, tmp_path / "a.h5", size=8, limit=40)
    again = import_all("3dshapes", shapes3d, tmp_path / "b.h5", size=8, limit=40)
    assert first.digest == again.digest
    assert len(set(labels_of(first, "floor_hue"))) == 2  # the first 40 rows have one value only


def test_foreign_and_damaged_3d_shapes_are_refused(shapes3d: Path, tmp_path: Path) -> None:
    with h5py.File(shapes3d, "r+") as file:
        file["labels"][5, 0] = 0.55
    with pytest.raises(FileFormatError, match="row 5 has a floor_hue that was never published"):
        import_all("3dshapes", shapes3d, tmp_path / "s.h5")
    shapes3d.write_bytes(shapes3d.read_bytes()[:3000])
    with pytest.raises(FileFormatError, match=r"3dshapes\.h5: is not 3D Shapes"):
        import_all("3dshapes", shapes3d, tmp_path / "s.h5")
    with h5py.File(shapes3d, "w") as file:
        file["images"] = 3
    with pytest.raises(FileFormatError, match=r"3dshapes\.h5: is not 3D Shapes"):
        import_all("3dshapes", shapes3d, tmp_path / "s.h5")


def test_3d_shapes_with_images_of_floats_are_refused(shapes3d: Path, tmp_path: Path) -> None:
    with h5py.File(shapes3d, "r+") as file:
        images = file["images"][:] / np.float32(255)
        del file["images"]
        file["images"] = images
    with pytest.raises(FileFormatError, match="images are float32, those of 3D Shapes uint8"):
        plan_import("3dshapes", shapes3d, tmp_path / "s.h5")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, np.nan, r"row 5 has a floor_hue that was never published; such rows: 1"),
        (3, np.nan, r"1 of 96 labels of scale that are not finite numbers.* row 5"),
        (5, 300.0, r"1 of 96 labels of orientation outside its range, -30 to 30;.* row 5"),
    ],
)
def test_3d_shapes_with_other_labels_are_refused(
    shapes3d: Path, tmp_path: Path, column: int, value: float, message: str
) -> None:
    with h5py.File(shapes3d, "r+") as file:
        file["labels"][5, column] = value
    with pytest.raises(FileFormatError, match=message):
        plan_import("3dshapes", shapes3d, tmp_path / "s.h5")


# --- dSprites


@pytest.fixture
def dsprites(tmp_path: Path) -> Path:
    """3 shapes x 4 x 4 places: a white dot drawn where the published images have it."""
    values, images = [], []
    for shape in (1, 2, 3):
        for x in range(4):
            for y in range(4):
                values.append([1.0, shape, 0.5, 0.0, x / 3, y / 3])
                image = np.zeros((64, 64), np.uint8)
                image[16 + 10 * y, 16 + 10 * x] = 1  # rows grow downwards with posY
                images.append(image)
    path = tmp_path / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    np.savez_compressed(
        path,
        metadata=np.array({"author": "made by a test"}, dtype=object),  # pickled, as published
        imgs=np.stack(images),
        latents_values=np.array(values),
        latents_classes=np.zeros((48, 6), np.int64),
    )
    return path


def test_dsprites_places_have_y_upwards(dsprites: Path, tmp_path: Path) -> None:
    info = import_all("dsprites", dsprites.parent, tmp_path / "d.h5")
    assert list(info.factors) == ["shape", "scale", "orientation", "position"]
    images = rows_of(info)
    assert set(np.unique(images)) == {0, 255}
    rows, columns = (np.argwhere(image[..., 0])[0] for image in images), labels_of(info, "position")
    for (row, column), (x, y) in zip(rows, columns, strict=True):
        assert x == pytest.approx((column - 16) / 15 - 1, abs=1e-6)  # right is +
        assert y == pytest.approx(1 - (row - 16) / 15, abs=1e-6)  # up is +
    assert sorted(labels_of(info, "shape")) == [0] * 16 + [1] * 16 + [2] * 16


def test_damaged_dsprites_are_refused(dsprites: Path, tmp_path: Path) -> None:
    dsprites.write_bytes(dsprites.read_bytes()[:-500])
    with pytest.raises(FileFormatError, match=r"\.npz: is not dSprites"):
        import_all("dsprites", dsprites, tmp_path / "d.h5")
    np.savez_compressed(dsprites, something=np.zeros(3))
    with pytest.raises(FileFormatError, match=r"\.npz: is not dSprites"):
        import_all("dsprites", dsprites, tmp_path / "d.h5")


# --- a folder with labels.csv

TABLE = """file,happy,kind,age,at_x,at_y
a.png,yes,cat,3,-1,0.5
b.png,no,dog,4.5,1,0
sub/c.png,YES,ant,10,0,2

"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "My Pets"
    (folder / "sub").mkdir(parents=True)
    for level, name in enumerate(("a.png", "b.png", "sub/c.png"), start=1):
        Image.new("RGB", (20, 10), (level,) * 3).save(folder / name)
    (folder / "labels.csv").write_text(TABLE)
    return folder


def test_the_kinds_of_columns_follow_from_their_cells(folder: Path, tmp_path: Path) -> None:
    info = import_all("folder", folder, tmp_path / "f.h5", size=8)
    assert info.space == "my_pets-8"
    assert {name: factor.kind for name, factor in info.factors.items()} == {
        "happy": "binary",
        "kind": "categorical",
        "age": "scalar",
        "at": "position",
    }
    assert info.factors["kind"].names == ("ant", "cat", "dog")
    assert (info.factors["age"].low, info.factors["age"].high) == (3, 10)
    assert (info.factors["at"].low, info.factors["at"].high) == (-1, 2)
    row = np.argsort(rows_of(info)[:, 0, 0, 0])  # a, b, c
    assert labels_of(info, "happy")[row].tolist() == [1, 0, 1]
    assert labels_of(info, "kind")[row].tolist() == [1, 2, 0]
    assert labels_of(info, "age")[row].tolist() == [3, 4.5, 10]
    assert labels_of(info, "at")[row].tolist() == [[-1, 0.5], [1, 0], [0, 2]]


def test_a_table_from_a_spreadsheet_is_read(folder: Path, tmp_path: Path) -> None:
    text = TABLE.replace("\n", "\r\n").replace("cat", ' "cat"'.strip())
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert import_all("folder", folder, tmp_path / "f.h5", size=8).n_images == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b.png,no,dog,4.5,1,0", "b.png,no,dog,4.5,1", r"labels\.csv:3: 5 cells, the header has 6"),
        ("b.png,no,dog", "b.png,no,", r"labels\.csv:3: no value for kind"),
        ("b.png,no", "x.png,no", r"labels\.csv:3: there is no image .*x\.png"),
        ("b.png,no", "a.png,no", r"labels\.csv:3: a\.png has a row already, on line 2"),
        ("b.png,no,dog,4.5,1,0\n", "", r"labels\.csv: has no row for b\.png"),
        ("b.png,no", "b.png,maybe", r"labels\.csv:4: happy: 'YES' is no name"),
        ("4.5", "old", r"labels\.csv:3: age: 'old' is no number, others are"),
        ("4.5", "nan", r"labels\.csv:3: age: 'nan' is no finite number \(1 such row\)"),
        ("4.5", "1e300", r"labels\.csv:3: age: '1e300' is no finite number"),
        ("b.png,no,dog", "b.png,no,nan", r"labels\.csv:3: kind has no value: nan"),
        ("dog", "Big Dog", r"labels\.csv:3: kind: 'Big Dog' is no name"),
        ("kind,age", "Kind,age", r"labels\.csv:1: 'Kind' is no name"),
        ("kind,age", "or,age", r"labels\.csv:1: 'or' is no name"),
        ("kind,age", "age,age", r"labels\.csv:1: the column 'age' is there twice"),
        ("file,", "image,", r"labels\.csv:1: the first column must be file, not 'image'"),
        ("kind,age", "at,age", r"at_x and at_y are the place at, and there is a column 'at'"),
        ("at_x,at_y", "and_x,and_y", r"and_x and and_y are the place 'and', which is no name"),
        ("cat", '"ca"t', r"labels\.csv: is not a table"),
        (TABLE, "", r"labels\.csv: holds no rows"),
    ],
)
def test_mistakes_in_a_table_are_named_with_their_line(
    folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    (folder / "labels.csv").write_text(TABLE.replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        import_all("folder", folder, tmp_path / "f.h5", size=8)
    assert not list(tmp_path.glob("f.h5*"))


def test_a_column_with_one_value_is_no_factor(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").write_text(TABLE.replace("4.5", "3").replace("10", "3"))
    with pytest.raises(FileFormatError, match=r"age is 3\.0 in every row"):
        import_all("folder", folder, tmp_path / "f.h5", size=8)


def test_numbers_that_32_bits_cannot_tell_apart_are_refused(folder: Path, tmp_path: Path) -> None:
    """Of float32, neighbours above 2^30 are 128 apart."""
    table = TABLE.replace(",3,", ",{0},").replace("4.5", "{1}").replace("10", "{2}")
    stamps = [1700000000, 1700000020, 1700000040]
    (folder / "labels.csv").write_text(table.format(*stamps))
    with pytest.raises(FileFormatError, match=r"labels\.csv:\d: age: 17000000") as caught:
        plan_import("folder", folder, tmp_path / "f.h5", size=8)
    assert "subtract an offset" in str(caught.value.hint)
    (folder / "labels.csv").write_text(table.format(*(stamp - stamps[0] for stamp in stamps)))
    assert plan_import("folder", folder, tmp_path / "f.h5", size=8).info.factors["age"].high == 40


def test_a_pair_of_which_one_is_words_stays_apart(folder: Path, tmp_path: Path) -> None:
    text = TABLE.replace(",-1,0.5", ",left,0.5").replace(",1,0\n", ",right,0\n")
    (folder / "labels.csv").write_text(text.replace("10,0,2", "10,right,2"))
    info = import_all("folder", folder, tmp_path / "f.h5", size=8)
    assert info.factors["at_x"].kind == "categorical"
    assert info.factors["at_y"].kind == "scalar"


def test_semicolons_and_a_missing_table_have_a_hint(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").write_text(TABLE.replace(",", ";"))
    with pytest.raises(FileFormatError) as caught:
        import_all("folder", folder, tmp_path / "f.h5")
    assert caught.value.hint == "separate columns by commas"
    (folder / "labels.csv").unlink()
    with pytest.raises(FileFormatError, match=r"labels\.csv: no such file"):
        import_all("folder", folder, tmp_path / "f.h5")


def test_a_folder_named_as_a_recipe_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'scenes' is the name of a built-in recipe"):
        import_all("folder", folder.rename(tmp_path / "Scenes"), tmp_path / "f.h5")


def test_another_column_makes_no_other_source_but_another_picture_does(
    folder: Path, tmp_path: Path
) -> None:
    """Also a picture of the same name and size, as uncompressed ones of one shape are."""

    def source(name: str) -> object:
        found = plan_import("folder", folder, tmp_path / f"{name}.h5", size=8)
        return found.info.settings["source"]

    before = source("before")
    rows = [f"{row},{new}" for row, new in zip(TABLE.split(), ("fur", 1, 2, 3), strict=True)]
    (folder / "labels.csv").write_text("\n".join(rows))
    assert source("labelled") == before
    (folder / "sub" / "c.png").rename(folder / "sub" / "d.png")
    (folder / "labels.csv").write_text(TABLE.replace("c.png", "d.png"))
    found = {before, source("renamed")}
    for level in (1, 2):
        Image.new("RGB", (20, 10), (level,) * 3).save(folder / "a.png", format="BMP")
        found.add(source(f"level {level}"))
    assert len(found) == 4


# --- all of them


def test_parts_and_renamed_copies_of_a_file_have_its_source(
    shapes3d: Path, dsprites: Path, tmp_path: Path
) -> None:
    for kind, path in (("3dshapes", shapes3d), ("dsprites", dsprites)):
        whole = import_all(kind, path, tmp_path / f"{kind}-whole.h5", size=8).settings
        copy = tmp_path / f"copy{path.suffix}"
        copy.write_bytes(path.read_bytes())
        part = import_all(kind, copy, tmp_path / f"{kind}-part.h5", size=8, limit=5).settings
        assert part == whole | {"limit": 5}
        assert whole == {"imported": kind, "source": whole["source"]}


def test_files_of_other_content_are_other_sources(
    dsprites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal size too: the ends count, and nothing between them."""
    monkeypatch.setattr(importers, "END", 100)
    before = importers.ends_digest(dsprites)
    content = bytearray(dsprites.read_bytes())
    found = []
    for at in (99, 100, len(content) - 101, len(content) - 100):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        found.append(importers.ends_digest(tmp_path / "changed") == before)
    assert found == [False, True, True, False]
    (tmp_path / "changed").write_bytes(content[:150] + b"more" + content[150:])
    assert importers.ends_digest(tmp_path / "changed") != before


def test_a_damaged_image_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importers, "BATCH", 1)
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(FileFormatError, match=r"b\.png: is"):
        import_all("folder", folder, tmp_path / "f.h5", size=8)
    assert not list(tmp_path.glob("f.h5*"))


def test_an_existing_dataset_is_replaced_only_on_demand(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    before = import_all("folder", folder, out, size=8)
    with pytest.raises(OutputExistsError):
        import_all("folder", folder, out, size=8)
    assert read_info(out) == before
    assert import_all("folder", folder, out, size=16, overwrite=True).size == 16


def test_no_file_of_the_source_is_written_over(
    shapes3d: Path, dsprites: Path, folder: Path, tmp_path: Path
) -> None:
    """Also where the source is typed as its folder, and where the output is a link to a file."""
    link = tmp_path / "link.h5"
    link.symlink_to(shapes3d)
    begun = shapes3d.rename(tmp_path / "3d.h5.partial")
    shapes3d.write_bytes(begun.read_bytes())
    for kind, source, out in (
        ("3dshapes", shapes3d.parent, shapes3d),
        ("3dshapes", shapes3d, link),
        ("3dshapes", begun, tmp_path / "3d.h5"),
        ("dsprites", dsprites.parent, dsprites),
        ("folder", folder, folder / "a.png"),
        ("folder", folder, folder / "labels.csv"),
    ):
        with pytest.raises(ConfigError, match="the output is the source"):
            plan_import(kind, source, out, overwrite=True)


def test_what_another_command_is_writing_is_refused(folder: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "f.h5"
    with partial_path(out).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="is being written"):
                plan_import("folder", folder, out, size=8, overwrite=overwrite)
    with pytest.raises(OutputExistsError):
        plan_import("folder", folder, out, size=8)
    plan_import("folder", folder, out, size=8, overwrite=True)


def test_what_cannot_be_meant_is_refused(shapes3d: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.h5"
    wrong: list[tuple[str, Path, Path, dict[str, int], type[EbmError]]] = [
        ("celebA", shapes3d, out, {}, UnknownNameError),
        ("3dshapes", shapes3d, out, {"size": 4}, ConfigError),
        ("3dshapes", shapes3d, out, {"limit": 0}, ConfigError),
        ("3dshapes", shapes3d, shapes3d, {"overwrite": 1}, ConfigError),
        ("3dshapes", tmp_path / "none.h5", out, {}, FileFormatError),
    ]
    for kind, source, target, options, error in wrong:
        with pytest.raises(error):
            import_all(kind, source, target, **options)


def test_the_random_order_is_a_permutation() -> None:
    assert sorted(chosen_rows(100, slice(None))) == list(range(100))
    assert (chosen_rows(100, slice(3, 7)) == chosen_rows(100, slice(None))[3:7]).all()
