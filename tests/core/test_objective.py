"""Objectives by hand, and in expectation where the answer is known."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Generator

from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.objective import (
    LOG_SIGMA_MEAN,
    LOG_SIGMA_SCALE,
    SIGMA_MAX,
    SIGMA_MIN,
    add_noise,
    contrastive_divergence,
    cross_entropy,
    denoising_loss,
    draw_noise_levels,
)


def test_the_denoising_loss_by_hand() -> None:
    """Errors 1 on half of the pixels: mean 1/2, over r^2 = 1/4 and 4."""
    images = torch.zeros(2, 1, 2, 2)
    denoised = torch.tensor([1.0, 0.0, -1.0, 0.0]).view(1, 1, 2, 2).expand(2, -1, -1, -1)
    loss = denoising_loss(denoised, images, torch.tensor([0.5, 2.0]))
    assert loss.tolist() == [2.0, 0.125]


@pytest.mark.parametrize("sigma", [0.05, 0.4, 5.0])
def test_the_wiener_filter_has_loss_1_on_gaussian_data(sigma: float) -> None:
    """E |D - x0|^2 / (D r^2) = 1 for images of the base's own Gaussian; four standard errors."""
    n, shape = 8192, (3, 4, 4)
    generator = Generator().manual_seed(0)
    components = torch.linalg.qr(torch.randn(48, 48, generator=generator)).Q[:6]
    variances = torch.tensor([3.0, 1.0, 0.5, 0.2, 0.1, 0.05])
    base = GaussianEnergy(torch.full((48,), 0.1), components, variances, torch.tensor(0.01))
    inside = torch.randn(n, 6, generator=generator) * (variances - 0.01).sqrt()
    flat = base.mean + inside @ components + 0.1 * torch.randn(n, 48, generator=generator)
    images, levels = flat.view(n, *shape), torch.full((n,), sigma)
    x = add_noise(images, levels, generator=generator)
    loss = denoising_loss(base.denoise(x, levels), images, base.posterior_scale(levels))
    error = 4 * loss.std().item() / math.sqrt(n)
    assert error < 0.05
    assert loss.mean().item() == pytest.approx(1, abs=error)


def test_noise_has_the_scale_of_its_image_and_comes_from_the_generator() -> None:
    n_pixels = 3 * 64 * 64
    sigma = torch.tensor([0.0, 0.5, 4.0])
    images = torch.full((3, 3, 64, 64), 0.25)
    x = add_noise(images, sigma, generator=Generator().manual_seed(3))
    assert torch.equal(x, add_noise(images, sigma, generator=Generator().manual_seed(3)))
    assert torch.equal(x[0], images[0])
    for i in (1, 2):
        expected = sigma[i].item()
        noise = x[i] - images[i]
        assert noise.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * n_pixels))
        assert abs(noise.mean().item()) < 4 * expected / math.sqrt(n_pixels)


def test_noise_levels_are_log_normal_within_their_range() -> None:
    """Median and quartiles of ln sigma; their standard error is sqrt(p (1 - p) / n) / density."""
    n = 20_000
    sigma = draw_noise_levels(n, generator=Generator().manual_seed(0))
    assert sigma.min().item() >= SIGMA_MIN * (1 - 1e-6)
    assert sigma.max().item() <= SIGMA_MAX * (1 + 1e-6)
    normal = NormalDist(LOG_SIGMA_MEAN, LOG_SIGMA_SCALE)
    for p in (0.25, 0.5, 0.75):
        quantile = normal.inv_cdf(p)
        error = math.sqrt(p * (1 - p) / n) / normal.pdf(quantile)
        assert sigma.log().quantile(p).item() == pytest.approx(quantile, abs=4 * error)


def test_cross_entropy_by_hand() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    expected = [math.log(2), -(math.log(0.8) + math.log(0.1)) / 2]
    assert cross_entropy(shares.log(), target).tolist() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_is_least_at_the_target() -> None:
    """By Gibbs' inequality, and its gradient in the logits is q - t."""
    target = torch.tensor([[0.2, 0.5, 0.3]])
    logits = torch.tensor([[1.0, -2.0, 0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(cross_entropy(logits.log_softmax(1), target).sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(1) - target)


def test_contrastive_divergence_by_hand() -> None:
    """mean (1, 3) - mean (-1, 0) = 2.5; squares 5 + 1/2."""
    positive = torch.tensor([1.0, 3.0], requires_grad=True)
    negative = torch.tensor([-1.0, 0.0], requires_grad=True)
    assert contrastive_divergence(positive, negative, energy_penalty=0).item() == 2.5
    value = contrastive_divergence(positive, negative, energy_penalty=2)
    assert value.item() == 2.5 + 2 * 5.5
    up, down = torch.autograd.grad(value, [positive, negative])
    assert up.tolist() == [0.5 + 2 * 1, 0.5 + 2 * 3]
    assert down.tolist() == [-0.5 - 2 * 1, -0.5]
