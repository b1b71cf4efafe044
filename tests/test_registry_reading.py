"""The quick reader of registry.yaml says what the careful one says, or nothing."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_examples import COMMENTED

from ebmcli.errors import RegistryError
from ebmcli.registry import read_registry
from ebmcli.registry.document import Document
from ebmcli.registry.reading import plain_tree

ROOT = Path(__file__).resolve().parents[1]
SCALARS = [
    "no", "yes", "on", "Off", "y", "true", "True", "TRUE", "false", "null", "Null", "~", "", "0",
    "-0", "7", "+7", "012", "0o7", "0x1F", "1_000", "1:20", "1.", ".5", "0.05", "-0.5", "1e3",
    "1.0e3", "1.0e+3", "1.0e-05", "1.5E+3", ".inf", "-.INF", ".nan", "2026-11-26",
    "2026-11-26T23:00:23Z",
    "2026-11-26 23:00:23", "0.1.0", "2.13.0+cpu", "1.2.3.4", "1.2.3 4", "sha256:00ff", "/tmp/a b",
    "a: b", "a:b", "a #b", "a#b", "'no'", '"0.5"', '"\\u00e9\\n"', "é", "<<", "=", "-", "- a", "?",
    "!!str 1", "!!float 1", "&a b", "*a", "@a", "`a`", "%a", "|\n  two\n  lines",
    ">\n  two\n  lines",
    "a\n  b", "[1, no, 0.5]", "[]", "{}", "{a: 1, b: [x]}", "{1: x, 0.05: y, true: z}", "[[1], {}]",
    "{a: 1, a: 2}", "\tb", "a\tb", "'it''s'", "1-2", "1a", "_a", ".a", "..", "0.", "00", "-", "--1",
]  # fmt: skip


def careful(text: str) -> Any:
    """What ``document`` makes of a text; an exception where it refuses."""
    try:
        return Document(text, path=Path("registry.yaml")).plain
    except RegistryError as error:
        return error


def agrees(text: str) -> bool:
    """Was it read quickly? Then as the careful reader does, with the same types."""
    quick = plain_tree(text)
    if quick is None:
        return False
    assert repr(quick) == repr(careful(text)), text
    return True


@pytest.mark.parametrize("scalar", SCALARS)
def test_both_readers_agree_on_a_value_and_on_a_key(scalar: str) -> None:
    agrees(f"a: {scalar}\nb: 1\n")
    agrees(f"a:\n  b: {scalar}\n  c: 1\n")
    agrees(f"a:\n- {scalar}\n- 1\n")
    agrees(f"{scalar}: 1\n")


@pytest.mark.parametrize(
    "value", ["no", "0.05", "-7", "true", "'1'", "sha256:0f", "0.1.0", "[a, 1]"]
)
def test_what_the_program_writes_is_read_quickly(value: str) -> None:
    assert agrees(f"a: {value}\n")


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n---\nb: 2\n", "%YAML 1.1\n---\na: no\n", "---\na: 1\n", "---\na: 1\n...\n", "- 1\n",
        "", "# nothing\n", "a\n", "a: 1\na: 2\n", "a: [1\n", "a: &x 1\nb: *x\n", "? [a]\n: 1\n",
        "a: {<<: {b: 1}}\n", "\ufeffa: 1\n", "a: 1 # why\n# more\nb:   2\n", "a:\n\n  b: 1\n\n",
        "a: b\x85c\n", "a: b\u2028c\n", "a: b\u2029 c: d\n", "a: b\ufeffc\n", '{"a":1}\n',
        "1: a\n'1': b\n", "-0: a\n", "-0.0: a\n", 'a: ["b":1]\n', "a: \x07\n", "a: " + "[" * 5000,
    ],
)  # fmt: skip
def test_both_readers_agree_on_documents(text: str) -> None:
    agrees(text)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
KEYS = st.text("ab:#-' 0.", min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(KEYS, LEAVES | st.lists(LEAVES, max_size=3), max_size=4))
def test_both_readers_agree_on_whatever_is_written(tree: dict[str, Any]) -> None:
    """Trees that the careful reader writes itself."""
    document = Document("", path=Path("registry.yaml"))
    document.tree = type(Document("{}", path=Path("a")).tree)()
    document.put("section", "entry", tree)
    agrees(document.text())


@pytest.mark.parametrize("path", [ROOT / "registry.yaml", ROOT / "ebmcli/bundled/registry.yaml"])
def test_the_bundled_registry_is_read_quickly(path: Path) -> None:
    assert agrees(path.read_text(encoding="utf-8"))


def test_a_mistake_is_reported_with_its_line(tmp_path: Path) -> None:
    """The quick reader knows no lines; the message comes from the careful one."""
    path = tmp_path / "registry.yaml"
    lines = COMMENTED.splitlines()
    wrong = next(i for i, line in enumerate(lines) if line.strip().startswith("space:"))
    lines[wrong] = lines[wrong].replace("space:", "spice:")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RegistryError, match=rf"registry\.yaml:{wrong + 1}"):
        read_registry(path)
