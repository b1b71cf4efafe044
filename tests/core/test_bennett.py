"""Bennett's estimate of log(Z_a / Z_b), against Gaussians whose constants are known."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ebmcli.core.bennett import LogRatio, bennett_log_ratio, level_gaps
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.samplers import noise_levels

VARIANCES = 0.5, 0.3  # of the two densities
MEANS = -0.4, 0.4  # near enough for samples to meet at every level: errors are asymptotic


def unnormalised(mean: float, variance: float, constant: float) -> NoisyEnergy:
    """Of N(mean, variance + sigma^2), without its log determinant, plus constant / sigma."""

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        square = (x - mean).square().flatten(1).sum(1)
        return square / (2 * (variance + sigma**2)) + constant / sigma

    return energy


def samples(mean: float, variance: float, n: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(n, 1, 2, 2, generator=generator, dtype=torch.float64)
    return mean + math.sqrt(variance) * noise


def estimate(sigma: float, n: tuple[int, int], generator: torch.Generator) -> LogRatio:
    """From n_a and n_b exact samples of both densities at one noise level."""
    energies = (
        unnormalised(MEANS[0], VARIANCES[0], 3.0),
        unnormalised(MEANS[1], VARIANCES[1], -40.0),
    )
    gaps = []
    for mean, variance, count in zip(MEANS, VARIANCES, n, strict=True):
        x = samples(mean, variance + sigma**2, count, generator)
        level = torch.full((count,), sigma, dtype=torch.float64)
        gaps.append(energies[1](x, level) - energies[0](x, level))
    return bennett_log_ratio(*gaps)


def truth(sigma: float) -> float:
    """log Z = d/2 ln(2 pi (v + sigma^2)) - constant / sigma, d = 4."""
    first, second = (v + sigma**2 for v in VARIANCES)
    return 2 * math.log(first / second) - (3.0 + 40.0) / sigma


def test_constants_of_every_level_are_found_within_their_errors(generator: torch.Generator) -> None:
    """400 and 300 samples at 12 levels: the squared z-scores are a chi^2 of 12 +- 4 sqrt(24)."""
    scores = []
    for sigma in noise_levels(12, sigma_min=0.1).tolist():
        found = estimate(sigma, (400, 300), generator)
        assert found.error < 0.4
        scores.append((found.value - truth(sigma)) / found.error)
    total = sum(score**2 for score in scores)
    assert abs(total - 12) < 4 * math.sqrt(2 * 12)


def test_the_standard_error_is_how_far_estimates_stray(generator: torch.Generator) -> None:
    """300 estimates: their deviation within 4 / sqrt(2 300) of the error said, unbiased."""
    n, sigma = 300, 0.4
    found = [estimate(sigma, (200, 100), generator) for _ in range(n)]
    values = torch.tensor([one.value for one in found], dtype=torch.float64)
    said = sum(one.error for one in found) / n
    assert float(values.std()) == pytest.approx(said, rel=4 / math.sqrt(2 * n))
    assert float(values.mean()) == pytest.approx(truth(sigma), abs=4 * said / math.sqrt(n))


def test_of_the_pool_as_many_are_taken_for_samples_of_a_as_there_are(
    generator: torch.Generator,
) -> None:
    left, right = (torch.randn(n, generator=generator).double() for n in (70, 30))
    left = left + 1
    value = bennett_log_ratio(left, right).value
    p = torch.sigmoid(math.log(70 / 30) + torch.cat([left, right]) - value)
    assert float(p.sum()) == pytest.approx(70, abs=1e-9)


def test_the_same_density_twice_has_no_error(generator: torch.Generator) -> None:
    gap = torch.full((50,), 7.25, dtype=torch.float64)
    found = bennett_log_ratio(gap, gap[:20])
    assert found.value == pytest.approx(7.25, abs=1e-12)
    assert found.error == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("far", [30.0, 5000.0, 1e6])
def test_samples_that_never_meet_are_told_apart(far: float) -> None:
    """u is far + 1, far on one side and -far on the other: anything between is right."""
    found = bennett_log_ratio(torch.tensor([far, far + 1]), torch.tensor([-far, -far - 1]))
    assert found.value == pytest.approx(0, abs=1e-6)
    assert found.error > 1e5
    shifted = bennett_log_ratio(torch.tensor([far + 9.0]), torch.tensor([-far + 9.0]))
    assert shifted.value == pytest.approx(9, abs=1e-6)


def test_gaps_must_be_there_and_finite() -> None:
    one = torch.zeros(1)
    with pytest.raises(ValueError, match="both densities"):
        bennett_log_ratio(one, one[:0])
    with pytest.raises(ValueError, match="not finite"):
        bennett_log_ratio(one, torch.tensor([math.inf]))


def chain_constant(
    name: int, sigmas: list[float], n: int, generator: torch.Generator
) -> tuple[float, float]:
    """log(Z(first level) / Z(last level)) of one density, by way of all levels, and its error."""
    mean, variance, constant = MEANS[name], VARIANCES[name], (3.0, -40.0)[name]
    energy = unnormalised(mean, variance, constant)
    total, square = 0.0, 0.0
    for sigma, sigma_next in itertools.pairwise(sigmas):
        x, following = (samples(mean, variance + s**2, n, generator) for s in (sigma, sigma_next))
        noise = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(2)]
        gaps = level_gaps(
            energy, x, following, sigma=sigma, sigma_next=sigma_next, noise=(noise[0], noise[1])
        )
        found = bennett_log_ratio(*gaps)
        total, square = total + found.value, square + found.error**2
    return total, math.sqrt(square)


@pytest.mark.parametrize("name", [0, 1])
def test_the_constant_of_one_density_is_followed_from_level_to_level(
    name: int, generator: torch.Generator
) -> None:
    """log Z = d/2 ln(v + sigma^2) - constant / sigma + const, d = 4: within 4 errors."""
    sigmas = noise_levels(16, sigma_min=0.1).tolist()
    found, error = chain_constant(name, sigmas, 200, generator)
    variance, constant = VARIANCES[name], (3.0, -40.0)[name]
    first, last = (2 * math.log(variance + s**2) - constant / s for s in (sigmas[0], sigmas[-1]))
    assert error < 0.5
    assert found == pytest.approx(first - last, abs=4 * error)


def test_around_a_fixed_image_a_step_between_levels_has_no_error(
    generator: torch.Generator,
) -> None:
    """E = |x|^2 / (2 sigma^2): F = R in any number of pixels; Z(2) / Z(1) = 2^d, d = 768."""
    shape = (5, 3, 16, 16)
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    gaps = level_gaps(
        unnormalised(0.0, 0.0, 0.0), 2 * noise[0], noise[1], sigma=2.0, sigma_next=1.0,
        noise=(noise[2], noise[3]),
    )  # fmt: skip
    expected = torch.full((5,), 768 * math.log(2), dtype=torch.float64)
    for gap in gaps:
        torch.testing.assert_close(gap, expected, rtol=0, atol=1e-8)
