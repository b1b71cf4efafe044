"""Published datasets as they lie on disk: CelebA, 3D Shapes, dSprites.

Each opener checks a source and returns a :class:`Source`: its factors, its labels and a way to
read its images, chosen and ordered. The two grids of renderings are sorted by their factors;
their rows are shuffled (and a part is a random subset), since training holds out the last rows.
CelebA keeps its order, in which the last rows are the published test images.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ebmcli.core.factors import Factor
from ebmcli.datasets.stored_labels import check_labels, some_of
from ebmcli.errors import FileFormatError
from ebmcli.imaging import SUFFIXES, Picture, fit_square, read_image

SHUFFLE_SEED = 0
BATCH = 256  # images per batch handed on
BLOCK = 4096  # rows per read of a large array; the published files are slow row by row
TOLERANCE = 1e-3  # of a stored label against its published value
END = 2**20  # bytes at either end of a file that tell it from others; chosen

# HSV hues 0, 0.1, ... 0.9 of 3D Shapes; the names are ours.
HUES = ("red", "orange", "lime", "green", "mint", "cyan", "blue", "indigo", "purple", "pink")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
YES_NO = ("no", "yes")
HEADER_READERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset to be imported.

    ``labels`` are as ``datasets/hdf5.py`` stores them, N rows per factor; ``batches`` yields the
    images of the same rows in the same order, uint8 (n, S, S, 3), from ``files``. ``digest`` tells
    the source from others, whatever part of it is taken: imports of one source share pictures.
    """

    recipe: str
    factors: dict[str, Factor]
    labels: dict[str, NDArray[Any]]
    batches: Callable[[], Iterator[Picture]]
    files: tuple[Path, ...]  # all that are read, labels too
    digest: str
    seed: int | None = None  # of the shuffling; None keeps the order

    @property
    def n_images(self) -> int:
        """The number N of rows."""
        return len(next(iter(self.labels.values())))


def chosen_rows(n_rows: int, part: slice) -> NDArray[np.int64]:
    """A part of a random order of the rows; the order is the same on every call."""
    order = np.random.default_rng(SHUFFLE_SEED).permutation(n_rows).astype(np.int64)
    return order[part]


def ends_digest(path: Path) -> str:
    """sha256 of a file's size and of its first and last bytes: quick for any number of GB.

    The name does not count: a renamed copy is the same source.
    """
    size = path.stat().st_size
    hasher = hashlib.sha256(f"{size}\n".encode())
    with path.open("rb") as file:
        for start in (0, max(0, size - END)):
            file.seek(start)
            hasher.update(file.read(END))
    return f"sha256:{hasher.hexdigest()}"


def batches_of_files(paths: list[Path], size: int) -> Iterator[Picture]:
    """The middle squares of image files, batch by batch."""
    for start in range(0, len(paths), BATCH):
        yield np.stack([read_image(path, size) for path in paths[start : start + BATCH]])


def open_celeba(folder: Path, *, size: int, part: slice) -> Source:
    """CelebA: ``list_attr_celeba.txt`` and ``img_align_celeba/``; binary factors by name.

    Of each image the middle 178 x 178 is kept. ``old`` is the opposite of ``young``.

    Raises:
        FileFormatError: A file is missing, a line is not as published, or images and lines do not
            correspond. Images of lines outside of ``part`` may be missing.
    """
    table = _first(folder, ["list_attr_celeba.txt", "Anno/list_attr_celeba.txt"])
    images = _first(folder, ["img_align_celeba", "Img/img_align_celeba"])
    names, lines, values = _attributes(table)
    _check_images(table, lines, images, part)
    files, values = list(lines)[part], values[part]
    labels = {name: (values[:, column] > 0).astype(np.int64) for column, name in enumerate(names)}
    if "young" in labels:
        labels["old"] = 1 - labels["young"]
    return Source(
        recipe="celeba",
        factors={name: Factor(name=name, kind="binary", names=YES_NO) for name in labels},
        labels=labels,
        batches=lambda: batches_of_files([images / file for file in files], size),
        files=(table, *(images / file for file in files)),
        digest=f"sha256:{hashlib.sha256(table.read_bytes()).hexdigest()}",
    )


