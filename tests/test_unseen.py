"""The experiment on pairs never seen: supports, commands, the judge's count and the page."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from script import load_script

from ebmcli.core.expression import parse
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter, read_info, read_labels
from ebmcli.datasets.labels import holds
from ebmcli.datasets.recipes import find_recipe
from ebmcli.evaluation.judge import Readings

unseen = load_script("reproduce/unseen")
COLORS, SHAPES = unseen.COLORS, unseen.SHAPES


@pytest.mark.parametrize(("support", "n_seen"), [("five-of-eight", 15), ("diagonal", 11)])
def test_every_shape_and_every_color_is_seen_and_the_formula_says_which(
    support: str, n_seen: int
) -> None:
    seen, held = (unseen.pairs_of(support, seen=known) for known in (True, False))
    assert len(seen) == n_seen
    assert len(seen) + len(held) == len(SHAPES) * len(COLORS)
    assert {s for s, _ in seen} == set(SHAPES)
    assert {c for _, c in seen} == set(COLORS)
    formula = parse(unseen.formula_of_pairs(held))
    factors = find_recipe("scenes").factors
    for s in SHAPES:
        for c in COLORS:
            assert holds(formula, {"shape": s, "color": c}, factors) == ((s, c) in held)


def test_five_of_eight_is_what_it_says() -> None:
    assert {len(colors) for colors in unseen.SUPPORTS["five-of-eight"].values()} == {5}


def test_a_chain_of_shared_colors_links_all_shapes() -> None:
    """Else nothing in the data could tell a shape from its colors."""
    for known in unseen.SUPPORTS.values():
        reached, colors = {"cube"}, set(known["cube"])
        for _ in SHAPES:
            reached |= {s for s in SHAPES if colors & set(known[s])}
            colors = {c for s in reached for c in known[s]}
        assert reached == set(SHAPES)


def test_the_label_of_a_pair_is_the_name_of_its_shape_and_color(tmp_path: Path) -> None:
    factors = find_recipe("scenes").factors
    info = DatasetInfo(
        path=tmp_path / "raw.h5", recipe="scenes", size=8, n_images=3, seed=0, factors=factors,
        digest="", versions={},
    )  # fmt: skip
    labels = {
        "shape": torch.tensor([0, 2, 1]).numpy(),
        "color": torch.tensor([7, 0, 3]).numpy(),
        "position": torch.zeros(3, 2).numpy(),
        "size": torch.full((3,), 0.4).numpy(),
    }
    with DatasetWriter(info) as writer:
        writer.write(torch.zeros(3, 8, 8, 3, dtype=torch.uint8).numpy(), labels)
        writer.finish()
    unseen.add_pairs(info.path, tmp_path / "data.h5")
    pair = read_info(tmp_path / "data.h5").factors["pair"]
    names = [pair.names[i] for i in read_labels(tmp_path / "data.h5", "pair", 0, 3)]
    assert names == ["cube_white", "cylinder_red", "sphere_yellow"]


def asked(**changes: Any) -> argparse.Namespace:
    options = {"quick": False, "minutes": 10.0, "minutes_base": 60.0, "device": "cpu"}
    options |= {"steps": None, "steps_base": None, "set": [], "set_base": []}
    return argparse.Namespace(**options | changes)


def test_updates_may_be_asked_for_instead_of_minutes(tmp_path: Path) -> None:
    by_name = {training.name: training for training in unseen.TRAININGS}
    options = asked(steps=100, steps_base=300, set=["batch_size=256"])

    def words(name: str) -> list[str]:
        registry = tmp_path / "registry.yaml"
        found: list[str] = unseen.training_words(by_name[name], Path("d.h5"), registry, options)
        return found

    assert words("plain")[-2:] == ["--steps", "300"]
    assert words("color")[-4:] == ["--set", "batch_size=256", "--steps", "100"]
    assert words("pair")[-1] == "200"


def test_both_ways_get_the_same_minutes_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    by_name = {training.name: training for training in unseen.TRAININGS}
    registry = tmp_path / "registry.yaml"

    def words(name: str) -> list[str]:
        found: list[str] = unseen.training_words(by_name[name], Path("d.h5"), registry, asked())
        return found

    minutes = {name: float(words(name)[-1]) for name in by_name}
    assert minutes["pair"] == minutes["color"] + minutes["shape"]
    assert minutes["plain"] == minutes["hues"] == 60
    run = tmp_path / "runs" / "shape-apart"
    run.mkdir(parents=True)
    (run / "state.safetensors").touch()
    assert words("shape-apart")[-3:] == ["--independent-of", "color", "--resume"]


def test_a_picture_counts_only_with_both_and_with_an_object() -> None:
    readings = Readings(
        factors={name: find_recipe("scenes").factors[name] for name in ("shape", "color")},
        values={"shape": torch.tensor([0, 0, 1, 0]), "color": torch.tensor([0, 1, 0, 0])},
        probabilities={},
        present=torch.tensor([0.9, 0.9, 0.9, 0.1]),
    )
    found = unseen.judged(readings, "cube", "red")
    assert found["right"].tolist() == [True, False, False, False]
    assert found["shape"].tolist() == [True, True, False, False]
    assert found["color"].tolist() == [True, False, True, False]
    assert found["absent"].tolist() == [False, False, False, True]


def test_two_processes_keep_each_others_supports(tmp_path: Path, monkeypatch: Any) -> None:
    """Each began with an empty document and writes its own support alone."""
    monkeypatch.setattr(unseen, "write_page", lambda document, path: None)
    path = tmp_path / "unseen.json"
    path.write_text(json.dumps({"rows": [], "renders": {}, "trainings": {}}))
    for support, mean in (("diagonal", 1), ("five-of-eight", 2), ("diagonal", 3)):
        document = {
            "rows": [{"support": support, "right": mean}],
            "renders": {support: mean}, "trainings": {support: {}},
        }  # fmt: skip
        unseen.save(document, path, support)
    noted = json.loads(path.read_text())
    assert [(row["support"], row["right"]) for row in noted["rows"]] == [
        ("five-of-eight", 2), ("diagonal", 3),
    ]  # fmt: skip
    assert noted["renders"] == {"diagonal": 3, "five-of-eight": 2}


def estimate(mean: float) -> dict[str, Any]:
    return {"mean": mean, "seed_error": 0.01, "binomial_error": 0.02, "n": 9000, "n_seeds": 3}


def test_the_page_says_what_was_met_and_that_a_smoke_test_means_nothing(tmp_path: Path) -> None:
    row = {"support": "diagonal", "line": "plain", "right": estimate(0.9299)}
    row |= {"shape": estimate(0.95), "color": estimate(0.97), "absent": estimate(0.0)}
    document = {
        "settings": {
            "minutes_base": 60.0, "minutes": 10.0, "images": 9, "size": 32, "n": 8, "seeds": [100],
            "quick": True,
        },
        "device": "cpu", "threads": 1, "created": "2026-11-25T00:00:00Z",
        "renders": {"diagonal": 0.99}, "trainings": {"diagonal": {}},
        "rows": [row | {"pairs": "held-out"}, row | {"pairs": "seen"}],
    }  # fmt: skip
    unseen.write_page(document, tmp_path / "unseen.json")
    page = (tmp_path / "unseen.md").read_text(encoding="utf-8")
    assert "figures mean nothing" in page
    assert "9 pictures of 32 x 32 pixels" in page
    assert "diagonal: 13 of 24 pairs held out" in page
    assert "| plain | 93.0 ± 1.0 % | 95.0 ± 1.0 % |" in page
    assert page.rstrip().endswith("93.0 ± 1.0 % | missed |")


def test_another_size_needs_another_judge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["unseen", str(tmp_path), "--size", "32"])
    with pytest.raises(SystemExit) as caught:
        unseen.arguments()
    assert caught.value.code == 2
    assert "scripts/reproduce/judges DIR scenes-32" in capsys.readouterr().err
