"""Documentation that cannot rot: generated pages fresh, links alive, commands and names real."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ebmcli.workflows.generate import GenerateRequest
from ebmcli.workflows.output import default_path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def label(path: Path) -> str:
    """A path as a test id."""
    return path.relative_to(ROOT).as_posix()


def commands(path: Path) -> list[list[str]]:
    """Every `ebm ...` line of a page's shell blocks, as words; comments and pipes cut off."""
    found = []
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language not in ("sh", "bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if line.removeprefix("$ ").startswith("ebm "):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                found.append(words[: words.index("|")] if "|" in words else words)
    return found


def reference() -> dict[str, str]:
    """The help text of every command, from docs/cli.md."""
    parts = re.split(
        r"^## (ebm.*)$", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), flags=re.M
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_command_reference_is_what_the_program_says() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/docs", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    targets = [t for t in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in t]
    assert [t for t in targets if not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_commands_in_pages_exist_with_their_options(path: Path) -> None:
    pages = reference()
    for words in commands(path):
        name = f"ebm {words[1]}"
        if len(words) > 2 and f"{name} {words[2]}" in pages:
            name = f"{name} {words[2]}"
        assert name in pages, f"{path}: no command {name!r}"
        options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", pages[name]))
        assert options <= known, f"{path}: {shlex.join(words)}"


def outputs(words: list[str]) -> list[str]:
    """The files, folders and names of the registry that a command refuses to find taken."""
    command, *rest = words[1:]
    if "--overwrite" in rest or "--resume" in rest:
        return []
    named = [rest[i + 1] for i, word in enumerate(rest) if word in ("-o", "--out")]
    if command == "generate":
        return named or [str(default_path(GenerateRequest(expression=rest[0])))]
    if command in ("train", "train-base", "add-concept"):
        return [*named, f"the concept {rest[0]}"]
    if command == "demo":
        return named or ["demo-out"]
    return named + (rest[:1] if command == "render-dataset" else [])


def test_who_follows_the_pages_in_order_never_meets_an_output_that_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "docs/tutorial.md", ROOT / "docs/expressions.md"]
    made = [output for page in pages for words in commands(page) for output in outputs(words)]
    assert len(made) > 12
    assert [output for output in made if made.count(output) > 1] == []


def test_the_functions_named_beside_the_equations_are_in_their_files() -> None:
    row = re.compile(r"^\|.*\| `(\w+)` \| `(ebmcli/[\w/]+\.py)` \|", re.MULTILINE)
    rows = row.findall((ROOT / "docs/theory.md").read_text(encoding="utf-8"))
    assert len(rows) > 8
    for name, file in rows:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in defined, f"{name} is not in {file}"


def test_decisions_are_numbered_once_and_have_their_four_headings() -> None:
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in records]
    assert len(set(numbers)) == len(numbers)
    for path in records:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
        assert headings == ["Context", "Choice", "Rejected", "Consequence"], path
