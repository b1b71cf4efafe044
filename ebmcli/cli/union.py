"""``ebm union``: two bases that were trained apart as one."""

from pathlib import Path
from typing import Annotated

import typer

from ebmcli.cli import completion

Part = typer.Argument(
    help="A trained base.", show_default=False, autocompletion=completion.names_of("base")
)


def union(
    name: Annotated[str, typer.Argument(help="Name of the union.", show_default=False)],
    one: Annotated[str, Part],
    other: Annotated[str, Part],
    weights: Annotated[str, typer.Option(help="Shares of their pictures.")] = "0.5,0.5",
    n: Annotated[int, typer.Option("-n", "--n", help="Chains of each base for the estimate.")] = 64,
    steps: Annotated[int, typer.Option(help="Noise levels; those you draw with.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the first chain.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the base NAME.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="registry.yaml to use.")
    ] = None,
) -> None:
    """Join two bases, trained on different pictures of one space, into one.

    The density of the union is the mixture of both: what ONE shows or what OTHER shows. Nothing is
    trained; the ratio of their normalising constants is estimated from pictures that they draw.

    Example: ebm union all-colors warm-colors cold-colors
    """
    from ebmcli.cli.console import message, print_json, progress, table
    from ebmcli.cli.typed import typed_command
    from ebmcli.errors import ConfigError
    from ebmcli.registry import find_registry, read_registry, writable_registry
    from ebmcli.workflows.union import UnionRequest, check_union, unite

    try:
        first, second = (float(part) for part in weights.split(","))
    except ValueError as error:
        hint = "write --weights 0.3,0.7"
        raise ConfigError(f"--weights are two numbers, got {weights!r}", hint=hint) from error
    request = UnionRequest(
        name=name, parts=(one, other), weights=(first, second), n=n, steps=steps, seed=seed,
        device=device, overwrite=overwrite, command=typed_command(),
    )  # fmt: skip
    check_union(request, read_registry(find_registry(registry)))  # the bundled one is copied after
    path = writable_registry(registry)
    with progress(f"union {name}") as report:
        united = unite(request, path, progress=report)
    if as_json:
        print_json({"name": name, **united.record.to_dict()})
        return
    rows = [
        [f"{row['sigma']:.3g}", f"{row['log_ratio']:.2f}",
         f"{row['error']:.2f}" if "error" in row else "-",
         f"{row['direct']:.2f}", f"{row['overlap']:.3f}"]
        for row in united.rows()
    ]  # fmt: skip
    headers = ["sigma", f"log Z {one} / {other}", "error", "from this level", "overlap"]
    table(f"{name}: constants from {n} chains of each base", headers, rows)
    message("without overlap no chain changes sides, and any ratio in the gap is right")
    message(f"saved {path.parent / united.record.file} after {united.seconds:.0f} s")
