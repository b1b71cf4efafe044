"""Pages that speak about files, messages and numbers: each must still be as they say."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ebmcli.registry import read_registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ebmcli"
UNLISTED = {"__pycache__", "ebmcli.egg-info", "build", "dist", "demo-out", "checkpoints", "runs"}
CODE = "\n".join(
    re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))  # joined string literals
    for path in sorted(PACKAGE.rglob("*.py"))
)


def tree_of(page: Path) -> dict[str, int]:
    """The entries of a page's file tree with their indentation; folders end with /."""
    found = re.search(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    lines = [line for line in found[1].splitlines() if line.strip()]
    return {line.split()[0]: len(line) - len(line.lstrip()) for line in lines}


def test_the_file_tree_of_the_readme_is_the_real_one() -> None:
    tree = tree_of(ROOT / "README.md")
    top = {name for name, depth in tree.items() if depth == 0}
    inside = {name for name, depth in tree.items() if depth == 2}
    assert all((ROOT / name).exists() for name in top - {"registry.yaml"})
    assert all((PACKAGE / name).exists() for name in inside - {"bundled/"})

    def real(folder: Path) -> set[str]:
        kept = [p for p in folder.iterdir() if p.name not in UNLISTED]
        kept = [p for p in kept if not p.name.startswith(".") or p.name == ".ci"]
        return {f"{p.name}/" if p.is_dir() else p.name for p in kept}

    listed_top = {name for name in real(ROOT) if not name.endswith((".h5", ".png", ".zip"))}
    personal = {name for name in listed_top - top if not is_tracked(name)}
    assert listed_top - personal <= top
    assert real(PACKAGE) <= inside


def is_tracked(name: str) -> bool:
    """Does git know the file, or is it something a user left in the folder?"""
    words = ["git", "ls-files", "--", name]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode != 0 or bool(done.stdout.strip())


def test_every_module_is_described_in_the_architecture() -> None:
    words = [sys.executable, "scripts/files", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_floors_of_the_architecture_are_those_that_are_enforced() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = (ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8")
    found = re.search(r"^BELOW.*?^\}", source, re.DOTALL | re.MULTILINE)
    assert found
    floors = re.findall(r'^    "(\w+)":', found[0], flags=re.MULTILINE)
    for floor in floors:
        assert f"`{floor}`" in page, floor


def messages() -> list[str]:
    """The first cell of every row of the error index."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(.+?)` \|", page, flags=re.MULTILINE)


@pytest.mark.parametrize("message", messages())
def test_the_error_index_has_the_wording_of_the_code(message: str) -> None:
    parts = [part.strip() for part in message.split("…") if len(part.strip()) > 4]
    assert parts, "nothing to compare"
    for part in parts:
        words = [part, part.replace("unknown ", "", 1)]  # "unknown {kind}": the kind is a value
        assert any(word in CODE for word in words), part


def test_the_results_in_the_readme_are_those_that_were_measured() -> None:
    words = [sys.executable, "scripts/reproduce/results", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_of_calibration_is_written_from_its_measurements() -> None:
    words = [sys.executable, "scripts/reproduce/calibration", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_on_logic_is_that_of_what_was_measured() -> None:
    words = [sys.executable, "scripts/reproduce/logic", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scripts_say_what_they_do() -> None:
    for path in [*(ROOT / "scripts").iterdir(), *(ROOT / "scripts" / "reproduce").iterdir()]:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            is_python = path.suffix == ".py" or "python" in text.partition("\n")[0]
            assert (
                ast.get_docstring(ast.parse(text)) if is_python else text.splitlines()[1][0] == "#"
            )


def test_the_honest_test_is_of_the_weights_that_are_bundled() -> None:
    registry = read_registry(ROOT / "registry.yaml")
    path = ROOT / "docs" / "results" / "objects.json"
    known = {f"{r.kind} {r.name}": r for r in registry.records()}
    for key, found in json.loads(path.read_text(encoding="utf-8")).items():
        record = known[key]
        base = registry.get("base", record.base).sha256 if record.base else None
        assert (found["sha256"], found["base"]) == (record.sha256, base), key
