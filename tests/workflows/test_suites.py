"""Templates and suites: which formulas a row of ``ebm eval`` speaks about."""

from itertools import combinations

import pytest

from ebmcli.core.expression import literals, parse
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.core.statements import resolve
from ebmcli.datasets.recipes import find_recipe
from ebmcli.errors import UnknownNameError, UsageError
from ebmcli.workflows.suites import fill, groups, named, suite_cases

COLOR = Factor(name="color", kind="categorical", names=("red", "blue"))
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
FACTORS = {"color": COLOR, "position": PLACE}


def test_groups_share_the_pictures_and_cycle_through_names() -> None:
    assert groups("color=?", FACTORS, n=5, seed=0) == [("color=red", 3), ("color=blue", 2)]
    assert groups("color=red", FACTORS, n=5, seed=0) == [("color=red", 5)]
    drawn = groups("color=? & position=?", FACTORS, n=50, seed=0)
    assert sum(n for _, n in drawn) == 50
    assert drawn == groups("color=? & position=?", FACTORS, n=50, seed=0)
    assert drawn != groups("color=? & position=?", FACTORS, n=50, seed=1)
    assert len(groups("position=?", FACTORS, n=14, seed=0)) == 2
    for source, _ in drawn:
        parse(source)


def test_open_parts_of_objects_are_filled_and_their_places_apart() -> None:
    factors = find_recipe("clutter").factors
    template = "object(position=?) & ~object(color=?, position=(0,0)) & count=?"
    assert named(template) == ["object", "object", "count"]
    for source, _ in groups(template, factors, n=30, seed=0):
        resolve(parse(source), factors)
    thing = "object(shape=?, color=?, position=?)"
    with pytest.raises(UsageError, match="find no place apart"):
        groups(" & ".join([thing] * 10), factors, n=20, seed=1)
    for n_objects in (2, 5):  # as many as the recipe shows
        many = groups(" & ".join([thing] * n_objects), factors, n=20, seed=1)
        assert len(many) == 4
        for source, _ in many:
            asked = [dict(literal.parts) for literal in literals(parse(source))]
            places = [part["position"] for part in asked]
            for (x, y), (other_x, other_y) in combinations(places, 2):
                assert max(abs(x - other_x), abs(y - other_y)) >= 0.8
        assert len({source for source, _ in many}) == 4


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("object(colr=?)", "unknown part of object 'colr'"),
        ("count(color=?)", "unknown part of count 'color'"),
        ("objekt(color=?)", "unknown concept 'objekt'"),
        ("colour=?", "unknown concept 'colour'"),
    ],
)
def test_misspelt_open_places_are_named(template: str, problem: str) -> None:
    with pytest.raises(UnknownNameError, match=problem):
        groups(template, find_recipe("clutter").factors, n=10, seed=0)


def test_the_conjunctions_of_clutter_can_be_read() -> None:
    factors = find_recipe("clutter").factors
    for case in suite_cases("conjunction", "clutter-32", factors):
        for source, _ in groups(case.template, factors, n=20, seed=0):
            compile_formula(resolve(parse(source), factors), factors)


def test_combinations_of_names_come_once_before_any_comes_twice() -> None:
    shape = Factor(name="shape", kind="categorical", names=("cube", "ball", "cone"))
    factors = {"color": COLOR, "shape": shape, "position": PLACE}
    few = groups("shape=? & color=?", factors, n=20, seed=0)  # 4 of 6
    assert len(set(few)) == len(few) == 4
    assert few != groups("shape=? & color=?", factors, n=20, seed=1)
    all_six = groups("shape=? & color=?", factors, n=60, seed=0)
    assert sorted(n for _, n in all_six) == [5] * 12
    assert len({source for source, _ in all_six}) == 6
    placed = groups("shape=? & color=? & position=?", factors, n=30, seed=0)
    assert len({source.rpartition(" & ")[0] for source, _ in placed}) == 6


def test_templates_are_filled_from_left_to_right() -> None:
    filled = fill("old=? & ~position=? | color=red", ["yes", (0.5, -0.25)])
    assert filled == "old=yes & ~position=(0.5,-0.25) | color=red"
    assert named("old & ~wavy-hair & color=red") == ["old", "wavy-hair", "color"]


def test_suites_list_what_the_registry_has() -> None:
    faces = {
        name: Factor(name=name, kind="binary", names=("no", "yes"))
        for name in ("old", "male", "wavy")
    }
    assert [c.template for c in suite_cases("single", "faces-64", faces)] == [
        "old=?", "male=?", "wavy=?",
    ]  # fmt: skip
    assert [c.template for c in suite_cases("conjunction", "faces-64", faces)] == [
        "old & male & ~wavy"
    ]
    assert [c.template for c in suite_cases("conjunction", "moons-64", faces)] == [
        "old=? & male=?", "male=? & wavy=?",
    ]  # fmt: skip
