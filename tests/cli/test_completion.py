"""The shell completes names of the registry, and says nothing where it cannot."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ebmcli.cli.app import app


def complete(line: str, registry: Path) -> list[str]:
    """What bash is offered for the last word of a line."""
    env = {
        "_EBM_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "EBM_REGISTRY": str(registry),
    }
    return CliRunner().invoke(app, prog_name="ebm", env=env).stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ebm show co", ["color"]),
        ("ebm rm ", ["color", "size", "old", "scenes-64", "scenes-64"]),
        ("ebm rm color size o", ["old"]),
        ("ebm train new --base s", ["scenes-64"]),
        ("ebm train new --start o", ["old"]),
        ("ebm show blue", []),
    ],
)
def test_names_are_completed(line: str, offered: list[str], filled: Path) -> None:
    assert sorted(complete(line, filled)) == sorted(offered)


def test_a_broken_registry_offers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("concepts: [\n", encoding="utf-8")
    assert complete("ebm show co", path) == []
