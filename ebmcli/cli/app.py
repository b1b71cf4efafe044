"""The program: which commands there are, and the one place where errors meet the terminal."""

import errno
import os
import re
import select
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import ebmcli
from ebmcli.cli import (
    bench,
    calibrate,
    console,
    dataset,
    demo,
    evaluate,
    explain,
    generate,
    import_dataset,
    infer,
    mend,
    registry_commands,
    render_dataset,
    train,
    union,
)
from ebmcli.cli.typed import with_registry
from ebmcli.errors import EbmError

DATA, LEARN, USE, REGISTRY = "Data", "Learn", "Use", "Registry"
COMMANDS: list[tuple[str, Callable[..., None], str]] = [  # name, function, heading in the help
    ("render-dataset", render_dataset.render_dataset, DATA),
    ("import-dataset", import_dataset.import_dataset, DATA),
    ("train-base", train.train_base, LEARN),
    ("mend-base", mend.mend_base, LEARN),
    ("train", train.train, LEARN),
    ("add-concept", train.add_concept, LEARN),
    ("calibrate", calibrate.calibrate, LEARN),
    ("union", union.union, LEARN),
    ("train-judge", evaluate.train_judge, LEARN),
    ("demo", demo.demo, USE),
    ("explain", explain.explain, USE),
    ("generate", generate.generate, USE),
    ("infer", infer.infer, USE),
    ("eval", evaluate.evaluate, USE),
    ("list", registry_commands.list_records, REGISTRY),
    ("show", registry_commands.show, REGISTRY),
    ("verify", registry_commands.verify, REGISTRY),
    ("rename", registry_commands.rename, REGISTRY),
    ("rm", registry_commands.rm, REGISTRY),
    ("export", registry_commands.export, REGISTRY),
    ("import", registry_commands.import_archive, REGISTRY),
]
GROUPS = [  # name, app, heading in the help
    ("dataset", dataset.app, DATA),
    ("bench", bench.app, USE),
    ("registry", registry_commands.app, REGISTRY),
]


class EbmGroup(TyperGroup):
    """A group of commands that prints its help when bare, and explains every failure."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; without any, print the help."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # Typer's
        """List the commands under their headings."""
        headings: dict[str, list[tuple[str, str]]] = {}
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            rows = headings.setdefault(heading if isinstance(heading, str) else "Commands", [])
            if not command.hidden:
                rows.append((name, command.get_short_help_str(width)))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=16)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a reader that left and Ctrl-C end it quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if not _reader_left():
                raise UnexpectedError(error) from error  # another pipe, such as a worker's
            raise typer.Exit(0) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(_interrupted()) from error

    def main(self, *args: Any, **options: Any) -> None:
        """Run the program and leave with its exit status."""
        options["standalone_mode"] = False
        try:
            status = super().main(*args, **options) or 0
        except KeyboardInterrupt:
            status = _interrupted()
        except Exception as error:  # the boundary: nothing above it can explain a failure
            status = _explained(error)
        if not _stdout_works():
            _silence_stdout()
        sys.exit(status)


class UnexpectedError(EbmError):
    """A mistake of this program or of its machine, not of its user."""

    def __init__(self, error: BaseException) -> None:
        text = " ".join(str(error).split())
        super().__init__(
            f"unexpected {type(error).__name__}{': ' if text else ''}{text}",
            hint="EBM_DEBUG=1 before the command shows where it happened",
        )


def _explained(error: Exception) -> int:
    """Print an error and return the exit status."""
    if os.environ.get("EBM_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, typer.Abort):
        if isinstance(error.__cause__, KeyboardInterrupt):  # older versions of Typer
            return _interrupted()
        console.message("aborted")
        return 1
    if isinstance(error, typer.TyperException):
        error = _usage(error)
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno == errno.ENOSPC
        hint = "free some space, and repeat the command" if full else "EBM_DEBUG=1 shows where"
        error = EbmError(f"{where}{error.strerror.lower()}", hint=hint)
    elif not isinstance(error, EbmError):
        error = UnexpectedError(error)
    error.hint = with_registry(error.hint) if error.hint else error.hint
    console.show_error(error)
    return error.exit_code


def _interrupted() -> int:
    """Say that Ctrl-C was heard; the status is that of a process that died of it."""
    console.message("interrupted")
    return 130


def _usage(error: Any) -> EbmError:
    """Typer's own complaint about the command line, in the form of ours."""
    text = error.format_message().rstrip(".").replace("Value error, ", "")
    near = getattr(error, "possibilities", None)
    if near:
        text = f"{error.message}. Did you mean {' or '.join(sorted(near))}?"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "ebm"
    hint = f"{command} --help shows what it takes"
    if "extra argument" in text and command.split()[-1] in ("generate", "explain"):
        hint = f'put the whole formula in quotes, as in {command} "old and male"'
    if re.search(r"option:? -[0-9.]", text):
        hint = "for the opposite of a concept write ~; what begins with a sign goes after --"
    shown = EbmError(text[:1].lower() + text[1:], hint=hint)
    shown.exit_code = error.exit_code
    return shown


def _reader_left() -> bool:
    """Is stdout a pipe that nobody reads any more?"""
    if not _stdout_works():
        return True
    try:  # without a buffer nothing is left to flush: ask the system
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):  # no such file or no such call here
        return False


def _stdout_works() -> bool:
    """Can what was printed be delivered?"""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        return False
    return True


def _silence_stdout() -> None:
    """Point stdout nowhere, so that Python's last flush at exit finds nothing to complain about."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        return


def _version(wanted: bool) -> None:
    if wanted:
        console.result(f"ebm {ebmcli.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="ebm",
    cls=EbmGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)


@app.callback()
def ebm(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compositional energy-based models: train concepts one by one, combine them by formulas.

    Start with: ebm demo
    """


for _name, _function, _heading in COMMANDS:
    app.command(_name, rich_help_panel=_heading)(_function)
for _name, _group, _heading in GROUPS:
    app.add_typer(_group, name=_name, cls=EbmGroup, rich_help_panel=_heading)


def program() -> Callable[[], None]:
    """The whole program, built and ready to run: it reads ``sys.argv`` and leaves by SystemExit."""
    return get_command(app)
