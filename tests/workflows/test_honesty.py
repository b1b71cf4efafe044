"""The honest test draws what an energy says: checked on Gaussians, whose samples are known."""

import math

import pytest
import torch
from squares import COLOR, SPACE, random_base, random_concept

from ebmcli.core.energy import noisy_gaussian
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import to_intensity
from ebmcli.registry import create_registry, read_registry
from ebmcli.workflows.honesty import draw_plain, object_share, one_value_energy

SIZE, N = 8, 256
CPU = torch.device("cpu")


def isotropic(mean: float, deviation: float) -> GaussianEnergy:
    """The Gaussian base of pixels N(mean, deviation^2), from samples."""
    generator = torch.Generator().manual_seed(0)
    pixels = mean + deviation * torch.randn(4096, 3, SIZE, SIZE, generator=generator)
    return GaussianEnergy.fit(pixels, n_components=4)


@pytest.mark.parametrize("n_corrector", [0, 8])
def test_plain_pictures_have_the_moments_of_their_gaussian(n_corrector: int) -> None:
    """Mean 0.1, deviation 0.2: N pictures of 192 pixels; five standard errors, and the cooling.

    From sigma = 0.3 on nothing is corrected, and there the variance of the data is at most 0.44 of
    the noise's: the corrector's cooling, (1 + e^-h) / 2 = 0.93 at worst, is bounded by it.
    """
    mean, deviation = 0.1, 0.2
    energy = noisy_gaussian(mean=mean, variance=deviation**2)
    images = draw_plain(
        energy, isotropic(mean, deviation), range(N), size=SIZE, n_corrector=n_corrector, device=CPU
    )
    x = to_intensity(images)
    n = x.numel()
    assert float(x.mean()) == pytest.approx(mean, abs=5 * deviation / math.sqrt(n) + 0.002)
    low = math.sqrt(0.93) if n_corrector else 0.99
    assert low - 0.02 < float(x.std()) / deviation < 1.02


def test_each_picture_is_asked_for_a_value_in_turn() -> None:
    """Picture i has the energy of cell 37 i mod 3: E0 - log q_k + log pi_k."""
    base, concept = random_base(), random_concept("posterior", COLOR)
    energy = one_value_energy(concept, base)
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    sigma = torch.full((5,), 0.7)
    log_q = concept.log_posterior(x, sigma)
    cells = [(37 * i) % 3 for i in range(5)]
    expected = base.energy(x, sigma) - log_q[range(5), cells] + concept.log_prior[cells]
    torch.testing.assert_close(energy(x, sigma), expected)


def test_a_space_without_a_judge_has_no_share(tmp_path: object) -> None:
    registry = read_registry(create_registry(tmp_path))  # type: ignore[arg-type]  # a Path
    energy = noisy_gaussian(mean=0.0, variance=1.0)
    found = object_share(energy, isotropic(0, 1), registry, SPACE, size=SIZE, n=2, device=CPU)
    assert found is None
