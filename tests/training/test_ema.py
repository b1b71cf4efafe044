"""Averaged weights in closed form."""

import math

import pytest
import torch

from ebmcli.training.ema import ema_decay, update_average


def test_the_decay_rises_to_its_limit() -> None:
    decays = [ema_decay(step, limit=0.9) for step in range(1, 200)]
    assert decays[0] == 2 / 11
    assert decays == sorted(decays)
    assert decays[79] == pytest.approx(81 / 90)  # (1 + s) / (10 + s) = 0.9 at s = 80
    assert set(decays[80:]) == {0.9}


def test_the_distance_to_constant_weights_shrinks_by_the_product_of_decays() -> None:
    """average - w = prod d_s (average_0 - w)."""
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    average = torch.tensor([5.0, 0.0], dtype=torch.float64)
    decays = [ema_decay(step, limit=0.95) for step in range(1, 31)]
    for decay in decays:
        update_average([average], [weights], decay=decay)
    left = math.prod(decays)
    assert left > 1e-10
    assert average.tolist() == pytest.approx([1 + 4 * left, -2 + 2 * left], rel=1e-12)


def test_with_one_decay_the_average_is_a_geometric_sum() -> None:
    """Weights 1, 2, ..., n from average 0: sum_s (1 - d) d^(n - s) s."""
    d, n = 0.8, 12
    average = torch.zeros(1, dtype=torch.float64)
    for step in range(1, n + 1):
        update_average([average], [torch.full((1,), float(step)).double()], decay=d)
    expected = sum((1 - d) * d ** (n - step) * step for step in range(1, n + 1))
    assert average.item() == pytest.approx(expected, rel=1e-12)


def test_averages_are_changed_in_place_and_weights_are_not() -> None:
    weights = [torch.ones(2, requires_grad=True), torch.zeros(3, 3)]
    averages = [torch.zeros(2), torch.ones(3, 3)]
    update_average(averages, weights, decay=0.75)
    assert averages[0].tolist() == [0.25, 0.25]
    assert averages[1].flatten().tolist() == [0.75] * 9
    assert weights[0].tolist() == [1, 1]
    assert not averages[0].requires_grad
