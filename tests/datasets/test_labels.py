import numpy as np
import pytest

from ebmcli.core.expression import parse
from ebmcli.core.statements import resolve
from ebmcli.datasets.labels import draw_labels, holds, read_restriction
from ebmcli.datasets.recipes import find_recipe
from ebmcli.errors import ConfigError, ExpressionError, UnknownNameError

SCENES = find_recipe("scenes")
LABELS = {"shape": "cube", "color": "red", "position": (0.4, -0.2), "size": 0.45}


def drawn(n=300, **options):
    restriction = read_restriction(SCENES, **options)
    rng = np.random.default_rng(0)
    return [draw_labels(SCENES, restriction, rng) for _ in range(n)]


@pytest.mark.parametrize(
    ("source", "truth"),
    [
        ("color=red", True),
        ("color=blue", False),
        ("~color=blue & shape=cube", True),
        ("color=blue -> shape=sphere", True),
        ("size>0.4", True),
        ("size<0.4", False),
        ("size=0.46", True),
        ("size=0.5", False),
        ("position=(0.55,-0.35)", True),
        ("position=(0.65,-0.2)", False),
    ],
)
def test_an_expression_is_true_of_labels_as_it_reads(source, truth):
    assert holds(resolve(parse(source), SCENES.factors), LABELS, SCENES.factors) is truth


def test_fixed_factors_take_all_their_values_and_no_other():
    labels = drawn(fix=("color=red,blue", "size=0.3,0.5", "position=(0,0),(0.5,-0.5)"))
    assert {each["color"] for each in labels} == {"red", "blue"}
    assert {each["size"] for each in labels} == {0.3, 0.5}
    assert {each["position"] for each in labels} == {(0.0, 0.0), (0.5, -0.5)}
    assert {each["shape"] for each in labels} == set(SCENES.factors["shape"].names)


def test_a_grid_has_its_points_and_both_ends():
    labels = drawn(grid=("position=3", "size=4"))
    assert {each["position"] for each in labels} == {(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)}
    sizes = sorted({each["size"] for each in labels})
    assert sizes == pytest.approx([0.3, 0.4, 0.5, 0.6])


CLUTTER = find_recipe("clutter")
THINGS = {
    "count": "2",
    "object": [
        {"shape": "cube", "color": "red", "position": (0.5, 0.3), "size": 0.3},
        {"shape": "sphere", "color": "blue", "position": (-0.5, 0.3), "size": 0.3},
    ],
}


@pytest.mark.parametrize(
    ("source", "truth"),
    [
        ("object(color=red)", True),
        ("object(color=green)", False),
        ("object(color=red, position=(0.6,0.2))", True),
        ("object(color=red, position=(-0.5,0.3))", False),  # that one is blue
        ("object(color=red, shape=sphere)", False),
        ("object(color=red) & object(shape=sphere) & count=2", True),
        ("object", True),
        ("count=3", False),
    ],
)
def test_a_statement_about_objects_holds_when_one_has_it_all(source, truth):
    assert holds(resolve(parse(source), CLUTTER.factors), THINGS, CLUTTER.factors) is truth


def test_objects_that_are_held_out_are_never_drawn():
    restriction = read_restriction(CLUTTER, fix=("count=1,2",), hold_out="object(color=red)")
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = draw_labels(CLUTTER, restriction, rng)
        assert labels["count"] in ("1", "2")
        assert all(thing["color"] != "red" for thing in labels["object"])


def test_a_held_out_expression_never_holds_and_the_rest_keeps_its_odds():
    """Of 24 pairs one is left out: its colour keeps 2 of 23 shares; four standard errors."""
    n = 4000
    labels = drawn(n, hold_out="shape=cube & color=red")
    pairs = [(each["shape"], each["color"]) for each in labels]
    assert ("cube", "red") not in pairs
    share = 2 / 23
    found = sum(color == "red" for _, color in pairs) / n
    assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n))
    assert not any(each["size"] > 0.4 for each in drawn(hold_out="size>0.4"))


