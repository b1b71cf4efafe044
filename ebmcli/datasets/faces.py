"""The recipe ``faces``: stylised heads with eight independent yes/no factors.

Each factor is a fair coin. Skin, hair tone and length, head turn, light, background, shirt and
eye colour vary and are not labelled; their draws never depend on the labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.factors import Factor, Value
from ebmcli.datasets import face_parts
from ebmcli.datasets.face_parts import Canvas, Look, shade
from ebmcli.datasets.frame import Frame, Geom, Vector
from ebmcli.datasets.renderer import rotation_matrix

FACTORS = {
    name: Factor(name=name, kind="binary", names=("no", "yes"))
    for name in ("old", "male", "smiling", "wavy", "black_hair", "glasses", "beard", "hat")
}
ROUNDNESS = (16, 10)  # dozens of small solids: three times faster, no difference to be seen
N_NUISANCE = 24  # uniform numbers behind one face, whatever its labels

# Chosen so that hair, skin, hat, shirt and background stay apart at 64x64 under every light.
SKINS = ((1.0, 0.84, 0.73), (0.93, 0.72, 0.57), (0.80, 0.58, 0.43), (0.66, 0.45, 0.32))
BLACK: Vector = (0.05, 0.045, 0.06)
HAIRS = ((0.95, 0.76, 0.30), (0.83, 0.36, 0.10), (0.45, 0.24, 0.10))  # blond, ginger, brown
GREYS = ((0.92, 0.93, 0.95), (0.70, 0.73, 0.78), (0.80, 0.83, 0.88))
HATS = ((0.82, 0.12, 0.14), (0.13, 0.28, 0.82), (0.08, 0.55, 0.25), (0.55, 0.18, 0.65))
SHIRTS = ((0.25, 0.45, 0.75), (0.35, 0.62, 0.42), (0.80, 0.40, 0.38), (0.55, 0.42, 0.70))
IRISES = ((0.20, 0.11, 0.05), (0.10, 0.28, 0.55), (0.08, 0.34, 0.18))
WALLS = ((0.45, 0.66, 0.80), (0.55, 0.75, 0.62), (0.80, 0.62, 0.66), (0.62, 0.60, 0.80))

NOD, TILT, YAW = 6.0, 5.0, 20.0  # degrees, the most the head turns either way
NECK = (0.0, 0.1, -0.9)  # the point about which the head turns
CAMERA = (0.0, -12.0, 0.0)
CAMERA_TARGET = (0.0, 0.0, -0.10)
FIELD_OF_VIEW = 16.8  # degrees; 3.5 units of height at the head


def draw(rng: np.random.Generator) -> dict[str, Value]:
    """Labels of one face: eight independent fair coins."""
    return {name: factor.names[int(rng.integers(2))] for name, factor in FACTORS.items()}


def frame(labels: Mapping[str, Value], rng: np.random.Generator) -> Frame:
    """The head with these labels; ``rng`` draws everything that has no label."""
    u = rng.uniform(size=N_NUISANCE)
    look = _look({name: labels[name] == "yes" for name in FACTORS}, u)
    turn = rotation_matrix((NOD * (2 * u[8] - 1), TILT * (2 * u[9] - 1), YAW * (2 * u[7] - 1)))
    head = [_turned(part, turn) for part in _head(look)]
    scale, dx, dz = 1.0 + 0.08 * (u[10] - 0.5), 0.14 * (u[11] - 0.5), 0.14 * (u[12] - 0.5)
    tint = (1.0 + 0.2 * (u[15] - 0.5), 1.0, 1.0 - 0.2 * (u[15] - 0.5))
    power = 0.50 + 0.14 * u[16]
    return Frame(
        geoms=(*face_parts.trunk(look), *head),
        floor_color=None,
        background=shade(_blend(WALLS, u[17]), 0.85 + 0.25 * u[18]),
        camera_position=(CAMERA[0] + dx, CAMERA[1] * scale, CAMERA[2] + dz),
        camera_target=(CAMERA_TARGET[0] + dx, 0.0, CAMERA_TARGET[2] + dz),
        field_of_view=FIELD_OF_VIEW,
        light_position=(5.0 * (2 * u[13] - 1), -8.0, 1.5 + 3.0 * u[14]),
        light_target=(0.0, 0.0, 0.0),
        light_color=(power * tint[0], power * tint[1], power * tint[2]),
        ambient=0.55,
    )


def _look(yes: Mapping[str, bool], u: NDArray[np.float64]) -> Look:
    """Colours and lengths of one face, from its labels and its nuisance numbers."""
    jitter = 0.06 * (u[19:22] - 0.5)
    tone = _one(GREYS if yes["old"] else HAIRS, u[1])
    lighter = tuple(min(1.0, max(0.0, c + j)) for c, j in zip(tone, jitter.tolist(), strict=True))
    return Look(
        **yes,
        skin=_blend(SKINS, u[0]),
        hair=BLACK if yes["black_hair"] else (lighter[0], lighter[1], lighter[2]),
        hair_end=-0.25 - 0.85 * float(u[2]),
        iris=_one(IRISES, u[3]),
        hat_color=_one(HATS, u[4]),
        shirt=_blend(SHIRTS, u[5]),
        phase=float(u[6]),
    )


def _head(look: Look) -> list[Geom]:
    """All that turns with the head."""
    skull = face_parts.skull(look)
    face = Canvas(skull[:2])
    parts = [*skull, *face_parts.hair(look), *face_parts.beard(look)]
    for draw_on in (
        face_parts.eyes,
        face_parts.nose,
        face_parts.mouth,
        face_parts.wrinkles,
        face_parts.glasses,
    ):
        parts += draw_on(look, face)
    return [*parts, *face_parts.hat(look)]


def _one(table: Sequence[Vector], u: float) -> Vector:
    """The entry of ``table`` at ``u`` in [0, 1)."""
    return table[int(u * len(table))]


def _blend(table: Sequence[Vector], u: float) -> Vector:
    """The colour at ``u`` in [0, 1) on the straight lines through the entries of ``table``."""
    place = u * (len(table) - 1)
    below = int(place)
    share = float(place - below)
    red, green, blue = (
        (1 - share) * a + share * b for a, b in zip(table[below], table[below + 1], strict=True)
    )
    return (red, green, blue)


def _turned(part: Geom, turn: NDArray[np.float64]) -> Geom:
    """The solid after the rotation ``turn`` (3, 3) about the neck."""
    x, y, z = (turn @ np.subtract(part.position, NECK) + NECK).tolist()
    matrix = turn @ rotation_matrix(part.rotation)
    # Rz(c) Ry(b) Rx(a) has the last row (-sin b, sin a cos b, cos a cos b).
    a = np.arctan2(matrix[2, 1], matrix[2, 2])
    b = -np.arcsin(np.clip(matrix[2, 0], -1, 1))
    c = np.arctan2(matrix[1, 0], matrix[0, 0])
    first, second, third = np.degrees((a, b, c)).tolist()
    return replace(part, position=(x, y, z), rotation=(first, second, third))
