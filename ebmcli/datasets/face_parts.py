"""The geometry of a stylised head: which solids stand where, for one look.

Axes: x to the right of the picture, y away from the camera, z up; the head is about two units
wide, its chin near z = -1.15, its crown near z = 1.15. Lengths are in these units; one pixel of a
64x64 picture is about 0.055. Colours are in [0, 1], angles in degrees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ebmcli.datasets.frame import Geom, Vector

INK: Vector = (0.05, 0.04, 0.05)
WHITE: Vector = (1.0, 1.0, 0.98)
GREY: Vector = (0.86, 0.86, 0.86)
GRIZZLED: Vector = (0.60, 0.60, 0.63)  # what age does to black hair, in places
LIPSTICK: Vector = (0.85, 0.04, 0.16)
GOLD: Vector = (1.0, 0.80, 0.15)
SIDES = (-1.0, 1.0)
EYE_X, EYE_Z = 0.37, 0.10


@dataclass(frozen=True, kw_only=True)
class Look:
    """All that decides how a face looks: eight factors, then what no label tells."""

    old: bool
    male: bool
    smiling: bool
    wavy: bool
    black_hair: bool
    glasses: bool
    beard: bool
    hat: bool
    skin: Vector
    hair: Vector  # already black where black_hair
    hair_end: float  # z of the lowest hair
    iris: Vector
    hat_color: Vector
    shirt: Vector
    phase: float  # of the waves, in [0, 1]


def shade(color: Vector, by: float) -> Vector:
    """The colour, every channel multiplied by ``by`` and cut at 1."""
    red, green, blue = color
    return (min(1.0, red * by), min(1.0, green * by), min(1.0, blue * by))


def ellipsoid(position: Vector, radii: Vector, color: Vector) -> Geom:
    """An upright ellipsoid."""
    return Geom(kind="ellipsoid", position=position, size=radii, color=color)


def disc(position: Vector, radius: float, color: Vector) -> Geom:
    """A thin disc that faces the front of the head."""
    size = (radius, 0.015)
    return Geom(kind="cylinder", position=position, size=size, color=color, rotation=(90, 0, 0))


def rod(start: Vector, end: Vector, radius: float, color: Vector) -> Geom:
    """A capsule whose axis runs from ``start`` to ``end``, which must differ."""
    dx, dy, dz = (b - a for a, b in zip(start, end, strict=True))
    length = math.hypot(dx, dy, dz)
    return Geom(
        kind="capsule",
        position=((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, (start[2] + end[2]) / 2),
        size=(radius, length / 2),
        color=color,
        rotation=(0.0, math.degrees(math.acos(dz / length)), math.degrees(math.atan2(dy, dx))),
    )


@dataclass(frozen=True)
class Canvas:
    """Draws on the front of upright ellipsoids: points are (x, z), the depth comes from them."""

    solids: Sequence[Geom]

    def at(self, x: float, z: float, lift: float = 0.0) -> Vector:
        """The foremost point of the surface at (x, z), ``lift`` nearer to the camera."""
        nearest = 0.0
        for solid in self.solids:
            u = (x - solid.position[0]) / solid.size[0]
            w = (z - solid.position[2]) / solid.size[2]
            if (inside := 1.0 - u * u - w * w) > 0.0:
                nearest = min(nearest, solid.position[1] - solid.size[1] * math.sqrt(inside))
        return (x, nearest - lift, z)

    def stroke(
        self, points: Sequence[tuple[float, float]], radius: float, color: Vector, lift: float = 0
    ) -> list[Geom]:
        """A line of constant thickness through the points."""
        places = [self.at(x, z, lift) for x, z in points]
        return [rod(a, b, radius, color) for a, b in pairwise(places)]


def skull(look: Look) -> list[Geom]:
    """Cranium, lower face, then what hangs on them: a square jaw and ears, or earrings."""
    if not look.male:
        rings = [
            Geom(kind="sphere", position=(s * 0.84, -0.30, -0.42), size=(0.12,), color=GOLD)
            for s in SIDES
        ]
        return [
            ellipsoid((0.0, 0.0, 0.25), (0.86, 0.95, 0.90), look.skin),
            ellipsoid((0.0, -0.10, -0.38), (0.66, 0.80, 0.76), look.skin),
            *rings,
        ]
    jaw = rod((-0.48, -0.28, -0.80), (0.48, -0.28, -0.80), 0.34, look.skin)
    ears = [ellipsoid((s * 0.93, -0.10, 0.0), (0.14, 0.12, 0.22), look.skin) for s in SIDES]
    return [
        ellipsoid((0.0, 0.0, 0.25), (0.90, 0.95, 0.90), look.skin),
        ellipsoid((0.0, -0.10, -0.42), (0.86, 0.80, 0.70), look.skin),
        jaw,
        *ears,
    ]


def trunk(look: Look) -> list[Geom]:
    """Neck and shoulders: broad for a man, slender for a woman."""
    neck, shoulders = (0.52, 1.85) if look.male else (0.25, 1.05)
    return [
        rod((0.0, 0.15, -0.8), (0.0, 0.15, -1.7), neck, shade(look.skin, 0.85)),
        ellipsoid((0.0, 0.2, -1.95), (shoulders, 0.6, 0.50), look.shirt),
    ]


def eyes(look: Look, face: Canvas) -> list[Geom]:
    """Eyes, brows (thick for a man, white when old) and a woman's winged lashes."""
    lift = 0.20 if look.glasses else 0.0  # before the lenses
    brow = GREY if look.old else shade(look.hair, 0.6)
    parts = []
    for side in SIDES:
        x = side * EYE_X
        parts.append(ellipsoid(face.at(x, EYE_Z, lift), (0.18, 0.06, 0.14), WHITE))
        parts.append(ellipsoid(face.at(x, EYE_Z, lift + 0.05), (0.10, 0.04, 0.11), look.iris))
        inner, outer = (0.50, 0.48) if look.male else (0.53, 0.50)
        line = [(x - side * 0.22, inner), (x + side * 0.22, outer)]
        parts += face.stroke(line, 0.10 if look.male else 0.05, brow, 0.04)
        if not look.male:
            lash = [(x - side * 0.16, EYE_Z + 0.17), (x + side * 0.27, EYE_Z + 0.19)]
            parts += face.stroke(lash, 0.055, INK, lift + 0.05)
    return parts


