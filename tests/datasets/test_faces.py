"""Faces: fair independent labels, frames within limits, and one label changing only its own."""

from itertools import combinations, product

import numpy as np
import pytest

from ebmcli.core.factors import Value
from ebmcli.datasets import faces
from ebmcli.datasets.faces import FACTORS, NOD, TILT, YAW, draw, frame
from ebmcli.datasets.frame import Frame
from ebmcli.datasets.renderer import Renderer

MAX_GEOMS = 44  # the promise of the recipe
SIZES = {"sphere": 1, "capsule": 2, "cylinder": 2, "box": 3, "ellipsoid": 3}
N_DRAWS = 4000
ALL: list[dict[str, Value]] = [
    dict(zip(FACTORS, values, strict=True)) for values in product(("no", "yes"), repeat=8)
]


def face(labels: dict[str, Value], seed: int = 0) -> Frame:
    """The frame of these labels, with the unlabelled variation of ``seed``."""
    return frame(labels, np.random.default_rng(seed))


def flipped(labels: dict[str, Value], name: str) -> dict[str, Value]:
    """The labels with one of them turned round."""
    return {**labels, name: "no" if labels[name] == "yes" else "yes"}


def test_factors_are_yes_or_no_and_carry_their_names() -> None:
    assert list(FACTORS) == [
        "old", "male", "smiling", "wavy", "black_hair", "glasses", "beard", "hat",
    ]  # fmt: skip
    for name, factor in FACTORS.items():
        assert (factor.name, factor.kind, factor.names) == (name, "binary", ("no", "yes"))


def test_labels_are_fair_coins_without_correlation() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw(rng) for _ in range(N_DRAWS)]
    signs = np.array([[1 if labels[n] == "yes" else -1 for n in FACTORS] for labels in drawn])
    # A mean of n independent signs has standard deviation 1 / sqrt(n); 5 of them never happen.
    tolerance = 5 / np.sqrt(N_DRAWS)
    assert np.abs(signs.mean(axis=0)).max() < tolerance
    for i, j in combinations(range(len(FACTORS)), 2):
        assert abs((signs[:, i] * signs[:, j]).mean()) < tolerance


def test_every_combination_is_drawn() -> None:
    rng = np.random.default_rng(2)
    assert len({tuple(draw(rng).values()) for _ in range(N_DRAWS)}) == 2 ** len(FACTORS)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_face_keeps_to_the_limits(seed: int) -> None:
    for labels in ALL:
        made = face(labels, seed)
        assert 0 < len(made.geoms) <= MAX_GEOMS
        assert made.floor_color is None
        for geom in made.geoms:
            assert len(geom.size) == SIZES[geom.kind]
            assert min(geom.size) > 0
            assert np.isfinite((*geom.position, *geom.rotation)).all()
            assert min(geom.color) >= 0
            assert max(geom.color) <= 1


def test_same_seed_same_frame_other_seed_other_frame() -> None:
    assert face(ALL[0], 3) == face(ALL[0], 3)
    assert face(ALL[0], 3) != face(ALL[0], 4)


@pytest.mark.parametrize("name", FACTORS)
def test_a_label_leaves_unlabelled_variation_alone(name: str) -> None:
    for seed, labels in enumerate(ALL[::17]):
        before, after = face(labels, seed), face(flipped(labels, name), seed)
        assert before.geoms != after.geoms
        for part in (
            "background", "camera_position", "camera_target", "field_of_view",
            "light_position", "light_color", "ambient",
        ):  # fmt: skip
            assert getattr(before, part) == getattr(after, part)


@pytest.mark.parametrize("name", ["smiling", "beard", "hat"])
def test_most_of_the_face_stays_when_a_label_changes(name: str) -> None:
    plain: dict[str, Value] = dict.fromkeys(FACTORS, "no")
    before, after = face(plain, 5).geoms, face(flipped(plain, name), 5).geoms
    shared = set(before) & set(after)
    removed = set(before) - shared
    # Without waves, a hat only adds; a smile replaces the two strokes of the closed mouth.
    assert len(removed) == (2 if name == "smiling" else 0)


def test_a_label_does_not_move_the_random_stream() -> None:
    streams = []
    for labels in (ALL[0], ALL[-1]):
        rng = np.random.default_rng(6)
        frame(labels, rng)
        streams.append(rng.integers(2**62))
    assert streams[0] == streams[1]


def test_the_head_turns_as_one() -> None:
    labels = ALL[-1]
    distances = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        skull = frame(labels, rng).geoms[2:4]  # after neck and shoulders
        distances.append(np.linalg.norm(np.subtract(skull[0].position, skull[1].position)))
        assert skull[0].rotation == pytest.approx(skull[1].rotation)
        assert max(np.abs(skull[0].rotation) - (NOD, TILT, YAW)) < 1.0
    assert distances[0] == pytest.approx(distances[1])


@pytest.mark.render
@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_is_seen(name: str) -> None:
    rng = np.random.default_rng(7)
    with Renderer(size=64) as renderer:
        for seed in range(8):
            labels = draw(rng)
            pictures = [
                renderer.render(face(choice, seed)).astype(int)
                for choice in (labels, flipped(labels, name))
            ]
            changed = np.abs(pictures[0] - pictures[1]).max(axis=2) > 40
            # 24 of 4096 pixels, by a sixth of the range: a patch of 5 x 5.
            assert changed.sum() >= 24, f"{labels}, seed {seed}"


@pytest.mark.render
def test_the_head_fills_the_picture_and_leaves_a_margin() -> None:
    with Renderer(size=64) as renderer:
        for seed in range(8):
            made = face(ALL[37 * (seed % 6)], seed)
            picture = renderer.render(made).astype(int)
            wall = (np.array(made.background) * 255).round().astype(int)
            inside = np.abs(picture - wall).max(axis=2) > 12
            assert 0.3 < inside.mean() < 0.85
            assert inside[:, 20:44].any(axis=0).all()


def test_module_offers_the_contract() -> None:
    assert {"FACTORS", "draw", "frame"} <= set(vars(faces))
