"""The registry: what is read, where it is found, and mistakes with their line."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from registry_examples import COLOR, COMMENTED, DIGEST, base, entry, record

from ebmcli.core.factors import Factor
from ebmcli.datasets import clutter
from ebmcli.errors import (
    DigestError,
    FileFormatError,
    OutputExistsError,
    RegistryError,
    UnknownNameError,
    UsageError,
)
from ebmcli.registry import (
    Record,
    create_registry,
    edit_registry,
    find_registry,
    locate_registry,
    places,
    read_registry,
    writable_registry,
)

# reading and writing


def test_a_record_comes_back_as_it_was_put(registry_path: Path) -> None:
    full = record(
        base="scenes-64", calibration={"temperature": 1.5}, measured={"held_out": {"0.1": 1e-05}},
        provenance={"command": "ebm train color: x #1", "created": "2026-01-01T00:00:00Z",
                    "seconds": 12, "versions": {"torch": "2.10"}, "clean": True, "note": "no"},
    )  # fmt: skip
    size = Factor(name="size", kind="scalar", low=0.1, high=0.5, unit="world units")
    old = Factor(name="old", kind="binary", names=("no", "yes"))
    others = [record("size", factor=size), record("old", factor=old), base("scenes-64")]
    with edit_registry(registry_path) as editor:
        for item in [full, *others]:
            editor.put(item)
    registry = read_registry(registry_path)
    assert registry.get("concept", "color") == full
    assert registry.records() == [full, *others]
    assert registry.factors() == {"color": COLOR, "size": size, "old": old}
    assert registry.factors("faces-64") == {}
    assert registry.file(full) == registry_path.parent / "checkpoints/color.safetensors"


def test_paths_follow_the_file_not_the_working_directory(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edit_registry(registry_path) as editor:
        editor.put(record())
    monkeypatch.chdir(registry_path.parent)
    registry = read_registry(Path("registry.yaml"))
    expected = registry_path.parent / "checkpoints/color.safetensors"
    assert registry.file(registry.get("concept", "color")) == expected


def test_unknown_names_are_listed_never_guessed(filled: Path) -> None:
    registry = read_registry(filled)
    with pytest.raises(UnknownNameError) as caught:
        registry.get("concept", "colour")
    assert caught.value.hint == "did you mean 'color'? known: color, old, size"
    with pytest.raises(UsageError, match="both a base and a judge"):
        registry.find("scenes-64")
    assert registry.find("scenes-64", "judge").kind == "judge"


def test_an_unchanged_file_is_hashed_once(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ebmcli.registry import records

    calls: list[Path] = []
    real = records.file_digest
    monkeypatch.setattr(records, "file_digest", lambda path: (calls.append(path), real(path))[1])
    registry = read_registry(filled)
    color = registry.get("concept", "color")
    path = registry.checked_file(color)
    assert registry.checked_file(color) == path
    assert len(calls) == 1
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DigestError, match="has changed since it was recorded"):
        registry.checked_file(color)
    path.unlink()
    with pytest.raises(FileFormatError, match="no such file"):
        registry.checked_file(color)


# mistakes in the file

MISTAKES = {
    "schema": (
        "schema: 1",
        "schema: 2",
        ":2: schema 2 is newer than this ebm, which knows schema 1",
    ),
    "key": (
        "    space: scenes-64",
        "    spaec: scenes-64",
        ":8: unknown key 'spaec' in bases.first",
    ),
    "section": ("bases:", "basis:", ":5: unknown key 'basis'"),
    "missing": ("    file: first.safetensors\n", "", ":7: key 'file' is missing in bases.first"),
    "digest": (DIGEST, "sha256:12", ":10: sha256 in bases.first must look like sha256:"),
    "number": ("file: first.safetensors", "file: 1e10", ":9: file in bases.first: Input should be"),
    "absolute": ("file: first", "file: /tmp/first", ":9: file in bases.first: '/tmp/first"),
    "escaping": ("file: first", "file: a/../../first", ":9: file in bases.first: 'a/../../first"),
    "drive": ("file: first", "file: C:/first", ":9: file in bases.first: 'C:/first"),
    "name": ("  first:", "  First:", ":7: First in bases: 'First' is no name"),
    "keyword": ("  first:", "  not:", ":7: not in bases: 'not' is a word of the formula language"),
    "twins": ("  first:", "  sec-ond:", "differ by - and _ only"),
    "twice": ("  first:", "  second:", ":13: not YAML"),
    "indent": ("    space: scenes-64", "   space: scenes-64", "not YAML"),
    "yaml": ("bases:", "bases: [", "not YAML"),
    "list": ("concepts: {}", "concepts: []", ":20: concepts: Input should be"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    old, new, problem = MISTAKES[name]
    text = COMMENTED.replace("  second:", "  sec_ond:") if name == "twins" else COMMENTED
    path = tmp_path / "registry.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RegistryError) as caught:
        read_registry(path)
    assert problem in caught.value.problem
    assert caught.value.problem.startswith(f"{path}:")
    assert caught.value.hint


@pytest.mark.parametrize(
    "levels", ["[1]", "{'0.1': 0}", "{'0.1': hot}", "{cold: 1}", "{'-1': 1}", "{'1': 1, '1.0': 2}"]
)
def test_temperatures_that_are_none_are_refused_with_their_line(
    registry_path: Path, levels: str
) -> None:
    with edit_registry(registry_path) as editor:
        editor.put(record(calibration={"temperatures": {"0.1": 2.0}, "note": "free"}))
    good = registry_path.read_text()
    assert read_registry(registry_path).get("concept", "color").temperatures == {0.1: 2.0}
    rows = "temperatures:\n        '0.1': 2.0\n"
    assert rows in good
    registry_path.write_text(good.replace(rows, f"temperatures: {levels}\n"))
    line = good[: good.index("calibration:")].count("\n") + 1
    with pytest.raises(RegistryError, match=f":{line}: calibration in concepts.color: .*temperat"):
        read_registry(registry_path)


def test_the_nearest_key_is_suggested(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(COMMENTED.replace("    space:", "    spaec:", 1))
    with pytest.raises(RegistryError) as caught:
        read_registry(path)
    assert str(caught.value.hint).startswith("did you mean 'space'? known: space, file, sha256")


@pytest.mark.parametrize(
    "factor",
    [
        "{name: old, kind: binary, names: [yes, no]}",
        "{name: color, kind: categorical, names: [red]}",
        "{name: color, kind: categorical, names: [red, red]}",
        "{name: size, kind: scalar, low: 1, high: 0}",
        "{name: size, kind: scalar, low: 0, high: .inf}",
        "{name: size, kind: scalar, names: [a, b]}",
        "{name: size, kind: vector}",
        "{name: size, kind: scalar, most: 3}",
        "{name: object, kind: objects, most: 3}",
        "{name: object, kind: objects, most: 3, parts: [{name: at, kind: position}]}",
    ],
)
def test_a_factor_that_makes_no_sense_is_refused(registry_path: Path, factor: str) -> None:
    lines = entry("size") + f"    factor: {factor}\n    method: posterior\n"
    registry_path.write_text(f"schema: 1\nconcepts:\n{lines}")
    with pytest.raises(RegistryError, match=r":7: factor in concepts\.size|:7: kind in"):
        read_registry(registry_path)


@pytest.mark.parametrize("factor", clutter.FACTORS.values(), ids=lambda factor: factor.name)
def test_counts_and_lists_of_objects_are_kept(
    registry_path: Path, register: Callable[..., Record], factor: Factor
) -> None:
    register("concept", factor.name, space="clutter-64", factor=factor)
    assert read_registry(registry_path).get("concept", factor.name).factor == factor


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe\x00", b"a: &a {b: *a}\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "registry.yaml"
    path.write_bytes(content)
    with pytest.raises(RegistryError):
        read_registry(path)


# where it is


def test_the_order_of_lookup(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = create_registry(home / "bundled")
    monkeypatch.setattr(places, "BUNDLED", home / "none.yaml")
    with pytest.raises(RegistryError, match="no registry here") as caught:
        find_registry()
    assert "ebm registry init" in str(caught.value.hint)
    monkeypatch.setattr(places, "BUNDLED", bundled)
    assert locate_registry() == (bundled, "bundled with ebm, read-only")
    own = create_registry(places.user_registry().parent)
    assert find_registry() == own
    near = create_registry(home / "work")
    (home / "work/a/b").mkdir(parents=True)
    monkeypatch.chdir(home / "work/a/b")
    assert find_registry() == near
    named = create_registry(home / "named")
    monkeypatch.setenv("EBM_REGISTRY", str(named))
    assert locate_registry() == (named, "EBM_REGISTRY")
    asked = create_registry(home / "asked")
    assert find_registry(asked) == asked
    assert find_registry(asked.parent) == asked
    assert writable_registry(asked) == asked


def test_a_registry_that_was_asked_for_is_never_replaced_by_another(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_registry(home / "work")
    with pytest.raises(RegistryError, match=r"no such registry \(from --registry\)"):
        find_registry(home / "missing.yaml")
    monkeypatch.setenv("EBM_REGISTRY", str(home / "missing.yaml"))
    with pytest.raises(RegistryError, match=r"no such registry \(from EBM_REGISTRY\)"):
        find_registry()


def test_the_bundled_registry_is_copied_before_it_is_changed(
    filled: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (filled.parent / "checkpoints/unused.safetensors").write_bytes(b"x")
    monkeypatch.setattr(places, "BUNDLED", filled)
    assert find_registry() == filled
    assert not caplog.messages
    own = writable_registry()
    assert own == places.user_registry()
    assert home in own.parents
    assert [str(own.parent) in message for message in caplog.messages] == [True]
    assert own.read_bytes() == filled.read_bytes()
    registry = read_registry(own)
    for item in registry.records():
        registry.checked_file(item)
    assert not (own.parent / "checkpoints/unused.safetensors").exists()
    assert writable_registry() == find_registry() == own
    assert len(caplog.messages) == 1


def test_a_damaged_bundle_is_not_copied(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "BUNDLED", filled)
    (filled.parent / "checkpoints/color.safetensors").write_bytes(b"")
    with pytest.raises(DigestError):
        writable_registry()
    assert find_registry() == filled


def test_a_registry_is_not_made_twice(registry_path: Path) -> None:
    with pytest.raises(OutputExistsError) as caught:
        create_registry(registry_path.parent)
    assert str(registry_path) in str(caught.value.hint)


# concepts and the base they were trained against


@pytest.mark.parametrize(
    ("provenance", "other"),
    [({}, True), ({"mended": {"before": {"sha256": DIGEST}}}, False)],
)
def test_a_base_that_was_mended_is_still_the_one_a_concept_was_trained_against(
    registry_path: Path, provenance: dict[str, object], other: bool
) -> None:
    now = replace(base("scenes-64"), sha256="sha256:" + "b" * 64, provenance=provenance)
    with edit_registry(registry_path) as editor:
        editor.put(now)
        editor.put(record(base="scenes-64", provenance={"base": DIGEST}))
    registry = read_registry(registry_path)
    assert registry.has_other_base(registry.get("concept", "color")) is other
