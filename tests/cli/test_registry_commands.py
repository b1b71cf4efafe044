"""Commands on the registry, as a user types them."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ebmcli.checkpoint import write_checkpoint
from ebmcli.cli.app import app
from ebmcli.errors import OutputError
from ebmcli.registry import create_registry, edit_registry, read_registry
from ebmcli.workflows import archives
from ebmcli.workflows import registry as jobs


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--registry", str(path)])


def files(path: Path) -> set[str]:
    """The weights beside a registry."""
    return {file.name for file in (path.parent / "checkpoints").iterdir()}


# list, show


def test_list_shows_what_there_is(filled: Path) -> None:
    (filled.parent / "checkpoints/old.safetensors").unlink()
    lines = run(filled, "list").stdout.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["name", "kind", "space", "values", "method", "accuracy", "size", "status"],
        ["color", "concept", "scenes-64", "red,", "green,", "blue", "posterior", "98.7", "%",
         lines[1].split()[9], "B", "ok"],
        ["size", "concept", "scenes-64", "0.1", "to", "0.5", "posterior",
         lines[2].split()[7], "B", "ok"],
        ["old", "concept", "faces-64", "no,", "yes", "posterior", "missing"],
    ]  # fmt: skip
    assert len(lines) == 6


def test_list_chooses_by_space_and_kind(filled: Path) -> None:
    found = json.loads(run(filled, "list", "--space", "scenes-64", "--json").stdout)
    assert [row["name"] for row in found] == ["color", "size", "scenes-64", "scenes-64"]
    assert found[0]["accuracy"] == 0.987
    found = json.loads(run(filled, "list", "--kind", "base", "--json").stdout)
    assert [(row["kind"], row["name"]) for row in found] == [("base", "scenes-64")]
    unknown = run(filled, "list", "--space", "scene-64")
    assert unknown.exit_code == 2
    assert "did you mean 'scenes-64'" in unknown.stderr
    nothing = run(filled, "list", "--space", "faces-64", "--kind", "base")
    assert nothing.exit_code == 0
    assert "nothing to list" in nothing.stderr
    assert run(filled, "list", "--space", "faces-64", "--kind", "base", "--json").stdout == "[]\n"


def test_show_tells_how_to_write_it_and_where_it_comes_from(filled: Path) -> None:
    text = run(filled, "show", "color").stdout
    record = read_registry(filled).get("concept", "color")
    assert text.startswith("concept color: write color=red; values: red, green, blue\n")
    assert f"sha256  {record.sha256}" in text
    found = json.loads(run(filled, "show", "scenes-64", "--kind", "base", "--json").stdout)
    assert found["used_by"] == ["color", "size"]
    assert found["status"] == "ok"


def test_show_of_an_unknown_or_double_name(filled: Path) -> None:
    result = run(filled, "show", "colour")
    assert result.exit_code == 2
    assert "did you mean 'color'? known: color, old, scenes-64, size" in result.stderr
    assert "add --kind base or --kind judge" in run(filled, "show", "scenes-64").stderr


# verify


def test_verify_lists_every_problem_and_fails(filled: Path) -> None:
    assert run(filled, "verify").exit_code == 0
    folder = filled.parent / "checkpoints"
    data = bytearray((folder / "color.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "color.safetensors").write_bytes(data)
    (folder / "size.safetensors").write_bytes(b"short")
    (folder / "old.safetensors").unlink()
    result = run(filled, "verify", "--json")
    assert result.exit_code == 1
    found = {row["name"]: row["result"] for row in json.loads(result.stdout)[:3]}
    assert found["color"].startswith("has changed since it was recorded")
    assert found["size"] == "is not a checkpoint written by ebm"
    assert found["old"] == "no such file"
    assert "3 of 5 files" in result.stderr
    assert run(filled, "verify", "scenes-64", "--kind", "base").exit_code == 0


def test_verify_compares_the_header_with_the_record(filled: Path) -> None:
    registry = read_registry(filled)
    record = registry.get("concept", "old")
    path = registry.file(record)
    header = {"kind": "concept", "space": "scenes-64", "factor": {}, "method": "posterior"}
    digest = write_checkpoint(path, {}, header)
    text = filled.read_text().replace(record.sha256, digest)
    filled.write_text(text)
    result = run(filled, "verify", "old")
    assert result.exit_code == 1
    assert "its header says space scenes-64, the registry faces-64" in result.stdout
    filled.write_text(text.replace("    base: scenes-64\n", "    base: gone\n"))
    assert "its base gone is not in the registry" in run(filled, "verify", "color").stdout


# rename, rm


def test_rename_moves_the_file_along(filled: Path) -> None:
    assert run(filled, "rename", "color", "hue").exit_code == 0
    registry = read_registry(filled)
    assert list(registry.concepts) == ["hue", "size", "old"]
    assert registry.file(registry.get("concept", "hue")).name == "hue.safetensors"
    assert "color.safetensors" not in files(filled)
    assert run(filled, "verify").exit_code == 0
    assert run(filled, "rename", "hue", "size").exit_code == 1
    assert run(filled, "rename", "hue", "and").exit_code == 2


@pytest.mark.parametrize("taken", [False, True])
def test_a_rename_without_weights_leaves_the_old_name_free(filled: Path, taken: bool) -> None:
    """They were removed by hand; a stranger's file under the new name is not taken for them."""
    folder = filled.parent / "checkpoints"
    (folder / "color.safetensors").unlink()
    if taken:
        (folder / "hue.safetensors").write_bytes(b"of somebody else")
    assert run(filled, "rename", "color", "hue").exit_code == 0
    file = "color" if taken else "hue"
    assert read_registry(filled).get("concept", "hue").file == f"checkpoints/{file}.safetensors"


