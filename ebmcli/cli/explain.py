"""``ebm explain``: what a formula means, without drawing anything."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ebmcli.cli.typed import typed_registry

if TYPE_CHECKING:
    from ebmcli.workflows.explain import Explanation


SHOWN = 4  # branches that a line names


def explain(
    expression: Annotated[str, typer.Argument(help='A formula: "color=red and not size>0.4".')],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    registry: Annotated[Path | None, typer.Option(help="registry.yaml to use.")] = None,
) -> None:
    """Show how a formula is read; nothing is drawn.

    Its tree, its meaning in plain form, the concepts it needs and the cells of their factors that
    it covers, and how many pictures satisfy it by chance.

    Example: ebm explain "color=red and not size>0.4"
    """
    from ebmcli.cli import console
    from ebmcli.registry import find_registry, read_registry
    from ebmcli.workflows.explain import explain as explained

    explanation = explained(read_registry(find_registry(registry)), expression)
    if as_json:
        console.print_json(asdict(explanation))
        return
    console.prose(_lines(explanation))


def _lines(explanation: "Explanation") -> Iterator[str]:
    """An explanation as text."""
    yield from explanation.tree
    yield ""
    yield f"means      {explanation.rewritten}"
    yield f"space      {explanation.space}"
    yield f"by chance  {_percent(explanation.probability)} of pictures, if every value is as likely"
    if explanation.n_branches > 1:
        yield f"branches   {_branches(explanation)}"
    yield " ".join(["command    ebm generate", explanation.shell, typed_registry()]).rstrip()
    for concept in explanation.concepts:
        missing = "" if concept.present else ", FILE MISSING: ebm verify"
        yield ""
        calibrated = ", calibrated" if concept.fingerprint != concept.sha256 else ""
        digest = concept.sha256[:19] + concept.fingerprint.removeprefix(concept.sha256)
        yield f"{concept.name}  {concept.kind}, {concept.method}, {digest}{calibrated}{missing}"
        for statement in concept.statements:
            covered = f"{_cells(statement.cells)} of {concept.n_cells} cells"
            yield f"  {statement.text}  {covered}, {_percent(statement.share)} by chance"
    if explanation.notes:
        yield ""
    for note in explanation.notes:
        yield f"note: {note}"


def _branches(explanation: "Explanation") -> str:
    """The likely ones with their shares by chance, as the line above."""
    parts = [f"{text} {_percent(share)}" for text, share in explanation.branches]
    rest = explanation.n_branches - len(parts[:SHOWN])
    return ", ".join([*parts[:SHOWN], f"{rest} more"] if rest else parts[:SHOWN])


def _cells(number: float) -> str:
    """Shares of cells add up to no whole number; beyond a thousand nobody misses that."""
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
