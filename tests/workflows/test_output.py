"""Pictures on disk: which files, with which metadata, and what is refused."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ebmcli
from ebmcli.core.expression import And, Implies, Not, Or, parse
from ebmcli.errors import ConfigError, OutputError, OutputExistsError
from ebmcli.pictures import read_png_metadata
from ebmcli.workflows.generate import Drawn, GenerateRequest
from ebmcli.workflows.output import (
    MAX_SLUG,
    check_free,
    check_writable,
    default_path,
    is_folder,
    metadata,
    planned,
    png_bytes,
    sheet,
    slug,
    write_pictures,
)


def ask(**changes: Any) -> GenerateRequest:
    settings: dict[str, Any] = {"expression": "color=red & ~tall", "n": 2, "seed": 41}
    return GenerateRequest(**settings | changes)


@pytest.fixture
def drawn() -> Drawn:
    """Two grey pictures, three levels."""
    images = np.full((2, 8, 8, 3), 90, dtype=np.uint8)
    images[1] = 200
    return Drawn(
        images=images,
        probabilities=np.array([0.25, 1.0]),
        seeds=[41, 42],
        attempts=[3, 1],
        acceptance=0.5,
        kept=[False, True],
        first_accepted=0.5,
        seconds=0.1,
        n_energy_calls=7,
        space="squares-16",
        digests={"base squares-16": "sha256:00", "concept color": "sha256:11"},
        frames=[images // level for level in (4, 3, 2)],
        trace=[{"sigma": 1.0, "energy": 2.0, "log_p": -3.0}],
    )


@pytest.mark.parametrize(
    ("out", "files"),
    [
        (None, ["color-red-and-not-tall-seed41.png"]),
        ("a.png", ["a.png"]),
        ("A.PNG", ["A.PNG"]),
        ("seeds.png", ["seeds.png"]),
        ("folder", ["folder/seed000041.png", "folder/seed000042.png", "folder/grid.png"]),
    ],
)
def test_files_are_known_beforehand(drawn: Drawn, out: str | None, files: list[str]) -> None:
    path = None if out is None else Path(out)
    assert [p.as_posix() for p in planned(ask(), path, gif=False, trace=False)] == files
    found = write_pictures(drawn, ask(), path)
    assert [p.as_posix() for p in found] == files
    assert all(p.is_file() for p in found)


@pytest.mark.parametrize("out", ["seed-sheet.png", "a.png", "folder"])
def test_animation_and_trace_lie_beside_the_sheet(drawn: Drawn, out: str) -> None:
    files = write_pictures(drawn, ask(), Path(out), gif=True, trace=True)
    assert files == planned(ask(), Path(out), gif=True, trace=True)
    gif, trace, chart = files[-3:]
    assert (gif.suffix, "".join(trace.suffixes)) == (".gif", ".trace.json")
    assert chart == trace.with_suffix(".png")
    with Image.open(chart) as image:
        assert image.format == "PNG"
    assert json.loads(trace.read_text()) == drawn.trace
    with Image.open(gif) as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]  # Pillow's plugins have it


@pytest.mark.parametrize("out", ["a.jpg", "a.gif", "pictures.v2"])
def test_other_formats_are_refused_before_anything_is_drawn(out: str) -> None:
    with pytest.raises(ConfigError, match="written as PNG") as caught:
        planned(ask(), Path(out), gif=False, trace=False)
    assert ".png" in (caught.value.hint or "")


def test_an_existing_folder_is_one_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "pictures.v2"
    folder.mkdir()
    assert is_folder(folder)
    assert planned(ask(), folder, gif=False, trace=False)[-1] == folder / "grid.png"


def test_a_png_holds_all_it_takes_to_draw_it_again(drawn: Drawn) -> None:
    request = ask(steps=9, logic="exact", start_image=Path("private/start.png"))
    (path,) = write_pictures(drawn, request, Path("a.png"))
    found = read_png_metadata(path)
    assert found == metadata(drawn, request)
    assert found["ebm:expression"] == "color=red & ~tall"
    assert json.loads(found["ebm:seeds"]) == [41, 42]
    assert json.loads(found["ebm:probabilities"]) == [0.25, 1.0]
    assert json.loads(found["ebm:digests"]) == drawn.digests
    assert found["ebm:version"] == ebmcli.__version__
    settings = json.loads(found["ebm:settings"])
    assert settings["steps"] == 9
    assert settings["start_image"] == "start.png"
    again = GenerateRequest(**settings | {"start_image": request.start_image})
    assert again == request


def test_a_single_picture_speaks_about_itself(drawn: Drawn) -> None:
    single = write_pictures(drawn, ask(), Path("folder"))[1]
    found = read_png_metadata(single)
    assert json.loads(found["ebm:seeds"]) == [42]
    assert json.loads(found["ebm:probabilities"]) == [1.0]
    with Image.open(single) as image:
        assert np.array_equal(np.asarray(image), drawn.images[1])


def test_bytes_for_a_pipe_are_those_of_the_file(drawn: Drawn) -> None:
    data = png_bytes(drawn, ask())
    (path,) = write_pictures(drawn, ask(), Path("a.png"))
    assert data == path.read_bytes()
    with Image.open(BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), sheet(drawn, ask()))


def test_nothing_is_replaced_unless_asked(drawn: Drawn) -> None:
    (path,) = write_pictures(drawn, ask(), Path("a.png"))
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"a\.png exists") as caught:
        check_free(planned(ask(), path, gif=False, trace=False))
    assert "--overwrite" in (caught.value.hint or "")
    drawn.images[0] = 0
    with pytest.raises(OutputExistsError):
        write_pictures(drawn, ask(), path)
    assert path.read_bytes() == before
    write_pictures(drawn, ask(), path, overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("old", "old-seed41.png"),
        ("~old", "not-old-seed41.png"),
        ("old & male | ~wavy", "old-and-male-or-not-wavy-seed41.png"),
        ("glasses -> old", "glasses-implies-old-seed41.png"),
        ("color=red & size>=.4", "color-red-and-size-at-least-0.4-seed41.png"),
        ("2*size<0.4", "2x-size-below-0.4-seed41.png"),
        ("position=(0.4,-0.2)", "position-0.4-minus-0.2-seed41.png"),
    ],
)
def test_the_default_name_tells_formula_and_seed(expression: str, name: str) -> None:
    assert default_path(ask(expression=expression)) == Path(name)


def test_no_two_formulas_share_a_name_that_every_shell_takes() -> None:
    """All formulas of up to three statements and two operators, with near misses among them."""
    leaves = ["old", "not-old", "color=red", "color-red", "place=(0.4,-0.2)", "place=(-0.4,0.2)"]
    leaves += ["size>0.4", "size<0.4", "size>=0.4", "2*old", "2*size=0.4", "size=2"]
    terms = [Not(parse(leaf)) for leaf in leaves] + [parse(leaf) for leaf in leaves]
    pairs = [kind(a, b) for kind in (And, Or, Implies) for a in terms for b in terms]
    triples = [kind(pair, parse("wavy")) for kind in (And, Or, Implies) for pair in pairs]
    triples += [kind(parse("wavy"), pair) for kind in (And, Or, Implies) for pair in pairs]
    formulas = [*terms, *pairs, *map(Not, pairs), *triples]
    names = {slug(formula) for formula in formulas}
    assert len(names) == len({str(formula) for formula in formulas}) == len(formulas)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) for name in names)


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    long = " & ".join(["old"] * 30)
    first, second = slug(parse(long)), slug(parse(f"{long} & male"))
    assert first.startswith("old-and-old-and-old")
    assert first != second
    assert max(len(first), len(second)) <= MAX_SLUG


def test_output_that_cannot_be_written_is_refused_before_drawing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OutputError, match="is no folder"):
        check_writable([file / "a.png"])
    check_writable([tmp_path / "new" / "deeper" / "a.png"])
    assert not (tmp_path / "new").exists()


def test_output_without_permission_is_refused_before_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError, match="no permission"):
        check_writable([tmp_path / "a.png"])
