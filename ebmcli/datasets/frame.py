"""Frames: what the renderer draws, as plain numbers; recipes make them, MuJoCo shows them.

World units; z is up, the floor is the plane z = 0. Colours are (r, g, b) in [0, 1].
"""

from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, float, float]
GeomKind = Literal["box", "sphere", "cylinder", "capsule", "ellipsoid"]


@dataclass(frozen=True, kw_only=True)
class Geom:
    """One solid. ``size`` is MuJoCo's: half-extents, (radius,), or (radius, half-length)."""

    kind: GeomKind
    position: Vector
    size: tuple[float, ...]
    color: Vector
    rotation: Vector = (0.0, 0.0, 0.0)  # degrees about the fixed x, then y, then z axis


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture to be: solids, light and camera."""

    geoms: tuple[Geom, ...]
    floor_color: Vector | None  # None: no floor
    background: Vector
    camera_position: Vector
    camera_target: Vector
    field_of_view: float  # degrees, vertical
    light_position: Vector
    light_target: Vector
    light_color: Vector  # diffuse
    ambient: float = 0.3  # headlight, intensity from every side