def test_a_rename_that_fails_changes_nothing(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, folder = filled.read_bytes(), files(filled)
    (filled.parent / "checkpoints/hue.safetensors").write_bytes(b"mine")
    assert run(filled, "rename", "color", "hue").exit_code == 1
    assert (filled.parent / "checkpoints/hue.safetensors").read_bytes() == b"mine"
    (filled.parent / "checkpoints/hue.safetensors").unlink()

    def fail(*_: object, **__: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("ebmcli.registry.editing.write_bytes", fail)
    assert run(filled, "rename", "color", "hue").exit_code == 1
    assert (filled.read_bytes(), files(filled)) == (before, folder)


def test_rm_needs_an_answer(filled: Path) -> None:
    result = run(filled, "rm", "color")
    assert result.exit_code == 2
    assert "hint: add --yes" in result.stderr
    assert "color.safetensors" in files(filled)
    assert run(filled, "rm", "color", "size", "--yes").exit_code == 0
    assert not {"color.safetensors", "size.safetensors"} & files(filled)
    assert run(filled, "rm", "old", "--yes", "--keep-file").exit_code == 0
    assert "old.safetensors" in files(filled)
    assert read_registry(filled).concepts == {}


def test_rm_asks_on_a_terminal(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebmcli.cli.console.can_ask", lambda: True)
    for answer, left in (("n", True), ("y", False)):
        monkeypatch.setattr("typer.confirm", lambda *_, **__: answer == "y")  # noqa: B023
        assert run(filled, "rm", "color").exit_code == 0
        assert ("color" in read_registry(filled).concepts) == left


def test_a_base_in_use_is_not_removed(filled: Path) -> None:
    result = run(filled, "rm", "scenes-64", "--kind", "base", "--yes")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: base scenes-64 is used by color, size\nhint: ebm rm color size first\n"
    )
    assert "base-scenes-64.safetensors" in files(filled)


# export, import


@pytest.fixture
def archive(filled: Path, tmp_path: Path) -> Path:
    out = tmp_path / "scenes.zip"
    assert run(filled, "export", "color", "-o", str(out)).stdout == f"{out}\n"
    return out


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return create_registry(tmp_path / "other")


def repacked(archive: Path, change: object) -> Path:
    """The archive with its files changed by a function of a dict."""
    with zipfile.ZipFile(archive) as file:
        content = {name: file.read(name) for name in file.namelist()}
    change(content)  # type: ignore[operator]
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    return archive


def test_an_archive_brings_the_base_and_equal_bytes(
    filled: Path, archive: Path, other: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.zip"
    run(filled, "export", "color", "-o", str(again))
    assert again.read_bytes() == archive.read_bytes()
    assert run(other, "import", str(archive)).exit_code == 0
    source, copied = read_registry(filled), read_registry(other)
    assert copied.get("concept", "color") == source.get("concept", "color")
    assert copied.get("base", "scenes-64") == source.get("base", "scenes-64")
    assert run(other, "verify").exit_code == 0
    repeated = run(other, "import", str(archive))
    assert repeated.exit_code == 0
    assert "has everything" in repeated.stderr


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_import_restores_what_verify_finds_damaged(
    filled: Path, archive: Path, option: tuple[str, ...]
) -> None:
    """As the hint of a changed file says; what is whole is not spoken of."""
    registry_text, folder = filled.read_bytes(), filled.parent / "checkpoints"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "color.safetensors").unlink()
    (folder / "base-scenes-64.safetensors").write_bytes(b"short")
    assert run(filled, "verify").exit_code == 1
    done = run(filled, "import", str(archive), *option)
    assert done.exit_code == 0
    assert done.stderr == (
        f"restored base scenes-64 in {filled}\nrestored concept color in {filled}\n"
    )
    assert filled.read_bytes() == registry_text
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert run(filled, "verify").exit_code == 0
    assert "has everything" in run(filled, "import", str(archive), *option).stderr


def test_import_as_json_lists_what_was_added_and_restored(
    filled: Path, archive: Path, other: Path
) -> None:
    def lists(path: Path) -> list[list[str]]:
        found = json.loads(run(path, "import", str(archive), "--json").stdout)
        assert found["registry"] == str(path)
        return [[entry["name"] for entry in found[key]] for key in ("added", "restored")]

    assert lists(other) == [["scenes-64", "color"], []]
    (other.parent / "checkpoints/color.safetensors").write_bytes(b"short")
    assert lists(other) == [[], ["color"]]
    assert lists(other) == [[], []]


def test_an_existing_archive_is_not_overwritten_unasked(filled: Path, archive: Path) -> None:
    assert run(filled, "export", "size", "-o", str(archive)).exit_code == 1
    assert run(filled, "export", "size", "-o", str(archive), "--overwrite").exit_code == 0


def test_damaged_weights_are_not_exported(filled: Path, tmp_path: Path) -> None:
    (filled.parent / "checkpoints/color.safetensors").write_bytes(b"x")
    assert run(filled, "export", "color", "-o", str(tmp_path / "x.zip")).exit_code == 1
    assert not (tmp_path / "x.zip").exists()


def test_other_weights_of_the_same_name(filled: Path, archive: Path) -> None:
    """Refused; under another name; or in the place of the old ones, whose file goes."""
    registry = read_registry(filled)
    old = registry.get("concept", "color")
    header = {"kind": "concept", "space": "scenes-64"}
    digest = write_checkpoint(registry.file(old), {}, header)
    filled.write_text(filled.read_text().replace(old.sha256, digest))
    before = filled.read_bytes(), files(filled)
    refused = run(filled, "import", str(archive))
    assert refused.exit_code == 1
    assert "--as NEW" in refused.stderr
    assert (filled.read_bytes(), files(filled)) == before
    assert run(filled, "import", str(archive), "--as", "hue").exit_code == 0
    assert read_registry(filled).get("concept", "hue").sha256 == old.sha256
    assert run(filled, "import", str(archive), "--overwrite").exit_code == 0
    assert read_registry(filled).get("concept", "color").sha256 == old.sha256
    assert run(filled, "verify").exit_code == 0
    assert len(files(filled)) == 6


def test_temperatures_travel_with_their_concept(filled: Path, archive: Path) -> None:
    """Other temperatures of the same weights are another concept: refused, or put in its place."""
    plain = read_registry(filled).get("concept", "color")
    mine = replace(plain, calibration={"temperatures": {"0.1": 2.0}})
    with edit_registry(filled) as editor:
        editor.put(mine, overwrite=True)
    assert run(filled, "import", str(archive)).exit_code == 1
    assert read_registry(filled).get("concept", "color") == mine
    calibrated = archive.with_name("calibrated.zip")
    assert run(filled, "export", "color", "-o", str(calibrated)).exit_code == 0
    assert run(filled, "import", str(archive), "--overwrite").exit_code == 0
    assert read_registry(filled).get("concept", "color").temperatures == {}
    assert run(filled, "import", str(calibrated), "--overwrite").exit_code == 0
    found = read_registry(filled).get("concept", "color")
    assert found.fingerprint == mine.fingerprint
    assert run(filled, "verify").exit_code == 0


def edited(old: bytes, new: bytes) -> object:
    def change(content: dict[str, bytes]) -> None:
        content["manifest.json"] = content["manifest.json"].replace(old, new)

    return change


def damaged(content: dict[str, bytes]) -> None:
    data = bytearray(content["checkpoints/color.safetensors"])
    data[-1] ^= 1
    content["checkpoints/color.safetensors"] = bytes(data)


BAD = {
    "digest": (damaged, "has changed since it was recorded"),
    "traversal": (edited(b"checkpoints/color", b"../../color"), "must be a relative path"),
    "absolute": (edited(b"checkpoints/color", b"/tmp/color"), "must be a relative path"),
    "extra": (lambda c: c.update({"../evil": b""}), "holds '../evil', which its manifest does not"),
    "lacking": (lambda c: c.pop("checkpoints/color.safetensors"), "lacks checkpoints/color"),
    "no manifest": (lambda c: c.pop("manifest.json"), "is not an archive of ebm export"),
    "no json": (lambda c: c.update({"manifest.json": b"{"}), "is not an archive of ebm export"),
    "space": (edited(b'"space": "scenes-64"', b'"space": "mars"'), "the registry"),
    "version": (edited(b'"version": 1', b'"version": 9'), "is version 9 of the format"),
    "unknown key": (edited(b'"method"', b'"metod"'), "unknown key 'metod'"),
}


@pytest.mark.parametrize("name", BAD)
def test_nothing_is_registered_if_anything_is_wrong(archive: Path, other: Path, name: str) -> None:
    change, problem = BAD[name]
    repacked(archive, change)
    before = other.read_bytes()
    result = run(other, "import", str(archive))
    assert result.exit_code == 1
    assert problem in result.stderr
    assert other.read_bytes() == before
    assert list(other.parent.rglob("*.safetensors")) == []
    assert not (other.parent.parent / "evil").exists()


def test_files_that_are_no_archives(other: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 but not really")
    assert "is not an archive" in run(other, "import", str(tmp_path / "x.zip")).stderr
    assert "no such file" in run(other, "import", str(tmp_path / "y.zip")).stderr


def test_an_import_that_cannot_register_leaves_no_files(
    archive: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("ebmcli.registry.editing.write_bytes", fail)
    assert run(other, "import", str(archive)).exit_code == 1
    assert list(other.parent.rglob("*.safetensors")) == []


def test_as_names_one_concept(filled: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.zip"
    run(filled, "export", "color", "size", "-o", str(out))
    result = run(other, "import", str(out), "--as", "hue")
    assert result.exit_code == 2
    assert "--as names one concept, the archive holds 2" in result.stderr


# registry path, registry init


def test_registry_path_says_which_and_why(filled: Path) -> None:
    result = run(filled, "registry", "path")
    assert (result.stdout, result.stderr) == (f"{filled}\n", "--registry\n")
    found = json.loads(run(filled, "registry", "path", "--json").stdout)
    assert found == {"path": str(filled), "reason": "--registry"}


def test_registry_init_makes_one_that_is_found(home: Path) -> None:
    result = CliRunner().invoke(app, ["registry", "init"])
    assert result.exit_code == 0
    found = CliRunner().invoke(app, ["registry", "path"])
    assert found.stdout == f"{home / 'work' / 'registry.yaml'}\n"
    assert CliRunner().invoke(app, ["list", "--json"]).stdout == "[]\n"
    assert CliRunner().invoke(app, ["registry", "init"]).exit_code == 1


def test_two_readers_of_one_name_space(filled: Path) -> None:
    """Jobs take the kind where names are shared."""
    renamed = jobs.rename(filled, "scenes-64", "plain", kind="base")
    assert renamed.file == "checkpoints/base-plain.safetensors"
    assert read_registry(filled).get("concept", "color").base == "plain"
    with edit_registry(filled) as editor:
        assert editor.registry.find("scenes-64").kind == "judge"
    assert archives.FORMAT == "ebm-archive"
