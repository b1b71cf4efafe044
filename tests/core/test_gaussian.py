"""The Gaussian base: energy, Wiener filter and posterior scale against dense linear algebra."""

import math

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.energy import at_noise_level, energy_gradient
from ebmcli.core.gaussian import (
    DATA_SCALE,
    VARIANCE_FLOOR,
    GaussianEnergy,
    gaussian_log_normaliser,
    input_scale,
)

SHAPE = (3, 2, 2)
D = math.prod(SHAPE)
EYE = torch.eye(D, dtype=torch.float64)
VARIANCES = torch.tensor([2.0, 0.7, 0.3], dtype=torch.float64)
REST = torch.tensor(0.05, dtype=torch.float64)


def known() -> tuple[GaussianEnergy, Tensor]:
    """A Gaussian with three principal components in 12 dimensions, and its covariance."""
    generator = Generator().manual_seed(0)
    square = torch.randn(D, D, generator=generator, dtype=torch.float64)
    components = torch.linalg.qr(square).Q.T[:3].contiguous()
    mean = torch.linspace(-0.5, 0.5, D, dtype=torch.float64)
    inside = components.T @ torch.diag(VARIANCES) @ components
    covariance = inside + REST * (EYE - components.T @ components)
    return GaussianEnergy(mean, components, VARIANCES, REST), covariance


def draw(n: int) -> Tensor:
    """n images from the known Gaussian, (n, *SHAPE)."""
    base, covariance = known()
    normal = torch.randn(n, D, generator=Generator().manual_seed(1), dtype=torch.float64)
    root: Tensor = torch.linalg.cholesky(covariance)
    return (base.mean + normal @ root.T).view(n, *SHAPE)


SIGMA = torch.tensor([0.02, 0.3, 1.0, 10.0], dtype=torch.float64)


def test_the_energy_is_minus_the_log_density_of_the_noised_gaussian() -> None:
    base, covariance = known()
    x = 2 * draw(4)
    energy = base.energy(x, SIGMA) + gaussian_log_normaliser(D)
    for i, sigma in enumerate(SIGMA):
        dense = covariance + sigma**2 * EYE
        centred = x[i].flatten() - base.mean
        quadratic = centred @ torch.linalg.solve(dense, centred)
        expected = 0.5 * (quadratic + torch.logdet(2 * math.pi * dense))
        assert energy[i].item() == pytest.approx(expected.item(), rel=1e-10)


def test_the_wiener_filter_is_the_denoiser_of_the_energy() -> None:
    """Tweedie: D(x) = x - sigma^2 dE/dx = mu + C (C + sigma^2)^-1 (x - mu)."""
    base, covariance = known()
    x = 2 * draw(4)
    denoised = base.denoise(x, SIGMA)
    assert denoised.shape == x.shape
    gradient = energy_gradient(at_noise_level(base.energy, SIGMA), x)
    tweedie = x - SIGMA.square().view(-1, 1, 1, 1) * gradient
    torch.testing.assert_close(denoised, tweedie, rtol=0, atol=1e-10)
    for i, sigma in enumerate(SIGMA):
        gain = torch.linalg.solve(covariance + sigma**2 * EYE, covariance).T
        dense = base.mean + gain @ (x[i].flatten() - base.mean)
        torch.testing.assert_close(denoised[i].flatten(), dense, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
def test_the_posterior_scale_is_the_error_of_the_best_denoiser(sigma: float) -> None:
    """Monte Carlo of |x0 - D(x0 + sigma n)|^2 / D; tolerance four standard errors."""
    base, _ = known()
    n = 4096
    images, levels = draw(n), torch.full((n,), sigma, dtype=torch.float64)
    noise = torch.randn(images.shape, generator=Generator().manual_seed(2), dtype=torch.float64)
    errors = (base.denoise(images + sigma * noise, levels) - images).square().mean((1, 2, 3))
    scale = base.posterior_scale(levels)
    error = 4 * errors.std().item() / math.sqrt(n)
    assert scale[0].item() ** 2 == pytest.approx(errors.mean().item(), abs=error)
    assert error < 0.1 * scale[0].item() ** 2


def test_the_posterior_scale_by_hand() -> None:
    """r^2 = mean of sigma^2 lambda / (sigma^2 + lambda): 3 directions and 9 of the rest."""
    base, _ = known()
    by_hand = (2 / 3 + 0.7 / 1.7 + 0.3 / 1.3 + 9 * 0.05 / 1.05) / 12
    assert base.posterior_scale(SIGMA)[2].item() == pytest.approx(math.sqrt(by_hand), rel=1e-12)


def test_a_fit_recovers_a_known_gaussian() -> None:
    """Relative standard error of a variance: sqrt(2 / n), of the rest over 9 directions a third.

    Principal directions turn by about sqrt(lambda rest / n) / (lambda - rest) per direction.
    """
    n = 20_000
    base, covariance = known()
    fit = GaussianEnergy.fit(draw(n), n_components=3, floor=0.0)
    error = 4 * math.sqrt(2 / n)
    for found, true in zip(fit.variances, VARIANCES, strict=True):
        assert found.item() == pytest.approx(true.item(), rel=error)
    assert fit.rest.item() == pytest.approx(0.05, rel=error / 3 + 3 / n)
    overlap = (fit.components @ base.components.float().T).square().sum(1)
    turn = 9 * VARIANCES * REST / n / (VARIANCES - REST).square()  # expected 1 - overlap
    assert ((1 - overlap).double() < 4 * turn).all()
    deviation = (fit.mean - base.mean).abs() / (covariance.diagonal() / n).sqrt()
    assert deviation.max() < 4
    torch.testing.assert_close(fit.components @ fit.components.T, torch.eye(3), rtol=0, atol=1e-5)


def test_a_fit_is_deterministic_and_independent_of_the_global_random_state() -> None:
    images = draw(500)
    first = GaussianEnergy.fit(images, n_components=5)
    torch.manual_seed(99)
    second = GaussianEnergy.fit(images, n_components=5)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_small_variances_are_raised_to_the_floor() -> None:
    images = torch.zeros(40, *SHAPE)
    images[:, 0, 0, 0] = torch.linspace(-1, 1, 40)
    fit = GaussianEnergy.fit(images, n_components=4)
    floor = torch.tensor([VARIANCE_FLOOR])
    assert fit.variances[0].item() == pytest.approx(images[:, 0, 0, 0].var(correction=0).item())
    torch.testing.assert_close(fit.variances[1:], floor.expand(3))
    torch.testing.assert_close(fit.rest, floor[0])


def test_fewer_images_than_components_give_fewer_components() -> None:
    fit = GaussianEnergy.fit(draw(4), n_components=256)
    assert fit.components.shape == (3, D)
    assert fit.variances.shape == (3,)
    assert fit.energy(draw(2).float(), torch.ones(2)).isfinite().all()


def test_a_blank_gaussian_takes_a_state() -> None:
    fit = GaussianEnergy.fit(draw(100), n_components=5)
    blank = GaussianEnergy.blank(D, 5)
    blank.load_state_dict(fit.state_dict())
    x = draw(4).float()
    assert torch.equal(blank.denoise(x, SIGMA.float()), fit.denoise(x, SIGMA.float()))


def test_inputs_are_scaled_by_signal_and_noise() -> None:
    scale = input_scale(torch.tensor([0.0, 1.2]))
    assert scale.tolist() == pytest.approx([DATA_SCALE, 1.3])
