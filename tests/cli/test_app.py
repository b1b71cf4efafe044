"""The program as a whole: quick to start, quiet when it should be, every failure explained."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import ebmcli
from ebmcli.cli import console
from ebmcli.cli.app import EbmGroup, app
from ebmcli.errors import InterruptedRun, UnknownNameError

HEAVY = {"torch", "numpy", "mujoco", "h5py", "PIL", "safetensors", "rich", "matplotlib"}
BUDGET = 1.0  # seconds; 0.4 on an idle machine, times 2.5


def failing(error: BaseException) -> Result:
    """What the boundary makes of an error that a command raises."""

    def fail() -> None:
        raise error

    small = typer.Typer(cls=EbmGroup, rich_markup_mode=None)
    small.callback()(lambda: None)
    small.command("fail")(fail)
    return CliRunner().invoke(small, ["fail"])


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ebmcli", *words],
        capture_output=True, text=True, check=False, **options,
    )  # type: ignore[call-overload]  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["list"], ["explain", "color=red"]], ids=str)
def test_it_starts_at_once_and_loads_nothing_heavy(filled: Path, words: list[str]) -> None:
    """Processor time, since other processes may hold the clock up."""
    program = (
        "import sys, time\nfrom ebmcli.cli.app import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "except SystemExit as done:\n    assert not done.code, done\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\nassert not heavy, heavy\n"
        "print(time.process_time(), file=sys.stderr)\n"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env={**os.environ, "EBM_REGISTRY": str(filled)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout
        seconds.append(float(done.stderr.splitlines()[-1]))
        if seconds[-1] < BUDGET:
            break
    assert min(seconds) < BUDGET


def test_alone_it_prints_its_help() -> None:
    bare, asked = CliRunner().invoke(app, []), CliRunner().invoke(app, ["-h"])
    assert bare.exit_code == 0
    assert bare.stdout == asked.stdout
    assert [h for h in ("Data:", "Learn:", "Use:", "Registry:") if h in bare.stdout]
    assert CliRunner().invoke(app, ["registry"]).stdout.startswith("Usage: ")


def test_the_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"ebm {ebmcli.__version__}\n"


def test_every_command_ends_its_help_with_an_example() -> None:
    from typer.main import get_command

    for name, command in get_command(app).commands.items():
        if not hasattr(command, "commands"):
            assert f"ebm {name}" in (command.help or ""), name


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["lst"], "no such command 'lst'. Did you mean 'list'?"),
        (["list", "--spcae", "x"], "no such option: --spcae. Did you mean --space?"),
        (["list", "--kind", "cat"], "invalid value for '--kind': 'cat' is not one of"),
        (["show"], "missing argument 'name'"),
        (["registry", "pth"], "no such command 'pth'. Did you mean 'path'?"),
    ],
)
def test_a_mistyped_command_line_has_status_2_and_a_near_miss(
    words: list[str], problem: str
) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith(f"error: {problem}")
    assert second.startswith("hint: ebm")
    assert second.endswith("--help shows what it takes")


def test_our_errors_are_two_lines_and_a_status() -> None:
    result = failing(UnknownNameError("concept", "wavey", ["old", "wavy"]))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: unknown concept 'wavey'",
        "hint: did you mean 'wavy'? known: old, wavy",
    ]
    stopped = failing(InterruptedRun("stopped at step 5", hint="ebm train color --resume"))
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1] == "hint: ebm train color --resume"


def test_ctrl_c_is_one_line() -> None:
    result = failing(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


class _Interrupting:
    """Presses Ctrl-C when a module of this name is looked for; to be put into sys.meta_path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.name:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("module", ["typer", "ebmcli.cli.app", "ebmcli.errors"])
def test_ctrl_c_while_the_program_loads_is_quiet(module: str) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        f"{inspect.getsource(_Interrupting)}\n"
        "sys.meta_path.insert(0, _Interrupting(sys.argv.pop()))\n"
        "runpy.run_module('ebmcli', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--help", module],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_script_that_installs_begins_where_ctrl_c_is_quiet() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.scripts]\nebm = "ebmcli.__main__:main"\n' in text


