"""Pictures of lines in files: nothing is lost, and a file that has changed is not taken."""

import json
from pathlib import Path

import numpy as np
import pytest
from bench_documents import line
from PIL import Image

from ebmcli.errors import FileFormatError
from ebmcli.pictures import PAPER, read_png_metadata, read_tiles, tiles
from ebmcli.workflows.bench_compare import line_of
from ebmcli.workflows.bench_pictures import COLUMNS, PICTURES, drawn_groups, keep, kept

ROW = line("not", "paper", [3, None, 4, None])
IMAGES = np.random.default_rng(0).integers(256, size=(20, 16, 16, 3), dtype=np.uint8)


def test_pictures_come_back_in_the_order_of_their_groups(tmp_path: Path) -> None:
    file = keep(tmp_path, line_of(ROW), drawn_groups(ROW), IMAGES)
    assert file is not None
    found = kept(tmp_path, ROW | {"pictures": file})
    assert found is not None
    assert np.array_equal(found, IMAGES)
    known = json.loads(read_png_metadata(tmp_path / file["file"])["ebm:groups"])
    assert known == [group for group in ROW["groups"] if "right" in group]
    assert sum(group["n"] for group in known) == len(IMAGES)


def test_every_line_has_a_file_of_its_own(tmp_path: Path) -> None:
    rows = [
        ROW,
        line("not", "paper", [1] * 4, attempts=3),
        line("not", "paper", [1] * 4, attempts=3, by_branch=True),
        line("not", "exact", [1] * 4),
        line("and-2", "exact", [1] * 4),
        *(
            line(
                "nested-3", "exact", [1] * 4, part="metropolis", sampler=sampler, corrector_steps=n
            )
            for sampler in ("mala", "hmc")
            for n in (5, 10)
        ),
    ]
    files = [keep(tmp_path, line_of(row), row["groups"], IMAGES) for row in rows]
    names = [file["file"] for file in files if file]
    assert len(set(names)) == len(rows)
    assert names[0] == f"{PICTURES}/not-paper-1-attempt.png"
    assert names[2] == f"{PICTURES}/not-paper-by-branch-3-attempts.png"
    assert names[-1] == f"{PICTURES}/nested-3-exact-hmc-10-steps-1-attempt.png"


def test_changed_and_missing_files_are_not_taken(tmp_path: Path) -> None:
    file = keep(tmp_path, line_of(ROW), drawn_groups(ROW), IMAGES)
    assert file is not None
    row = ROW | {"pictures": file}
    Image.fromarray(tiles(IMAGES[::-1], columns=COLUMNS)).save(tmp_path / file["file"])
    assert kept(tmp_path, row) is None
    (tmp_path / file["file"]).unlink()
    assert kept(tmp_path, row) is None
    assert kept(tmp_path, ROW) is None  # of a version that kept none


def test_no_pictures_make_no_file(tmp_path: Path) -> None:
    refused = line("not", "paper", [None] * 4)
    assert keep(tmp_path, line_of(refused), [], np.empty(0, dtype=np.uint8)) is None
    assert kept(tmp_path, refused | {"pictures": None}) is None
    assert list(tmp_path.iterdir()) == []


def test_tiles_are_row_by_row_and_the_rest_is_paper() -> None:
    sheet = tiles(IMAGES[:5], columns=3)
    assert sheet.shape == (32, 48, 3)
    assert np.array_equal(sheet[:16, 32:], IMAGES[2])
    assert np.array_equal(sheet[16:, 16:32], IMAGES[4])
    assert (sheet[16:, 32:] == PAPER).all()


@pytest.mark.parametrize(
    ("n", "columns", "message"),
    [(7, 3, "7 pictures in 3 columns"), (5, 5, "in 5 columns"), (5, 64, "in 64 columns")],
)
def test_a_file_of_other_tiles_is_refused(
    tmp_path: Path, n: int, columns: int, message: str
) -> None:
    path = tmp_path / "tiles.png"
    Image.fromarray(tiles(IMAGES[:5], columns=3)).save(path)
    with pytest.raises(FileFormatError, match=message):
        read_tiles(path, n, columns=columns)
    path.write_bytes(b"no picture")
    with pytest.raises(FileFormatError, match="is no picture"):
        read_tiles(path, 5, columns=3)
