"""What becomes of readings: lines of text, a score against known labels, heat maps."""

import csv
import io
import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ebmcli.core.factors import Factor, Label, Value
from ebmcli.core.found import n_matched
from ebmcli.core.inference import Estimate
from ebmcli.datasets import scenes
from ebmcli.errors import ConfigError, OutputError, OutputExistsError, UsageError
from ebmcli.pictures import heat_map, write_png
from ebmcli.workflows.infer import Concept, Reading

FORMATS = ("table", "csv", "jsonl")
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"} | dict.fromkeys(
    ("", ".txt", ".text", ".log"), "table"
)


def text_format(name: str | None, out: Path | None) -> str:
    """The format of a name or, without one, of the output's suffix.

    Raises:
        ConfigError: There is no such format.
    """
    if name is None:
        suffix = out.suffix.lower() if out else ""
        if suffix not in SUFFIXES:
            hint = "name it .csv, .jsonl or .txt, or say which one with --format"
            raise ConfigError(f"no format of infer is called {suffix} ({out})", hint=hint)
        return SUFFIXES[suffix]
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}", hint=f"known: {', '.join(FORMATS)}")
    return name


def csv_header(concepts: Mapping[str, Concept]) -> str:
    """The columns: a position has two for its value, and every concept one for its probability."""
    columns = ["file"]
    for name, concept in concepts.items():
        is_place = concept.factor.kind == "position"
        columns += [f"{name}_x", f"{name}_y"] if is_place else [name]
        columns.append(f"{name}_probability")
    return _csv_line(columns)


def csv_line(reading: Reading) -> str:
    """One reading under :func:`csv_header`."""
    cells: list[object] = [reading.item.file]
    for estimate in reading.estimates.values():
        cells += [*_parts(estimate.value), round(estimate.probability, 4)]
    return _csv_line(cells)


def json_line(reading: Reading) -> str:
    """One reading as a JSON object."""
    record: dict[str, Any] = {"file": reading.item.file}
    for name, estimate in reading.estimates.items():
        if isinstance(estimate.value, list):
            things = [_rounded(thing) for thing in estimate.value]
            record[name] = {"value": things, "probability": round(estimate.probability, 4)}
            continue
        parts = _parts(estimate.value)
        value = parts if len(parts) > 1 else parts[0]
        record[name] = {"value": value, "probability": round(estimate.probability, 4)}
    return json.dumps(record)


def line_writer(
    kind: str, concepts: Mapping[str, Concept], emit: Callable[[str], object]
) -> Callable[[Reading], None]:
    """A function that turns readings into lines of csv or jsonl; a header goes out at once."""
    if kind == "csv":
        emit(csv_header(concepts))
    to_line = csv_line if kind == "csv" else json_line

    def write(reading: Reading) -> None:
        emit(to_line(reading))

    return write


def table_row(reading: Reading) -> list[str]:
    """One reading as cells for people, under :func:`table_header`."""
    cells = [reading.item.file]
    for estimate in reading.estimates.values():
        cells += [_text(estimate), f"{estimate.probability:.3f}"]
    return cells


def table_header(concepts: Mapping[str, Concept]) -> list[str]:
    """The headers of :func:`table_row`."""
    return ["file", *(text for name in concepts for text in (name, f"p({name})"))]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with columns of even width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def _parts(value: Label) -> list[str | float]:
    """A value as one cell, or two."""
    if isinstance(value, list):
        return [_described(value)]
    if isinstance(value, str):
        return [value]
    return [round(part, 4) for part in (value if isinstance(value, tuple) else (value,))]


def _text(estimate: Estimate) -> str:
    """A value for people."""
    value = estimate.value
    if isinstance(value, list):
        return _described(value)
    if isinstance(value, tuple):
        return f"({value[0]:.3f}, {value[1]:.3f})"
    return value if isinstance(value, str) else f"{value:.3f}"


def _described(things: Sequence[Mapping[str, Value]]) -> str:
    """Found objects as text: ``red cube (0.31,-0.42) 0.98; ...``, names last part first."""
    said = []
    for thing in things:
        names = [value for value in thing.values() if isinstance(value, str)]
        places = [f"({v[0]:.2f},{v[1]:.2f})" for v in thing.values() if isinstance(v, tuple)]
        said.append(" ".join([*reversed(names), *places, f"{thing['probability']:.2f}"]))
    return "; ".join(said) or "none"


def _rounded(thing: Mapping[str, Value]) -> dict[str, Any]:
    """A found object for JSON."""
    return {
        name: value if isinstance(value, str) else np.round(value, 4).tolist()
        for name, value in thing.items()
    }


def _csv_line(cells: Sequence[object]) -> str:
    """Cells as a line, quoted where needed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def check_free(out: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists, before anything is computed."""
    if out.exists() and not overwrite:
        raise OutputExistsError(out)


