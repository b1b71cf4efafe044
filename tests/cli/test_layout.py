"""Tables and lines in a given width: nothing broken inside a word, nothing lost."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ebmcli.cli.layout import table_lines, wrapped

HEADERS = ["formula", "n", "right", "no object", "FID"]
ROWS = [
    ["shape=? & color=? & position=?", "500", "83.3 +- 1.0 %", "0.0 +- 0.0 %", "12.3 (11.0)"],
    ["color=?", "34", "97.1 +- 1.7 %", "", "9.1 (8.8)"],
]
NUMERIC = [False, True, True, True, True]


def words(lines: list[str]) -> list[str]:
    """Every word, in alphabetical order: what is left when places are forgotten."""
    return sorted(word for line in lines for word in line.split() if set(word) != {"-"})


@pytest.mark.parametrize("width", [30, 46, 60, 80, 120])
def test_a_table_keeps_every_word_whole_in_any_width(width: int) -> None:
    lines = table_lines(HEADERS, ROWS, numeric=NUMERIC, width=width)
    assert max(map(len, lines)) <= width
    asked = [*" ".join(HEADERS).split(), *" ".join(map(" ".join, ROWS)).split()]
    assert set(words(lines)) == set(asked)
    if lines[0].split()[1] == "n":  # a table, not blocks, where headers are repeated
        assert words(lines) == sorted(asked)


def test_only_plain_spaces_part_words() -> None:
    name = "10.00.00\u202fPM.png"
    assert wrapped(f"Screenshot {name}", 20) == ["Screenshot", f"  {name}"]
    table = table_lines(["file"], [[f"one {name}"], ["e\u200df"]], numeric=[False], width=16)
    assert table[2:] == ["one", name, "e\u200df"]


def test_text_is_wrapped_and_a_number_keeps_its_unit() -> None:
    """The least width: position=?, 500, +- 1.0 %, +- 0.0 %, (11.0) and four gaps of two."""
    lines = table_lines(HEADERS, ROWS, numeric=NUMERIC, width=10 + 3 + 8 + 8 + 6 + 8)
    assert lines == [
        "formula       n     right        no     FID",
        "                             object",
        "-" * 43,
        "shape=? &   500      83.3       0.0    12.3",
        "color=? &        +- 1.0 %  +- 0.0 %  (11.0)",
        "position=?",
        "color=?      34      97.1               9.1",
        "                 +- 1.7 %             (8.8)",
    ]


def test_a_table_that_cannot_be_that_narrow_becomes_blocks_without_empty_fields() -> None:
    lines = table_lines(HEADERS, ROWS, numeric=NUMERIC, width=42)
    assert lines[6:] == [
        "formula    color=?",
        "n          34",
        "right      97.1 +- 1.7 %",
        "FID        9.1 (8.8)",
    ]


def test_without_a_width_a_row_is_one_line_whole() -> None:
    long = "red, green, blue, " * 20 + "white"
    assert table_lines(["values"], [[long]], numeric=[False]) == ["values", long]


def test_an_empty_column_is_left_out_where_room_is_scarce() -> None:
    assert table_lines(["a", "b"], [["x", ""]], numeric=[False, False], width=80)[0] == "a"
    assert table_lines(["a", "b"], [], numeric=[False, False], width=80)[0] == "a  b"


def test_wide_characters_take_two_columns() -> None:
    lines = table_lines(["a", "b"], [["日本", "x"], ["é", "y"]], numeric=[False, False], width=80)
    assert lines[2:] == ["日本  x", "é     y"]


def test_a_path_is_broken_after_a_slash_and_a_word_without_one_says_that_it_is_cut() -> None:
    path = "photographs/of-the-year/first.png"
    assert wrapped(f"file  {path}", 20) == ["file photographs/", "of-the-year/", "first.png"]
    assert wrapped("a" * 30 + "b", 20) == ["a" * 9 + "..." + "a" * 7 + "b"]


def test_a_line_goes_on_under_its_text() -> None:
    assert wrapped("means      old & male & smiling", 22) == [
        "means      old & male",
        "           & smiling",
    ]
    assert wrapped("note: one picture cannot", 19) == ["note: one picture", "  cannot"]
    digest = "sha256:" + "0" * 20
    assert wrapped(f"    digest  {digest}", 33) == ["    digest", f"      {digest}"]


def on_a_terminal(width: int, *command: str) -> str:
    """What a command prints on a terminal of this width."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    done = subprocess.Popen(
        [sys.executable, "-m", "ebmcli", *command], env=environment,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65536):
            printed += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert done.wait() == 0, printed
    return printed.decode().replace("\r\n", "\n")


BUNDLED = Path(__file__).resolve().parents[2] / "ebmcli" / "bundled" / "registry.yaml"
COMMANDS = [
    ["list"],
    ["verify"],
    ["show", "color"],
    ["show", "scenes-64"],
    ["explain", "shape=cube and (color=red or color=blue) implies position=(0.4,-0.2)"],
]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_on_a_terminal_say_what_they_say_into_a_pipe(
    command: list[str], width: int
) -> None:
    """The same words, but for a digest or a path that is wider than the terminal."""
    command = [*command, "--registry", os.path.relpath(BUNDLED)]
    shown = on_a_terminal(width, *command)
    assert max(map(len, shown.splitlines())) <= width
    piped = subprocess.run(
        [sys.executable, "-m", "ebmcli", *command], capture_output=True, text=True, check=True
    ).stdout
    wide = {word for word in piped.split() if len(word) > width - 20 or "/" in word}
    assert set(piped.split()) - wide - set(shown.split()) == set()
    assert not re.search(r"\.\.\.", piped)
