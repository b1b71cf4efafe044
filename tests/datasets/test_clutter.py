"""The recipe clutter: counts, ranges, distances, and that every solid is seen."""

from dataclasses import replace

import numpy as np
import pytest

from ebmcli.datasets.clutter import FACTORS, MOST, ROUNDNESS, apart, draw, frame
from ebmcli.datasets.renderer import Renderer
from ebmcli.datasets.scenes import COLORS

pytestmark = pytest.mark.render

OBJECT = FACTORS["object"]
FLAT = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1)], dtype=float)
N_CELLS = 12  # a side: two solids in one of these cells of the floor could not be told apart


@pytest.fixture(scope="module")
def renderer():
    with Renderer(size=64, roundness=ROUNDNESS) as opened:
        yield opened


def drawn(n, seed=0):
    rng = np.random.default_rng(seed)
    return [draw(rng) for _ in range(n)]


def test_labels_are_uniform_inside_their_ranges_and_agree():
    """500 draws; a share p has standard error sqrt(p (1 - p) / n), four of which are allowed."""
    labels = drawn(500)
    assert all(int(each["count"]) == len(each["object"]) for each in labels)
    things = [thing for each in labels for thing in each["object"]]
    for values, names in (
        ([each["count"] for each in labels], FACTORS["count"].names),
        ([thing["shape"] for thing in things], OBJECT.part("shape").names),
        ([thing["color"] for thing in things], tuple(COLORS)),
    ):
        share = 1 / len(names)
        error = np.sqrt(share * (1 - share) / len(values))
        for name in names:
            assert values.count(name) / len(values) == pytest.approx(share, abs=4 * error)
    size = OBJECT.part("size")
    assert all(size.low <= thing["size"] <= size.high for thing in things)
    assert np.abs([thing["position"] for thing in things]).max() <= 1


def test_solids_keep_their_distance_and_never_share_a_cell_of_the_floor():
    for each in drawn(300, seed=1):
        things = each["object"]
        for i, one in enumerate(things):
            for other in things[:i]:
                sizes = (one["size"], other["size"])
                assert apart(one["position"], other["position"], sizes=sizes)
        cells = {tuple(np.floor((np.array(t["position"]) + 1) / 2 * N_CELLS)) for t in things}
        assert len(cells) == len(things)


def test_more_room_is_asked_from_front_to_back():
    """Sizes 0.3: 0.63 to the side, 0.81 behind; 0.7 is enough for the one only."""
    assert apart((0.0, 0.0), (0.7, 0.0), sizes=(0.3, 0.3))
    assert not apart((0.0, 0.0), (0.0, 0.7), sizes=(0.3, 0.3))
    assert apart((0.0, 0.0), (0.0, 0.7), sizes=(0.24, 0.24))


def test_every_solid_shows_most_of_its_pixels(renderer):
    """Drawn flat in five colours, together and each alone: the pixels that are its own."""
    rng = np.random.default_rng(2)
    shares, areas = [], []
    for labels in drawn(48, seed=2):
        picture = frame(labels, rng)
        together = [flat(renderer, picture)[i] for i in range(len(picture.geoms))]
        for i, seen in enumerate(together):
            alone = flat(renderer, picture, only=i)[i]
            areas.append(alone)
            shares.append(seen / alone)
    assert min(areas) >= 40  # pixels
    assert min(shares) >= 0.6
    assert np.mean(shares) > 0.95


def flat(renderer, picture, only=None):
    """The number of pixels of each colour when solid i is painted evenly in FLAT[i]."""
    solids = tuple(
        replace(solid, color=tuple(FLAT[i]))
        for i, solid in enumerate(picture.geoms)
        if only in (None, i)
    )
    black = (0.0, 0.0, 0.0)
    image = renderer.render(
        replace(
            picture, geoms=solids, floor_color=black, background=black, light_color=black,
            ambient=1.0,
        )
    )  # fmt: skip
    distance = ((image / 255 - FLAT[:, None, None]) ** 2).sum(-1)
    return (distance < 0.2).sum((1, 2))


def test_what_is_not_labelled_changes_the_picture_but_not_the_places():
    labels = drawn(1)[0]
    one, two = (frame(labels, np.random.default_rng(seed)) for seed in range(2))
    assert one != two
    assert [g.position for g in one.geoms] == [g.position for g in two.geoms]
    assert one == frame(labels, np.random.default_rng(0))
    assert len(one.geoms) == int(labels["count"]) <= MOST
