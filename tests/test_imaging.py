"""Reading pictures of every kind, and the sheets, animations and maps drawn from them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from ebmcli import imaging, pictures
from ebmcli.errors import FileFormatError, OutputError, OutputExistsError
from ebmcli.imaging import find_images, read_image
from ebmcli.pictures import (
    color_map,
    even_columns,
    heat_map,
    labelled_grid,
    read_png_metadata,
    shorten,
    wrapped,
    write_gif,
    write_png,
)


def save(image: Image.Image, path: Path, **settings: object) -> Path:
    image.save(path, **settings)
    return path


def flat(mode: str, color: object, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, color)  # type: ignore[arg-type]


def test_images_are_found_in_order_below_folders_and_each_once(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/2.jpg", "a/1.jpeg", "note.txt", ".hidden.png", "a/.x/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path / "b.PNG", tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "b.PNG",
        "a/1.jpeg",
        "a/2.jpg",
    ]


def test_the_sheet_beside_drawn_pictures_is_none_of_them(tmp_path: Path) -> None:
    """It is a picture of pictures; a file of that name from elsewhere is read."""
    text = PngImagePlugin.PngInfo()
    text.add_text("ebm:seeds", "[0, 1]")
    for folder in ("drawn", "mine"):
        (tmp_path / folder).mkdir()
    save(flat("RGB", (1, 2, 3)), tmp_path / "drawn" / "seed000000.png", pnginfo=text)
    sheet = save(flat("RGB", (1, 2, 3)), tmp_path / "drawn" / "grid.png", pnginfo=text)
    mine = save(flat("RGB", (1, 2, 3)), tmp_path / "mine" / "grid.png")
    assert find_images([tmp_path]) == [tmp_path / "drawn" / "seed000000.png", mine]
    assert find_images([sheet]) == [sheet]
    with pytest.raises(FileFormatError, match="is a sheet with several pictures"):
        read_image(sheet, 16)
    read_image(mine, 16)


def test_a_single_drawn_picture_is_read(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("ebm:seeds", "[7]")
    square = save(Image.new("RGB", (16, 16)), tmp_path / "seed000007.png", pnginfo=text)
    assert read_image(square, 16).shape == (16, 16, 3)
    labelled = save(Image.new("RGB", (16, 30)), tmp_path / "one.png", pnginfo=text)
    with pytest.raises(FileFormatError, match="is a sheet"):
        read_image(labelled, 16)


def test_a_file_named_outright_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    path = save(flat("RGB", (1, 2, 3)), tmp_path / "photo", format="PNG")
    assert find_images([path]) == [path]


def test_a_missing_path_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="nowhere: no such file or folder"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(FileFormatError, match="holds no images"):
        find_images([tmp_path])


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (flat("1", 1), "png", (255, 255, 255)),
        (flat("L", 77), "png", (77, 77, 77)),
        (flat("LA", (0, 0)), "png", (255, 255, 255)),
        (flat("RGB", (10, 20, 30)), "bmp", (10, 20, 30)),
        (flat("RGB", (10, 20, 30)), "ppm", (10, 20, 30)),
        (flat("RGBA", (0, 0, 200, 51)), "png", (204, 204, 244)),  # 0.2 blue + 0.8 white
        (flat("RGBA", (0, 0, 200, 0)), "webp", (255, 255, 255)),
        (flat("CMYK", (0, 255, 255, 0)), "tif", (255, 0, 0)),
        (Image.fromarray(np.full((8, 8), 0x8080, np.uint16)), "png", (128, 128, 128)),
        (Image.fromarray(np.full((8, 8), 65535, np.int32)), "tif", (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 0.2, np.float32)), "tif", (51, 51, 51)),
        (Image.fromarray(np.full((8, 8), 51, np.float32)), "tif", (51, 51, 51)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_eight_bit_rgb(
    tmp_path: Path, image: Image.Image, suffix: str, expected: tuple[int, int, int]
) -> None:
    picture = read_image(save(image, tmp_path / f"x.{suffix}"), 4)
    assert picture.shape == (4, 4, 3)
    assert picture.dtype == np.uint8
    assert (picture == expected).all()


def test_a_palette_with_a_transparent_colour_shows_white_behind(tmp_path: Path) -> None:
    image = flat("P", 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    clear = save(image, tmp_path / "clear.png", transparency=1)
    assert (read_image(clear, 4) == 255).all()
    opaque = save(image, tmp_path / "opaque.png", transparency=0)
    assert (read_image(opaque, 4) == (200, 100, 50)).all()


def test_the_exif_tag_turns_the_picture_upright(tmp_path: Path) -> None:
    image = flat("RGB", (0, 0, 0), (16, 16))
    image.paste((255, 255, 255), (0, 0, 16, 8))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: white comes to the right
    picture = read_image(save(image, tmp_path / "x.png", exif=exif), 16)
    assert (picture[:, 8:] == 255).all()
    assert (picture[:, :8] == 0).all()


def test_the_middle_square_is_kept_and_averaged(tmp_path: Path) -> None:
    """CelebA's 178 x 218: rows 20 to 197 stay; each output pixel is a mean over its area."""
    rows = np.arange(218, dtype=np.uint8)[:, None, None]
    tall = np.broadcast_to(rows, (218, 178, 3)).copy()
    path = save(Image.fromarray(tall), tmp_path / "tall.png")
    assert (read_image(path, 178)[:, 0, 0] == np.arange(20, 198)).all()
    halved = read_image(path, 89)[:, 0, 0].astype(float)
    assert np.abs(halved - (np.arange(20, 198).reshape(89, 2).mean(1))).max() <= 0.5


