"""Readings as text and as heat maps."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ebmcli.core.factors import Factor
from ebmcli.core.inference import Estimate
from ebmcli.datasets import scenes
from ebmcli.errors import ConfigError, OutputExistsError, UsageError
from ebmcli.imaging import image_size
from ebmcli.pictures import read_png_metadata
from ebmcli.workflows.infer import Item, Reading
from ebmcli.workflows.readings import (
    Fitting,
    Maps,
    aligned,
    csv_header,
    csv_line,
    json_line,
    position_extent,
    table_header,
    table_row,
    text_format,
    text_output,
)

PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
COLOR = Factor(name="color", kind="categorical", names=("red", "green"))
SIZE = Factor(name="size", kind="scalar", low=0.0, high=1.0)
CONCEPTS: dict[str, Any] = {
    factor.name: SimpleNamespace(factor=factor) for factor in (COLOR, PLACE, SIZE)
}


def reading(file: str = "a.png", size: int = 16) -> Reading:
    return Reading(
        item=Item(file=file, stem=Path(file).stem, picture=np.zeros((size, size, 3), np.uint8)),
        estimates={
            "color": Estimate(value="red", probability=0.98765, cell=0),
            "position": Estimate(value=(0.51234, -0.25), probability=1.0, cell=204),
            "size": Estimate(value=1 / 3, probability=0.5, cell=5),
        },
        log_posteriors={"position": torch.zeros(289)},
    )


def test_csv_quotes_names_and_splits_places() -> None:
    header, row = csv.reader([csv_header(CONCEPTS), csv_line(reading('odd,"name".png'))])
    assert dict(zip(header, row, strict=True)) == {
        "file": 'odd,"name".png',
        "color": "red",
        "color_probability": "0.9877",
        "position_x": "0.5123",
        "position_y": "-0.25",
        "position_probability": "1.0",
        "size": "0.3333",
        "size_probability": "0.5",
    }


def test_jsonl_has_numbers_as_numbers() -> None:
    assert json.loads(json_line(reading())) == {
        "file": "a.png",
        "color": {"value": "red", "probability": 0.9877},
        "position": {"value": [0.5123, -0.25], "probability": 1.0},
        "size": {"value": 0.3333, "probability": 0.5},
    }


def test_a_table_is_for_people() -> None:
    assert table_header(CONCEPTS)[:5] == ["file", "color", "p(color)", "position", "p(position)"]
    assert table_row(reading()) == [
        "a.png", "red", "0.988", "(0.512, -0.250)", "1.000", "0.333", "0.500",
    ]  # fmt: skip
    assert aligned([["file", "p"], ["a", "0.1"]]) == "file  p\na     0.1"


def test_the_format_follows_from_the_suffix_unless_said() -> None:
    assert text_format(None, None) == "table"
    assert text_format(None, Path("a.CSV")) == "csv"
    assert text_format(None, Path("a.jsonl")) == "jsonl"
    assert text_format("table", Path("a.csv")) == "table"
    with pytest.raises(ConfigError, match="unknown format 'xml'"):
        text_format("xml", None)
    for name in ("a.json", "a.xlsx"):
        with pytest.raises(ConfigError, match="no format of infer"):
            text_format(None, Path(name))


def test_a_text_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "a.csv"

    def interrupted() -> None:
        with text_output(out, overwrite=False) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with text_output(out, overwrite=False) as file:
        file.write("whole")
    assert out.read_text() == "whole"
    with pytest.raises(OutputExistsError), text_output(out, overwrite=False):
        pass


def test_maps_are_written_for_places_only_one_per_image(tmp_path: Path) -> None:
    maps = Maps(tmp_path / "maps", CONCEPTS, space="toy-16", overwrite=False)
    for file in ("x/a.png", "y/a.png"):
        maps.write(reading(file))
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == ["a-2-position.png", "a-position.png"]
    assert read_png_metadata(tmp_path / "maps/a-2-position.png")["file"] == "y/a.png"
    with pytest.raises(OutputExistsError):
        Maps(tmp_path / "maps", CONCEPTS, space="toy-16", overwrite=False)


def test_maps_need_a_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of color is a position"):
        Maps(tmp_path / "m", {"color": CONCEPTS["color"]}, space="toy-16", overwrite=False)


def test_a_map_lies_where_the_camera_shows_the_floor() -> None:
    """The edges of the field, projected by hand at the mean elevation."""
    left, top, right, bottom = position_extent("scenes-64", PLACE)
    elevation = math.radians(sum(scenes.ELEVATION) / 2)
    half = math.tan(math.radians(scenes.FIELD_OF_VIEW / 2))
    node = (right - left) / 17  # the map reaches half a node beyond the outermost ones
    side = scenes.HALF_SIDE
    for x, edge in ((-side, left + node / 2), (side, right - node / 2)):
        assert edge == pytest.approx(0.5 + 0.5 * x / (scenes.CAMERA_DISTANCE * half), abs=1e-9)
    for y, edge in ((side, top), (-side, bottom)):
        depth = scenes.CAMERA_DISTANCE + y * math.cos(elevation)
        exact = 0.5 - 0.5 * y * math.sin(elevation) / (depth * half)
        assert edge == pytest.approx(exact, abs=0.03)  # perspective, and half a node
    assert position_extent("dsprites-64", PLACE) == (0.0, 0.0, 1.0, 1.0)


def test_names_that_are_no_unicode_are_written_as_they_are(tmp_path: Path) -> None:
    name = b"p\xff.png".decode("utf-8", "surrogateescape")  # as Linux hands it over
    with text_output(tmp_path / "found.csv", overwrite=False) as file:
        file.write(name)
    assert (tmp_path / "found.csv").read_bytes() == b"p\xff.png"


def test_the_folder_of_an_output_is_made(tmp_path: Path) -> None:
    out = tmp_path / "new" / "deeper" / "found.csv"
    with text_output(out, overwrite=False) as file:
        file.write("x")
    assert out.read_text() == "x"


def test_images_that_are_cut_or_enlarged_are_counted_and_others_not_spoken_of() -> None:
    fitting = Fitting(16)
    for shown in ([(16, 16)], [(640, 640)], [(20, 16)], [(8, 8), (8, 9)]):
        item = replace(reading().item, shown=tuple(shown))
        fitting.add(replace(reading(), item=item))
    cut, enlarged = fitting.lines()
    assert cut.startswith("2 of 5 images not square")
    assert enlarged.startswith("2 of 5 images smaller than 16 x 16: enlarged")
    assert Fitting(16).lines() == []


def test_the_size_of_an_image_is_that_of_its_file(tmp_path: Path) -> None:
    Image.new("RGB", (20, 12)).save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (20, 12)
