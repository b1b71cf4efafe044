import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ebmcli.datasets.frame import Frame, Geom
from ebmcli.datasets.renderer import MAX_GEOMS, Renderer, rotation_matrix

pytestmark = pytest.mark.render

RED = (1.0, 0.0, 0.0)
EMPTY = Frame(
    geoms=(),
    floor_color=None,
    background=(0.2, 0.4, 0.6),
    camera_position=(0.0, -6.0, 0.0),
    camera_target=(0.0, 0.0, 0.0),
    field_of_view=30.0,
    light_position=(0.0, -6.0, 3.0),
    light_target=(0.0, 0.0, 0.0),
    light_color=(0.6, 0.6, 0.6),
)


def with_solid(kind, size, rotation=(0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0)):
    solid = Geom(kind=kind, position=position, size=size, color=RED, rotation=rotation)
    return replace(EMPTY, geoms=(solid,))


def extent(image):
    """Width and height of what is red, and its middle (column, row)."""
    rows, columns = np.nonzero(image[..., 0].astype(int) > image[..., 2].astype(int) + 60)
    middle = ((columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2)
    return columns.max() - columns.min() + 1, rows.max() - rows.min() + 1, middle


@pytest.fixture(scope="module")
def renderer():
    with Renderer(size=64) as opened:
        yield opened


def test_the_background_has_exactly_its_colour(renderer):
    image = renderer.render(EMPTY)
    assert image.dtype == np.uint8
    assert image.shape == (64, 64, 3)
    assert (image == (51, 102, 153)).all()


@pytest.mark.parametrize(
    ("kind", "size", "width", "height"),
    [
        ("box", (0.8, 0.4, 0.2), 1.6, 0.4),
        ("sphere", (0.5,), 1.0, 1.0),
        ("cylinder", (0.3, 0.6), 0.6, 1.2),
        ("capsule", (0.3, 0.4), 0.6, 1.4),
        ("ellipsoid", (0.8, 0.4, 0.2), 1.6, 0.4),
    ],
)
def test_every_solid_has_its_size_upright_and_turned(renderer, kind, size, width, height):
    """Seen along y from 6 units through 30 degrees: 64 pixels show 2 * 6 * tan(15) = 3.215."""
    per_unit = 64 / (2 * 6 * np.tan(np.radians(15)))
    upright = extent(renderer.render(with_solid(kind, size)))
    turned = extent(renderer.render(with_solid(kind, size, rotation=(0.0, 90.0, 0.0))))
    assert upright[:2] == pytest.approx((width * per_unit, height * per_unit), abs=3.5)
    assert turned[:2] == pytest.approx((height * per_unit, width * per_unit), abs=3.5)


def test_x_is_right_and_z_is_up(renderer):
    column, row = extent(renderer.render(with_solid("sphere", (0.3,), position=(0.8, 0, 0.6))))[2]
    assert column > 40
    assert row < 28


def test_a_picture_does_not_depend_on_the_one_before(renderer):
    one, two = with_solid("box", (0.5, 0.5, 0.5)), with_solid("sphere", (0.2,))
    floor = replace(two, floor_color=(0.3, 0.3, 0.3), background=(0.9, 0.1, 0.1))
    first = renderer.render(one)
    renderer.render(floor)
    assert (renderer.render(one) == first).all()


def test_two_renderers_do_not_disturb_each_other(renderer):
    frame = with_solid("box", (0.5, 0.5, 0.5))
    before = renderer.render(frame)
    with Renderer(size=32) as small:
        assert small.render(frame).shape == (32, 32, 3)
        assert (renderer.render(frame) == before).all()
    assert (renderer.render(frame) == before).all()


def test_a_solid_throws_a_shadow_on_the_floor_and_the_floor_none_on_itself(renderer):
    above = replace(
        EMPTY,
        floor_color=(0.5, 0.5, 0.5),
        camera_position=(0.0, -4.0, 4.0),
        light_position=(-4.0, 0.0, 6.0),
    )
    bare = renderer.render(above).astype(int)
    ball = Geom(kind="sphere", position=(0.0, 0.0, 0.4), size=(0.4,), color=RED)
    shaded = renderer.render(replace(above, geoms=(ball,))).astype(int)
    assert np.ptp(bare, axis=(0, 1)).max() <= 8
    dark = shaded.sum(2) < bare.sum(2) - 100
    dark &= shaded[..., 0] < shaded[..., 1] + 20  # not the ball
    assert dark.any()
    assert np.nonzero(dark)[1].mean() > 32  # the light comes from the left


def test_a_picture_does_not_depend_on_what_the_memory_held(renderer):
    """MuJoCo does not clear the solids of a new scene, and mjv_initGeom leaves fields as they are.

    One of them is the category, where 4 takes a solid its shadow: a scene made where a 4 had been
    in memory gave other pictures than one made in a fresh process.
    """
    ball = Geom(kind="sphere", position=(0.0, 0.0, 0.4), size=(0.4,), color=RED)
    frame = replace(
        EMPTY,
        geoms=tuple(replace(ball, position=(x, 0.0, 0.4)) for x in (-1.0, 0.0, 1.0)),
        floor_color=(0.5, 0.5, 0.5),
        camera_position=(0.0, -6.0, 6.0),
        light_position=(-4.0, 0.0, 6.0),
    )
    slots = renderer._scene.geoms[:4]
    fields = [name for name in dir(slots[0]) if isinstance(getattr(slots[0], name), (int, float))]
    assert {"category", "objid", "transparent", "camdist"} <= set(fields)
    pictures = []
    for held in (0, 1, 2, 4, 99):
        for slot in slots:
            for name in fields:
                setattr(slot, name, held)
        pictures.append(renderer.render(frame))
    assert all((picture == pictures[0]).all() for picture in pictures)


def test_turns_are_about_the_fixed_axes_x_then_y_then_z():
    matrix = rotation_matrix((90.0, 0.0, 90.0))
    assert matrix @ (0, 1, 0) == pytest.approx((0, 0, 1))  # by x to z, where z leaves it
    assert matrix @ (1, 0, 0) == pytest.approx((0, 1, 0))
    assert matrix @ matrix.T == pytest.approx(np.eye(3))


def test_impossible_orders_are_refused(renderer):
    with pytest.raises(ValueError, match="size"):
        Renderer(size=0)
    many = replace(EMPTY, geoms=with_solid("sphere", (0.1,)).geoms * (MAX_GEOMS + 1))
    with pytest.raises(ValueError, match="solids"):
        renderer.render(many)


def test_without_opengl_there_is_one_error_with_one_hint():
    """In a fresh process: MuJoCo chooses its OpenGL when it is imported."""
    program = (
        "from ebmcli.datasets.renderer import Renderer\n"
        "from ebmcli.errors import RenderError\n"
        "try:\n    Renderer(size=64)\n"
        "except RenderError as error:\n    print(error.problem, '|', error.hint)\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "nothing"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert "MuJoCo finds no OpenGL (nothing:" in done.stdout
    assert "unset MUJOCO_GL" in done.stdout
