"""``ebm bench``: longer measurements, each with a page of its own."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ebmcli.cli.typed import listed, typed_command

app = typer.Typer(help="Longer measurements, each with a page.", rich_markup_mode=None)


@app.callback()
def bench() -> None:
    """Longer measurements, each with a page."""


@app.command("logic")
def logic(
    space: Annotated[str, typer.Option(help="Space whose concepts are asked for.")] = "scenes-64",
    n: Annotated[
        int | None,
        typer.Option("-n", "--n", help="Pictures per line and seed; 100 without --quick."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds, whose spread gives the error; 3, or 2 with --quick.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed, also of the formulas.")] = 0,
    rules: Annotated[
        list[str] | None, typer.Option(help="Rules to compare, as exact,paper; all without.")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="Kinds of formulas, as and-2,not; all without, or one of each with --quick."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="So little that ten minutes on two cores are enough.")
    ] = False,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder for logic.json, logic.md, logic.png, pictures/."),
    ] = Path("bench-logic"),
    data: Annotated[
        Path | None, typer.Option(help="Real pictures to compare with; rendered if absent.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Noise levels from noise to picture.")] = 32,
    corrector_steps: Annotated[
        int | None, typer.Option(help="Langevin steps per noise level.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Of all rules that have one, as in ebm generate.")
    ] = None,
    attempts: Annotated[
        int, typer.Option(help="Of the line beside the comparison, which has one attempt each.")
    ] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the finished lines.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="registry.yaml to use.")
    ] = None,
) -> None:
    """Compare rules of composition on random formulas, at equal numbers of energy calls.

    A judge that never saw an energy reads the pictures. Kinds of formulas: and-2, and-3, or-values,
    or-concepts, not, implies, nested-2 to nested-5.

    Example: ebm bench logic --rows and-2,not --rules exact,paper --quick -o bench
    """
    from ebmcli.cli.console import message, note_resumption, print_json, progress
    from ebmcli.evaluation.formulas import ROWS
    from ebmcli.registry import find_registry, read_registry
    from ebmcli.workflows.bench_logic import FILES, bench_logic
    from ebmcli.workflows.bench_plan import QUICK_ROWS, BenchRequest
    from ebmcli.workflows.energies import LOGICS
    from ebmcli.workflows.generate import GenerateRequest, draw_together

    known = read_registry(find_registry(registry))
    sampling = GenerateRequest(
        expression="", steps=steps, corrector_steps=corrector_steps, strength=strength,
        attempts=attempts, device=device,
    )  # fmt: skip
    request = BenchRequest(
        sampling=sampling, space=space, n=n, seeds=seeds, seed=seed, quick=quick, data=data,
        rules=LOGICS if rules is None else listed(rules),
        rows=(QUICK_ROWS if quick else ROWS) if rows is None else listed(rows),
        folder=out, resume=resume, overwrite=overwrite, command=typed_command(),
    )  # fmt: skip
    note_resumption(resume, out / FILES[0])
    with progress("lines") as report:
        document = bench_logic(
            request, known, draw=partial(draw_together, registry=known), report=report,
            announce=message,
        )  # fmt: skip
    if as_json:
        print_json(document)
    else:
        show(document, out)


def show(document: dict[str, Any], folder: Path) -> None:
    """Lines and aims as tables, and where the page is."""
    from ebmcli.cli.console import message, table
    from ebmcli.workflows.bench_page import aim_rows, fid_lines, line_rows

    headers = ["formulas", "rule", "n", "right", "refused", "no object", "energy calls"]
    table("one picture right: the formula holds by the judge", headers, line_rows(document))
    if fids := fid_lines(document):
        headers = ["rule", "n", "FID", "exact, same formulas", "difference", "renders, as many"]
        table("FID of all pictures of a rule, by the judge's features", headers, fids)
    table("aims", ["aim", "asked", "measured", ""], aim_rows(document))
    message("right: share +- standard error, of counting or over seeds, whichever is larger")
    message(f"page: {folder / 'logic.md'}, pictures: {folder / 'logic.png'}")
