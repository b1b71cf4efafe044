"""Generated pictures on disk: a labelled sheet or one file per seed, with all it takes to redo."""

import json
import os
import re
from dataclasses import asdict
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import ebmcli
from ebmcli.charts.traces import trace_chart
from ebmcli.checkpoint import write_bytes
from ebmcli.core.expression import Expression, parse, spell
from ebmcli.errors import OutputError, OutputExistsError
from ebmcli.imaging import SHEET
from ebmcli.pictures import check_png, even_columns, labelled_grid, write_gif, write_png
from ebmcli.workflows.generate import Drawn, GenerateRequest

MAX_FRAMES = 40  # of an animation, chosen
MAX_SLUG = 60  # characters of a formula in a file name, chosen
_SIGN_WORDS = {  # longer signs first
    ">=": "-at-least-", "<=": "-at-most-", ">": "-above-", "<": "-below-", "*": "x-"
}  # fmt: skip


def default_path(request: GenerateRequest) -> Path:
    """A file name made of the expression (or the base) and the seed, in the working directory.

    Raises:
        ExpressionError: The expression is not in the grammar.
    """
    whole = f"any-picture-of-{request.base}"
    name = whole if request.base else slug(parse(request.expression))
    return Path(f"{name}-seed{request.seed}.png")


def slug(expression: Expression) -> str:
    """A name of a formula for files: ``old & ~wavy`` is ``old-and-not-wavy``.

    Lower-case letters, digits, ``.``, ``_`` and ``-`` only, at most MAX_SLUG. Where another formula
    could read the same (brackets that group, names with a hyphen) or the name is too long, it ends
    with eight hexadecimal digits of the formula's SHA-256.
    """
    text = spell(expression, words=True)
    name = re.sub(r"(?<=[=<>(,])-", "minus-", text)
    for sign, word in _SIGN_WORDS.items():
        name = name.replace(sign, word)
    name = re.sub(r"[^a-z0-9._]+", "-", name).strip("-")
    groups = "(" in re.sub(r"=\([^()]*\)", "", text)  # a place has brackets too
    if not groups and not re.search(r"\b[a-z]\w*-\w", text) and len(name) <= MAX_SLUG:
        return name
    digest = sha256(text.encode()).hexdigest()[:8]
    return f"{name[: MAX_SLUG - len(digest) - 1].rstrip('-')}-{digest}"


def planned(request: GenerateRequest, out: Path | None, *, gif: bool, trace: bool) -> list[Path]:
    """Every file that will be written.

    Raises:
        ConfigError: The output is neither a PNG nor a folder.
    """
    grid, singles = _pictures(request, out)
    files = [*singles, grid]
    files += [grid.with_suffix(".gif")] if gif else []
    return files + ([grid.with_suffix(s) for s in (".trace.json", ".trace.png")] if trace else [])


def _pictures(request: GenerateRequest, out: Path | None) -> tuple[Path, list[Path]]:
    """The sheet, and in a folder one file per seed beside it.

    Raises:
        ConfigError: The output is neither a PNG nor a folder.
    """
    path = out or default_path(request)
    if is_folder(path):
        singles = [path / f"seed{request.seed + i:06d}.png" for i in range(request.n)]
        return path / SHEET, singles
    check_png(path, or_folder=True)
    return path, []


def check_free(paths: list[Path]) -> None:
    """Refuse to start a long computation whose output is there already.

    Raises:
        OutputExistsError: One of the files exists.
    """
    for path in paths:
        if path.exists():
            raise OutputExistsError(path)


def check_writable(paths: list[Path]) -> None:
    """Refuse to start a long computation whose output could not be written.

    Raises:
        OutputError: A folder is missing and cannot be made, or takes no files.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        there = next(f for f in (folder, *folder.absolute().parents) if f.exists())
        if not there.is_dir():
            raise OutputError(f"cannot write into {folder}: {there} is no folder")
        if not os.access(there, os.W_OK | os.X_OK):
            hint = "choose a folder you can write to: -o FOLDER/NAME.png"
            raise OutputError(f"cannot write into {folder}: no permission", hint=hint)


def is_folder(path: Path) -> bool:
    """Does the user mean a folder? It exists, or it has no suffix."""
    return path.is_dir() or path.suffix == ""


def metadata(drawn: Drawn, request: GenerateRequest, index: int | None = None) -> dict[str, str]:
    """Text chunks of a PNG: what, with which seeds, from which weights, by which version."""
    chosen = range(len(drawn.seeds)) if index is None else [index]
    settings = asdict(request)
    settings["start_image"] = request.start_image.name if request.start_image else None
    branches = [drawn.branches[i] for i in chosen] if drawn.branches else []
    return {
        "ebm:expression": request.expression,
        "ebm:seeds": json.dumps([drawn.seeds[i] for i in chosen]),
        "ebm:probabilities": json.dumps([round(float(drawn.probabilities[i]), 4) for i in chosen]),
        **({"ebm:branches": json.dumps(branches)} if branches else {}),
        "ebm:settings": json.dumps(settings, sort_keys=True),
        "ebm:digests": json.dumps(drawn.digests, sort_keys=True),
        "ebm:version": ebmcli.__version__,
    }


def sheet(drawn: Drawn, request: GenerateRequest) -> NDArray[np.uint8]:
    """The labelled sheet: seed and the model's own probability under each picture."""
    labels = [
        f"{seed}: P={p:.2f}" for seed, p in zip(drawn.seeds, drawn.probabilities, strict=True)
    ]
    return np.asarray(labelled_grid(drawn.images, labels, title=request.title))


def png_bytes(drawn: Drawn, request: GenerateRequest) -> bytes:
    """The sheet as a PNG in memory."""
    info = PngInfo()
    for key, value in metadata(drawn, request).items():
        info.add_text(key, value)
    buffer = BytesIO()
    Image.fromarray(sheet(drawn, request)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def write_pictures(
    drawn: Drawn,
    request: GenerateRequest,
    out: Path | None,
    *,
    gif: bool = False,
    trace: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write the sheet (or one file per seed and the sheet) and what was asked beside it."""
    files = planned(request, out, gif=gif, trace=trace)
    grid, singles = _pictures(request, out)
    for index, path in enumerate(singles):
        chunks = metadata(drawn, request, index)
        write_png(path, drawn.images[index], chunks, overwrite=overwrite)
    write_png(grid, sheet(drawn, request), metadata(drawn, request), overwrite=overwrite)
    if gif:
        _write_animation(drawn, request, grid.with_suffix(".gif"), overwrite=overwrite)
    if trace:
        text = json.dumps(drawn.trace, indent=1)
        write_bytes(grid.with_suffix(".trace.json"), f"{text}\n".encode())
        chart = trace_chart(drawn.trace, title=request.title)
        write_png(
            grid.with_suffix(".trace.png"), chart, metadata(drawn, request), overwrite=overwrite
        )
    return files


def _write_animation(
    drawn: Drawn, request: GenerateRequest, path: Path, *, overwrite: bool
) -> None:
    """The denoised pictures level by level, and the finished ones at the end."""
    every = max(1, len(drawn.frames) // MAX_FRAMES)
    levels = [*drawn.frames[::every], drawn.images]
    columns = even_columns(len(drawn.images))
    frames = [
        np.asarray(labelled_grid(level, [""] * len(level), columns=columns)) for level in levels
    ]
    write_gif(path, frames, comment=f"ebm generate {request.title}", overwrite=overwrite)