def test_an_unexpected_error_is_one_line_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(ZeroDivisionError("by\nzero"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "error: unexpected ZeroDivisionError: by zero"
    assert "EBM_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("EBM_DEBUG", "1")
    assert "Traceback" in failing(ZeroDivisionError()).stderr


def test_an_error_of_the_system_names_its_file() -> None:
    result = failing(FileNotFoundError(2, "No such file or directory", "x.png"))
    assert result.stderr.startswith("error: x.png: no such file or directory\n")
    assert result.exit_code == 1


def test_a_broken_pipe_elsewhere_is_not_hidden() -> None:
    result = failing(BrokenPipeError(32, "Broken pipe"))
    assert result.exit_code == 1
    assert "unexpected BrokenPipeError" in result.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(filled: Path, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "ebmcli", "list", "--json", "--registry", str(filled)],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_an_error(filled: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ebmcli", "list", "--registry", str(filled)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: no space left on device\nhint: free some space")


def test_the_module_is_the_program(filled: Path) -> None:
    done = run("list", "--json", "--registry", str(filled))
    assert [row["name"] for row in json.loads(done.stdout)][:3] == ["color", "size", "old"]
    assert done.stderr == ""


# console


def test_json_never_holds_what_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": "x"}


def test_names_of_files_are_printed_as_they_are_unless_they_steer_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each of the kept ones stands in names that systems and people give: none does anything."""
    kept = "a\u00a0b\u202fc\u3000d\u200de\u200cf\u00adg\ufeffh\ue000i \U0001f469\u200d\U0001f52c"
    console.result(kept)
    assert capsys.readouterr().out == f"{kept}\n"
    for character in "\x00\x1b\x7f\x85\r\u2028\u2029\u061c\u200f\u202e\u2066\udc80":
        console.result(f"a{character}b")
        assert capsys.readouterr().out == f"a\\x{ord(character):02x}b\n"


def test_a_plain_table_is_aligned_and_numbers_stand_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table("title", ("name", "n"), [("old", 7), ("wavy", 123), ("\x1b[31mx", None)])
    assert capsys.readouterr().out.splitlines() == [
        f"{name:9}  {n:>3}".rstrip()
        for name, n in [("name", "n"), ("old", "7"), ("wavy", "123"), ("\\x1b[31mx", "")]
    ]


def test_a_table_on_a_terminal_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda _: True)
    console.table("[b]title", ("name",), [("[red]old",)])
    assert capsys.readouterr().out == "[b]title\n\nname\n--------\n[red]old\n"


def test_progress_without_a_terminal_is_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with console.progress("train color") as report:
        for step in range(1, 31):
            now[0] += 1.0
            report(1000 + step, 1100, note="loss 0.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "train color: 1,010/1,100 (91 %), 2 min left, loss 0.5",
        "train color: 1,020/1,100 (92 %), 84 s left, loss 0.5",
        "train color: 1,030/1,100 (93 %), 72 s left, loss 0.5",
    ]


def test_a_bar_on_a_terminal_can_be_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda _: True)
    with console.progress("draw [x]") as report:
        report(1, 2, note="[y]")
        report(2, 2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1400, "1.4 kB"), (123_456_789, "123 MB")]
)
def test_sizes_for_people(value: int, text: str) -> None:
    assert console.size_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.2, "8 s"), (89, "89 s"), (179, "3 min"), (5340, "89 min"), (5400, "1 h 30 min")],
)
def test_times_for_people(value: float, text: str) -> None:
    assert console.duration(value) == text


@pytest.mark.parametrize("command", ["generate", "explain"])
def test_a_formula_without_quotes_is_told_to_have_some(command: str) -> None:
    result = CliRunner().invoke(app, [command, "old", "and", "male"])
    assert result.exit_code == 2
    assert "put the whole formula in quotes" in result.stderr
    assert f'{command} "old and male"' in result.stderr