@contextmanager
def text_output(out: Path, *, overwrite: bool) -> Iterator[TextIO]:
    """A text file that has its name only when all is written; its folder is made where missing.

    Raises:
        OutputExistsError: It exists and was not to be overwritten.
        OutputError: The folder cannot be written, or the disk is full.
    """
    check_free(out, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            yield file
        partial.replace(out)
    except OSError as error:
        hint = "choose another path with -o, or free some room"
        raise OutputError(
            f"cannot write {out}: {(error.strerror or str(error)).lower()}", hint=hint
        ) from error
    finally:
        partial.unlink(missing_ok=True)


class Score:
    """How far readings are from the labels of their dataset, concept by concept."""

    def __init__(self, concepts: Mapping[str, Concept]) -> None:
        self.factors = {name: concept.factor for name, concept in concepts.items()}
        self.errors: dict[str, list[float]] = {name: [] for name in concepts}
        self.counts = dict.fromkeys(concepts, (0, 0, 0))  # objects: true, found, both

    def add(self, reading: Reading) -> None:
        """Compare one reading with its image's labels, if it has any of the same kind."""
        for name, factor in self.factors.items():
            truth = reading.item.truth.get(factor.name)
            value = reading.estimates[name].value
            if isinstance(truth, list) and isinstance(value, list):
                new = (len(truth), len(value), n_matched(value, truth, factor))
                pairs = zip(self.counts[name], new, strict=True)
                self.counts[name] = (sum(next(pairs)), sum(next(pairs)), sum(next(pairs)))
            elif isinstance(truth, list) or isinstance(value, list) or truth is None:
                continue
            elif isinstance(truth, type(value)):
                self.errors[name].append(_error(value, truth))

    def lines(self) -> list[str]:
        """One line per concept that was compared."""
        shown = []
        for name, errors in self.errors.items():
            if errors:
                mean, kind = sum(errors) / len(errors), self.factors[name].kind
                number = f"accuracy {100 * (1 - mean):.1f} %"
                if kind in ("scalar", "position"):
                    number = f"mean absolute error {mean:.4f}"
                    number += " per coordinate" if kind == "position" else ""
                shown.append(f"{name}: {number} on {len(errors)} images")
        for name, (n_true, n_found, n_both) in self.counts.items():
            if n_true:
                said = f"{n_both} of {n_true} objects found, {n_found - n_both} invented"
                shown.append(f"{name}: {said}")
        return shown


class Fitting:
    """How many images had to be cut or enlarged to be read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.n = self.n_cut = self.n_enlarged = 0

    def add(self, reading: Reading) -> None:
        """Count the images of one reading."""
        for width, height in reading.item.shown:
            self.n += 1
            self.n_cut += width != height
            self.n_enlarged += min(width, height) < self.size

    def lines(self) -> list[str]:
        """What was done to how many; nothing where all was well."""
        side = f"{self.size} x {self.size}"
        said = []
        if self.n_cut:
            said.append(
                f"{self.n_cut} of {self.n} images not square: their middle squares were read"
            )
        if self.n_enlarged:
            said.append(
                f"{self.n_enlarged} of {self.n} images smaller than {side}: enlarged, "
                "and blurred images are nothing the concepts were trained on"
            )
        return said


def _error(value: Value, truth: Value) -> float:
    """0 or 1 for names; distance for a number; mean distance per coordinate for a place."""
    if isinstance(value, str) or isinstance(truth, str):
        return float(value != truth)
    pair = zip(np.atleast_1d(value), np.atleast_1d(truth), strict=True)
    distances = [abs(float(a) - float(b)) for a, b in pair]
    return sum(distances) / len(distances)


class Maps:
    """Heat maps of the energy over positions, one PNG per image and position concept.

    Raises:
        UsageError: No concept is a position.
        OutputExistsError: The folder holds something and was not to be overwritten.
    """

    def __init__(
        self, folder: Path, concepts: Mapping[str, Concept], *, space: str, overwrite: bool
    ) -> None:
        self.folder, self.space, self.overwrite = folder, space, overwrite
        self.factors = {
            name: concept.factor
            for name, concept in concepts.items()
            if concept.factor.kind == "position"
        }
        self._used: set[str] = set()
        if not self.factors:
            hint = "leave --maps out, or add a concept of a position to --concepts"
            raise UsageError(f"--maps: none of {', '.join(concepts)} is a position", hint=hint)
        if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputExistsError(folder)

    def write(self, reading: Reading) -> None:
        """Draw the maps of one reading."""
        stem = self._free(reading.item.stem)
        for name, factor in self.factors.items():
            n_nodes = len(factor.nodes)
            energy = -reading.log_posteriors[name].view(n_nodes, n_nodes).numpy()
            extent = position_extent(self.space, factor)
            scale = max(1, 256 // len(reading.item.picture))
            sheet = heat_map(reading.item.picture, energy, extent=extent, scale=scale)
            value = reading.estimates[name].value
            text = {"file": reading.item.file, "concept": name, "value": str(value)}
            write_png(self.folder / f"{stem}-{name}.png", sheet, text, overwrite=self.overwrite)

    def _free(self, stem: str) -> str:
        """The stem, numbered where files of several folders share it."""
        found, number = stem, 1
        while found in self._used:
            number += 1
            found = f"{stem}-{number}"
        self._used.add(found)
        return found


def position_extent(space: str, factor: Factor) -> tuple[float, float, float, float]:
    """Where the nodes of a position lie in the picture, in fractions: left, top, right, bottom.

    For ``scenes`` by its camera, which is far away, so that the floor is drawn almost to scale;
    elsewhere a position is taken to be measured over the whole picture.
    """
    if not space.startswith("scenes-"):
        return (0.0, 0.0, 1.0, 1.0)
    reach = scenes.HALF_SIDE * (factor.high + factor.spacing / 2)
    half = scenes.CAMERA_DISTANCE * math.tan(math.radians(scenes.FIELD_OF_VIEW / 2))
    across = 0.5 * reach / half
    upwards = across * math.sin(math.radians(sum(scenes.ELEVATION) / 2))
    return (0.5 - across, 0.5 - upwards, 0.5 + across, 0.5 + upwards)
