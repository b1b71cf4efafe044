"""Folders that are to be like another dataset, and names that are spelled in two ways."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from imported import import_all, labels_of
from PIL import Image
from squares import squares_file

from ebmcli.datasets.hdf5 import DatasetInfo, read_info
from ebmcli.errors import ConfigError, EbmError, FileFormatError, UsageError
from ebmcli.workflows.import_data import next_step, plan_import

FIRST = """file,happy,kind,age,at_x,at_y
a.png,yes,cat,3,-1,0.5
b.png,no,dog,14,1,0
c.png,no,ant,5,0,0
"""
SECOND = "file,kind,age,at_x,at_y,happy\nx.png,dog,4,0,0.25,no\ny.png,cat,13.5,-0.5,1,no\n"


def folder_of(place: Path, table: str) -> Path:
    """A folder with a table and its images."""
    place.mkdir(parents=True)
    for row in table.splitlines()[1:]:
        Image.new("RGB", (20, 10)).save(place / row.partition(",")[0])
    (place / "labels.csv").write_text(table, encoding="utf-8")
    return place


@pytest.fixture
def pets(tmp_path: Path) -> DatasetInfo:
    folder = folder_of(tmp_path / "my pets", FIRST)
    return import_all("folder", folder, tmp_path / "pets.h5", size=8)


def test_a_folder_that_is_to_be_like_another_has_its_space_and_factors(
    pets: DatasetInfo, tmp_path: Path
) -> None:
    """By itself its ages would be from 4 to 13.5, and there would be no word ant."""
    folder = folder_of(tmp_path / "more", SECOND)
    found = import_all("folder", folder, tmp_path / "more.h5", like=pets.path)
    assert (found.space, found.size) == ("my_pets-8", 8) == (pets.space, pets.size)
    assert found.factors == pets.factors
    assert list(found.factors) == list(pets.factors)
    assert sorted(labels_of(found, "age").tolist()) == [4, 13.5]
    assert sorted(labels_of(found, "kind").tolist()) == [1, 2]  # of ant, cat, dog
    assert labels_of(found, "happy").tolist() == [0, 0]
    alone = import_all("folder", folder, tmp_path / "alone.h5", size=8)
    assert (alone.space, alone.factors["age"].high) == ("more-8", 13.5)
    assert alone.factors["kind"].names == ("cat", "dog")


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("dog", "cow", r"labels\.csv:2: kind: 'cow' is unknown", "kind is one of ant, cat, dog"),
        (
            "13.5",
            "14.5",
            r"labels\.csv:3: age: 14\.5 is out of range",
            "age is from 3 to 14 (1 such",
        ),
        ("-0.5,1", "-0.5,1.5", r"labels\.csv:3: at_y: 1\.5 is out", "at is from -1 to 1"),
        ("x.png,dog,4", "x.png,dog,old", "age: 'old' is no number", "fill it in"),
        ("x.png,dog,4", "x.png,dog,nan", "age: 'nan' is no finite number", "fill it in"),
        (",happy", ",glad", "has no column happy, .*pets.h5 has happy", "happy, kind, age, at"),
        ("at_x", "ax", "has no numbers in columns at_x and at_y", "its factors"),
    ],
)
def test_what_the_other_dataset_has_not_is_refused_with_its_line(
    pets: DatasetInfo, tmp_path: Path, old: str, new: str, message: str, hint: str
) -> None:
    folder = folder_of(tmp_path / "more", SECOND.replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message) as caught:
        import_all("folder", folder, tmp_path / "more.h5", like=pets.path)
    assert hint in (caught.value.hint or "")
    assert not (tmp_path / "more.h5").exists()


def test_a_column_too_many_is_refused(pets: DatasetInfo, tmp_path: Path) -> None:
    rows = SECOND.splitlines()
    table = "\n".join(
        f"{row},{cell}" for row, cell in zip(rows, ("fur", "long", "short"), strict=True)
    )
    with pytest.raises(FileFormatError, match="has a column fur") as caught:
        plan_import("folder", folder_of(tmp_path / "m", table), tmp_path / "m.h5", like=pets.path)
    assert caught.value.hint == "take the column out"


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("folder", {"size": 16}, UsageError, "has 8 pixels per side, not 16"),
        ("dsprites", {}, UsageError, "--like is for folders"),
        ("folder", {"size": 0}, ConfigError, "--size is from 8 to 512 pixels, not 0"),
    ],
)
def test_what_cannot_be_like_it_is_refused(
    pets: DatasetInfo, tmp_path: Path, kind: str, options: Any, error: type[EbmError], message: str
) -> None:
    folder = folder_of(tmp_path / "more", SECOND)
    with pytest.raises(error, match=message):
        plan_import(kind, folder, tmp_path / "m.h5", like=pets.path, **options)


def test_no_folder_can_be_like_renders(tmp_path: Path) -> None:
    """Renders are known by recipe and seed; pictures of a folder would be taken for some."""
    rendered = squares_file(tmp_path / "scenes.h5", recipe="scenes")
    folder = folder_of(tmp_path / "more", SECOND)
    with pytest.raises(ConfigError, match="is of the built-in recipe scenes"):
        plan_import("folder", folder, tmp_path / "m.h5", like=rendered)


@pytest.mark.parametrize(("stored", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_marks_may_be_stored_in_either_form(
    tmp_path: Path, stored: str, written: str
) -> None:
    folder = folder_of(tmp_path / "p", FIRST)
    forms = {form: unicodedata.normalize(form, "grün.png") for form in ("NFC", "NFD")}
    (folder / "a.png").rename(folder / forms[stored])
    table = FIRST.replace("a.png", forms[written])
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    info = import_all("folder", folder, tmp_path / "f.h5", size=8)
    assert info.n_images == 3


def test_absolute_paths_and_a_file_in_place_of_the_folder_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", FIRST)
    (folder / "labels.csv").write_text(FIRST.replace("b.png", str(folder / "b.png")))
    with pytest.raises(FileFormatError, match=r"labels\.csv:3: .*b\.png is an absolute") as caught:
        plan_import("folder", folder, tmp_path / "f.h5", size=8)
    assert caught.value.hint == f"write paths relative to {folder}"
    with pytest.raises(FileFormatError, match=r"labels\.csv: is a file") as caught:
        plan_import("folder", folder / "labels.csv", tmp_path / "f.h5", size=8)
    assert caught.value.hint == f"give the folder: {folder}"


@pytest.mark.parametrize(
    ("n", "size", "step"),
    [
        (130, 16, "train with: ebm train-base squares-16 --data "),
        (99, 16, "note: training takes at least 100 images"),
        (130, 33, "note: no network as preset takes these: image size must be a multiple of 16"),
    ],
)
def test_the_next_step_is_one_that_can_be_taken(
    tmp_path: Path, n: int, size: int, step: str
) -> None:
    info = read_info(squares_file(tmp_path / "f.h5", n=n))
    assert next_step(replace(info, size=size), like=False).startswith(step)
    measured = "measure with: ebm train-judge NAME, or ebm eval"
    assert next_step(info, like=True).startswith(measured)