@pytest.mark.parametrize(
    ("hold_out", "left"),
    [
        ("size>=0.45", {0.3, 0.375}),
        ("size>0.45", {0.3, 0.375, 0.45}),
        ("size<=0.45", {0.525, 0.6}),
        ("size<0.45", {0.45, 0.525, 0.6}),
        ("~(size>=0.45)", {0.45, 0.525, 0.6}),
    ],
)
def test_a_bound_on_a_grid_point_is_held_out_as_written(hold_out, left):
    for options in ({"grid": ("size=5",)}, {"fix": ("size=0.3,0.375,0.45,0.525,0.6",)}):
        labels = drawn(hold_out=hold_out, **options)
        assert {round(each["size"], 6) for each in labels} == left


def test_a_rare_restriction_is_refused_at_the_start_and_others_never_fail_later():
    """Of 24 pairs of equal odds one tenth of the sizes is left: 0.4 %; two thirds, 2.8 %."""
    with pytest.raises(ConfigError, match=r"of 2000 pictures drawn .* at least 20 are needed"):
        read_restriction(SCENES, hold_out="~(shape=cube & color=red & size<0.33)")
    rare = read_restriction(SCENES, hold_out="~(shape=cube & color=red & size<0.5)")
    for seed in range(5):
        labels = draw_labels(SCENES, rare, np.random.default_rng(seed))
        assert (labels["shape"], labels["color"]) == ("cube", "red")
        assert labels["size"] < 0.5


def test_binary_factors_are_fixed_by_yes_and_no():
    faces = find_recipe("faces")
    restriction = read_restriction(faces, fix=("old=yes",), hold_out="old & male")
    rng = np.random.default_rng(0)
    labels = [draw_labels(faces, restriction, rng) for _ in range(50)]
    assert {(each["old"], each["male"]) for each in labels} == {("yes", "no")}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fix": ["colr=red"]}, UnknownNameError, "unknown factor 'colr'"),
        ({"fix": ["color=rod"]}, UnknownNameError, "unknown value of color 'rod'"),
        ({"fix": ["color"]}, ConfigError, "has no value"),
        ({"fix": ["color="]}, ConfigError, "has no value"),
        ({"fix": ["color=,"]}, ConfigError, "is no value of color"),
        ({"fix": ["size=9"]}, ExpressionError, "size is between"),
        ({"fix": ["position=0.1,0.2"]}, ConfigError, "is no value of position"),
        ({"fix": ["position=(0,0),0.5"]}, ConfigError, "is no value of position"),
        ({"fix": ["position=(0,0),(0.5,x"]}, ConfigError, "is no value of position"),
        ({"fix": ["position=(0,0) or (0.5,0.5)"]}, ConfigError, "is no value of position"),
        ({"fix": ["size=0.4 & size=0.5"]}, ConfigError, "'0.4 & size=0.5' is no value of size"),
        ({"fix": ["size=0.4,0.5 | size=0.4"]}, ConfigError, "is no value of size"),
        ({"fix": ["color=red", "color=blue"]}, ConfigError, "restricted twice"),
        ({"fix": ["size=0.4"], "grid": ["size=3"]}, ConfigError, "restricted twice"),
        ({"grid": ["color=3"]}, ConfigError, "has names"),
        ({"grid": ["position=1"]}, ConfigError, "2 to 1000"),
        ({"grid": ["position=many"]}, ConfigError, "2 to 1000"),
        ({"hold_out": "shape=cube &"}, ExpressionError, "expected"),
        ({"hold_out": "shape=cone"}, UnknownNameError, "unknown value of shape"),
        ({"hold_out": "color=red | ~color=red"}, ConfigError, "0 of 2000 .* are allowed"),
        ({"hold_out": "color=red", "fix": ["color=red"]}, ConfigError, "0 of 2000 .* are allowed"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        read_restriction(SCENES, **options)


def test_an_unknown_recipe_is_not_guessed():
    with pytest.raises(UnknownNameError, match="unknown recipe 'scene'") as error:
        find_recipe("scene")
    assert error.value.suggestion == "scenes"
