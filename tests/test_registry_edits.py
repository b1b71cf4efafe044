"""Edits of registry.yaml: comments survive, parallel edits lose nothing."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_examples import COMMENTED, DIGEST, base, record

from ebmcli.errors import (
    ConfigError,
    OutputError,
    OutputExistsError,
    RegistryError,
    UnknownNameError,
    UsageError,
)
from ebmcli.registry import (
    edit_registry,
    editing,
    read_registry,
)
from ebmcli.registry.document import Document
from ebmcli.registry.lock import locked


def comments(text: str) -> list[str]:
    return re.findall(r"#.*", text)


def test_adding_keeps_every_other_line(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(COMMENTED)
    with edit_registry(path) as editor:
        editor.put(base("third"))
        editor.put(record())
    text = path.read_text()
    assert comments(text) == comments(COMMENTED)
    left = iter(text.splitlines())
    assert all(line in left for line in COMMENTED.replace("concepts: {}", "concepts:").splitlines())
    assert text.index("third:") < text.index("# about concepts") < text.index("color:")
    assert text.index("color:") < text.index("# about judges")


def test_removing_keeps_the_comments_around(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    for names in (["first"], ["second"], ["first", "second"], ["second", "first"]):
        path.write_text(COMMENTED)
        with edit_registry(path) as editor:
            for name in names:
                editor.remove("base", name)
        lost = set(comments(COMMENTED)) - set(comments(path.read_text()))
        assert lost <= {"# beside first"}
    assert "bases: {}" in path.read_text()


def test_renaming_keeps_place_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(COMMENTED)
    with edit_registry(path) as editor:
        editor.rename("base", "first", "other")
    assert path.read_text() == COMMENTED.replace("  first:", "  other:")


def test_replacing_touches_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(COMMENTED)
    with edit_registry(path) as editor:
        changed = replace(editor.registry.get("base", "first"), space="faces-64")
        editor.put(changed, overwrite=True)
    assert path.read_text() == COMMENTED.replace("scenes-64", "faces-64", 1)


def test_entries_that_share_an_anchor_are_edited_apart(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    shared = [record(name, provenance={"seed": 1}) for name in ("one", "two", "three")]
    path.write_text("schema: 1\n")
    with edit_registry(path) as editor:
        for one in shared:
            editor.put(one)
    text = path.read_text().replace("provenance:\n      seed: 1\n", "provenance: *p\n")
    path.write_text(text.replace("*p\n", "&p\n      seed: 1\n", 1))
    assert list(read_registry(path).concepts.values()) == shared
    for index in (0, 1):
        shared[index] = replace(shared[index], provenance={"seed": 2 + index})
        with edit_registry(path) as editor:
            editor.put(shared[index], overwrite=True)
        assert list(read_registry(path).concepts.values()) == shared


def test_an_entry_that_is_merged_into_another_stays(tmp_path: Path) -> None:
    text = "bases:\n  a: &a\n    measured:\n      x: 1\n  b:\n    <<: *a\n    file: f\n"
    document = Document(text, path=tmp_path / "registry.yaml")
    document.put("bases", "b", {"measured": {"x": 2}, "file": "f"})
    again = Document(document.text(), path=tmp_path / "registry.yaml").plain["bases"]
    assert again == {"a": {"measured": {"x": 1}}, "b": {"measured": {"x": 2}, "file": "f"}}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "remove", "rename"]),
            st.sampled_from(["bases", "concepts", "judges"]),
            st.sampled_from("abcd"),
            st.sampled_from("abcd"),
        ),
        max_size=12,
    )
)
def test_any_sequence_of_edits_means_what_it_says(steps: list[tuple[str, str, str, str]]) -> None:
    """The document against a plain dictionary; full-line comments are never lost."""
    document = Document(COMMENTED, path=Path("registry.yaml"))
    model = document.plain
    for action, section, name, other in steps:
        entries = model[section]
        if action == "put":
            new = {"space": other, "file": name, "measured": {"a": [1, 2], "b": {"c": other}}}
            document.put(section, name, new)
            entries[name] = new
        elif action == "remove" and name in entries:
            document.remove(section, name)
            del entries[name]
        elif action == "rename" and name in entries and other not in entries:
            document.rename(section, name, other)
            model[section] = {other if key == name else key: v for key, v in entries.items()}
        document = Document(document.text(), path=Path("registry.yaml"))
        assert document.plain == model
        assert [list(document.plain[s]) for s in model if s != "schema"] == [
            list(model[s]) for s in model if s != "schema"
        ]
        whole_lines = [c for c in comments(COMMENTED) if "beside" not in c]
        assert set(whole_lines) <= set(comments(document.text()))


def test_an_error_inside_an_edit_writes_nothing(registry_path: Path) -> None:
    before = registry_path.read_bytes()

    def interrupted() -> None:
        with edit_registry(registry_path) as editor:
            editor.put(record())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert registry_path.read_bytes() == before
    with edit_registry(registry_path) as editor:
        editor.put(record())


def test_what_an_editor_refuses(filled: Path) -> None:
    before = filled.read_bytes()
    with edit_registry(filled) as editor:
        with pytest.raises(OutputExistsError, match="concept 'color' exists"):
            editor.put(record())
        editor.put(record("hair-color"))
        with pytest.raises(UsageError, match="differ by - and _ only"):
            editor.put(record("hair_color"))
        with pytest.raises(UsageError, match="belongs to the concept color"):
            editor.put(record("hue", file="checkpoints/color.safetensors"))
        for file in ("/x", "../x", "a/../../x", "a\\b", "C:/x", ""):
            with pytest.raises(UsageError, match="relative path"):
                editor.put(record("hue", file=file))
        for name in ("Hue", "2d", "a b", "and", "a-", "hu\u0435"):
            with pytest.raises(UsageError, match=r"no name|formula language"):
                editor.put(record(name))
        with pytest.raises(UsageError, match="base scenes-64 is used by color, size"):
            editor.remove("base", "scenes-64")
        with pytest.raises(UnknownNameError):
            editor.remove("concept", "hue")
        with pytest.raises(OutputExistsError):
            editor.rename("concept", "color", "size")
        editor.remove("concept", "hair-color")
    assert filled.read_bytes() == before


def test_concepts_follow_a_renamed_base(filled: Path) -> None:
    with edit_registry(filled) as editor:
        editor.rename("base", "scenes-64", "plain")
    registry = read_registry(filled)
    assert registry.get("concept", "color").base == "plain"
    assert registry.get("concept", "old").base is None
    assert "scenes-64" in registry.judges


def test_forty_processes_at_once_lose_nothing(registry_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom ebmcli.registry import Record, edit_registry\n"
        "name = sys.argv[2]\n"
        "with edit_registry(Path(sys.argv[1])) as editor:\n"
        "    editor.put(Record(kind='judge', name=name, space='s', file=name,"
        f" sha256='{DIGEST}'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    env = {**os.environ, "EBM_LOCK_TIMEOUT": "120"}
    names = [f"n{i}" for i in range(40)]
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(registry_path), name], env=env)
        for name in names
    ]
    assert [process.wait() for process in running] == [0] * 40
    assert sorted(read_registry(registry_path).judges) == sorted(names)
    left = {path.name for path in registry_path.parent.iterdir()}
    assert left <= {"registry.yaml", ".registry.yaml.lock"}


def test_a_lock_that_stays_taken_names_its_holder(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBM_LOCK_TIMEOUT", "0.05")
    with (
        locked(registry_path),
        pytest.raises(RegistryError, match=rf"by process {os.getpid()} on .*; waited 0.05 s"),
        edit_registry(registry_path),
    ):
        pytest.fail("entered a locked registry")
    with edit_registry(registry_path) as editor:
        editor.put(record())


def test_a_link_and_its_target_have_one_lock(
    registry_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBM_LOCK_TIMEOUT", "0.05")
    link = tmp_path / "registry.yaml"
    link.symlink_to(registry_path)
    with (
        locked(registry_path),
        pytest.raises(RegistryError, match="is locked"),
        edit_registry(link),
    ):
        pytest.fail("entered a locked registry")
    with edit_registry(link) as editor:
        editor.put(record())
    assert link.is_symlink()
    assert "color" in read_registry(registry_path).concepts


def test_a_wait_that_is_no_number_is_refused(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv("EBM_LOCK_TIMEOUT", text)
        with pytest.raises(ConfigError, match="EBM_LOCK_TIMEOUT"), edit_registry(registry_path):
            pytest.fail("entered")


def test_a_read_only_folder_is_explained(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with (
        pytest.raises(RegistryError, match="permission denied") as caught,
        edit_registry(registry_path),
    ):
        pytest.fail("entered")
    assert "--registry" in str(caught.value.hint)


def test_a_full_disk_leaves_the_old_registry(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = registry_path.read_bytes()

    def fail(path: Path, data: bytes) -> None:
        raise OutputError(f"cannot write {path}: no space left on device")

    monkeypatch.setattr(editing, "write_bytes", fail)
    with pytest.raises(OutputError), edit_registry(registry_path) as editor:
        editor.put(record())
    assert registry_path.read_bytes() == before
