"""``ebm demo``: the whole program in a few minutes, with a report that checks itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

N_STEPS = 7


def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, pictures and report.")] = Path(
        "demo-out"
    ),
    minutes: Annotated[
        float, typer.Option(help="Training of each concept; 1 is 1,000 updates.")
    ] = 1.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier demo left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Render, train, add, generate, infer and check, in five to twelve minutes on two cores.

    Works on a copy of the bundled registry; yours is not touched. Exit status 1 if a check fails.

    Example: ebm demo --out demo-out
    """
    from ebmcli.cli.console import print_json, result
    from ebmcli.workflows.demo import DemoRequest, run_demo
    from ebmcli.workflows.demo_report import NEXT, own_command

    done = run_demo(DemoRequest(out=out, minutes=minutes, overwrite=overwrite), Terminal())
    if as_json:
        print_json(done.to_dict())
        done.verify()
        return
    for check in done.checks:
        result(f"{check.verdict}  {check.name}: {check.found}, asked {check.asked}")
    result(f"report: {done.report}")
    result(f"next:   {NEXT}")
    result(f"yours:  {own_command(done)}")
    done.verify()


class Terminal:
    """Tells the steps on stderr."""

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[Callable[..., None]]:
        """A numbered line, progress, and the time at the end."""
        from ebmcli.cli.console import duration, message, progress

        message(f"[{number}/{N_STEPS}] {title}")
        start = time.monotonic()
        with progress(title.partition(":")[0]) as advance:
            yield advance
        message(f"      {duration(time.monotonic() - start)}")

    def say(self, text: str) -> None:
        """One line."""
        from ebmcli.cli.console import message

        message(f"      {text}")
