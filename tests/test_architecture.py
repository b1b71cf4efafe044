"""The rules of the house: which floor may import which, how long a file may be, what loads when."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ebmcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted([*MODULES, *(ROOT / "tests").rglob("*.py")])

FORMATS = {"datasets", "checkpoint", "registry", "imaging", "pictures", "charts", "report"}
BELOW: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "core": {"errors"},
    "training": {"core", "errors"},
    "evaluation": {"core", "errors"},
    "imaging": {"core", "errors"},
    "pictures": {"core", "errors"},
    "charts": {"core", "errors", "pictures"},
    "report": {"errors"},
    "datasets": {"core", "errors", "imaging"},
    "checkpoint": {"core", "errors"},
    "registry": {"core", "errors", "checkpoint"},
    "workflows": {"core", "errors", "training", "evaluation", *FORMATS},
    "cli": {"core", "errors", "training", "evaluation", "workflows", *FORMATS},
    "__main__": {"cli"},
}
OWNERS = {  # a library that only these files may know
    "mujoco": {"datasets/renderer.py"},
    "h5py": {"datasets/hdf5.py", "datasets/importers.py", "datasets/partial_file.py"},
    "ruamel": {"registry/document.py"},
    "yaml": {"registry/reading.py"},
    "lark": {"core/expression.py", "core/grammar.py"},
    "typer": {f"cli/{path.name}" for path in (PACKAGE / "cli").glob("*.py")},
}
TORCH_FREE = ["core/factors.py", "core/expression.py", "core/logic.py", "checkpoint.py"]
TORCH_FREE += [f"registry/{path.name}" for path in (PACKAGE / "registry").glob("*.py")]
MAX_LINES = 400


def label(path: Path) -> str:
    """A path as a test id."""
    return path.relative_to(ROOT).as_posix()


def floor_of(path: Path) -> str:
    """The floor a module of the package stands on."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, *, module_level_only: bool = False) -> set[str]:
    """Full names of the modules a file imports, anywhere or at its own level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if module_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_imports_point_down(path: Path) -> None:
    floor = floor_of(path)
    own = {name.split(".")[1] for name in imported(path) if name.startswith("ebmcli.")}
    assert own <= BELOW[floor] | {floor}


def test_training_and_evaluation_never_meet_files() -> None:
    for floor in ("training", "evaluation"):
        assert not BELOW[floor] & FORMATS


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_known_to_its_own_files_only(library: str) -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert users <= OWNERS[library]


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=label)
def test_a_command_loads_nothing_heavy_before_it_runs(path: Path) -> None:
    heavy = {"torch", "numpy", "mujoco", "h5py", "PIL", "safetensors"}
    at_start = imported(path, module_level_only=True)
    assert not heavy & {name.split(".")[0] for name in at_start}
    assert not any(name.startswith("ebmcli.workflows") for name in at_start)


@pytest.mark.parametrize("name", TORCH_FREE)
def test_reading_a_formula_or_the_registry_does_not_need_torch(name: str) -> None:
    at_start = imported(PACKAGE / name, module_level_only=True)
    assert "torch" not in {module.split(".")[0] for module in at_start}


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_every_module_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_help_does_not_load_torch() -> None:
    """In a fresh process: what `ebm --help` leaves in sys.modules."""
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom ebmcli.cli.app import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'numpy', 'mujoco', 'h5py', 'PIL', 'lark'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def text_files() -> list[Path]:
    """Every text file that people read, as git sees the tree; without git, the usual folders."""
    found = [
        ROOT / name
        for name in ("README.md", "CHANGELOG.md", "Makefile", "registry.yaml", "pyproject.toml")
    ]
    for folder in ("ebmcli", "tests", "scripts", "docs"):
        found += sorted((ROOT / folder).rglob("*"))
    kinds = {".py", ".md", ".yaml", ".toml", ".sh", ".lark", ".json", ""}
    return [
        path
        for path in found
        if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts
    ]


UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error")
OWN_MACHINE = re.compile(r"(?<![\w.])/(home|root|Users|mnt|srv|work)/\w")
ADDRESS = re.compile(r"https?://([\w.-]+)")
KNOWN_HOSTS = {
    "arxiv.org",
    "download.pytorch.org",
    "github.com",
    "keepachangelog.com",
    "semver.org",
    "mmlab.ie.cuhk.edu.hk",
    "json-schema.org",
    "www.w3.org",
}


@pytest.mark.parametrize("path", text_files(), ids=label)
def test_text_is_finished_and_belongs_to_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not UNFINISHED.search(text)
    if path != Path(__file__).resolve():
        assert not OWN_MACHINE.search(text)
    assert set(ADDRESS.findall(text)) <= KNOWN_HOSTS
