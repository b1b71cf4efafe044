"""Pictures from anywhere: find image files, read each as a square of bytes.

Pictures here are uint8 arrays (S, S, 3), RGB. Whatever a file holds (palettes, transparency,
16 bits, CMYK, rotated by its EXIF tag, an animation) becomes one, or an error that names it.
"""

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ebmcli.errors import FileFormatError

Picture = NDArray[np.uint8]

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
SHEET, SHEET_MARK = "grid.png", "ebm:seeds"  # its name in a folder, and a text that it has
MAX_PIXELS = 89_478_485  # Pillow's own bound (256 MB of RGB); above it a file is taken for a bomb
BEHIND = (255, 255, 255)  # what shows through transparency: white, as in a viewer
UNREADABLE = (  # all that Pillow raises on damaged files
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    MemoryError,
    Image.DecompressionBombError,
)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Every image file meant by files and folders, each once, in the order given.

    A folder stands for all files below it with one of ``SUFFIXES``, sorted by path, without
    hidden ones and without the sheets that ``ebm generate`` lays beside its pictures; a file is
    taken as it is.

    Raises:
        FileFormatError: A path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += _images_below(path)
        elif path.exists():
            found.append(path)
        else:
            raise FileFormatError(path, "no such file or folder", hint="check the spelling")
    return list(dict.fromkeys(found))


def _images_below(folder: Path) -> list[Path]:
    below = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and not (path.name == SHEET and _is_sheet(path))
    )
    if not below:
        kinds = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise FileFormatError(folder, "holds no images", hint=f"looked for files in {kinds}")
    return below


def _is_sheet(path: Path) -> bool:
    """Is a file of that name a sheet of ours? Anything that cannot be read is not."""
    try:
        with Image.open(path) as image:
            return SHEET_MARK in image.info
    except UNREADABLE:
        return False


def read_image(path: Path, size: int) -> Picture:
    """The middle square of a picture, ``size`` pixels per side: uint8 (size, size, 3).

    Turned upright by its EXIF tag; transparency is laid over white; of an animation the first
    frame. Pixels are averaged when it shrinks and interpolated (bicubic) when it grows.

    Raises:
        FileFormatError: Missing, truncated, no image, a sheet of ``ebm generate``, or more than
            ``MAX_PIXELS``.
    """
    try:
        with warnings.catch_warnings():  # Pillow warns of odd metadata, which is not used here
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return _decoded(path, image, size)
    except FileFormatError:
        raise
    except FileNotFoundError as error:
        raise FileFormatError(path, "no such file", hint="check the spelling") from error
    except IsADirectoryError as error:
        raise FileFormatError(path, "is a folder, not an image") from error
    except PermissionError as error:
        raise FileFormatError(path, "no permission to read it") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise FileFormatError(path, "is not an image that can be read") from error
    except UNREADABLE as error:
        if "cannot find loader" in str(error):  # formats that Pillow knows by name only: HDF5
            raise FileFormatError(path, "is not an image that can be read") from error
        raise FileFormatError(path, f"is a damaged image ({_reason(error)})") from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image that :func:`read_image` can read, as stored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            return image.size


def _decoded(path: Path, image: Image.Image, size: int) -> Picture:
    """The square of an open image, unless it is far too large."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path)
    if SHEET_MARK in image.info and (width != height or "," in str(image.info[SHEET_MARK])):
        hint = "ebm generate -o FOLDER writes every picture into a file of its own"
        raise FileFormatError(path, "is a sheet with several pictures or their labels", hint=hint)
    image.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at 1/2, 1/4 or 1/8
    return fit_square(ImageOps.exif_transpose(image), size)


def fit_square(image: Image.Image | Picture, size: int) -> Picture:
    """The middle square of an image in memory, as :func:`read_image` gives it."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = flatten(image.crop((left, top, left + side, top + side)))
    if side != size:
        kernel = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
        square = square.resize((size, size), kernel)
    return np.array(square, dtype=np.uint8)


def flatten(image: Image.Image) -> Image.Image:
    """An image of any mode as opaque 8-bit RGB.

    16-bit grey ends at 65535; floating-point grey at 1, or at 255 if anything is above 1.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*BEHIND, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grey levels of a deep image, uint8 (H, W)."""
    grey = np.nan_to_num(np.asarray(image).astype(np.float64))
    top = 65535.0 if image.mode != "F" else 255.0 if grey.max() > 1 else 1.0
    return np.rint(np.clip(grey / top, 0, 1) * 255).astype(np.uint8)


def _too_large(path: Path) -> FileFormatError:
    return FileFormatError(
        path, f"has more than {MAX_PIXELS // 10**6} million pixels", hint="make it smaller first"
    )


def _reason(error: BaseException) -> str:
    """What Pillow said, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
