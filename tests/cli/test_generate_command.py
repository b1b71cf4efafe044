"""ebm generate as typed: files, pipes, JSON, and mistakes that are told before drawing."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from squares import COLOR, SIZE, SPACE, TALL, draw_squares, put_concept, random_registry
from typer.testing import CliRunner, Result

from ebmcli.cli.app import app
from ebmcli.pictures import read_png_metadata, write_png
from ebmcli.workflows import generate as workflow


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = random_registry(tmp_path_factory.mktemp("registry"), [COLOR, TALL])
    put_concept(path, TALL, name="old", space="faces-16")
    return path


@pytest.fixture
def ebm(registry: Path) -> Any:
    """ebm generate with two quick pictures."""

    def run(expression: str, *words: str) -> Result:
        options = [
            "--registry",
            str(registry),
            "--steps",
            "3",
            "--attempts",
            "1",
            "--device",
            "cpu",
        ]
        return CliRunner().invoke(app, ["generate", expression, "-n", "2", *options, *words])

    return run


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("drawing has begun")

    monkeypatch.setattr(workflow, "draw_pictures", refuse)


def test_ctrl_c_while_drawing_says_that_nothing_was_written(
    ebm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "draw_pictures", pressed)
    result = ebm("color=red", "-o", "stopped.png")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted\nhint: nothing was written; repeat the command\n")
    assert not Path("stopped.png").exists()


def test_a_sheet_is_written_and_named_on_stdout(ebm: Any) -> None:
    result = ebm("color=red & tall")
    assert result.exit_code == 0, result.output
    assert result.stdout == "color-red-and-tall-seed0.png\n"
    assert "of 2 pictures pass the model's own test" in result.stderr
    found = read_png_metadata(Path("color-red-and-tall-seed0.png"))
    assert found["ebm:expression"] == "color=red & tall"
    assert json.loads(found["ebm:seeds"]) == [0, 1]
    assert json.loads(found["ebm:settings"])["steps"] == 3
    assert set(json.loads(found["ebm:digests"])) == {
        f"base {SPACE}", "concept color", "concept tall",
    }  # fmt: skip


def test_where_no_picture_is_right_another_attempt_is_not_what_is_advised(ebm: Any) -> None:
    result = ebm("~tall", "--seed", "9")
    assert "0 of 2 pictures pass the model's own test" in result.stderr
    assert "hint: ebm explain '~tall' tells what it asks for" in result.stderr
    assert "--attempts" not in result.stderr
    assert "no picture reaches the formula: seed" in result.stderr


def test_the_same_command_gives_the_same_bytes(ebm: Any) -> None:
    for name in ("a.png", "b.png"):
        assert ebm("tall", "-o", name, "--seed", "7").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_folder_holds_one_file_per_seed(ebm: Any) -> None:
    result = ebm("tall", "-o", "pictures", "--seed", "3", "--gif", "--trace")
    assert result.exit_code == 0, result.output
    names = ["seed000003.png", "seed000004.png", "grid.png", "grid.gif", "grid.trace.json"]
    names.append("grid.trace.png")
    assert result.stdout.splitlines() == [f"pictures/{name}" for name in names]
    assert {path.name for path in Path("pictures").iterdir()} == set(names)
    trace = json.loads(Path("pictures/grid.trace.json").read_text())
    assert all({"sigma", "energy", "log_p"} <= set(row) for row in trace)
    assert len(trace) == 3
    assert "ebm:expression" in read_png_metadata(Path("pictures/grid.trace.png"))
    with Image.open("pictures/seed000003.png") as image:
        assert image.size == (SIZE, SIZE)


def test_a_dash_writes_the_png_and_nothing_else_to_stdout(ebm: Any) -> None:
    result = ebm("tall", "-o", "-")
    assert result.exit_code == 0, result.stderr
    with Image.open(BytesIO(result.stdout_bytes)) as image:
        assert image.format == "PNG"
        image.load()
    assert list(Path.cwd().iterdir()) == []


def test_json_reports_every_picture(ebm: Any) -> None:
    result = ebm("~tall", "--json", "-o", "a.png", "--seed", "9", "--sampler", "heun")
    document = json.loads(result.stdout)
    assert document["files"] == ["a.png"]
    assert document["seeds"] == [9, 10]
    assert document["space"] == SPACE
    assert document["energy_calls"] == 5
    assert document["attempts"] == [1, 1]
    assert len(document["probabilities"]) == 2
    assert document["diagnostics"] == {}
    assert [note.split(",")[0] for note in document["notes"]] == [
        "no picture reaches the formula: seed 10 comes closest"
    ]


def test_what_rejection_cannot_reach_is_told_and_drawn_all_the_same(ebm: Any) -> None:
    """With P^20 no coin falls that way; --attempts 1 and two chains are two draws."""
    words = ("--sampler", "rejection", "--chains", "2", "--corrector-steps", "0")
    result = ebm("color=red & tall", "-o", "a.png", *words, "--strength", "20")
    assert result.exit_code == 0, result.output
    assert "none of 2 draws of the base was accepted" in result.stderr
    assert Path("a.png").exists()


def test_a_sampler_tells_its_diagnostics_as_json(ebm: Any) -> None:
    words = ("--sampler", "smc", "--chains", "2", "--json", "-o", "a.png", "--corrector-steps", "1")
    document = json.loads(ebm("tall", *words).stdout)
    assert {"acceptance", "particles", "log_z"} <= set(document["diagnostics"])
    assert len(document["diagnostics"]["log_z"]) == 2


def test_a_picture_can_be_edited(ebm: Any) -> None:
    picture = draw_squares(1, seed=0)[0][0]
    write_png(Path("start.png"), picture)
    words = ("--from", "start.png", "--noise", "0.05", "-o", "edited", "--corrector-steps", "0")
    result = ebm("tall", *words)
    assert result.exit_code == 0, result.output
    with Image.open("edited/seed000000.png") as image:
        edited = np.asarray(image).astype(int)
    assert abs(edited - picture.astype(int)).mean() < 15
    settings = json.loads(read_png_metadata(Path("edited/grid.png"))["ebm:settings"])
    assert (settings["start_image"], settings["start_noise"]) == ("start.png", 0.05)


def test_an_existing_output_is_refused_before_drawing(
    ebm: Any, monkeypatch: pytest.MonkeyPatch, never: None
) -> None:
    for name in ("a.png", "a.gif"):
        Path(name).write_bytes(b"mine")
        result = ebm("tall", "-o", "a.png", "--gif")
        assert result.exit_code == 1
        assert "--overwrite" in result.stderr
        assert Path(name).read_bytes() == b"mine"
        Path(name).unlink()


def test_overwrite_replaces_the_output(ebm: Any) -> None:
    Path("a.png").write_bytes(b"mine")
    assert ebm("tall", "-o", "a.png", "--overwrite").exit_code == 0
    assert Path("a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("tall", "-n", "0"), "-n must be at least 1"),
        (("tall", "--steps", "1"), "--steps must be at least 2"),
        (("tall & ~tall",), "never true"),
        (("tall | ~tall",), "always true"),
        (("tal",), "did you mean 'tall'?"),
        (("color=pink",), "pink"),
        (("tall & old",), "one picture cannot show both"),
        (("tall &",), "^"),
        (("tall", "-o", "a.jpg"), "written as PNG"),
        (("tall", "-o", "-", "--gif"), "-o - writes one PNG"),
        (("tall", "-o", "-", "--json"), "-o - writes one PNG"),
        (
            ("tall", "--logic", "paper", "--strength", "3"),
            "--strength has no meaning with --logic paper",
        ),
        (("tall", "--sampler", "euler"), "unknown sampler"),
        (("tall", "--sampler", "smc", "--chains", "1"), "one chain is too few"),
        (("tall", "--chains", "4"), "--chains has no meaning with --sampler auto"),
        (("tall", "--seed", "-1"), "seeds are between 0 and 2^32 - 1, got --seed -1"),
        (("tall", "--seed", "4294967295"), "got the last one 4294967296"),
        (("tall", "--noise", "2"), "--noise changes a picture of --from"),
        (("tall", "-n", "many"), "valid integer"),
    ],
)
def test_mistakes_are_told_before_drawing(
    ebm: Any, never: None, words: tuple[str, ...], problem: str
) -> None:
    result = ebm(words[0], *words[1:])
    assert result.exit_code == 2, result.output
    assert problem in result.stderr
    assert result.stdout == ""
    assert list(Path.cwd().iterdir()) == []


def test_negations_alone_are_no_density_by_the_papers_rules(ebm: Any) -> None:
    result = ebm("~tall", "--logic", "paper")
    assert result.exit_code == 2
    assert "negations only" in result.stderr
    assert "--logic exact" in result.stderr


def test_a_missing_start_is_an_error_of_the_file(ebm: Any) -> None:
    result = ebm("tall", "--from", "absent.png")
    assert result.exit_code == 1
    assert "absent.png: no such file" in result.stderr
    assert list(Path.cwd().iterdir()) == []
