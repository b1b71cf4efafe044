"""``ebm render-dataset``: pictures with known labels, in one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ebmcli.workflows.render import RenderSettings


def render_dataset(
    out: Annotated[Path, typer.Argument(help="Dataset file to write, such as scenes.h5.")],
    recipe: Annotated[str, typer.Option(help="What to draw: scenes, clutter or faces.")] = "scenes",
    n: Annotated[int, typer.Option("-n", "--n", help="Number of images.")] = 40_000,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed; with the options, all the bytes depend on.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; changes no byte.")] = 2,
    fix: Annotated[
        list[str] | None, typer.Option(help="Hold a factor to values: color=red,blue.")
    ] = None,
    hold_out: Annotated[
        str, typer.Option(help='Never show what this formula describes: "shape=cube & color=red".')
    ] = "",
    grid: Annotated[
        list[str] | None, typer.Option(help="Even points instead of any: position=20 is 20 x 20.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be drawn; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Render pictures with known labels into OUT.

    Example: ebm render-dataset scenes.h5 --recipe scenes --n 40000 --seed 1
    """
    from ebmcli.workflows.render import RenderSettings, rehearse_dataset

    settings = RenderSettings(
        recipe=recipe,
        n_images=n,
        size=size,
        seed=seed,
        fix=tuple(fix or ()),
        grid=tuple(grid or ()),
        hold_out=hold_out,
    )
    if dry_run:
        rehearse_dataset(settings, out, workers=workers, resume=resume, overwrite=overwrite)
        _show_plan(settings, workers=workers, as_json=as_json)
        return
    _render(settings, out, workers=workers, resume=resume, overwrite=overwrite, as_json=as_json)


def _show_plan(settings: "RenderSettings", *, workers: int, as_json: bool) -> None:
    """What would be drawn."""
    from ebmcli.cli.console import duration, print_json, result, size_text
    from ebmcli.workflows.render import plan_dataset

    plan = plan_dataset(settings, workers=workers)
    if as_json:
        print_json(plan.to_dict())
        return
    result(
        f"{settings.n_images} images of {settings.size} x {settings.size}, recipe "
        f"{settings.recipe}: {size_text(plan.n_bytes)}, about {duration(plan.seconds)}"
    )
    result(f"the first would show {', '.join(plan.statements())}")


def _render(
    settings: "RenderSettings",
    out: Path,
    *,
    workers: int,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw, showing progress, and say what was written."""
    from ebmcli.cli.console import message, note_resumption, print_json, progress, result
    from ebmcli.datasets.hdf5 import read_info
    from ebmcli.datasets.partial_file import partial_path
    from ebmcli.workflows.render import is_rendered
    from ebmcli.workflows.render import render_dataset as rendering

    if resume and not overwrite and is_rendered(settings, out):
        message(f"{out} is complete; nothing is left to draw")
    note_resumption(resume, partial_path(out), out)
    with progress(f"rendering {settings.recipe}") as report:
        for done in rendering(settings, out, workers=workers, resume=resume, overwrite=overwrite):
            report(done, settings.n_images)
    info = read_info(out)
    if as_json:
        print_json(info.to_dict())
        return
    result(str(out))
    message(f"{info.n_images} images for {info.space}, content {info.digest}")
