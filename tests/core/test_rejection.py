"""Rejection on a Gaussian base, where what is kept is Gaussian again."""

import math

import pytest
import torch

from ebmcli.core.samplers import first_accepted, reject


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_what_is_kept_has_the_density_of_base_times_probability(
    generator: torch.Generator, power: float
) -> None:
    """N(0, 1) with P = exp(-x^2 / 2) leaves N(0, 1 / (1 + w)), and keeps 1 / sqrt(1 + w) of all."""
    n = 40_000
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    kept = x[reject(-x.square() / 2, power=power, uniform=uniform)]
    share = 1 / math.sqrt(1 + power)
    assert len(kept) / n == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n))
    assert kept.var().item() == pytest.approx(1 / (1 + power), rel=4 * math.sqrt(2 / len(kept)))


def test_what_is_certain_is_kept_and_what_is_impossible_is_not() -> None:
    log_p = torch.tensor([0.0, -math.inf])
    for u in (0.0, 1 - 2**-24):
        assert reject(log_p, power=2.0, uniform=torch.full((2,), u)).tolist() == [True, False]


def test_the_first_accepted_draw_is_shown_else_the_most_probable() -> None:
    accepted = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool()
    probability = torch.tensor([[0.1, 0.2, 0.9], [0.1, 0.3, 0.2], [0.0, 1.0, 1.0]])
    assert first_accepted(accepted, probability).tolist() == [1, 1, 0]
