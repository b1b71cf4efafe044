"""The base energy: its denoiser is its gradient, and it can be differentiated twice."""

from typing import cast

import pytest
import torch
from squares import TRUNK, gaussian, noisy_squares, random_base, shaken
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy, Residual
from ebmcli.core.energy import at_noise_level, energy_and_gradient
from ebmcli.core.gaussian import input_scale


def double() -> tuple[BaseEnergy, Tensor, Tensor]:
    """A random base, noisy pictures and their levels in float64."""
    x, sigma = noisy_squares()
    return random_base().double(), x.double(), sigma.double()


class Sharp(BaseEnergy):
    """The correction without its rounding to float32, so that float64 means it."""

    def correction(
        self, x: Tensor, sigma: Tensor, vector: Tensor | None = None, maps: Tensor | None = None
    ) -> Tensor:
        """f(u, w, sigma) in float64."""
        wiener = self.gaussian.denoise(x, sigma)
        scaled = x / input_scale(sigma)[:, None, None, None]
        value: Tensor = self.network(torch.cat([scaled, wiener], dim=1), sigma, vector)
        return value


def test_the_denoiser_is_the_gradient_of_the_energy() -> None:
    """x - sigma^2 dE/dx by autograd equals the closed form, to rounding of float64."""
    base, x, sigma = double()
    base.__class__ = Sharp
    _, gradient = energy_and_gradient(at_noise_level(base.energy, sigma), x)
    expected = x - sigma.square()[:, None, None, None] * gradient
    torch.testing.assert_close(base.denoise(x, sigma), expected, rtol=1e-9, atol=1e-9)


def test_the_same_in_single_precision() -> None:
    """Energies of about 1000 nats: rounding is 1e-7 of them, divided by a pixel's share."""
    base, (x, sigma) = random_base(), noisy_squares()
    _, gradient = energy_and_gradient(at_noise_level(base.energy, sigma), x)
    expected = x - sigma.square()[:, None, None, None] * gradient
    torch.testing.assert_close(base.denoise(x, sigma), expected, rtol=1e-4, atol=1e-4)


def test_without_the_network_it_is_the_gaussian() -> None:
    base, (x, sigma) = BaseEnergy(gaussian(), TRUNK), noisy_squares()
    for parameter in base.network.parameters():
        parameter.data.zero_()
    assert torch.equal(base.energy(x, sigma), base.gaussian.energy(x, sigma))
    assert torch.equal(base.denoise(x, sigma), base.gaussian.denoise(x, sigma))


def test_an_energy_is_one_number_per_image() -> None:
    """And no image sees another, but for the order of sums inside a batch."""
    base, (x, sigma) = random_base(), noisy_squares(5)
    energy = base.energy(x, sigma)
    assert energy.shape == (5,)
    assert energy.dtype == torch.float32
    alone = torch.cat([base.energy(x[i : i + 1], sigma[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(energy, alone, rtol=1e-5, atol=1e-2)


def test_a_loss_on_the_denoiser_trains_every_weight() -> None:
    base, (x, sigma) = random_base(), noisy_squares()
    base.denoise(x, sigma, create_graph=True).square().mean().backward()  # type: ignore[no-untyped-call]
    still = {  # additive constants at the end of the head, whose gradient in x is 0
        "network.linear.bias",
        "network.head.4.bias",
    }
    for name, parameter in base.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert moved == (name not in still), name
    assert not base.denoise(x, sigma).requires_grad


def test_the_second_derivative_is_that_of_finite_differences() -> None:
    """d^2E along one direction, against the difference of two gradients; float64."""
    base, x, sigma = double()
    base.__class__ = Sharp
    generator = torch.Generator().manual_seed(3)
    along = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(base.energy(leaf, sigma).sum(), leaf, create_graph=True)
    (curved,) = torch.autograd.grad((slope * along).sum(), leaf)
    h = 1e-5
    ends = [
        energy_and_gradient(at_noise_level(base.energy, sigma), x + sign * h * along)[1]
        for sign in (1, -1)
    ]
    torch.testing.assert_close(curved, (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("asked", [False, True])
def test_bfloat16_changes_the_network_only(asked: bool) -> None:
    """The correction is rounded to 8 bits, the Gaussian's energy is not."""
    base, (x, sigma) = random_base(), noisy_squares()
    exact = base.correction(x, sigma)
    base.autocast = asked
    rounded = base.correction(x, sigma)
    assert rounded.dtype == torch.float32
    assert torch.equal(exact, rounded) != asked
    torch.testing.assert_close(exact, rounded, rtol=0.2, atol=0.2)


def test_the_denoiser_of_a_mended_base_is_that_of_its_energy() -> None:
    """D = x - sigma^2 dE/dx, the residual included."""
    base = random_base()
    base.residual = cast(Residual, shaken(Residual(TRUNK)))
    x, sigma = noisy_squares()
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(base.energy(leaf, sigma).sum(), leaf)
    expected = x - sigma.square()[:, None, None, None] * slope
    torch.testing.assert_close(base.denoise(x, sigma), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(base.denoise(x, sigma), random_base().denoise(x, sigma))


def test_a_residual_is_subtracted_and_a_fresh_one_is_zero() -> None:
    base, plain = random_base(), random_base()
    x, sigma = noisy_squares()
    base.residual = Residual(TRUNK)
    head = base.residual.network.head[-1]
    assert float(head.weight.detach().abs().max()) == 0
    base.residual = cast(Residual, shaken(base.residual))
    ratio = base.log_ratio(x, sigma)
    torch.testing.assert_close(base.energy(x, sigma), plain.energy(x, sigma) - ratio)
    assert float(ratio.detach().abs().min()) > 0
    with pytest.raises(ValueError, match="no residual"):
        plain.log_ratio(x, sigma)
