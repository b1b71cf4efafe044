"""``ebm generate``: pictures that satisfy a formula."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ebmcli.cli import completion
from ebmcli.cli.typed import with_registry


def generate(
    expression: Annotated[
        str, typer.Argument(help='Formula, such as "old & male & ~wavy".', show_default=False)
    ] = "",
    base: Annotated[
        str | None,
        typer.Option(
            help="Draw from this base instead and ask for nothing.",
            autocompletion=completion.names_of("base"),
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Number of pictures.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the first; the next has seed + 1.")] = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A PNG, a folder, or - for stdout.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Noise levels from noise to picture.")] = 32,
    sampler: Annotated[
        str, typer.Option(help="auto, heun (flow alone), langevin, mala, hmc, smc or rejection.")
    ] = "auto",
    corrector_steps: Annotated[int | None, typer.Option(help="Moves per noise level.")] = None,
    chains: Annotated[
        int | None, typer.Option(help="Chains per picture: mala, hmc, smc, rejection.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Weight of guidance: 1 is Bayes' rule, more is sharper.")
    ] = None,
    logic: Annotated[
        str, typer.Option(help="exact, or another's rules: paper, dng, ... (docs/logic.md).")
    ] = "exact",
    branches: Annotated[
        str | None,
        typer.Option(
            help="prior: every picture is given one way to be true; free: chains find theirs."
        ),
    ] = None,
    attempts: Annotated[
        int, typer.Option(help="Draws per picture while the model finds it wrong.")
    ] = 3,
    start: Annotated[
        Path | None, typer.Option("--from", help="Edit this picture instead of drawing anew.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Noise added to the picture of --from, 1 unless told; more changes more."
        ),
    ] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Also an animation of the chains.")] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Also energy, P, acceptance, R-hat per level.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    batch_size: Annotated[int, typer.Option(help="Chains at a time; changes no picture.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="registry.yaml to use.")
    ] = None,
) -> None:
    """Draw pictures that satisfy EXPRESSION.

    Example: ebm generate "shape=cube & color=red & position=(0.4,-0.2)" -n 8 -o cubes.png
    """
    from ebmcli.cli.console import message, print_json, progress, result, whole_or_nothing
    from ebmcli.errors import ConfigError
    from ebmcli.registry import find_registry, read_registry
    from ebmcli.workflows.formulas import formula_of

    known = read_registry(find_registry(registry))
    if base is None:
        formula_of(known, expression)  # a wrong formula is refused before torch is loaded
    else:
        known.get("base", base)

    if noise is not None and start is None:
        raise ConfigError("--noise changes a picture of --from", hint="name one, or leave it out")
    from ebmcli.workflows.generate import GenerateRequest, draw_pictures
    from ebmcli.workflows.output import check_free, check_writable, planned, write_pictures

    request = GenerateRequest(
        expression=expression,
        base=base,
        n=n,
        seed=seed,
        steps=steps,
        sampler=sampler,
        corrector_steps=corrector_steps,
        chains=chains,
        strength=strength,
        logic=logic,
        branches=branches,
        attempts=attempts,
        batch_size=batch_size,
        device=device,
        start_image=start,
        start_noise=1.0 if noise is None else noise,
        keep_frames=gif or trace,
    )
    to_stdout = out == Path("-")
    if to_stdout and (gif or trace or as_json):
        hint = "name a file with -o for --gif, --trace and --json"
        raise ConfigError("-o - writes one PNG to stdout and nothing else", hint=hint)
    files = [] if to_stdout else planned(request, out, gif=gif, trace=trace)
    if not overwrite:
        check_free(files)
    check_writable(files)
    with whole_or_nothing(), progress("drawing") as advance:
        drawn = draw_pictures(request, known, progress=advance)
    if to_stdout:
        from ebmcli.workflows.output import png_bytes

        sys.stdout.buffer.write(png_bytes(drawn, request))
        return
    files = write_pictures(drawn, request, out, gif=gif, trace=trace, overwrite=overwrite)
    if as_json:
        print_json(
            {
                "expression": expression,
                "base": base,
                "space": drawn.space,
                "files": [str(path) for path in files],
                "seeds": drawn.seeds,
                "probabilities": [round(float(p), 4) for p in drawn.probabilities],
                "least": round(drawn.acceptance, 4),
                "kept": drawn.kept,
                "attempts": drawn.attempts,
                "branches": drawn.branches,
                "accepted_at_first": round(drawn.first_accepted, 4),
                "seconds": round(drawn.seconds, 2),
                "energy_calls": drawn.n_energy_calls,
                "diagnostics": drawn.diagnostics,
                "notes": drawn.notes,
                "digests": drawn.digests,
            }
        )
        return
    for path in files:
        result(str(path))
    read = f"{sum(drawn.kept)} of {n} pictures "
    if sampler == "rejection":
        read += "were accepted by the model's own P(f | x)"
    else:
        least = f"P(f | x) at least {drawn.acceptance:.2f}"
        read += f"pass the model's own test, {least}, as most real pictures do"
    shown = f"{n} pictures of {base}" if base else read
    message(f"{shown}; {drawn.seconds:.1f} s")
    if not base and sampler != "rejection" and not all(drawn.kept):
        again = f"--attempts {2 * request.attempts} draws the others again"
        more = "more --noise changes more" if start else again
        if not any(drawn.kept) and not start:
            more = f"{shlex.join(['ebm', 'explain', expression or ''])} tells what it asks for"
        message(with_registry(f"hint: {more}; a larger --strength insists more"))
    for note in drawn.notes:
        message(note)
