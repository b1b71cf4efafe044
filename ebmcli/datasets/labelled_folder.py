"""A folder of images with ``labels.csv``: one column ``file``, every other column a factor.

What a column is follows from its cells: yes and no make a binary factor, numbers a scalar with
their range, two columns ``NAME_x`` and ``NAME_y`` of numbers a position, other words a
categorical factor with its words in alphabetical order. Nothing is guessed about a cell that
does not fit: the error names file and line.
"""

import csv
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.expression import KEYWORDS, NAME
from ebmcli.core.factors import Factor, Kind, Value
from ebmcli.datasets.hdf5 import DatasetInfo
from ebmcli.datasets.importers import (
    SHUFFLE_SEED,
    YES_NO,
    Source,
    batches_of_files,
    chosen_rows,
    ends_digest,
)
from ebmcli.datasets.stored_labels import encode_labels, some_of
from ebmcli.errors import ConfigError, FileFormatError
from ebmcli.imaging import find_images

TABLE = "labels.csv"
N_SAMPLED = 16  # images whose bytes count in the folder's digest; chosen
LARGEST = float(np.finfo(np.float32).max)  # labels are stored in float32
MOVED = 1e-3  # of the range of a factor, by which float32 may move a number; chosen
TAKEN = (
    "scenes",
    "faces",
    "clutter",
    "celeba",
    "shapes3d",
    "dsprites",
)  # recipes with other pictures


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of a labels.csv: header, rows, and the line each row stands on."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        index = self.header.index(name)
        return [row[index] for row in self.rows]

    def wrong(self, row: int, problem: str, *, hint: str | None = None) -> FileFormatError:
        """An error that names the line of a row."""
        return FileFormatError(f"{self.path}:{self.lines[row]}", problem, hint=hint)


def open_folder(folder: Path, *, size: int, part: slice, like: DatasetInfo | None = None) -> Source:
    """A folder with images and ``labels.csv``, rows shuffled; the recipe is the folder's name.

    With another dataset to be ``like`` its recipe and factors are taken, words and ranges and all:
    what is read from one can be asked of the other.

    Raises:
        FileFormatError: The table is malformed, or images and rows do not correspond; it lacks a
            factor of the other dataset, or has a value that one does not allow.
        ConfigError: The folder has the name of a built-in recipe.
    """
    if folder.is_file():
        raise FileFormatError(folder, "is a file", hint=f"give the folder: {folder.parent}")
    recipe = recipe_name(folder) if like is None else like.recipe
    table = read_table(folder / TABLE)
    paths = _paths(folder, table)
    found = _factor_columns(table)
    factors: dict[str, Factor] = {}
    values: dict[str, list[Value]] = {}
    if like is not None:
        _check_columns(table, found, like)
        found = {name: found[name] for name in like.factors}
    for name, columns in found.items():
        known = None if like is None else like.factors[name]
        factors[name], values[name] = (
            _factor(table, name, columns) if known is None else _known(table, columns, known)
        )
    by_name = np.argsort([path.as_posix() for path in paths], kind="stable")
    rows = by_name[chosen_rows(len(paths), part)]  # the same however the table is sorted
    chosen = [paths[row] for row in rows]
    return Source(
        recipe=recipe,
        factors=factors,
        labels={name: encode_labels(factors[name], values[name])[rows] for name in factors},
        batches=lambda: batches_of_files(chosen, size),
        files=(table.path, *chosen),
        digest=images_digest(folder, [path.relative_to(folder).as_posix() for path in paths]),
        seed=SHUFFLE_SEED,
    )


def images_digest(folder: Path, names: list[str]) -> str:
    """sha256 of the names and sizes of a folder's images, and of the bytes of the first by name.

    The table does not count: with another column it labels the same pictures. Bytes tell apart
    images of equal names and, without compression, equal sizes.

    Raises:
        FileFormatError: An image cannot be read.
    """
    hasher = hashlib.sha256()
    for index, name in enumerate(sorted(Path(name).as_posix() for name in names)):
        path = folder / name
        try:
            what = ends_digest(path) if index < N_SAMPLED else path.stat().st_size
        except OSError as error:
            raise FileFormatError(path, f"cannot be read ({error})") from error
        hasher.update(f"{name} {what}\n".encode())
    return f"sha256:{hasher.hexdigest()}"


def recipe_name(folder: Path) -> str:
    """The folder's name as a name for its pictures: ``My Photos`` -> ``my_photos``."""
    name = _as_name(folder.resolve().name)
    if name in TAKEN:
        hint = "rename the folder: pictures of one name belong together"
        raise ConfigError(f"{name!r} is the name of a built-in recipe", hint=hint)
    return name


