"""``ebm import-dataset``: CelebA, 3D Shapes, dSprites or a folder of your own as a dataset file."""

from pathlib import Path
from typing import Annotated

import typer


def import_dataset(
    kind: Annotated[str, typer.Argument(help="celeba, 3dshapes, dsprites or folder.")],
    source: Annotated[Path, typer.Argument(help="Folder or file as it was downloaded.")],
    out: Annotated[Path, typer.Argument(help="Dataset file to write, such as celeba.h5.")],
    size: Annotated[
        int | None, typer.Option(help="Pixels per side; 64, or as --like.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many images.")] = None,
    skip: Annotated[
        int, typer.Option(help="Leave out the first so many: with --limit, parts apart.")
    ] = 0,
    like: Annotated[
        Path | None,
        typer.Option(help="Dataset file: take its name, words and ranges, of a folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Turn published images and labels, or your own, into a dataset file.

    Example: ebm import-dataset celeba ~/celeba celeba.h5 --size 64
    """
    from ebmcli.cli.console import message, print_json, progress, result
    from ebmcli.datasets.hdf5 import read_info
    from ebmcli.workflows.import_data import import_dataset as importing
    from ebmcli.workflows.import_data import next_step, plan_import

    plan = plan_import(
        kind, source, out, size=size, limit=limit, skip=skip, like=like, overwrite=overwrite
    )
    n_images, factors = plan.info.n_images, plan.info.factors
    message(f"{n_images} images with {len(factors)} factors: {', '.join(factors)}")
    with progress(f"importing {kind}") as report:
        for done in importing(plan):
            report(done, n_images)
    info = read_info(out)
    if as_json:
        print_json(info.to_dict())
        return
    result(str(out))
    message(next_step(info, like=like is not None))
