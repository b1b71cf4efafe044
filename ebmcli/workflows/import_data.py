"""From somebody else's images and labels to a dataset file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter, read_info
from ebmcli.datasets.importers import Source, open_celeba, open_dsprites, open_shapes3d
from ebmcli.datasets.labelled_folder import open_folder
from ebmcli.datasets.partial_file import partial_path, refuse_locked
from ebmcli.datasets.recipes import RECIPES
from ebmcli.errors import (
    ConfigError,
    FileFormatError,
    InterruptedRun,
    OutputExistsError,
    UnknownNameError,
    UsageError,
)

OPENERS: dict[str, Callable[..., Source]] = {
    "celeba": open_celeba,
    "3dshapes": open_shapes3d,
    "dsprites": open_dsprites,
    "folder": open_folder,
}
SIZE = 64  # pixels per side, where nothing is said
MIN_SIZE, MAX_SIZE = 8, 512  # pixels per side, chosen: what the networks are made for


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """A checked source, and the header of the dataset to be."""

    source: Source
    info: DatasetInfo
    overwrite: bool


def plan_import(
    kind: str,
    source_path: Path,
    out: Path,
    *,
    size: int | None = None,
    limit: int | None = None,
    skip: int = 0,
    like: Path | None = None,
    overwrite: bool = False,
) -> ImportPlan:
    """Check everything but the images.

    Args:
        kind: A key of ``OPENERS``.
        source_path: Folder or file, as docs/import.md describes it.
        out: The dataset to write.
        size: Pixels per side; None: those of ``like``, or SIZE.
        limit: At most so many images; None takes all.
        skip: Images before the first that is taken, in the order that :mod:`importers` gives them:
            parts of one source that do not overlap have no picture in common.
        like: A dataset whose name and factors a folder's are to be, for pictures to compare with.
        overwrite: Replace an existing dataset.

    Raises:
        UnknownNameError: No such kind.
        UsageError: Published data are always alike.
        ConfigError: A number is out of range, nothing is left, or the output is a file of the
            source.
        FileFormatError: The source is not as described.
        OutputExistsError: The output is there.
        OutputError: Another command is writing it.
    """
    if kind not in OPENERS:
        raise UnknownNameError("kind of dataset", kind, list(OPENERS))
    known = _other(kind, like)
    if size is None:
        size = known.size if known else SIZE
    _check_numbers(size, limit, skip)
    if known and size != known.size:
        problem = f"{known.path} has {known.size} pixels per side, not {size}"
        raise UsageError(problem, hint="leave --size out")
    if not source_path.exists():
        raise FileFormatError(source_path, "no such file or folder", hint="see docs/import.md")
    _check_output(source_path, out, overwrite=overwrite)
    part = slice(skip, None if limit is None else skip + limit)
    beside = {} if known is None else {"like": known}
    source = OPENERS[kind](source_path, size=size, part=part, **beside)
    _refuse_source(source.files, out)
    if not source.n_images:
        raise ConfigError(f"--skip {skip} leaves no image of {source_path}", hint="skip fewer")
    numbers = {name: n for name, n in (("limit", limit), ("skip", skip)) if n}
    info = DatasetInfo(
        path=out,
        recipe=source.recipe,
        size=size,
        n_images=source.n_images,
        seed=source.seed,
        factors=source.factors,
        digest="",
        versions={},
        settings={"imported": kind, "source": source.digest} | numbers,
    )
    return ImportPlan(source=source, info=info, overwrite=overwrite)


def import_dataset(plan: ImportPlan) -> Iterator[int]:
    """Write a dataset, yielding the number of images in the file.

    The caller takes all values; the file has its name after the last. On any failure nothing of
    it stays.

    Raises:
        FileFormatError: An image is damaged.
        OutputError: The file cannot be written.
        InterruptedRun: Ctrl-C.
    """
    with DatasetWriter(plan.info, overwrite=plan.overwrite) as writer:
        try:
            for images in plan.source.batches():
                start = writer.n_written
                rows = slice(start, start + len(images))
                labels = {name: column[rows] for name, column in plan.source.labels.items()}
                writer.write(images, labels)
                yield writer.n_written
            writer.finish()
        except BaseException as error:
            partial_path(plan.info.path).unlink(missing_ok=True)
            if isinstance(error, KeyboardInterrupt):
                hint = "nothing was written; repeat the command"
                raise InterruptedRun("interrupted", hint=hint) from error
            raise


def next_step(info: DatasetInfo, *, like: bool) -> str:
    """What to do with an imported dataset; one that is ``like`` another is to measure with."""
    from ebmcli.workflows.plans import MIN_IMAGES  # loads torch
    from ebmcli.workflows.settings import default_settings

    if like:
        return f"measure with: ebm train-judge NAME, or ebm eval and calibrate, --data {info.path}"
    if info.n_images < MIN_IMAGES:
        return f"note: training takes at least {MIN_IMAGES} images"
    try:
        default_settings("base", size=info.size)
    except ConfigError as error:
        return f"note: no network as preset takes these: {error.problem}; {error.hint}"
    return f"train with: ebm train-base {info.space} --data {info.path}"


def _other(kind: str, like: Path | None) -> DatasetInfo | None:
    """The dataset that an import is to be like."""
    if like is None:
        return None
    if kind != "folder":
        problem = f"--like is for folders: factors of {kind} are always the same"
        raise UsageError(problem, hint="leave --like out")
    info = read_info(like)
    if info.recipe in RECIPES:
        problem = f"{like} is of the built-in recipe {info.recipe}, which no folder can be"
        raise ConfigError(problem, hint="give a file that was imported from a folder")
    return info


def _check_numbers(size: int, limit: int | None, skip: int) -> None:
    """Refuse numbers that no dataset can have."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"--size is from {MIN_SIZE} to {MAX_SIZE} pixels, not {size}")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is at least 1, not {limit}")
    if skip < 0:
        raise ConfigError(f"--skip is at least 0, not {skip}")


def _check_output(source_path: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse before anything is read."""
    _refuse_source([source_path], out)
    refuse_locked(partial_path(out))
    if out.exists() and not overwrite:
        raise OutputExistsError(out)
    if partial_path(out).exists() and not overwrite:
        hint = "an import was killed: add --overwrite to start again"
        raise OutputExistsError(partial_path(out), hint=hint)


def _refuse_source(files: Iterable[Path], out: Path) -> None:
    """Refuse an output that would take the place of a file that is read, or begin over one."""
    written = [path for path in (out, partial_path(out)) if path.exists()]
    for file in files if written else ():
        if any(file.samefile(path) for path in written):
            problem = f"{out}: the output is the source"
            raise ConfigError(f"{problem}, {file}", hint="choose another path")
