"""Numbers on held-out images against denoisers and posteriors whose quality is known."""

import math

import pytest
import torch
from squares import COLOR, PLACE, WIDTH, gaussian, squares
from torch import Tensor

from ebmcli.core.factors import Factor
from ebmcli.core.targets import cell_weights
from ebmcli.evaluation.held_out import (
    LOSS_SIGMAS,
    POSTERIOR_SIGMAS,
    PosteriorQuality,
    batches,
    loss_per_level,
    posterior_quality,
)


class Oracle:
    """A posterior that is told the label by the order in which images come."""

    def __init__(self, factor: Factor, weights: Tensor, *, share: float = 1.0) -> None:
        self.factor = factor
        self.weights = weights
        self.share = share  # of the mass on the given cells; the rest is spread evenly
        self.next = 0

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        start = self.next
        self.next = (start + len(x)) % len(self.weights)
        told = self.weights[start : start + len(x)]
        return (self.share * told + (1 - self.share) / told.shape[1]).clamp_min(1e-30).log()


def quality(factor: Factor, *, share: float = 1.0, roll: int = 0) -> list[PosteriorQuality]:
    """What is reported about an oracle that sees labels shifted by ``roll`` images."""
    images = squares(factor, n=100)
    assert images.labels is not None
    weights = cell_weights(factor, images.labels).roll(roll, dims=0)
    return posterior_quality(Oracle(factor, weights, share=share), images)  # type: ignore[arg-type]


def test_the_data_themselves_cost_nothing() -> None:
    images = squares(n=70)
    clean = images.take(torch.arange(70))[0]
    taken: list[int] = []

    def oracle(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        start = sum(taken) % 70
        taken.append(len(x))
        return clean[start : start + len(x)]

    losses = loss_per_level(oracle, gaussian().posterior_scale, images)
    assert tuple(losses) == LOSS_SIGMAS
    assert set(losses.values()) == {0.0}


def test_returning_the_noisy_image_costs_the_noise() -> None:
    """(x - x0)^2 / r^2 with r = 1 has the mean sigma^2; four standard errors of n pixels."""
    images = squares(n=70)
    losses = loss_per_level(
        lambda x, sigma, _: x, lambda sigma: torch.ones_like(sigma), images, sigmas=(0.5, 2.0)
    )
    n = 70 * 3 * 16 * 16
    for sigma, loss in losses.items():
        assert loss == pytest.approx(sigma**2, rel=4 * math.sqrt(2 / n))


def test_every_noise_level_and_every_call_has_the_same_noise() -> None:
    seen: dict[float, Tensor] = {}

    def noting(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        seen[float(sigma[0])] = x
        return x

    def ones(sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    images = squares(n=8)
    x0 = images.take(torch.arange(8))[0]
    first = loss_per_level(noting, ones, images, sigmas=(1.0, 2.0))
    torch.testing.assert_close((seen[2.0] - x0) / 2, seen[1.0] - x0)
    assert loss_per_level(noting, ones, images, sigmas=(1.0, 2.0)) == first


@pytest.mark.parametrize("factor", [COLOR, WIDTH, PLACE], ids=lambda factor: factor.name)
def test_an_oracle_is_always_right(factor: Factor) -> None:
    rows = quality(factor)
    assert tuple(row.sigma for row in rows) == POSTERIOR_SIGMAS
    for row in rows:
        assert row.accuracy == 1
        if factor is COLOR:
            assert row.mean_error is None
            assert row.log_loss == pytest.approx(0, abs=1e-6)
            assert row.calibration_error == pytest.approx(0, abs=1e-6)
        else:
            assert row.mean_error is not None
            assert row.mean_error <= factor.spacing / 2  # the nearest node is read


def test_a_posterior_that_knows_nothing_is_right_by_chance_only() -> None:
    row = quality(COLOR, share=0.0)[0]
    assert row.log_loss == pytest.approx(math.log(3), rel=1e-5)
    assert row.accuracy < 0.6


def test_a_confident_posterior_with_others_labels_is_badly_calibrated() -> None:
    row = quality(COLOR, share=0.99, roll=1)[0]
    assert row.accuracy < 0.6
    assert row.calibration_error == pytest.approx(0.99 + 0.01 / 3 - row.accuracy, abs=1e-3)


def test_wrong_places_have_an_error_in_the_units_of_the_factor() -> None:
    """Places of other pictures: |a - b| of two uniform numbers on [-1, 1] is 2/3 on average."""
    row = quality(PLACE, roll=1)[0]
    assert row.mean_error == pytest.approx(2 / 3, abs=0.15)
    assert row.accuracy < 0.1


def test_batches_cover_every_image_once() -> None:
    assert torch.cat(batches(130)).tolist() == list(range(130))
    assert [len(batch) for batch in batches(130)] == [64, 64, 2]
