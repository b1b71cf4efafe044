"""The command as it was typed."""

import ast
import shlex
import sys
from pathlib import Path

import pytest

import ebmcli.cli
from ebmcli.cli.typed import listed, typed_command, typed_registry, with_registry


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


@pytest.mark.parametrize("words", [["--registry", "my own/r.yaml"], ["--registry=my own/r.yaml"]])
def test_commands_in_hints_are_for_the_registry_that_was_typed(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ebm", "generate", "old", *words])
    typed = "--registry 'my own/r.yaml'"
    assert typed_registry() == typed
    assert with_registry("ebm show old lists its values") == (
        f"ebm show old lists its values (with {typed})"
    )
    for hint in (
        "known: old",
        "ebm render-dataset a.h5",
        "ebm list --registry r.yaml",
        "ebm needs",
    ):
        assert with_registry(hint) == hint


def test_without_a_registry_hints_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["generate", "old"], ["generate", "old", "--registry"]):
        monkeypatch.setattr(sys, "argv", ["ebm", *words])
        assert with_registry("ebm list shows them") == "ebm list shows them"


@pytest.mark.parametrize(
    ("texts", "names"),
    [(None, ()), ([], ()), (["a, b,,a"], ("a", "b")), (["b", "a,b", " c "], ("b", "a", "c"))],
)
def test_an_option_takes_names_between_commas_and_again(
    texts: list[str] | None, names: tuple[str, ...]
) -> None:
    assert listed(texts) == names
