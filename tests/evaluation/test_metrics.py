"""Metrics against closed forms; tolerances are four standard errors."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import Generator

from ebmcli.evaluation.metrics import (
    average,
    calibration_error,
    frechet_distance,
    gaussian_frechet,
    paired_error,
    pairwise_distance,
    reliability,
    share,
    share_error,
)


@pytest.fixture
def generator() -> Generator:
    return Generator().manual_seed(0)


def test_a_share_has_the_error_over_seeds_and_the_binomial_one() -> None:
    """Means 0.5 and 1: standard deviation sqrt(1/8), error sqrt(1/8) / sqrt(2) = 1/4."""
    seeds = [torch.tensor([True, False, True, False]), torch.ones(4, dtype=torch.bool)]
    estimate = share(seeds)
    assert (estimate.mean, estimate.n, estimate.n_seeds) == (0.75, 8, 2)
    assert estimate.seed_error == pytest.approx(0.25)
    assert estimate.binomial_error == pytest.approx(math.sqrt(0.75 * 0.25 / 8))


def test_one_seed_has_no_error_over_seeds() -> None:
    assert share([torch.ones(3, dtype=torch.bool)]).seed_error is None


def test_an_average_of_numbers_has_no_binomial_error() -> None:
    estimate = average([torch.tensor([1.0, 3.0]), torch.tensor([4.0])])
    assert (estimate.mean, estimate.n, estimate.binomial_error) == (3.0, 3, None)


@pytest.mark.parametrize("seeds", [[], [torch.zeros(0, dtype=torch.bool)]])
def test_no_pictures_have_no_share(seeds: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        share(seeds)


def test_frechet_of_diagonal_gaussians_is_the_closed_form() -> None:
    """Commuting covariances: |m - m'|^2 + sum (s - s')^2."""
    scales, others = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 0.5]).double()
    mean = torch.tensor([1.0, -1.0, 2.0]).double()
    found = gaussian_frechet(
        torch.zeros(3).double(), scales.square().diag(), mean, others.square().diag()
    )
    assert found == pytest.approx(6.0 + 4.0 + 1.0, abs=1e-9)


def test_frechet_does_not_change_when_both_sides_are_rotated_or_swapped(
    generator: Generator,
) -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator).double()).Q
    left = torch.randn(50, 4, generator=generator).double() * torch.tensor([1.0, 2, 3, 0])
    right = torch.randn(60, 4, generator=generator).double() + 1
    distance = frechet_distance(left, right)
    assert frechet_distance(left @ rotation, right @ rotation) == pytest.approx(distance, rel=1e-6)
    assert frechet_distance(right, left) == pytest.approx(distance, rel=1e-6)


def test_frechet_of_samples_approaches_that_of_their_densities(generator: Generator) -> None:
    """N(0, 1) and N(2, 9) in one dimension: 4 + (3 - 1)^2 = 8.

    d^2 = (m - m')^2 + (s - s')^2 with errors sqrt(10 / n) of the difference of means and
    sqrt(10 / 2n) of the difference of deviations, both multiplied by 2 * 2.
    """
    n = 20_000
    left = torch.randn(n, 1, generator=generator)
    right = 3 * torch.randn(n, 1, generator=generator) + 2
    error = 4 * math.sqrt(10 / n + 5 / n)
    assert frechet_distance(left, right) == pytest.approx(8.0, abs=4 * error)


def test_frechet_of_equal_samples_is_zero_even_without_full_rank(generator: Generator) -> None:
    few = torch.randn(5, 16, generator=generator)
    assert frechet_distance(few, few.clone()) == pytest.approx(0, abs=1e-6)


def test_pairwise_distance_counts_every_pair_once() -> None:
    """Three corners of a right triangle with sides 3, 4, 5."""
    assert pairwise_distance(torch.tensor([[0.0, 0], [3, 0], [0, 4]])) == pytest.approx(4.0)


def test_calibration_error_of_a_constant_confidence() -> None:
    """Confidence 0.9, right half of the time: 0.4."""
    right = torch.tensor([True, False] * 10)
    assert calibration_error(torch.full((20,), 0.9), right) == pytest.approx(0.4)


def test_calibration_error_is_zero_for_honest_confidence() -> None:
    confidence = torch.tensor([1.0] * 4 + [0.5] * 4)
    right = torch.tensor([True] * 4 + [True, False] * 2)
    assert calibration_error(confidence, right) == pytest.approx(0, abs=1e-12)


def test_calibration_error_of_a_known_miscalibration_is_its_closed_form() -> None:
    """Says p, is right with (1 + p) / 2: ECE = mean (1 - p) / 2, in every bin of one sign."""
    p = torch.tensor([0.1, 0.3, 0.5, 0.9]).repeat_interleave(1000)
    right = torch.cat(
        [torch.arange(1000) < round(500 * (1 + value)) for value in (0.1, 0.3, 0.5, 0.9)]
    )
    expected = (0.45 + 0.35 + 0.25 + 0.05) / 4
    assert calibration_error(p, right) == pytest.approx(expected, abs=1e-6)


def test_errors_of_two_signs_in_one_bin_cancel() -> None:
    """The known blindness of the ECE: 0.41 always right, 0.45 never, in a bin of width 1/15."""
    p = torch.tensor([0.41, 0.45]).repeat_interleave(100)
    right = torch.arange(200) < 86
    assert calibration_error(p, right) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("n", [300, 3000])
def test_perfect_predictions_have_the_error_that_chance_makes(n: int) -> None:
    """Hits drawn with the probabilities said. The mean over 40 draws of the ECE is that foretold
    within four standard errors, plus a tenth for bins too small to be normal.
    """
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(n, generator=generator, dtype=torch.float64)
    bins = reliability(p, torch.zeros(n))
    found = torch.tensor(
        [
            calibration_error(p, torch.rand(n, generator=generator, dtype=torch.float64) < p)
            for _ in range(40)
        ]
    )
    spread = 4 * float(found.std()) / 40**0.5
    assert abs(float(found.mean()) - bins.error_by_chance) < spread + 0.1 * bins.error_by_chance
    assert bins.error_by_chance < 0.8 * (15 * 0.25 / n) ** 0.5  # Jensen: v <= n / 4 over 15 bins


def test_shares_stray_less_than_hits() -> None:
    """Hits of p +- 0.1 in turn: their variance is 0.01, not p (1 - p)."""
    p = torch.full((1000,), 0.5)
    shares = p + 0.1 * (1 - 2 * (torch.arange(1000) % 2))
    found = reliability(p, shares)
    assert float(found.variance.sum()) == pytest.approx(1000 * 0.01, rel=1e-5)
    assert found.error_by_chance == pytest.approx((2 * 0.01 / math.pi / 1000) ** 0.5, rel=1e-5)
    whole = reliability(p, (shares > 0.5).float())
    assert float(whole.variance.sum()) == pytest.approx(1000 * 0.25)


def test_reliability_counts_every_prediction_once() -> None:
    p = torch.tensor([0.0, 0.5, 1.0, 1.0 + 1e-7])
    bins = reliability(p, torch.tensor([0.0, 0.25, 1.0, 1.0]), n_bins=4)
    assert bins.count.tolist() == [1, 0, 1, 2]
    assert bins.hits.tolist() == [0, 0, 0.25, 2]
    assert float(bins.variance[3]) == 0


def test_the_error_of_a_share_is_never_less_than_that_of_counting() -> None:
    """Three seeds that agree, and 36 of 36: neither is certain."""
    agreed = share([torch.tensor([True] * 9 + [False] * 3)] * 3)
    assert agreed.seed_error == 0
    assert share_error(asdict(agreed)) == pytest.approx(math.sqrt(28 / 38 * 10 / 38 / 36))
    perfect = share([torch.ones(12, dtype=torch.bool)] * 3)
    assert share_error(asdict(perfect)) == pytest.approx(math.sqrt(37 / 38 / 38 / 36))
    apart = share([torch.ones(500, dtype=torch.bool), torch.zeros(500, dtype=torch.bool)])
    assert share_error(asdict(apart)) == apart.seed_error == 0.5
    assert share_error(asdict(average([torch.tensor([1.0, 5.0])]))) == 0


def test_the_error_of_a_paired_difference_is_never_0() -> None:
    """Agresti & Min: half a pair more in each of the four cells; 36 pairs alike are no proof."""
    assert paired_error([0] * 36, 36) == pytest.approx(1 / 38)
    assert paired_error([1, -1, 0, 0], 4) == pytest.approx(math.sqrt(3) / 6)
    assert paired_error([2, 0], 4) == pytest.approx(math.sqrt(3 - 4 / 6) / 6)


def test_the_paired_error_is_near_the_spread_of_many_differences(generator: Generator) -> None:
    """400 pairs, of which a fifth differ one way and a tenth the other, drawn 2,000 times."""
    drawn = torch.rand(2_000, 400, generator=generator)
    differences = (drawn < 0.2).long() - (drawn > 0.9).long()
    spread = float((differences.sum(1) / 400).std())
    estimated = [paired_error(row.tolist(), 400) for row in differences[:100]]
    assert sum(estimated) / len(estimated) == pytest.approx(spread, rel=0.08)
