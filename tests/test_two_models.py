"""The script that compares a union with a joint base: figures, verdicts, a page that is fresh."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from script import ROOT, load_script

two_models = load_script("reproduce/two_models")


def line(*fids: float | None, first_colors: float = 0.5) -> dict[str, Any]:
    """A line with these FIDs, one per seed."""
    rows = [
        {"seed": i, "fid": fid, "floor": None if fid is None else 0.5, "absent": 0.125,
         "first_colors": first_colors}
        for i, fid in enumerate(fids)
    ]  # fmt: skip
    return {"seeds": rows, "seconds": 60.0}


def document(**lines: dict[str, Any]) -> dict[str, Any]:
    base = {"steps": 900, "seconds": 1800.0, "parameters": 10, "loss": 0.2}
    levels = {
        "10": {"sigma": 10.0, "log_ratio": 3.25, "error": 0.031, "direct": 3.25, "overlap": 0.97},
        "0.02": {"sigma": 0.02, "log_ratio": -140.5, "direct": -99.0, "overlap": 0.0},
    }
    return {
        "settings": {
            "n": 256, "seeds": 2, "reference": 6000, "size": 32, "minutes": 30.0, "steps": 900,
            "images": 20_000, "chains": 128, "device": "auto", "set": ["depths=1,1", "head=32"],
        },
        "trained": dict.fromkeys(("one", "other", "joint"), base),
        "constants": {"seconds": 300.0, "union": levels},
        "device": "cpu", "machine": "x86_64", "threads": 2, "versions": {"ebm": "1"},
        "created": "2026-11-25T00:00:00Z", "lines": lines,
    }  # fmt: skip


def whole(*union: float) -> dict[str, Any]:
    """All lines that the verdict needs; the halves have 14 and 15, the joint base 4 and 5."""
    return {
        "one": line(14, 14, first_colors=1), "other": line(15, 15, first_colors=0),
        "union": line(*union), "joint": line(4, 5),
    }  # fmt: skip


def test_the_gap_is_paired_by_seed() -> None:
    """4.25 - 4 and 5.25 - 5: their difference has no error although each line has one."""
    assert two_models.gap(whole(4.25, 5.25), "union", "joint") == pytest.approx((0.25, 0))
    assert two_models.gap(whole(4.5, 6.0), "union", "joint") == pytest.approx((0.75, 0.25))


@pytest.mark.parametrize(("union", "word"), [((4.5, 5.5), "met."), ((4.5, 5.6), "missed.")])
def test_the_aim_is_half_a_point(union: tuple[float, float], word: str) -> None:
    text = two_models.verdict(whole(*union))
    assert text[0].endswith(word)
    assert "4.5 %" in text[2]  # SuperDiff: 0.5 of 14.665 - 3.5


def test_the_page_tells_what_was_measured_and_what_was_not() -> None:
    page = two_models.page(document(**whole(4.25, 5.25)))
    assert "| union | 4.75 ± 0.50 | 0.50 ± 0.00 | 50.0 ± 0.0 % | 12.5 ± 0.0 % | 60 |" in page
    assert "| one | 14.00 ± 0.00 | 0.50 ± 0.00 | 100.0 ± 0.0 % |" in page
    assert "in FID: 0.25 ± 0.00, met." in page
    words = "--size 32 --steps 900 --set depths=1,1 --set head=32 --seeds 2 --judge JUDGE/"
    assert f"scripts/reproduce/two_models FOLDER {words}registry.yaml\n" in page
    better = two_models.page(document(**whole(3, 4)))
    assert "in FID: -1.00 ± 0.00, met." in better
    assert "Of the way" not in better
    assert "Of the way from the joint base to one half alone that is 2.5 %" in page
    assert "| 10 | 3.25 | 0.03 | 3.25 | 0.970 |" in page
    assert "| 0.02 | -140.50 | - | -99.00 | 0.000 |" in page
    few = two_models.page(document(one=line(None, None)))
    assert "| one | - | - | 50.0 ± 0.0 % |" in few
    assert "Not measured." in few


def test_a_line_is_measured_from_what_was_drawn(tmp_path: Path) -> None:
    """Features moved by (3, 0): a distance of 9; half show no object, and a third of the rest red.

    Both halves of the reference have the same features, so that the floor is 0.
    """
    features = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    torch.save(torch.cat([features, features]), tmp_path / "reference.pt")
    (tmp_path / "drawn").mkdir()
    found = {
        "present": torch.tensor([1.0, 0.0]).repeat(6),
        "color": torch.tensor([0, 0, 7, 7, 4, 4]).repeat(2),
        "features": features + torch.tensor([3.0, 0.0]),
    }
    torch.save(found, tmp_path / "drawn" / "union-0.pt")
    (row,) = two_models.measured(tmp_path, None, "union", {"n": 12, "seeds": 1})["seeds"]
    assert row["fid"] == pytest.approx(9, abs=1e-5)
    assert row["floor"] == pytest.approx(0, abs=1e-5)
    assert row["absent"] == 0.5
    assert row["first_colors"] == pytest.approx(1 / 3)


def test_half_of_each_takes_other_seeds_from_either(tmp_path: Path) -> None:
    """The first half of one and the second of the other: no noise is used twice."""
    (tmp_path / "drawn").mkdir()
    for offset, name in ((0, "one"), (100, "other")):
        numbers = torch.arange(6) + offset
        found = {"present": numbers, "color": numbers, "features": numbers}
        torch.save(found, tmp_path / "drawn" / f"{name}-0.pt")
    mixed = two_models.pictures(tmp_path, None, "half of each", 0, {"n": 6})
    assert mixed["color"].tolist() == [0, 1, 2, 103, 104, 105]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    two_models.check_settings(tmp_path / "run", {"n": 1})
    two_models.check_settings(tmp_path / "run", {"n": 1})
    with pytest.raises(SystemExit, match="other settings"):
        two_models.check_settings(tmp_path / "run", {"n": 2})


def test_the_halves_share_no_color_and_leave_none_out() -> None:
    one, other = two_models.HALVES.values()
    assert len(one) == len(other)
    assert [*one, *other] == list(two_models.COLORS)


def test_the_page_of_what_was_measured_is_fresh() -> None:
    path = ROOT / "docs" / "results" / "two-models.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        assert path.with_suffix(".md").read_text(encoding="utf-8") == two_models.page(known)