def read_table(path: Path) -> Table:
    """Read a labels.csv: UTF-8, commas, a header with ``file`` first, no ragged rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            numbered = [([cell.strip() for cell in row], reader.line_num) for row in reader]
    except FileNotFoundError as error:
        hint = "its first line is file,NAME,NAME...; see docs/import.md"
        raise FileFormatError(path, "no such file", hint=hint) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(path, f"is not a table in UTF-8 with commas ({error})") from error
    filled = [(row, line) for row, line in numbered if any(row)]
    if len(filled) < 2:
        raise FileFormatError(path, "holds no rows", hint="a header, then one line per image")
    header = filled[0][0]
    table = Table(
        path=path,
        header=header,
        rows=[row for row, _ in filled[1:]],
        lines=[line for _, line in filled[1:]],
    )
    _check_header(path, header, line=filled[0][1])
    for index, row in enumerate(table.rows):
        if len(row) != len(header):
            n, expected = len(row), len(header)
            raise table.wrong(index, f"{n} cells, the header has {expected}")
        if "" in row:
            raise table.wrong(index, f"no value for {header[row.index('')]}")
    return table


def _check_header(path: Path, header: list[str], *, line: int) -> None:
    """The first column is ``file``, the others are different names."""
    where = f"{path}:{line}"
    if header[0] != "file":
        separated = len(header) == 1 and re.search(r"[;\t]", header[0])
        hint = "separate columns by commas" if separated else "the first column holds the images"
        raise FileFormatError(where, f"the first column must be file, not {header[0]!r}", hint=hint)
    if len(header) < 2:
        raise FileFormatError(where, "has no column beside file", hint="add one column per factor")
    for name in header[1:]:
        if not _is_name(name):
            raise FileFormatError(where, f"{name!r} is no name", hint=f"call it {_as_name(name)}")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise FileFormatError(where, f"the column {twice!r} is there twice")


def _paths(folder: Path, table: Table) -> list[Path]:
    """The image of every row; every image of the folder has exactly one row."""
    paths: list[Path] = []
    seen: dict[Path, int] = {}
    names = table.column("file")
    images = find_images([folder])
    spelled = {_composed(path.relative_to(folder)): path for path in images}
    found = [folder / name for name in names]
    for index, path in enumerate(found):
        if Path(names[index]).is_absolute():
            hint = f"write paths relative to {folder}"
            raise table.wrong(index, f"{names[index]} is an absolute path", hint=hint)
        if not path.is_file():  # or its letters are stored in parts, as a and dots
            found[index] = spelled.get(_composed(Path(names[index])), path)
    lost = [index for index, path in enumerate(found) if not path.is_file()]
    if lost:
        missing = some_of([str(folder / names[index]) for index in lost])
        hint = "add the images, or take their rows out"
        raise table.wrong(lost[0], f"there is no image {missing}", hint=hint)
    for index, path in enumerate(found):
        if path in seen:
            raise table.wrong(index, f"{names[index]} has a row already, on line {seen[path]}")
        seen[path] = table.lines[index]
        paths.append(path)
    rest = [path for path in images if path not in seen]
    if rest:
        problem = f"has no row for {some_of([str(path.relative_to(folder)) for path in rest])}"
        hint = "add a row for each, or move the images elsewhere"
        raise FileFormatError(table.path, problem, hint=hint)
    return paths


def _composed(path: Path) -> str:
    """A relative path with letters and their marks as one: systems store them in either way."""
    return unicodedata.normalize("NFC", path.as_posix())


def _factor_columns(table: Table) -> dict[str, list[str]]:
    """The columns of each factor: NAME_x and NAME_y of numbers are one.

    Raises:
        FileFormatError: NAME is no name, or the name of another column.
    """
    columns: dict[str, list[str]] = {}
    for name in table.header[1:]:
        stem = re.sub(r"_[xy]$", "", name)
        pair = [f"{stem}_x", f"{stem}_y"]
        paired = name in pair and all(
            column in table.header and all(_number(cell) for cell in table.column(column))
            for column in pair
        )
        if paired:
            _check_stem(table, stem)
        columns[stem if paired else name] = pair if paired else [name]
    return columns


def _check_stem(table: Table, stem: str) -> None:
    """Refuse a pair of columns whose factor would have no name or that of another column."""
    if stem in table.header[1:]:
        problem = f"{stem}_x and {stem}_y are the place {stem}, and there is a column {stem!r}"
        raise FileFormatError(table.path, problem, hint="rename the column or the pair")
    if not _is_name(stem):
        problem = f"{stem}_x and {stem}_y are the place {stem!r}, which is no name"
        better = _as_name(stem)
        hint = f"call them {better}_x and {better}_y"
        raise FileFormatError(table.path, problem, hint=hint)


def _factor(table: Table, name: str, columns: list[str]) -> tuple[Factor, list[Value]]:
    """A factor and its values, from one column or two."""
    cells = table.column(columns[0])
    if all(cell.lower() in YES_NO for cell in cells):
        return Factor(name=name, kind="binary", names=YES_NO), [cell.lower() for cell in cells]
    if any(_number(cell) for cell in cells) or all(_numeric(cell) for cell in cells):
        return _measured(table, name, columns)
    words = sorted(set(cells))
    for index, cell in enumerate(cells):
        if cell.lower() == "nan":  # what programs write where a value is missing
            hint = "fill it in, take the row out, or write another word"
            raise table.wrong(index, f"{name} has no value: {cell}", hint=hint)
        if not _is_name(cell):
            hint = f"call it {_as_name(cell)}"
            raise table.wrong(index, f"{name}: {cell!r} is no name", hint=hint)
    if len(words) < 2:
        raise FileFormatError(
            table.path, f"{name} is {words[0]} in every row: leave the column out"
        )
    return Factor(name=name, kind="categorical", names=tuple(words)), list(cells)


def _check_columns(table: Table, columns: dict[str, list[str]], like: DatasetInfo) -> None:
    """Refuse a table without a factor of another dataset, or with one that it has not."""
    for name, factor in like.factors.items():
        pair = [f"{name}_x", f"{name}_y"]
        wanted = pair if factor.kind == "position" else [name]
        if columns.get(name) != wanted:
            what = "numbers in columns" if factor.kind == "position" else "column"
            problem = f"has no {what} {' and '.join(wanted)}, {like.path} has {name}"
            hint = f"its factors: {', '.join(like.factors)}"
            raise FileFormatError(table.path, problem, hint=hint)
    for name in columns:
        if name not in like.factors:
            problem = f"has a column {name}, {like.path} has no such factor"
            raise FileFormatError(table.path, problem, hint="take the column out")


def _known(table: Table, columns: list[str], factor: Factor) -> tuple[Factor, list[Value]]:
    """The values of a factor that is given, from one column or two."""
    if factor.names:
        words = table.column(columns[0])
        words = [word.lower() for word in words] if factor.kind == "binary" else words
        for index, word in enumerate(words):
            if word not in factor.names:
                hint = f"{factor.name} is one of {', '.join(factor.names)}"
                raise table.wrong(index, f"{factor.name}: {word!r} is unknown", hint=hint)
        return factor, list(words)
    numbers = _numbers(table, columns)
    _check_rounding(table, numbers, columns)
    outside = np.argwhere((numbers < factor.low) | (numbers > factor.high))
    if len(outside):
        column, row = outside[outside[:, 1].argmin()]
        problem = f"{columns[column]}: {numbers[column, row]:g} is out of range"
        rows = len(set(outside[:, 1].tolist()))
        hint = f"{factor.name} is from {factor.low:g} to {factor.high:g} ({rows} such rows)"
        raise table.wrong(int(row), problem, hint=hint)
    return factor, _values(numbers)


def _measured(table: Table, name: str, columns: list[str]) -> tuple[Factor, list[Value]]:
    """A scalar or a position, over the range of its numbers."""
    numbers = _numbers(table, columns)
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        raise FileFormatError(table.path, f"{name} is {low} in every row: leave the column out")
    _check_rounding(table, numbers, columns)
    kind: Kind = "position" if len(columns) == 2 else "scalar"
    return Factor(name=name, kind=kind, low=low, high=high), _values(numbers)


def _numbers(table: Table, columns: list[str]) -> NDArray[np.float64]:
    """The numbers of some columns, (columns, rows)."""
    for column in columns:
        cells = table.column(column)
        wrong = [index for index, cell in enumerate(cells) if not _number(cell)]
        if wrong:
            what = "no finite number" if _numeric(cells[wrong[0]]) else "no number, others are"
            rows = "1 such row" if len(wrong) == 1 else f"{len(wrong)} such rows"
            problem = f"{column}: {cells[wrong[0]]!r} is {what} ({rows})"
            raise table.wrong(wrong[0], problem, hint="fill it in, or take the rows out")
    return np.array([[float(cell) for cell in table.column(column)] for column in columns])


def _values(numbers: NDArray[np.float64]) -> list[Value]:
    """The values of a scalar, or of a position."""
    if len(numbers) == 2:
        return [(float(x), float(y)) for x, y in numbers.T]
    return [float(x) for x in numbers[0]]


def _check_rounding(table: Table, numbers: NDArray[np.float64], columns: list[str]) -> None:
    """Refuse numbers (columns, rows) that are stored as noticeably other ones."""
    moved = np.abs(numbers.astype(np.float32) - numbers)
    column, row = np.unravel_index(moved.argmax(), moved.shape)
    if moved[column, row] > MOVED * (numbers.max() - numbers.min()):
        number = float(numbers[column, row])
        stored = float(np.float32(number))
        problem = f"{columns[column]}: {number!r} would be stored as {stored!r}, in 32 bits"
        hint = "subtract an offset from all rows, such as the smallest number"
        raise table.wrong(int(row), f"{problem}; the numbers are too close together", hint=hint)


def _number(cell: str) -> bool:
    """Is the text a finite number, in float32 too?"""
    return _numeric(cell) and abs(float(cell)) <= LARGEST


def _numeric(cell: str) -> bool:
    """Is the text a number at all: nan, inf, or one too large to be stored?"""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_name(text: str) -> bool:
    """Can a formula contain it?"""
    return bool(re.fullmatch(NAME, text)) and text not in KEYWORDS


def _as_name(text: str) -> str:
    """The nearest text that is a name."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return plain if _is_name(plain) else f"n_{plain}".rstrip("_")
