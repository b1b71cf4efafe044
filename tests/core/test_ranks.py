"""Simulation-based calibration of every sampler that ``ebm generate`` offers, as it is used there.

theta is drawn from a prior and y given theta, so that theta is one more draw of p(theta | y): its
rank among n draws of a sampler is uniform on 0 ... n (Talts et al. 2018). Chi-square of the counts,
false alarms at a rate of 1e-4 over seeds.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.samplers import (
    HMC,
    MALA,
    Method,
    SeededNoise,
    adapt_step,
    draw_particle,
    evaluate,
    first_accepted,
    noise_levels,
    reject,
    smc_chain,
)

N, N_DRAWS = 4000, 9  # replicas, and draws that a rank is among
WARM_UP, THIN = 60, 8  # moves; 40 leave HMC with about a whole period here, which moves nothing
Draws = Callable[[Tensor], Tensor]  # y (N,) -> (N_DRAWS, N)


def normal(n: int, generator: Generator) -> Tensor:
    return torch.randn(n, generator=generator, dtype=torch.float64)


def p_value(theta: Tensor, draws: Tensor) -> float:
    rank = (draws < theta).sum(0)
    counts = torch.bincount(rank, minlength=N_DRAWS + 1).double()
    expected = len(theta) / (N_DRAWS + 1)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor(N_DRAWS / 2).double(), chi_square / 2))


def moves_of(method: Method) -> Draws:
    """A warm-up in which the step adapts, then moves with a frozen one; of N(y / 2, 1/2)."""

    def draws(y: Tensor) -> Tensor:
        def energy(x: Tensor) -> Tensor:
            value = x.flatten()
            return value.square() / 2 + (y - value).square() / 2

        noise = SeededNoise([0], (1, 1, 1), chains=len(y))
        state = evaluate(energy, torch.zeros(len(y), 1, 1, 1).double())
        step = torch.full_like(state.energy, method.first_step)
        found = []
        for count in range(1, WARM_UP + THIN * N_DRAWS + 1):
            moved = method.move(energy, state, 1.0, step, noise)
            state = moved.state
            if count <= WARM_UP:
                step = adapt_step(
                    step, moved.acceptance, target=method.target, count=count, chains=len(y)
                )
            elif (count - WARM_UP) % THIN == 0:
                found.append(state.x.flatten())
        return torch.stack(found)

    return draws


@pytest.mark.parametrize("method", [MALA, HMC], ids=["mala", "hmc"])
def test_ranks_among_draws_of_moves_with_a_test_are_uniform(
    generator: Generator, method: Method
) -> None:
    theta = normal(N, generator)
    y = theta + normal(N, generator)
    assert p_value(theta, moves_of(method)(y)) > 1e-4


def test_ranks_among_particles_drawn_by_weight_are_uniform(generator: Generator) -> None:
    """Two noised Gaussians, whose product at level s is N(y / 2, v / 2), and whose flow drifts.

    v = 1 + s^2, and theta and y - theta have that variance at the last level. Steps adapt.
    """
    n, k, sigmas = 1000, 32, noise_levels(16, sigma_min=0.4, sigma_max=4.0).tolist()
    v = 1 + sigmas[-1] ** 2
    theta = math.sqrt(v) * normal(n, generator)
    y = theta + math.sqrt(v) * normal(n, generator)
    each = y.repeat_interleave(k)

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        value = x.flatten()
        return (value.square() + (each - value).square()) / (2 * (1 + sigma.square()))

    draws = []
    for run in range(N_DRAWS):
        noise = SeededNoise(range(run * n, (run + 1) * n), (1, 1, 1), chains=k)
        variance = 1 + sigmas[0] ** 2
        x = math.sqrt(variance) * noise.draw().double()
        start = -(x.flatten().square() / variance + math.log(2 * math.pi * variance)) / 2
        *_, end = smc_chain(energy, x, sigmas, noise, log_start_density=start, n_moves=2)
        chosen = draw_particle(end.log_weights, noise.uniform_per_picture().double())
        draws.append(end.x.view(n, k)[torch.arange(n), chosen])
    assert p_value(theta, torch.stack(draws)) > 1e-4


def test_ranks_among_accepted_draws_are_uniform(generator: Generator) -> None:
    """A formula f with P(f | theta) = 1 / (1 + exp(-2 theta)), true of theta."""

    def log_probability(value: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(2 * value)

    theta = normal(2 * N, generator)
    true = torch.rand(2 * N, generator=generator) < log_probability(theta).exp()
    theta, k = theta[true], 40
    draws = []
    for _ in range(N_DRAWS):
        x = normal(len(theta) * k, generator)
        uniform = torch.rand(len(x), generator=generator, dtype=torch.float64)
        kept = reject(log_probability(x), power=1, uniform=uniform).view(-1, k)
        chosen = first_accepted(kept, log_probability(x).view(-1, k))
        draws.append(x.view(-1, k)[torch.arange(len(theta)), chosen])
    assert p_value(theta, torch.stack(draws)) > 1e-4


def test_a_variance_that_is_wrong_by_a_fifth_is_found(generator: Generator) -> None:
    theta = normal(N, generator)
    y = theta + normal(N, generator)
    draws = y / 2 + math.sqrt(0.6) * torch.randn(N_DRAWS, N, generator=generator).double()
    assert p_value(theta, draws) < 1e-4
