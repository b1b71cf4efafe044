"""`ebm explain`: the formula as it was read, without drawing anything."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ebmcli.cli.app import app
from ebmcli.datasets.clutter import FACTORS
from ebmcli.errors import UnknownNameError, UsageError
from ebmcli.registry import Record, create_registry, read_registry
from ebmcli.workflows.explain import explain
from ebmcli.workflows.formulas import formula_of, space_of


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["explain", "--registry", str(path), *words])


def test_a_formula_in_full(filled: Path) -> None:
    result = run(filled, "color=red & ~(size>0.3 | color=blue)")
    assert result.exit_code == 0, result.stderr
    digest = read_registry(filled).get("concept", "color").sha256[:19]
    lines = result.stdout.splitlines()
    assert lines[:6] == [
        "and",
        "├── color=red",
        "└── not",
        "    └── or",
        "        ├── size>0.3",
        "        └── color=blue",
    ]
    assert "means      color=red & (~size>0.3 & ~color=blue)" in lines
    assert "space      scenes-64" in lines
    assert "by chance  16.7 % of pictures, if every value is as likely" in lines
    assert 'command    ebm generate "color=red and not (size>0.3 or color=blue)"' in lines
    assert f"color  categorical, posterior, {digest}" in lines
    assert "  color=red  1 of 3 cells, 33.3 % by chance" in lines
    assert "  size>0.3  8.5 of 17 cells, 50 % by chance" in lines
    assert "note: color=red, color=blue exclude each other: a picture has one color" in lines


def test_one_json_document(filled: Path) -> None:
    result = run(filled, "2*old", "--json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert found["space"] == "faces-64"
    assert found["probability"] == pytest.approx(0.5)
    assert found["concepts"][0]["statements"] == [{"text": "2*old", "cells": 1.0, "share": 0.5}]
    assert found["notes"] == ["what the picture says about old counts 2 times"]


def test_the_probability_by_chance_is_that_of_independent_uniform_values(filled: Path) -> None:
    registry = read_registry(filled)
    assert explain(registry, "color=red | size<0.3").probability == pytest.approx(2 / 3)
    assert explain(registry, "color=red | color=blue").probability == pytest.approx(2 / 3)


def test_branches_are_shown_where_there_is_a_choice(filled: Path) -> None:
    def line(formula: str) -> list[str]:
        lines = run(filled, formula).stdout.splitlines()
        return [text for text in lines if text.startswith("branches")]

    assert explain(read_registry(filled), "color=red | size<0.3").n_branches == 2
    assert line("size<0.3 & ~color=blue") == []
    assert line("color=red | size<0.3") == ["branches   color=red 50 %, ~color=red & size<0.3 50 %"]
    ends = [("red", 0.2, 0.4), ("blue", 0.25, 0.45)]
    many = " | ".join(f"color={c} & (size<{low} | size>{high})" for c, low, high in ends)
    many += " | ~color=red & ~color=blue & size>0.3"
    assert line(many)[0].endswith(", 1 more")


def test_a_concept_that_does_not_matter_is_named(filled: Path) -> None:
    explanation = explain(read_registry(filled), "color=red | color=red & size>0.3")
    assert explanation.notes == ("size does not matter: the formula means the same without it",)


def test_a_missing_file_is_named(filled: Path) -> None:
    (filled.parent / "checkpoints/old.safetensors").unlink()
    assert "FILE MISSING" in run(filled, "old").stdout


def test_concepts_of_two_spaces_are_refused_with_both_named(filled: Path) -> None:
    result = run(filled, "old & color=red")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: old is of the space faces-64 and color of scenes-64: one picture cannot show both\n"
    )


def test_what_looks_like_an_option_is_answered_with_how_to_negate(filled: Path) -> None:
    result = run(filled, "-1*old")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[1].startswith("hint: for the opposite of a concept write ~")
    assert "write ~" in run(filled, "--", "-1*old").stderr


def test_an_unknown_concept_has_a_caret_and_a_suggestion(filled: Path) -> None:
    result = run(filled, "old & colr=red")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: unknown concept 'colr' at column 7",
        "  old & colr=red",
        "        ^",
        "hint: did you mean 'color'? known: color, old, size",
    ]


def test_the_space_of_nothing_and_of_unknown_names(filled: Path) -> None:
    registry = read_registry(filled)
    assert space_of(registry, ["color", "size"]) == "scenes-64"
    with pytest.raises(UnknownNameError):
        space_of(registry, ["hue"])
    with pytest.raises(UsageError, match="no concept is named"):
        space_of(registry, [])


def test_a_concept_goes_by_its_name_in_the_registry(filled: Path) -> None:
    """The factor inside its file keeps the name it was trained under."""
    CliRunner().invoke(app, ["rename", "color", "hue", "--registry", str(filled)])
    formula, _ = formula_of(read_registry(filled), "hue=red")
    assert formula.concepts == ("hue",)
    assert formula.tables["hue"].factor.name == "color"


def test_statements_about_objects(registry_path: Path, register: Callable[..., Record]) -> None:
    """By chance 3 objects in 144 cells of 24 looks: P(red) = 1 - (1 - 3 * 3 / 24 / 144)^144."""
    register("concept", "object", space="clutter-64", factor=FACTORS["object"])
    register("concept", "count", space="clutter-64", factor=FACTORS["count"])
    formula = "count=3 & object(position=(0.5,0.3), color=red) & ~object(color=green)"
    result = run(registry_path, formula)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:5] == [
        "and",
        "├── count=3",
        "├── object(position=(0.5,0.3), color=red)",
        "└── not",
        "    └── object(color=green)",
    ]
    plain = "object(color=red, position=(0.5,0.3))"
    assert f"means      count=3 & {plain} & ~object(color=green)" in lines
    share = 1 - (1 - 3 * 3 / 24 / 144) ** 144
    assert f"  object(color=green)  432 of 3600 cells, {100 * share:.3g} % by chance" in lines
    assert "  count=3  1 of 5 cells, 20 % by chance" in lines
    unknown = run(registry_path, "object(colr=red)")
    assert unknown.exit_code == 2
    assert "unknown part of object 'colr' at column 8" in unknown.stderr
    assert "did you mean 'color'?" in unknown.stderr


def test_what_is_understood_of_objects_is_said(
    registry_path: Path, register: Callable[..., Record]
) -> None:
    factor = replace(FACTORS["object"], fewest=1)
    register("concept", "object", space="clutter-64", factor=factor)
    kept = read_registry(registry_path).get("concept", "object").factor
    assert kept is not None
    assert kept.fewest == 1
    result = run(registry_path, "~object(color=green)")
    assert result.exit_code == 0, result.stderr
    assert "note: object is understood: all pictures of object show one" in result.stdout
    assert "understood" not in run(registry_path, "object(color=green)").stdout
    never = run(registry_path, "~object")
    assert never.exit_code == 2
    assert "every picture of object shows one at least" in never.stderr


def test_a_factor_that_nobody_trained_yet_comes_with_how_to_train_it(tmp_path: Path) -> None:
    known = read_registry(create_registry(tmp_path))
    with pytest.raises(UnknownNameError) as caught:
        formula_of(known, "beard & ~hat")
    assert "ebm train beard --data faces.h5" in str(caught.value.hint)
    with pytest.raises(UnknownNameError) as caught:
        formula_of(known, "moustache")
    assert "this registry has no concept" in str(caught.value.hint)
