"""Everything that is printed: results on stdout, messages and progress on stderr.

On a terminal tables and lines are broken between words to fit its width, and bars are drawn by
rich, which is loaded only then; elsewhere a row is one line, whole, and progress is one plain line
every ten seconds.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO
from unicodedata import category

import typer

from ebmcli.cli.layout import table_lines, wrapped
from ebmcli.errors import EbmError, InterruptedRun, UsageError

QUIET_SECONDS = 10.0  # between two plain lines of progress
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

Report = Callable[..., None]  # report(done, total, note="")


class TrainingReport(Protocol):
    """What a training loop says after an update."""

    @property
    def step(self) -> int:
        """Updates done."""

    @property
    def n_steps(self) -> int:
        """Updates in all."""

    @property
    def losses(self) -> dict[str, float]:
        """Scalars by name."""


def message(text: str) -> None:
    """One line for people, on stderr."""
    typer.echo(_fitted(text, sys.stderr), err=True)


def note_resumption(resume: bool, *places: Path | None) -> None:
    """Say so where ``--resume`` finds nothing to go on with: another path may have been meant."""
    asked = [place for place in places if place is not None]
    if resume and asked and not any(place.exists() for place in asked):
        message(f"note: nothing to go on with at {asked[0]}; this starts from the beginning")


def result(text: str) -> None:
    """Text that was asked for, on stdout, to be used as it is: a path, a line of data."""
    typer.echo(printable(text))


def prose(lines: Iterable[str]) -> None:
    """Lines to be read, on stdout; on a terminal long ones go on under their text."""
    for line in lines:
        typer.echo(_fitted(line, sys.stdout))


def show_error(error: EbmError) -> None:
    """What is wrong and what to type next, on stderr."""
    message(f"error: {error.problem}")
    if error.hint and error.hint.startswith("ebm "):
        typer.echo(printable(f"hint: {error.hint}"), err=True)  # in one piece, to be pasted
    elif error.hint:
        message(f"hint: {error.hint}")


def print_json(document: Any) -> None:
    """One JSON document on stdout; numbers that JSON cannot say become null."""
    typer.echo(json.dumps(_finite(document), indent=2, default=str, allow_nan=False))


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; numbers stand to the right. The title shows on a terminal only."""
    cells = [[printable("" if cell is None else str(cell)) for cell in row] for row in rows]
    numeric = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(headers))]
    width = None
    if is_terminal(sys.stdout):
        width = terminal_width()
        prose([title, ""])
    for line in table_lines(headers, cells, numeric=numeric, width=width):
        typer.echo(line)


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """Show how far work is: ``report(done, total, note="loss 0.3")`` as often as you like."""
    if is_terminal(sys.stderr):
        with _rich_bar(title) as report:
            yield report
    else:
        yield _plain_lines(title)


@contextmanager
def training_progress(title: str) -> Iterator[Callable[[TrainingReport], None]]:
    """As :func:`progress`, for the reports of a training loop."""
    with progress(title) as report:

        def report_update(update: TrainingReport) -> None:
            loss = update.losses.get("loss")
            note = "" if loss is None else f"loss {loss:.4g}"
            report(update.step, update.n_steps, note=note)

        yield report_update


@contextmanager
def whole_or_nothing() -> Iterator[None]:
    """Work whose result is written at its end: after Ctrl-C say that there is none.

    Raises:
        InterruptedRun: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        hint = "nothing was written; repeat the command"
        raise InterruptedRun("interrupted", hint=hint) from error


def can_ask() -> bool:
    """Is a person there to answer?"""
    return bool(sys.stdin and sys.stdin.isatty())


def confirmed(action: str, *, yes: bool) -> bool:
    """Whether to do what loses something, such as "remove concept color": a person is asked.

    Raises:
        UsageError: Nobody is there to be asked, and ``--yes`` was not given.
    """
    if yes:
        return True
    if not can_ask():
        raise UsageError(f"would {action}", hint="add --yes")
    return typer.confirm(f"{action[:1].upper()}{action[1:]}?", err=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Does a person watch this stream on something that can move its cursor?"""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Characters of a line: COLUMNS, or what the terminal says, or 80."""
    return shutil.get_terminal_size().columns


def duration(seconds: float) -> str:
    """Time for people: 8 s, 3 min, 1 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(n_bytes: int) -> str:
    """Bytes for people: 812 B, 1.4 MB."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def printable(text: str) -> str:
    """The text without characters that steer a terminal; files of strangers may hold some.

    Spaces and joiners of other scripts stay: they are part of names of files.
    """
    return "".join(f"\\x{ord(c):02x}" if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    """Does it control a terminal, end a line, turn the direction of text, or stand for no text?"""
    if character.isprintable() or character in "\n\t":
        return False
    return category(character) in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTIONS


def _fitted(text: str, stream: TextIO | None) -> str:
    """Text as it is printed; lines that start with a space, as under an error, are left alone."""
    shown = printable(text)
    if not is_terminal(stream):
        return shown
    width = terminal_width()
    return "\n".join(part for line in shown.split("\n") for part in wrapped(line, width))


def _numeric(cell: object) -> bool:
    if isinstance(cell, str):
        return cell[:1].isdigit() and cell.split(" ")[0].replace(".", "", 1).isdigit()
    return cell is None or isinstance(cell, (int, float))


def _finite(document: Any) -> Any:
    """The document with infinite and undefined numbers replaced by None."""
    if isinstance(document, dict):
        return {str(key): _finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_finite(value) for value in document]
    if isinstance(document, float) and (document != document or abs(document) == float("inf")):
        return None
    return document


@contextmanager
def _rich_bar(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(title), total=None, note="")

        def report(done: int, total: int | None = None, note: str = "") -> None:
            bars.update(task, completed=done, total=total, note=printable(note))

        yield report


def _plain_lines(title: str) -> Report:
    start = last = time.monotonic()
    first: int | None = None

    def report(done: int, total: int | None = None, note: str = "") -> None:
        nonlocal last, first
        first = done if first is None else first
        now = time.monotonic()
        if now - last < QUIET_SECONDS:
            return
        last = now
        parts = [f"{title}: {done:,}"]
        if total:
            parts[0] += f"/{total:,} ({100 * done // total} %)"
            if done > first:  # a resumed run starts in the middle
                parts.append(f"{duration((now - start) / (done - first) * (total - done))} left")
        message(", ".join([*parts, note] if note else parts))

    return report
