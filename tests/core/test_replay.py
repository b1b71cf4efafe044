"""Replayed energies: on a CPU they are the energy itself, on a GPU a graph of it."""

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.energy import at_noise_level, energy_and_gradient, noisy_gaussian
from ebmcli.core.replay import ReplayedEnergy, replayed

ENERGY = noisy_gaussian(mean=0.3, variance=0.5)


def states(n: int, *, device: str = "cpu") -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(n)
    x = torch.randn(n, 3, 4, 4, generator=generator).to(device)
    return x, torch.linspace(0.1, 2.0, n, device=device)


def test_on_a_cpu_the_energy_is_called_as_it_is():
    x, sigma = states(5)
    assert torch.equal(replayed(ENERGY)(x, sigma), ENERGY(x, sigma))


def test_autograd_is_given_the_gradient_that_came_with_the_value():
    """The function between a graph and autograd, with a graph that is computed on the spot."""
    x, sigma = states(5)

    def graph(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return energy_and_gradient(at_noise_level(ENERGY, sigma), x)

    def energy(x: Tensor) -> Tensor:
        return 3 * ReplayedEnergy.apply(x, sigma, graph)

    value, gradient = energy_and_gradient(energy, x)
    known, slope = energy_and_gradient(lambda x: 3 * ENERGY(x, sigma), x)
    torch.testing.assert_close(value, known)
    torch.testing.assert_close(gradient, slope)


@pytest.mark.gpu
def test_a_graph_follows_its_arguments_and_their_shape():
    fast = replayed(ENERGY)
    for n in (5, 3, 5):
        x, sigma = states(n, device="cuda")
        for shift in (0.0, 1.0):
            found = energy_and_gradient(at_noise_level(fast, sigma), x + shift)
            known = energy_and_gradient(at_noise_level(ENERGY, sigma), x + shift)
            torch.testing.assert_close(found, known)