def test_growing_interpolates(tmp_path: Path) -> None:
    board = np.zeros((2, 2, 3), np.uint8)
    board[:, 1] = 255
    row = read_image(save(Image.fromarray(board), tmp_path / "x.png"), 16)[0, :, 0]
    assert len(set(row.tolist())) > 4
    assert (np.diff(row.astype(int)) >= 0).all()


def test_a_large_jpeg_is_the_same_picture_as_a_large_png(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600)[None, :, None]
    image = Image.fromarray(np.broadcast_to(ramp, (1200, 1600, 3)).astype(np.uint8))
    jpeg = read_image(save(image, tmp_path / "x.jpg", quality=95), 32).astype(int)
    png = read_image(save(image, tmp_path / "x.png"), 32).astype(int)
    assert np.abs(jpeg - png).max() <= 2


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    first, second = flat("RGB", (255, 0, 0)), flat("RGB", (0, 255, 0))
    path = save(first, tmp_path / "x.gif", save_all=True, append_images=[second])
    assert (read_image(path, 8) == (255, 0, 0)).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"x.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileFormatError, match=f"x.{suffix}: is"):
        read_image(path, 32)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_a_foreign_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"x\.png: is"):
        read_image(path, 32)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_image(tmp_path / "x.png", 32)
    with pytest.raises(FileFormatError):
        read_image(tmp_path, 32)


@pytest.mark.parametrize("side", [9_600, 14_000])  # Pillow warns of one and refuses the other
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    path = save(flat("1", 0, (side, side)), tmp_path / "bomb.png")
    assert path.stat().st_size < 100_000
    with pytest.raises(FileFormatError, match="more than 89 million pixels"):
        read_image(path, 32)


def test_a_sheet_has_every_picture_where_it_belongs() -> None:
    images = np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(1, 6)])
    sheet = labelled_grid(images, ["a", "", "b\nc", "", ""], title="five", columns=3, scale=2)
    pixels = np.asarray(sheet)
    for index in range(5):
        places = np.argwhere((pixels == 10 * (index + 1)).all(axis=2))
        assert len(places) == 16 * 16
        assert (np.ptp(places, axis=0) == 15).all()


def test_labels_are_written_below_their_picture_and_cut_to_its_width() -> None:
    images = np.full((2, 64, 64, 3), 200, np.uint8)
    sheet = np.asarray(labelled_grid(images, ["", "w" * 99], scale=1, columns=2)).astype(int)
    below = np.abs(sheet[pictures.MARGIN + 64 + 2 :] - pictures.PAPER).sum(2) > 60
    left, right = np.nonzero(below.any(axis=0))[0][[0, -1]]
    start = pictures.MARGIN + 64 + pictures.GAP
    assert start <= left
    assert right < start + 64


def test_a_short_text_stays_and_a_long_one_ends_in_dots() -> None:
    font = pictures.font_of(13)
    assert shorten("red", font, 100) == "red"
    cut = shorten("a very long label indeed", font, 60)
    assert cut.endswith("...")
    assert font.getlength(cut) <= 60
    assert shorten("wide", font, 3) == ""


