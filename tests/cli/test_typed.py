"""The command as it was typed."""

import ast
import shlex
import sys
from pathlib import Path

import pytest

import ebmcli.cli
from ebmcli.cli.typed import typed_command


def test_a_shell_reads_back_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["eval", "old & ~wavy", "-o", "it's here.json"]
    monkeypatch.setattr(sys, "argv", ["/anywhere/ebm", *words])
    assert shlex.split(typed_command()) == ["ebm", *words]


def test_no_other_command_puts_it_together_itself() -> None:
    users = {
        path.name
        for path in Path(ebmcli.cli.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "argv"
    }
    assert users == {"typed.py"}
