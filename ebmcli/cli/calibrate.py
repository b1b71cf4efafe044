"""``ebm calibrate``: temperatures for the posterior of a concept, from pictures it has not seen."""

from pathlib import Path
from typing import Annotated

import typer

from ebmcli.cli.typed import typed_command


def calibrate(
    name: Annotated[str, typer.Argument(help="Concept in the registry.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Dataset file that it was not trained on.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fit and show; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="registry.yaml to use.")
    ] = None,
) -> None:
    """Make the probabilities of a concept as good as its answers.

    Fits one temperature per noise level and stores them with the concept; whatever reads its
    probabilities uses them from then on. The weights stay as they are.

    Example: ebm calibrate color --data fresh.h5
    """
    from ebmcli.cli.console import message, print_json, progress, table
    from ebmcli.registry import find_registry, read_registry, writable_registry
    from ebmcli.workflows import calibrate as jobs

    request = jobs.CalibrateRequest(
        name=name, data=data, device=device, seed=seed, command=typed_command()
    )
    with progress(f"calibrate {name}") as report:
        fitted = jobs.fit(request, read_registry(find_registry(registry)), report=report)
    path = None if dry_run else writable_registry(registry)
    if path is not None:
        jobs.save(path, fitted)
    if as_json:
        print_json({**fitted.to_dict(), "registry": str(path) if path else None})
        return
    headers = ["sigma", "temperature", "log loss before", "after", "ECE before", "after"]
    rows = [
        [f"{level.sigma:g}", f"{level.temperature:.4f}", f"{level.log_loss_before:.4f}",
         f"{level.log_loss:.4f}", f"{level.calibration_error_before:.4f}",
         f"{level.calibration_error:.4f}"]
        for level in fitted.levels
    ]  # fmt: skip
    table(f"{name} on {fitted.n_images} pictures it was not trained on", headers, rows)
    message("after: on the half of the pictures that the temperature was not fitted to")
    message(f"saved in {path}" if path else "nothing was written")