def _first(folder: Path, names: list[str]) -> Path:
    """The first of several paths below a folder that exists."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    hint = f"looked for {' and '.join(names)}; see docs/import.md"
    raise FileFormatError(folder, f"has no {names[0]}", hint=hint)


def _check_images(table: Path, lines: dict[str, int], images: Path, part: slice) -> None:
    """Every line that is read has its image, and every image has its line."""
    present = {path.name for path in images.iterdir()}
    lost = [file for file in list(lines)[part] if file not in present]
    if lost:
        problem = f"there is no image {some_of(lost)} in {images}"
        hint = "the images are incomplete: unpack them again, or take the line out and count anew"
        raise FileFormatError(f"{table}:{lines[lost[0]]}", problem, hint=hint)
    shown = {name for name in present if Path(name).suffix.lower() in SUFFIXES and name[0] != "."}
    rest = sorted(shown - set(lines))
    if rest:
        problem = f"has no line for {len(rest)} of {len(shown)} images: {some_of(rest)}"
        hint = "download the file again, or move these images elsewhere"
        raise FileFormatError(table, problem, hint=hint)


def _attributes(path: Path) -> tuple[list[str], dict[str, int], NDArray[np.int8]]:
    """Attribute names in our spelling, the line of every file name, the table of -1 and 1."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(path, f"cannot be read ({error})") from error
    if len(lines) < 3 or not lines[0].strip().isdigit():
        hint = "line 1 is the number of images, line 2 the attribute names"
        raise FileFormatError(f"{path}:1", "is not CelebA's list of attributes", hint=hint)
    names = [attribute_name(word) for word in lines[1].split()]
    found: dict[str, int] = {}
    rows = []
    for number, line in enumerate(lines[2:], start=3):
        row = line.split()
        if not row:
            continue
        if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1"}:
            problem = f"expected a file name and {len(names)} numbers, each -1 or 1"
            raise FileFormatError(f"{path}:{number}", problem)
        if row[0] in found:
            problem = f"{row[0]} has a line already, line {found[row[0]]}"
            raise FileFormatError(f"{path}:{number}", problem, hint="take one of them out")
        found[row[0]] = number
        rows.append(row[1:])
    if len(rows) != int(lines[0]):
        problem = f"line 1 says {int(lines[0])} images, {len(rows)} follow"
        raise FileFormatError(path, problem, hint="the file is incomplete: download it again")
    return names, found, np.array(rows).astype(np.int8)


def attribute_name(published: str) -> str:
    """Wavy_Hair -> wavy_hair; 5_o_Clock_Shadow -> five_o_clock_shadow: letters come first."""
    name = published.lower().replace("-", "_")
    return DIGITS[int(name[0])] + name[1:] if name[0].isdigit() else name


def open_shapes3d(path: Path, *, size: int, part: slice) -> Source:
    """3D Shapes: ``3dshapes.h5`` with images (N, 64, 64, 3) and labels (N, 6).

    Hues become colour names, see ``HUES``; scale and orientation (degrees) stay numbers.

    Raises:
        FileFormatError: The file is missing, truncated or not as published.
    """
    path = path / "3dshapes.h5" if path.is_dir() else path
    with _opened(path) as file:
        values = np.asarray(file["labels"][:], dtype=np.float64)
        shape, dtype = file["images"].shape, file["images"].dtype
    if shape[1:] != (64, 64, 3) or values.shape != (shape[0], 6) or not len(values):
        raise FileFormatError(path, "images and labels do not have the shapes of 3D Shapes")
    if dtype != np.uint8:
        hint = "multiply intensities by 255, round them and store them as uint8"
        raise FileFormatError(path, f"images are {dtype}, those of 3D Shapes uint8", hint=hint)
    rows = chosen_rows(len(values), part)
    factors, columns = {}, {}
    for column, name in enumerate(("floor_hue", "wall_hue", "object_hue")):
        factors[name] = Factor(name=name, kind="categorical", names=HUES)
        columns[name] = _cells(path, name, values[:, column] * 10, n_cells=10)
    factors["scale"] = Factor(name="scale", kind="scalar", low=0.75, high=1.25)
    solids = ("cube", "cylinder", "sphere", "capsule")
    factors["shape"] = Factor(name="shape", kind="categorical", names=solids)
    columns["shape"] = _cells(path, "shape", values[:, 4], n_cells=4)
    factors["orientation"] = Factor(
        name="orientation", kind="scalar", low=-30.0, high=30.0, unit="degrees"
    )
    columns |= {"scale": values[:, 3].astype("f4"), "orientation": values[:, 5].astype("f4")}
    _check_columns(path, factors, columns)

    def blocks() -> Iterator[Picture]:
        with _opened(path) as file:
            for start in range(0, len(values), BLOCK):
                yield file["images"][start : start + BLOCK]

    return Source(
        recipe="shapes3d",
        factors=factors,
        labels={name: columns[name][rows] for name in factors},
        batches=lambda: _gathered(blocks(), rows, size),
        files=(path,),
        digest=ends_digest(path),
        seed=SHUFFLE_SEED,
    )


