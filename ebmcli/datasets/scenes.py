"""The recipe ``scenes``: one solid on a floor, of a shape, colour, position and size.

World units: x to the right of the picture, y away from the camera and so up in the picture, z up.
Positions count half sides of the square field on which solids stand: ``position=(0.4,-0.2)`` is
right of the middle and a little below it, (1, 1) the far right corner. The picture shows the whole
field with room for the largest solid on its edge.

Every factor is drawn uniformly and independently. Light, floor tint, camera height and the turn of
the solid vary mildly and are not labelled.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.factors import Factor, Value
from ebmcli.datasets.frame import Frame, Geom, GeomKind, Vector

# Far apart from each other, and from the grey floor, under every light; chosen by eye.
COLORS: dict[str, Vector] = {
    "red": (0.90, 0.06, 0.06),
    "green": (0.08, 0.62, 0.12),
    "blue": (0.08, 0.16, 0.95),
    "yellow": (0.98, 0.88, 0.08),
    "purple": (0.55, 0.10, 0.72),
    "cyan": (0.10, 0.85, 0.92),
    "orange": (1.00, 0.44, 0.02),
    "white": (0.95, 0.95, 0.95),
}

FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
        Factor(name="color", kind="categorical", names=tuple(COLORS)),
        Factor(name="position", kind="position", low=-1.0, high=1.0, unit="half sides"),
        Factor(name="size", kind="scalar", low=0.3, high=0.6, unit="world units"),
    )
}
HALF_SIDE = 0.65  # world units, of the field; chosen: solids fill a large part of the picture
ROUNDNESS = (32, 24)  # one large solid

KINDS: dict[str, GeomKind] = {"cube": "box", "sphere": "sphere", "cylinder": "cylinder"}
EDGE = 0.85  # half-edge of a cube or cylinder over size: solids of one size look equally large
MAX_TURN = 30.0  # degrees, of the solid about its upright axis
CAMERA_DISTANCE = 14.0  # world units; far and narrow, so that places far and near look alike
ELEVATION = (44.0, 52.0)  # degrees of the camera above the floor
TARGET = (0.0, 0.0, 0.42)  # the middle of the picture
FIELD_OF_VIEW = 11.5  # degrees; 1.41 world units to each side of the target
FLOOR_GREY = (0.24, 0.34)  # intensity
FLOOR_TINT = 0.02  # half-range per channel
LIGHT_STRENGTH = (0.55, 0.65)  # intensity
LIGHT_TINT = 0.05  # half-range per channel
LIGHT_SHIFT = 3.0  # world units to each side of overhead, at the height below
LIGHT_HEIGHT = 7.0  # world units
AMBIENT = 0.38  # intensity


def draw(rng: np.random.Generator) -> dict[str, Value]:
    """Labels of one scene, each factor uniform and independent of the others."""
    labels: dict[str, Value] = {}
    for name, factor in FACTORS.items():
        if factor.kind == "categorical":
            labels[name] = factor.names[int(rng.integers(len(factor.names)))]
        elif factor.kind == "scalar":
            labels[name] = float(rng.uniform(factor.low, factor.high))
        else:
            x, y = rng.uniform(factor.low, factor.high, size=2)
            labels[name] = (float(x), float(y))
    return labels


def frame(labels: Mapping[str, Value], rng: np.random.Generator) -> Frame:
    """The picture of a scene; ``rng`` draws only what is not labelled."""
    turn = float(rng.uniform(-MAX_TURN, MAX_TURN))
    return stage((solid(labels, turn, half_side=HALF_SIDE),), rng, field_of_view=FIELD_OF_VIEW)


def stage(geoms: tuple[Geom, ...], rng: np.random.Generator, *, field_of_view: float) -> Frame:
    """Solids on the floor; ``rng`` draws camera height, floor and light."""
    elevation = math.radians(float(rng.uniform(*ELEVATION)))
    grey = rng.uniform(*FLOOR_GREY) + rng.uniform(-FLOOR_TINT, FLOOR_TINT, size=3)
    light = rng.uniform(*LIGHT_STRENGTH) * (1 + rng.uniform(-LIGHT_TINT, LIGHT_TINT, size=3))
    shift = rng.uniform(-LIGHT_SHIFT, LIGHT_SHIFT, size=2)
    floor = _vector(grey)
    return Frame(
        geoms=geoms,
        floor_color=floor,
        background=floor,
        camera_position=(
            0.0,
            TARGET[1] - CAMERA_DISTANCE * math.cos(elevation),
            TARGET[2] + CAMERA_DISTANCE * math.sin(elevation),
        ),
        camera_target=TARGET,
        field_of_view=field_of_view,
        light_position=(float(shift[0]), float(shift[1]) - 1.5, LIGHT_HEIGHT),
        light_target=(0.0, 0.0, 0.0),
        light_color=_vector(light),
        ambient=AMBIENT,
    )


def solid(labels: Mapping[str, Value], turn: float, *, half_side: float) -> Geom:
    """One solid on a field of this half side, turned by degrees about its upright axis."""
    shape, color, place, size = (labels[name] for name in FACTORS)
    if not isinstance(place, tuple) or not isinstance(size, float):
        raise TypeError("position is a pair, size a number")
    x, y = (half_side * part for part in place)
    half = size if shape == "sphere" else EDGE * size
    sizes = {"cube": (half, half, half), "sphere": (half,), "cylinder": (half, half)}
    return Geom(
        kind=KINDS[str(shape)],
        position=(x, y, half),
        size=sizes[str(shape)],
        color=COLORS[str(color)],
        rotation=(0.0, 0.0, turn),
    )


def _vector(values: NDArray[np.float64]) -> Vector:
    """Three plain numbers."""
    r, g, b = (float(value) for value in values)
    return (r, g, b)
