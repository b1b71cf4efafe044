"""``ebm dataset``: look at a dataset file, and check it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at a dataset file, and check it.", rich_markup_mode=None)

File = Annotated[Path, typer.Argument(help="Dataset file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command("show")
def show(
    file: File,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also a PNG with the first images.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the PNG.")] = False,
    as_json: Json = False,
) -> None:
    """Show how many images there are, and how their labels are spread.

    Example: ebm dataset show scenes.h5 -o sheet.png
    """
    from ebmcli.cli.console import message, print_json, result, table
    from ebmcli.workflows.dataset import show_dataset

    summary = show_dataset(file, sheet=out, overwrite=overwrite)
    if as_json:
        print_json(summary.to_dict())
        return
    info = summary.info
    seed = "" if info.seed is None else f", seed {info.seed}"
    result(f"{file}: {info.n_images} images of {info.size} x {info.size}, {info.recipe}{seed}")
    result(f"content {info.digest}")
    for name, setting in info.settings.items():
        texts = setting if isinstance(setting, list) else [setting]
        result(f"{name.replace('_', '-')}: {', '.join(map(str, texts))}")
    rows = []
    for each in summary.factors:
        rows.append([each.factor.name, each.factor.kind, each.text])
        rows += [[f"  {part.factor.name}", part.factor.kind, part.text] for part in each.parts]
    table("labels", ["factor", "kind", "labels"], rows)
    if out is not None:
        message(f"wrote {out}")


@app.command("verify")
def verify(file: File, as_json: Json = False) -> None:
    """Check that images and labels are those that were written.

    Example: ebm dataset verify scenes.h5
    """
    from ebmcli.cli.console import print_json, result
    from ebmcli.workflows.dataset import verify_dataset

    info = verify_dataset(file)
    if as_json:
        print_json({"path": str(file), "digest": info.digest, "intact": True})
        return
    result(f"{file} is intact: {info.n_images} images, content {info.digest}")