def open_dsprites(path: Path, *, size: int, part: slice) -> Source:
    """dSprites: an ``.npz`` with imgs (N, 64, 64) of 0 and 1, and latents_values (N, 6).

    Its one colour is no factor. Position is scaled from [0, 1] to [-1, 1], y upwards.

    Raises:
        FileFormatError: The file is missing, truncated or not as published.
    """
    if path.is_dir():
        path = _first(path, sorted(p.name for p in path.glob("*.npz")) or ["dsprites.npz"])
    with _opened_archive(path) as archive, archive.open("latents_values.npy") as file:
        values = np.lib.format.read_array(file, allow_pickle=False).astype(np.float64)
    if values.ndim != 2 or values.shape[1] != 6 or not len(values):
        raise FileFormatError(path, "latents_values do not have the shape of dSprites")
    rows = chosen_rows(len(values), part)
    factors = {
        "shape": Factor(name="shape", kind="categorical", names=("square", "ellipse", "heart")),
        "scale": Factor(name="scale", kind="scalar", low=0.5, high=1.0),
        "orientation": Factor(
            name="orientation", kind="scalar", low=0.0, high=round(2 * np.pi, 6), unit="radians"
        ),
        "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
    }
    columns = {
        "shape": _cells(path, "shape", values[:, 1] - 1, n_cells=3),
        "scale": values[:, 2].astype("f4"),
        "orientation": values[:, 3].astype("f4"),
        "position": np.stack([2 * values[:, 4] - 1, 1 - 2 * values[:, 5]], axis=1).astype("f4"),
    }
    _check_columns(path, factors, columns)
    return Source(
        recipe="dsprites",
        factors=factors,
        labels={name: columns[name][rows] for name in factors},
        batches=lambda: _gathered(_sprites(path, len(values)), rows, size),
        files=(path,),
        digest=ends_digest(path),
        seed=SHUFFLE_SEED,
    )


def _sprites(path: Path, n_rows: int) -> Iterator[Picture]:
    """Blocks of white sprites on black, without unpacking the whole archive into memory."""
    with _opened_archive(path) as archive, archive.open("imgs.npy") as file:
        shape, by_column, dtype = HEADER_READERS[np.lib.format.read_magic(file)](file)
        if shape != (n_rows, 64, 64) or by_column or dtype != np.uint8:
            raise FileFormatError(path, f"expected imgs of shape {(n_rows, 64, 64)} and uint8")
        for start in range(0, n_rows, BLOCK):
            count = min(BLOCK, n_rows - start)
            data = file.read(count * 64 * 64)
            block = np.frombuffer(data, dtype=np.uint8).reshape(count, 64, 64)
            yield np.repeat((block * 255)[..., None], 3, axis=3)


def _gathered(blocks: Iterator[Picture], rows: NDArray[np.int64], size: int) -> Iterator[Picture]:
    """The chosen rows in their order: one pass over the source, kept in memory meanwhile."""
    kept = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    by_row = np.argsort(rows)
    wanted, start = rows[by_row], 0
    for block in blocks:
        first, last = np.searchsorted(wanted, (start, start + len(block)))
        for place, row in zip(by_row[first:last], wanted[first:last], strict=True):
            picture = block[row - start]
            exact = size == len(picture)
            kept[place] = picture if exact else fit_square(picture, size)
        start += len(block)
        if last == len(wanted):
            break
    for at in range(0, len(kept), BATCH):
        yield kept[at : at + BATCH]


def _check_columns(
    path: Path, factors: dict[str, Factor], columns: dict[str, NDArray[Any]]
) -> None:
    """Refuse numbers that were never published, before the rows are shuffled."""
    for name, factor in factors.items():
        check_labels(path, factor, columns[name])


def _cells(
    path: Path, name: str, values: NDArray[np.float64], *, n_cells: int
) -> NDArray[np.int64]:
    """Published values as indices of names."""
    cells = np.rint(values)
    right = (np.abs(values - cells) <= TOLERANCE) & (cells >= 0) & (cells < n_cells)  # not NaN
    if not right.all():
        row, count = int(right.argmin()), int((~right).sum())
        problem = f"row {row} has a {name} that was never published; such rows: {count}"
        raise FileFormatError(path, problem, hint="download it again, or take the rows out")
    return cells.astype(np.int64)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file with images and labels."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise FileFormatError(path, "no such file", hint="see docs/import.md") from error
    except (OSError, KeyError, AttributeError, TypeError) as error:
        hint = "download it again: it is truncated, or not 3dshapes.h5"
        raise FileFormatError(path, "is not 3D Shapes", hint=hint) from error


@contextmanager
def _opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise FileFormatError(path, "no such file", hint="see docs/import.md") from error
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        hint = "download it again: it is truncated, or not dsprites_ndarray_*.npz"
        raise FileFormatError(path, "is not dSprites", hint=hint) from error
