"""Pictures to look at: labelled sheets, animations and heat maps, written as PNG or GIF.

A picture is a uint8 array (S, S, 3), RGB. Files are written in one move (a temporary file in the
same folder, then a rename); text goes into PNG chunks, so a sheet knows how it was made.
"""

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngImageFile, PngInfo

from ebmcli.errors import ConfigError, FileFormatError, OutputError, OutputExistsError

Picture = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER = (250, 250, 248)  # colours of sheets, chosen
INK = (34, 34, 38)
FAINT = (104, 104, 112)
MARGIN = 12  # pixels round a sheet
GAP = 8  # pixels between pictures
LABEL_SIZE = 13  # pixels of type
TITLE_SIZE = 17
TITLE_LINES = 3
CELL = 128  # pixels: smaller pictures are enlarged to it

COLOR_MAP = np.array(  # viridis at 0, 1/8, ... 1: lightness grows evenly from violet to yellow
    [
        (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
        (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
    ],
    dtype=np.float64,
)  # fmt: skip
MAP_DEPTH = 12.0  # nats shown below the best node; chosen: exp(-12) is nothing
MAP_WEIGHT = 0.6  # of the colours over the picture, chosen


def labelled_grid(
    images: Picture,
    labels: Sequence[str],
    *,
    title: str = "",
    columns: int | None = None,
    scale: int | None = None,
) -> Image.Image:
    """A sheet of pictures, row by row, each with its text below.

    Args:
        images: (N, S, S, 3), N at least 1.
        labels: One per picture; "" for none, "\\n" starts a new line. Cut to the cell's width.
        title: At the top, in lines of the sheet's width, TITLE_LINES at most; the last is cut.
        columns: None chooses a sheet without gaps in its last row where one is near a square.
        scale: Sheet pixels per picture pixel; None makes a picture at least CELL pixels wide.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images with {len(labels)} labels")
    columns = columns or even_columns(len(images))
    rows = math.ceil(len(images) / columns)
    font, large = font_of(LABEL_SIZE), font_of(TITLE_SIZE)
    scale = scale or max(2, CELL // images.shape[1])
    side = images.shape[1] * scale
    lines = max(text.count("\n") + 1 if text else 0 for text in labels)
    row_height = side + (lines * (LABEL_SIZE + 4) + 4 if lines else 0) + GAP
    width = 2 * MARGIN + columns * (side + GAP) - GAP
    heading = wrapped(title, large, width - 2 * MARGIN, lines=TITLE_LINES) if title else []
    top = MARGIN + (len(heading) * (TITLE_SIZE + 4) + 7 if title else 0)
    sheet = Image.new("RGB", (width, top + rows * row_height - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, words in enumerate(heading):
        draw.text((MARGIN, MARGIN - 2 + line * (TITLE_SIZE + 4)), words, INK, large)
    for index, (picture, text) in enumerate(zip(images, labels, strict=True)):
        left = MARGIN + index % columns * (side + GAP)
        upper = top + index // columns * row_height
        sheet.paste(enlarge(picture, scale), (left, upper))
        for line, words in enumerate(text.split("\n")):
            y = upper + side + 4 + line * (LABEL_SIZE + 4)
            draw.text((left, y), shorten(words, font, side), FAINT, font)
    return sheet


def tiles(images: Picture, *, columns: int) -> Picture:
    """Pictures (N, S, S, 3) side by side in one, row by row; places without one are paper."""
    n, size = images.shape[:2]
    rows = math.ceil(n / columns)
    whole = np.full((rows * columns, size, size, 3), PAPER, dtype=np.uint8)
    whole[:n] = images
    grid = whole.reshape(rows, columns, size, size, 3).swapaxes(1, 2)
    return grid.reshape(rows * size, columns * size, 3)


def read_tiles(path: Path, n: int, *, columns: int) -> Picture:
    """The n pictures of a PNG that :func:`tiles` made, (n, S, S, 3).

    Raises:
        FileFormatError: The file is no picture, or has no such tiles.
    """
    try:
        with Image.open(path) as image:
            grid = np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise FileFormatError(path, "is no picture") from error
    height, width = grid.shape[:2]
    size = width // columns
    if size == 0 or width % columns or height % size or n > height // size * columns:
        raise FileFormatError(path, f"does not hold {n} pictures in {columns} columns")
    parts = grid.reshape(height // size, size, columns, size, 3).swapaxes(1, 2)
    return parts.reshape(-1, size, size, 3)[:n].copy()


def wrapped(text: str, font: Font, width: int, *, lines: int) -> list[str]:
    """The text broken between words into lines of ``width`` pixels; the last one is cut."""
    found: list[str] = []
    rest = text.split(" ")
    while rest:
        count = len(rest)
        while count > 1 and font.getlength(" ".join(rest[:count])) > width:
            count -= 1
        count = len(rest) if len(found) == lines - 1 else count
        found.append(shorten(" ".join(rest[:count]), font, width))
        rest = rest[count:]
    return found


def even_columns(count: int) -> int:
    """Columns of a sheet: the first width from square to twice as wide that fills all rows."""
    square = math.ceil(math.sqrt(count))
    return next((w for w in range(square, 2 * square + 1) if count % w == 0), square)


def enlarge(picture: Picture, scale: int) -> Image.Image:
    """A picture with every pixel drawn as a square of ``scale`` pixels."""
    image = Image.fromarray(picture)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def shorten(text: str, font: Font, width: int) -> str:
    """The text, or as much of its beginning as fits into ``width`` pixels with "..." behind."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text.rstrip() + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def font_of(size: int) -> Font:
    """Pillow's own typeface, so that sheets look the same on every machine."""
    return ImageFont.load_default(size=size)


def heat_map(
    image: Picture,
    energy: NDArray[np.floating],
    *,
    extent: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    scale: int = 4,
) -> Image.Image:
    """An energy over positions, laid over the picture; bright is likely, a ring is the best node.

    Args:
        image: (S, S, 3).
        energy: (n, n), nats: x slow and growing to the right, y fast and growing upwards.
        extent: Left, top, right and bottom of the map in fractions of the picture.
        scale: Sheet pixels per picture pixel.
    """
    side = image.shape[0] * scale
    upright = np.asarray(energy, dtype=np.float64).T[::-1]  # rows from the top
    depth = np.clip(upright - upright.min(), 0, MAP_DEPTH) / MAP_DEPTH
    left, top, right, bottom = (round(part * side) for part in extent)
    width, height = right - left, bottom - top
    smooth = Image.fromarray(depth.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    plain = enlarge(image, scale)
    part = plain.crop((left, top, right, bottom))
    over = plain.copy()
    colors = Image.fromarray(color_map(1 - np.asarray(smooth)))
    over.paste(Image.blend(part, colors, MAP_WEIGHT), (left, top))
    row, column = divmod(int(upright.argmin()), upright.shape[1])
    cell = (width / upright.shape[1], height / upright.shape[0])
    _ring(over, (left + (column + 0.5) * cell[0], top + (row + 0.5) * cell[1]), max(4.0, *cell))
    sheet = Image.new("RGB", (2 * side + GAP + 2 * MARGIN, side + 2 * MARGIN + 30), PAPER)
    sheet.paste(plain, (MARGIN, MARGIN))
    sheet.paste(over, (MARGIN + side + GAP, MARGIN))
    _color_bar(sheet, (MARGIN + side + GAP, MARGIN + side + 6), width=side)
    return sheet


def color_map(values: NDArray[np.floating]) -> Picture:
    """Colours of numbers in [0, 1], any shape: violet, blue, green, yellow; uint8 (..., 3)."""
    at = np.clip(values, 0, 1) * (len(COLOR_MAP) - 1)
    knots = np.arange(len(COLOR_MAP))
    channels = [np.interp(at, knots, COLOR_MAP[:, channel]) for channel in range(3)]
    colors: Picture = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colors


def _ring(image: Image.Image, centre: tuple[float, float], radius: float) -> None:
    """A dark ring with a light one inside: seen on any colour."""
    draw = ImageDraw.Draw(image)
    for grow, color in ((2, INK), (0, (255, 255, 255))):
        r = radius + grow
        box = (centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r)
        draw.ellipse(box, outline=color, width=2)


def _color_bar(sheet: Image.Image, corner: tuple[int, int], *, width: int) -> None:
    """What the colours mean, in nats above the best node."""
    left, top = corner
    strip = np.tile(1 - np.linspace(0, 1, width), (8, 1))
    sheet.paste(Image.fromarray(color_map(strip)), (left, top))
    draw, font = ImageDraw.Draw(sheet), font_of(LABEL_SIZE)
    draw.text((left, top + 12), "0", FAINT, font)
    ends = f"{MAP_DEPTH:.0f}+ nats"
    draw.text((left + width - font.getlength(ends), top + 12), ends, FAINT, font)


def write_png(
    path: Path,
    image: Image.Image | Picture,
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a PNG with text chunks, one per key; the same input gives the same bytes.

    Args:
        path: Its folder is made if missing.
        image: Sheet or picture.
        metadata: Keys of 1 to 79 Latin letters; values any text, here JSON.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError: The file exists and was not to be overwritten.
        OutputError: The folder cannot be written, or the disk is full.
    """
    sheet = image if isinstance(image, Image.Image) else Image.fromarray(image)
    info = PngInfo()
    for key, value in (metadata or {}).items():
        info.add_text(key, value)  # becomes iTXt where the value is not Latin-1
    _write(path, lambda file: sheet.save(file, "PNG", pnginfo=info), overwrite=overwrite)


def check_png(path: Path, *, or_folder: bool = False) -> None:
    """Refuse to write a PNG under the name of something else.

    Raises:
        ConfigError: The name does not end in .png.
    """
    if path.suffix.lower() == ".png":
        return
    shown = f"as {path.suffix}" if path.suffix else "without a suffix"
    name = path.with_suffix(".png") if path.name else path / "sheet.png"
    hint = f"-o {name}" + (f", or -o {path.stem} for a folder" if or_folder else "")
    raise ConfigError(f"pictures are written as PNG, not {shown}", hint=hint)


def read_png_metadata(path: Path) -> dict[str, str]:
    """The text chunks of a PNG.

    Raises:
        FileFormatError: Missing, damaged or no PNG.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            assert isinstance(image, PngImageFile)
            return {key: str(value) for key, value in image.text.items()}
    except FileNotFoundError as error:
        raise FileFormatError(path, "no such file", hint="check the spelling") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileFormatError(path, "is not a PNG that can be read") from error


def write_gif(
    path: Path,
    frames: Sequence[Picture],
    *,
    milliseconds: int = 80,
    hold: int = 1500,
    comment: str = "",
    overwrite: bool = False,
) -> None:
    """Write an animation that repeats for ever.

    Args:
        path: Its folder is made if missing.
        frames: (H, W, 3) each, at least one.
        milliseconds: How long each frame stays.
        hold: How long the last one stays, milliseconds.
        comment: Text inside the file, such as the command.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError, OutputError: As :func:`write_png`.
    """
    palettes = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames]
    times = [milliseconds] * (len(frames) - 1) + [hold]
    settings = {"append_images": palettes[1:], "duration": times, "loop": 0}

    def save(file: BinaryIO) -> None:
        palettes[0].save(
            file, "GIF", save_all=True, comment=comment.encode(), optimize=False, **settings
        )

    _write(path, save, overwrite=overwrite)


def _write(path: Path, save: Callable[[BinaryIO], None], *, overwrite: bool) -> None:
    """Fill a temporary file beside ``path``, then give it the name."""
    if path.exists() and not overwrite:
        raise OutputExistsError(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        hint = "choose another folder, or free some room"
        raise OutputError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