def nose(look: Look, face: Canvas) -> list[Geom]:
    """The nose, broader for a man."""
    width = 0.17 if look.male else 0.11
    return [ellipsoid(face.at(0.0, -0.19, 0.02), (width, 0.20, 0.18), shade(look.skin, 0.88))]


def mouth(look: Look, face: Canvas) -> list[Geom]:
    """A wide open bow with a band of teeth, or a short line with its corners down."""
    lips = shade(look.skin, 0.45) if look.male else LIPSTICK
    if not look.smiling:
        line = [(-0.24, -0.66), (0.0, -0.60), (0.24, -0.66)]
        return face.stroke(line, 0.065 if look.male else 0.08, lips, 0.03)
    bow = [(-0.46, -0.40), (-0.22, -0.66), (0.22, -0.66), (0.46, -0.40)]
    teeth = ellipsoid(face.at(0.0, -0.46, 0.03), (0.42, 0.09, 0.17), WHITE)
    return [teeth, *face.stroke(bow, 0.07, lips, 0.07)]


def wrinkles(look: Look, face: Canvas) -> list[Geom]:
    """Furrows on the forehead, bags under the eyes, folds down the cheeks."""
    if not look.old:
        return []
    dark = shade(look.skin, 0.52)
    parts = []
    if not look.hat:
        for height, half in ((0.68, 0.40), (0.84, 0.30)):
            parts += face.stroke([(-half, height), (half, height)], 0.045, dark, 0.07)
    for side in SIDES:
        lift = 0.22 if look.glasses else 0.02
        bag = [(side * 0.24, -0.07), (side * 0.50, -0.07)]
        outer = 0.62 if look.male else 0.54
        fold = [(side * (outer - 0.08), -0.20), (side * outer, -0.54)]
        parts += face.stroke(bag, 0.045, dark, lift) + face.stroke(fold, 0.05, dark, 0.03)
    return parts