def test_a_long_title_is_broken_between_words_and_small_pictures_are_enlarged() -> None:
    font = pictures.font_of(17)
    text = "object(color=red, position=(-0.5,0.3)) and not object(color=blue)"
    lines = wrapped(text, font, 250, lines=3)
    assert " ".join(lines) == text
    assert len(lines) == 3
    assert max(font.getlength(line) for line in lines) <= 250
    cut = wrapped(text, font, 250, lines=2)
    assert len(cut) == 2
    assert cut[1].endswith("...")
    small = np.zeros((4, 32, 32, 3), np.uint8)
    plain, titled = (labelled_grid(small, [""] * 4, title=title) for title in ("red", text))
    assert plain.width == 2 * pictures.MARGIN + 2 * pictures.CELL + pictures.GAP
    assert titled.height > plain.height


def test_labels_must_match_the_images() -> None:
    with pytest.raises(ValueError, match="2 images with 1 labels"):
        labelled_grid(np.zeros((2, 8, 8, 3), np.uint8), ["a"])


def test_columns_fill_the_last_row_where_they_can() -> None:
    assert [even_columns(n) for n in (1, 2, 4, 6, 8, 12, 16, 7, 11, 64)] == [
        1, 2, 2, 3, 4, 4, 4, 3, 4, 8,
    ]  # fmt: skip


def test_png_metadata_comes_back_and_bytes_are_the_same(tmp_path: Path) -> None:
    metadata = {"ebm": json.dumps({"expression": "red & ~old"}), "note": "größer ≥ 2"}
    picture = np.zeros((8, 8, 3), np.uint8)
    write_png(tmp_path / "a.png", picture, metadata)
    write_png(tmp_path / "new" / "b.png", Image.fromarray(picture), metadata)
    assert read_png_metadata(tmp_path / "a.png") == metadata
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "new/b.png").read_bytes()


def test_an_existing_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.zeros((8, 8, 3), np.uint8))
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"a\.png exists"):
        write_png(path, np.ones((8, 8, 3), np.uint8))
    assert path.read_bytes() == before
    write_png(path, np.ones((8, 8, 3), np.uint8), overwrite=True)
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_png(tmp_path / "file" / "a.png", np.zeros((8, 8, 3), np.uint8))


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    path = save(flat("RGB", (1, 2, 3)), tmp_path / "x.jpg")
    with pytest.raises(FileFormatError, match="is not a PNG"):
        read_png_metadata(path)
    with pytest.raises(FileFormatError, match="no such file"):
        read_png_metadata(tmp_path / "none.png")


def test_an_animation_keeps_its_frames_their_times_and_its_comment(tmp_path: Path) -> None:
    frames = [np.full((8, 8, 3), 60 * i, np.uint8) for i in range(4)]
    write_gif(tmp_path / "a.gif", frames, milliseconds=50, hold=700, comment="ebm generate red")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 4
        assert image.info["comment"] == b"ebm generate red"
        times = []
        for index, frame in enumerate(frames):
            image.seek(index)
            times.append(image.info["duration"])
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - frame).max() <= 2
    assert times == [50, 50, 50, 700]


def test_the_colour_map_grows_lighter_evenly() -> None:
    colors = color_map(np.linspace(0, 1, 65)) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE L*
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()


def test_a_heat_map_is_bright_at_the_best_node_with_x_right_and_y_up() -> None:
    energy = np.full((17, 17), 50.0)
    energy[14, 13] = 0.0  # x = 0.75, y = 0.625
    sheet = heat_map(np.zeros((64, 64, 3), np.uint8), energy, scale=4)
    over = np.asarray(sheet)[12 : 12 + 256, 12 + 256 + 8 : 12 + 2 * 256 + 8].astype(int)
    column, row = (14 + 0.5) * 256 / 17, (16 - 13 + 0.5) * 256 / 17
    assert over[int(row), int(column)].sum() > over[128, 64].sum() + 100
    bright = np.argwhere((over == 255).all(axis=2))  # the ring
    assert np.abs(bright.mean(axis=0) - (row, column)).max() < 1


def test_pictures_can_be_drawn_on_again() -> None:
    sheet = labelled_grid(np.zeros((1, 8, 8, 3), np.uint8), [""])
    ImageDraw.Draw(sheet).point((0, 0), fill=(1, 2, 3))
    assert sheet.getpixel((0, 0)) == (1, 2, 3)
    assert imaging.BEHIND == (255, 255, 255)


def test_neither_a_folder_nor_a_dataset_is_an_image(tmp_path: Path) -> None:
    container = tmp_path / "data.h5"
    container.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(FileFormatError, match="is not an image that can be read"):
        read_image(container, 8)
    with pytest.raises(FileFormatError, match="is a folder, not an image"):
        read_image(tmp_path, 8)
