"""All pictures of ``ebm bench logic``: a PNG per line in a folder beside the results.

They lose nothing, are there to be looked at, give the sheet, and are compared with renders at the
end, also where a benchmark was resumed. A file counts only where its digest is that of its row.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.checkpoint import file_digest
from ebmcli.errors import FileFormatError, OutputError, OutputExistsError
from ebmcli.pictures import read_png_metadata, read_tiles, tiles, write_png
from ebmcli.workflows.bench_plan import Line

Row = dict[str, Any]
Images = NDArray[np.uint8]  # (N, S, S, 3)

PICTURES = "pictures"  # the folder
COLUMNS = 12  # of a file, chosen
GROUPS = "ebm:groups"  # their text in a file: formula, seed and number of pictures of each


def keep(folder: Path, line: Line, groups: list[Row], images: Images) -> Row | None:
    """Write the pictures of a line, in the order of its groups; say where, and their digest.

    Nothing is written where there are none: the rule refused all formulas.
    """
    if len(images) == 0:
        return None
    parts = [line.row, line.rule, *([] if line.sampler == "auto" else [line.sampler])]
    parts += [] if line.corrector_steps is None else [f"{line.corrector_steps}-steps"]
    parts += ["by-branch"] * line.by_branch
    parts += [f"{line.attempts}-attempt{'s' * (line.attempts > 1)}"]
    name = f"{PICTURES}/{'-'.join(parts)}.png"
    known = {GROUPS: json.dumps(groups)}
    write_png(folder / name, tiles(images, columns=COLUMNS), known, overwrite=True)
    return {"file": name, "sha256": file_digest(folder / name)}


def kept(folder: Path, row: Row) -> Images | None:
    """The pictures of a line, in the order of its groups; None where they are no longer there."""
    file = row.get("pictures")
    if row["n"] == 0 or file is None:
        return None
    try:
        if file_digest(folder / file["file"]) != file["sha256"]:
            return None
        return read_tiles(folder / file["file"], row["n"], columns=COLUMNS)
    except FileFormatError:
        return None


def check_folder(folder: Path, *, fresh: bool) -> None:
    """Refuse, before anything is drawn, a place where pictures cannot be kept.

    Raises:
        OutputExistsError: Pictures of other results are there, and these begin afresh.
        OutputError: A file has the name of the folder.
    """
    place = folder / PICTURES
    if place.exists() and not place.is_dir():
        raise OutputError(f"cannot write {place}: it is a file", hint="choose another folder")
    if fresh and _ours(place):
        raise OutputExistsError(place)


def remove_others(folder: Path, rows: list[Row]) -> None:
    """Remove pictures of lines that are no longer in the results; other files stay."""
    known = {row["pictures"]["file"] for row in rows if row.get("pictures")}
    for path in _ours(folder / PICTURES):
        if f"{PICTURES}/{path.name}" not in known:
            path.unlink(missing_ok=True)


def _ours(place: Path) -> list[Path]:
    """The files in a folder that :func:`keep` wrote."""
    return [path for path in sorted(place.glob("*.png")) if GROUPS in _texts(path)]


def _texts(path: Path) -> dict[str, str]:
    try:
        return read_png_metadata(path)
    except FileFormatError:
        return {}


def drawn_groups(row: Row) -> list[Row]:
    """The groups of a line that have pictures."""
    return [group for group in row["groups"] if "refused" not in group]