def glasses(look: Look, face: Canvas) -> list[Geom]:
    """Round dark rims, pale lenses behind the eyes, a bridge."""
    if not look.glasses:
        return []
    front = face.at(EYE_X, EYE_Z)[1] - 0.12
    red, green, blue = look.skin
    lens = (0.5 * red + 0.40, 0.5 * green + 0.47, 0.5 * blue + 0.5)
    parts = [rod((-0.12, front, EYE_Z + 0.06), (0.12, front, EYE_Z + 0.06), 0.06, INK)]
    for side in SIDES:
        parts.append(disc((side * EYE_X, front, EYE_Z), 0.34, INK))
        parts.append(disc((side * EYE_X, front - 0.03, EYE_Z), 0.25, lens))
    return parts


def hair(look: Look) -> list[Geom]:
    """A cap and two sides: smooth straight curtains, or round locks that stand out."""
    cap = ellipsoid((0.0, 0.20, 0.44), (0.98, 0.93, 0.90), look.hair)
    return [cap, *(_waves(look) if look.wavy else _curtains(look))]


def _curtains(look: Look) -> list[Geom]:
    """Flat strands that fall straight beside the face, and a panel behind it."""
    top, end = 0.45, look.hair_end
    middle, half = (top + end) / 2, (top - end) / 2
    parts = [
        Geom(
            kind="box",
            position=(0.0, 0.5, middle),
            size=(0.88, 0.12, half),
            color=shade(look.hair, 0.85),
        )
    ]
    for side in SIDES:
        for x, y in ((0.86, -0.06), (0.88, 0.26)):
            place = side * x
            parts.append(rod((place, y, top), (place, y, end), 0.17, look.hair))
        if look.old:
            temple = _temple(look)
            parts.append(ellipsoid((side * 0.93, -0.12, 0.36), (0.15, 0.20, 0.24), temple))
    return parts


def _temple(look: Look) -> Vector:
    """Hair beside the eyes of the old."""
    return GRIZZLED if look.black_hair else shade(look.hair, 0.8)


def _waves(look: Look) -> list[Geom]:
    """Round locks of two shades down both sides and, without a hat, on the crown."""
    light, dark = shade(look.hair, 1.2), shade(look.hair, 0.8)
    parts = []
    top = 0.62 if look.hat else 0.72
    step = (top - look.hair_end) / 3.4
    for side in SIDES:
        for i in range(4):
            z = top - step * (i + 0.4 * look.phase)
            place = (side * (1.02 if i % 2 else 1.14), 0.1, z)
            radii = (0.30, 0.30, max(0.20, 0.60 * step))
            color = _temple(look) if i == 0 and look.old else light if i % 2 else dark
            parts.append(ellipsoid(place, radii, color))
        if not look.hat:
            parts.append(ellipsoid((side * 0.44, 0.0, 1.22), (0.42, 0.35, 0.28), light))
    return parts


def beard(look: Look) -> list[Geom]:
    """Bulk of hair along the jaw and on the chin, grey there when old; the mouth stays free."""
    if not look.beard:
        return []
    color = shade(look.hair, 0.78)
    width = 0.66 if look.male else 0.54
    sides = [ellipsoid((s * width, -0.38, -0.66), (0.24, 0.42, 0.40), color) for s in SIDES]
    chin = GRIZZLED if look.old and look.black_hair else color
    return [*sides, ellipsoid((0.0, -0.52, -1.08), (width, 0.46, 0.32), chin)]


def hat(look: Look) -> list[Geom]:
    """A round crown with a band above a wide brim."""
    if not look.hat:
        return []
    band = shade(look.hat_color, 0.4)
    brim = Geom(
        kind="cylinder",
        position=(0.0, -0.05, 0.92),
        size=(1.38, 0.07),
        color=look.hat_color,
        rotation=(-5.0, 0.0, 0.0),
    )
    return [
        ellipsoid((0.0, 0.08, 0.93), (1.00, 1.03, 0.64), look.hat_color),
        Geom(kind="cylinder", position=(0.0, 0.08, 1.07), size=(1.01, 0.09), color=band),
        brim,
    ]
