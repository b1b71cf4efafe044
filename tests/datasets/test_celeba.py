"""CelebA from a few files laid out exactly as the published ones are."""

from pathlib import Path

import numpy as np
import pytest
from imported import import_all, labels_of, rows_of
from PIL import Image

from ebmcli.datasets.importers import attribute_name
from ebmcli.errors import FileFormatError

CELEBA = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes "
    "No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling "
    "Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Five images of 178 x 218; image i has grey level 40 i and carries attribute columns of i."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = ["5", CELEBA + " "]  # the published header ends in a blank
    for i in range(1, 6):
        flags = ["1" if (column + i) % 3 == 0 else "-1" for column in range(40)]
        lines.append(f"{i:06}.jpg " + " ".join(f"{flag:>2}" for flag in flags))
        image = Image.new("RGB", (178, 218), (40 * i,) * 3)
        image.save(folder / "img_align_celeba" / f"{i:06}.jpg", quality=95)
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_celeba_attributes_go_by_name_and_images_keep_their_order(
    celeba: Path, tmp_path: Path
) -> None:
    info = import_all("celeba", celeba, tmp_path / "c.h5", size=16)
    assert (info.recipe, info.space, info.size, info.n_images) == ("celeba", "celeba-16", 16, 5)
    assert len(info.factors) == 41
    assert info.factors["wavy_hair"].names == ("no", "yes")
    for name in ("Male", "Wavy_Hair", "Young", "5_o_Clock_Shadow"):
        column = CELEBA.split().index(name)
        expected = [int((column + i) % 3 == 0) for i in range(1, 6)]
        assert labels_of(info, attribute_name(name)).tolist() == expected
    assert (labels_of(info, "old") == 1 - labels_of(info, "young")).all()
    assert np.abs(rows_of(info)[:, 8, 8, 0] - 40 * np.arange(1, 6)).max() <= 2


def test_celeba_columns_may_come_in_another_order(celeba: Path, tmp_path: Path) -> None:
    table = celeba / "list_attr_celeba.txt"
    lines = [line.split() for line in table.read_text().splitlines()]
    turned = [lines[0], lines[1][::-1], *([row[0], *row[:0:-1]] for row in lines[2:])]
    before = import_all("celeba", celeba, tmp_path / "a.h5", size=8)
    table.write_text("\n".join(" ".join(row) for row in turned))
    after = import_all("celeba", celeba, tmp_path / "b.h5", size=8)
    for name in ("male", "old", "young", "bald"):
        assert (labels_of(before, name) == labels_of(after, name)).all()


def test_celeba_images_may_lie_in_the_folders_of_the_download(celeba: Path, tmp_path: Path) -> None:
    for folder, name in (("Img", "img_align_celeba"), ("Anno", "list_attr_celeba.txt")):
        (celeba / folder).mkdir()
        (celeba / name).rename(celeba / folder / name)
    assert import_all("celeba", celeba, tmp_path / "c.h5", size=8, limit=2).n_images == 2


def test_celeba_of_another_table_is_another_source(celeba: Path, tmp_path: Path) -> None:
    whole = import_all("celeba", celeba, tmp_path / "a.h5", size=8).settings
    first = import_all("celeba", celeba, tmp_path / "b.h5", size=16, limit=2).settings
    assert first == whole | {"limit": 2}
    table = celeba / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace(" 1", "-1", 1))
    other = import_all("celeba", celeba, tmp_path / "c.h5", size=8).settings
    assert other["source"] != whole["source"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("5\n", "6\n", r"list_attr_celeba\.txt: line 1 says 6 images, 5 follow"),
        ("5\n", "", r"list_attr_celeba\.txt:1: is not CelebA's list"),
        ("000003.jpg ", "000003.jpg 0 ", r"list_attr_celeba\.txt:5: expected a file name and 40"),
        ("000003.jpg", "000009.jpg", r"list_attr_celeba\.txt:5: there is no image 000009\.jpg"),
    ],
)
def test_a_damaged_celeba_table_is_named_with_its_line(
    celeba: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    table = celeba / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        import_all("celeba", celeba, tmp_path / "c.h5", size=8)


def test_celeba_images_without_a_line_are_named_and_counted(celeba: Path, tmp_path: Path) -> None:
    """A line taken out and the count in line 1 mended: nothing else tells that it was there."""
    table = celeba / "list_attr_celeba.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(["1", lines[1], lines[2]]))
    (celeba / "img_align_celeba" / ".DS_Store").write_bytes(b"")
    (celeba / "img_align_celeba" / "notes.txt").write_bytes(b"")
    expected = r"no line for 4 of 5 images: 000002\.jpg, 000003\.jpg, 000004\.jpg and 1 more$"
    with pytest.raises(FileFormatError, match=expected):
        import_all("celeba", celeba, tmp_path / "c.h5", size=8)


def test_celeba_lines_without_an_image_are_counted(celeba: Path, tmp_path: Path) -> None:
    for i in (2, 3, 4, 5):
        (celeba / "img_align_celeba" / f"{i:06}.jpg").unlink()
    expected = r"list_attr_celeba\.txt:4: there is no image 000002.* and 1 more in"
    with pytest.raises(FileFormatError, match=expected):
        import_all("celeba", celeba, tmp_path / "c.h5", size=8)
    assert import_all("celeba", celeba, tmp_path / "c.h5", size=8, limit=1).n_images == 1


def test_celeba_has_one_line_for_each_image(celeba: Path, tmp_path: Path) -> None:
    table = celeba / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace("000005.jpg", "000002.jpg", 1))
    with pytest.raises(FileFormatError, match=r"txt:7: 000002\.jpg has a line already, line 4"):
        import_all("celeba", celeba, tmp_path / "c.h5", size=8)


def test_a_folder_that_is_not_celeba_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"has no list_attr_celeba\.txt"):
        import_all("celeba", tmp_path, tmp_path / "c.h5")


def test_all_celeba_names_can_stand_in_a_formula() -> None:
    from ebmcli.core.expression import parse

    for name in CELEBA.split():
        assert str(parse(attribute_name(name))) == attribute_name(name)
