import numpy as np
import pytest

from ebmcli.datasets.frame import Frame
from ebmcli.datasets.renderer import Renderer
from ebmcli.datasets.scenes import COLORS, FACTORS, draw, frame

pytestmark = pytest.mark.render

MIDDLE = {"shape": "sphere", "color": "red", "position": (0.0, 0.0), "size": 0.45}


@pytest.fixture(scope="module")
def renderer():
    with Renderer(size=64) as opened:
        yield opened


def picture(renderer, seed=0, **labels):
    return renderer.render(frame({**MIDDLE, **labels}, np.random.default_rng(seed))).astype(int)


def solid(image):
    """Mask of what is coloured: the floor is grey, and shadows are."""
    return np.ptp(image, axis=2) > 45


def test_labels_are_uniform_and_inside_their_ranges():
    """4,096 draws; a share p has standard error sqrt(p (1 - p) / n), four of which are allowed."""
    rng, n = np.random.default_rng(0), 4096
    drawn = [draw(rng) for _ in range(n)]
    for name in ("shape", "color"):
        names = FACTORS[name].names
        share = 1 / len(names)
        for each in names:
            found = sum(labels[name] == each for labels in drawn) / n
            assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / n))
    places = np.array([labels["position"] for labels in drawn])
    sizes = np.array([labels["size"] for labels in drawn])
    assert places.min() >= -1
    assert places.max() <= 1
    assert places.mean(0) == pytest.approx((0, 0), abs=4 * 2 / np.sqrt(12 * n))
    assert FACTORS["size"].low <= sizes.min() <= sizes.max() <= FACTORS["size"].high


def test_what_is_not_labelled_changes_the_picture_but_not_the_solid():
    frames = [frame(MIDDLE, np.random.default_rng(seed)) for seed in range(2)]
    assert all(isinstance(each, Frame) for each in frames)
    assert frames[0] != frames[1]
    assert frames[0].geoms[0].position == frames[1].geoms[0].position
    assert frames[0] == frame(MIDDLE, np.random.default_rng(0))


@pytest.mark.parametrize("color", COLORS)
def test_the_brightest_part_has_the_hue_of_the_label(renderer, color):
    """Of all names, the label's colour has the smallest angle to the solid's mean colour."""
    for seed in range(4):
        image = picture(renderer, seed, color=color)
        mean = image[30:35, 30:35].reshape(-1, 3).mean(0)
        cosine = {
            name: mean @ np.array(rgb) / np.linalg.norm(mean) / np.linalg.norm(rgb)
            for name, rgb in COLORS.items()
        }
        assert max(cosine, key=cosine.get) == color


@pytest.mark.parametrize(("x", "y"), [(0.4, -0.2), (-0.8, 0.7), (1.0, 1.0), (-1.0, -1.0)])
def test_x_moves_right_and_y_moves_up(renderer, x, y):
    row, column = (axis.mean() for axis in np.nonzero(solid(picture(renderer, position=(x, y)))))
    middle_row, middle_column = (a.mean() for a in np.nonzero(solid(picture(renderer))))
    assert (middle_row, middle_column) == pytest.approx((31.5, 31.5), abs=2)
    assert column - middle_column == pytest.approx(14.8 * x, abs=2)  # pixels of half a side
    assert middle_row - row == pytest.approx(11 * y, abs=2.5)  # foreshortened


@pytest.mark.parametrize("shape", FACTORS["shape"].names)
def test_a_larger_size_covers_more_pixels(renderer, shape):
    areas = [solid(picture(renderer, shape=shape, size=size)).sum() for size in (0.3, 0.45, 0.6)]
    assert areas[0] > 40
    assert areas[1] > 1.5 * areas[0]
    assert areas[2] > 1.4 * areas[1]


@pytest.mark.parametrize("shape", FACTORS["shape"].names)
def test_the_largest_solid_stays_inside_the_picture(renderer, shape):
    """A cube's corner, turned outwards, may lose two pixels of its width of 32."""
    for seed, place in enumerate([(-1, -1), (1, -1), (-1, 1), (1, 1)] * 2):
        mask = solid(picture(renderer, seed, shape=shape, size=0.6, position=place))
        assert mask.any()
        edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert edge.sum() <= (20 if shape == "cube" else 0)
