"""``ebm infer``: what images show, concept by concept."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ebmcli.cli.typed import listed
from ebmcli.errors import EbmError, UsageError

NO_IMAGE_HINT = "give PNG, JPEG or WebP files, folders of them, or a dataset file (.h5)"


def infer(
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images",
            help="Folder, image or dataset file (.h5); may be repeated.",
        ),
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILES]...", help="Images too, as the shell expands *.png."),
    ] = None,
    concepts: Annotated[
        list[str] | None,
        typer.Option(help="Concepts to read, such as color,position; all by default."),
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Space of the concepts, such as scenes-64.")
    ] = None,
    text_format: Annotated[
        str | None,
        typer.Option("--format", help="table, csv or jsonl; else by the suffix of -o, or table."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write instead of stdout.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    maps: Annotated[
        Path | None, typer.Option(help="Folder for heat maps of the energy over positions.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Take all images as views of one thing.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Images per evaluation.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    registry: Annotated[Path | None, typer.Option(help="registry.yaml to use.")] = None,
) -> None:
    """Read the most probable value of every concept, and its probability, from images.

    Example: ebm infer --images photos/ --concepts color,position --format csv -o found.csv
    """
    from ebmcli.cli.console import message
    from ebmcli.registry import find_registry, read_registry
    from ebmcli.workflows import readings
    from ebmcli.workflows.device import resolve_device
    from ebmcli.workflows.infer import answers, plan_inference
    from ebmcli.workflows.loading import load_concepts

    target = None if out == Path("-") else out
    kind = readings.text_format(text_format, target)
    if target is not None:
        readings.check_free(target, overwrite=overwrite)
    known = read_registry(find_registry(registry))
    asked = list(listed(concepts))
    given = [*(images or []), *(more or [])]
    if not given:
        raise UsageError("no images", hint="ebm infer --images FOLDER, FILE or DATASET.h5")
    plan = plan_inference(given, known, concepts=asked, space=space)
    loaded = load_concepts(known, plan.concepts, device=resolve_device(device))
    drawn = None
    if maps is not None:
        drawn = readings.Maps(maps, loaded, space=plan.space, overwrite=overwrite)
    stream = answers(
        plan, loaded, as_one=together, batch_size=batch_size, device=resolve_device(device)
    )
    with _writer(kind, target, loaded, overwrite=overwrite) as write:
        n_skipped, notes = _read(stream, plan.n_images, loaded, write=write, maps=drawn)
        if n_skipped == plan.n_images:  # raised here, so that no file of nothing is left behind
            raise EbmError(f"none of {n_skipped} images could be read", hint=NO_IMAGE_HINT)
    for line in notes:
        message(line)
    if n_skipped:
        message(f"{n_skipped} of {plan.n_images} images could not be read; the others are done")
        raise typer.Exit(1)


def _read(
    stream: Iterator[Any],
    n_images: int,
    concepts: Mapping[str, Any],
    *,
    write: Callable[[Any], None],
    maps: Any | None,
) -> tuple[int, list[str]]:
    """Pass every reading on; say at once what was skipped.

    Returns:
        How many were skipped, and what to say at the end: how images were fitted, and the score.
    """
    from ebmcli.cli.console import message, progress
    from ebmcli.workflows.infer import Skipped
    from ebmcli.workflows.readings import Fitting, Score

    n_skipped, score = 0, Score(concepts)
    fitting = Fitting(next(iter(concepts.values())).config.size)
    with progress("reading images") as report:
        for done, outcome in enumerate(stream, start=1):
            if isinstance(outcome, Skipped):
                message(f"skipped {outcome.error.problem}")
                n_skipped += 1
            else:
                write(outcome)
                score.add(outcome)
                fitting.add(outcome)
                if maps is not None:
                    maps.write(outcome)
            report(done, n_images)
    return n_skipped, [*fitting.lines(), *score.lines()]


@contextmanager
def _writer(
    kind: str, out: Path | None, concepts: Mapping[str, Any], *, overwrite: bool
) -> Iterator[Callable[[Any], None]]:
    """A function that takes readings and writes them to ``out``, or to stdout."""
    from ebmcli.cli.console import result, table
    from ebmcli.workflows import readings

    if kind == "table":
        rows: list[list[str]] = []
        yield lambda reading: rows.append(readings.table_row(reading))
        header = readings.table_header(concepts)
        if out is None:
            table("most probable values", header, rows)
            return
        with readings.text_output(out, overwrite=overwrite) as file:
            file.write(readings.aligned([header, *rows]) + "\n")
    elif out is None:
        yield readings.line_writer(kind, concepts, result)
        return
    else:
        with readings.text_output(out, overwrite=overwrite) as file:
            yield readings.line_writer(kind, concepts, lambda line: file.write(line + "\n"))
    result(str(out))
