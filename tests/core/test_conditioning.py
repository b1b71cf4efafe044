"""Conditions: maps put a place where the recipe draws it, "none" is all zero."""

import pytest
import torch
from squares import COLOR, PLACE, TRUNK, WIDTH, draw_squares

from ebmcli.core.conditioning import Conditioner
from ebmcli.core.networks import TrunkConfig
from ebmcli.core.targets import cell_weights


@pytest.mark.parametrize(
    ("place", "row", "column"),
    [((1, 1), 0, 15), ((-1, 1), 0, 0), ((1, -1), 15, 15), ((-1, -1), 15, 0)],
)
def test_x_runs_to_the_right_and_y_up(place: tuple[int, int], row: int, column: int) -> None:
    target = cell_weights(PLACE, torch.tensor([place]).float())
    maps = Conditioner(PLACE, TRUNK)(target)[1]
    for blob in maps[0, :2]:
        assert divmod(int(blob.argmax()), 16) == (row, column)


def test_a_blob_moves_with_the_drawn_square() -> None:
    """Centre of mass of map and of picture are on the same side, in both axes, for all squares."""
    images, labels = draw_squares(40, seed=0)
    place = torch.from_numpy(labels["position"])
    maps = Conditioner(PLACE, TRUNK)(cell_weights(PLACE, place))[1][:, 0]
    shown = torch.from_numpy(images).float().amax(3) > 100
    line = torch.linspace(-1, 1, 16)
    for axis in (0, 1):
        marginals = [m.float().sum(2 - axis) for m in (maps, shown)]
        at_map, at_picture = ((m * line).sum(1) / m.sum(1) for m in marginals)
        far = at_picture.abs() > 0.2
        assert torch.equal(at_map[far] > 0, at_picture[far] > 0)
        assert float(torch.corrcoef(torch.stack([at_map, at_picture]))[0, 1]) > 0.97


def test_widths_of_the_blobs_are_one_and_three_spacings() -> None:
    """65 pixels: every fourth is a node, where the map is exp(-d^2 / (2 w^2)) exactly."""
    trunk = TrunkConfig(size=65, widths=(4,), depths=(1,), unshuffle=1, embedding=8, head=8)
    maps = Conditioner(PLACE, trunk)(cell_weights(PLACE, torch.zeros(1, 2)))[1]
    nodes = torch.arange(-8.0, 9.0)
    for blob, width in zip(maps[0, :2], (1.0, 3.0), strict=True):
        profile = torch.exp(-nodes.square() / (2 * width**2))
        torch.testing.assert_close(blob[32, ::4], profile, rtol=0, atol=1e-5)


def test_none_has_empty_maps_and_a_vector_of_its_own() -> None:
    conditioner = Conditioner(PLACE, TRUNK)
    none = torch.zeros(1, PLACE.n_cells)
    some = cell_weights(PLACE, torch.zeros(1, 2))
    assert conditioner(none)[1].abs().max() == 0
    assert conditioner(some)[1][:, 2].min() == pytest.approx(1)
    assert not torch.equal(conditioner(none)[0], conditioner(some)[0])


@pytest.mark.parametrize("factor", [COLOR, WIDTH], ids=lambda factor: factor.name)
def test_other_factors_have_a_vector_only(factor: object) -> None:
    conditioner = Conditioner(factor, TRUNK)  # type: ignore[arg-type]
    vector, maps = conditioner(torch.eye(conditioner.factor.n_cells))
    assert vector.shape == (conditioner.factor.n_cells, TRUNK.embedding)
    assert maps is None
    assert conditioner.n_maps == 0
