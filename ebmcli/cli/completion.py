"""Names that the shell completes; read from registry.yaml alone, silent where there is none."""

from collections.abc import Callable

import typer

from ebmcli.errors import EbmError


def names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Entries of the registry that begin with what is typed, with kind and space as help."""
    return _entries(ctx, incomplete, ("concept", "base", "judge"))


def names_of(*kinds: str) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """The same for some kinds only."""

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        return _entries(ctx, incomplete, kinds)

    return complete


def _entries(ctx: typer.Context, incomplete: str, kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    from ebmcli.registry import find_registry, read_registry

    try:
        registry = read_registry(find_registry(ctx.params.get("registry")))
    except EbmError:  # nothing to say in the middle of a line
        return []
    typed = ctx.params.get("names") or []
    return [
        (record.name, f"{record.kind} of {record.space}")
        for record in registry.records()
        if record.kind in kinds and record.name.startswith(incomplete) and record.name not in typed
    ]
