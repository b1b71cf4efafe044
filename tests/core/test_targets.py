"""Cell weights: they sum to one, interpolate exactly and stop at the ends."""

import math

import pytest
import torch
from references import hat_weights
from squares import COLOR, FACTORS, PLACE, TALL, WIDTH

from ebmcli.core.factors import N_POSITION_CELLS, Factor, Value
from ebmcli.core.targets import cell_weights, label_tensor, prior


def random_labels(factor: Factor, n: int = 200) -> torch.Tensor:
    """Labels as a dataset has them."""
    generator = torch.Generator().manual_seed(0)
    if factor.names:
        return torch.randint(len(factor.names), (n,), generator=generator)
    shape = (n, 2) if factor.kind == "position" else (n,)
    return factor.low + (factor.high - factor.low) * torch.rand(shape, generator=generator)


@pytest.mark.parametrize("factor", FACTORS.values(), ids=lambda factor: factor.name)
def test_weights_are_a_distribution_over_cells(factor: Factor) -> None:
    weights = cell_weights(factor, random_labels(factor))
    assert weights.shape == (200, factor.n_cells)
    assert weights.dtype == torch.float32
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(200), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [WIDTH, PLACE], ids=lambda factor: factor.name)
def test_interpolation_gives_the_number_back(factor: Factor) -> None:
    """sum_k t_k node_k is the label itself: linear interpolation is exact on linear functions."""
    labels = random_labels(factor)
    values = torch.tensor([factor.cell_value(k) for k in range(factor.n_cells)])
    found = cell_weights(factor, labels) @ values.view(factor.n_cells, -1)
    torch.testing.assert_close(found, labels.view(200, -1), rtol=0, atol=1e-5)


def test_weights_are_those_of_the_hat_function() -> None:
    labels = torch.tensor([0.2, 0.21, 0.35, 0.499])
    expected = torch.tensor([hat_weights(float(label), WIDTH.nodes) for label in labels])
    torch.testing.assert_close(cell_weights(WIDTH, labels), expected, rtol=0, atol=1e-5)


def test_numbers_outside_are_moved_to_the_nearest_end() -> None:
    weights = cell_weights(WIDTH, torch.tensor([-7.0, 7.0]))
    assert weights[0, 0] == 1
    assert weights[1, -1] == 1
    corner = cell_weights(PLACE, torch.tensor([[9.0, -9.0]]))
    assert int(corner.argmax()) == (N_POSITION_CELLS - 1) * N_POSITION_CELLS
    assert corner.max() == 1


def test_a_position_has_x_slow_and_y_fast() -> None:
    weights = cell_weights(PLACE, torch.tensor([[0.5, -1.0]]))
    assert PLACE.cell_value(int(weights.argmax())) == (0.5, -1.0)


@pytest.mark.parametrize(
    ("factor", "value"),
    [(COLOR, "blue"), (TALL, "yes"), (WIDTH, 0.35), (PLACE, (0.5, -0.25))],
)
def test_one_value_becomes_the_labels_of_one_image(factor: Factor, value: Value) -> None:
    cell = int(cell_weights(factor, label_tensor(factor, value)).argmax())
    assert factor.cell_value(cell) == pytest.approx(value)


def test_the_prior_is_the_mean_weight() -> None:
    weights = cell_weights(COLOR, torch.tensor([0, 0, 0, 1]))
    log_prior = prior(weights)
    assert log_prior[:2].exp().tolist() == pytest.approx([0.75, 0.25], rel=1e-5)
    assert log_prior[2].item() == pytest.approx(math.log(1e-6), abs=1e-4)
    assert log_prior.exp().sum().item() == pytest.approx(1)
