"""Particles: weights, resampling and log Z against sums and Gaussians known in closed form."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ebmcli.core.composition import conjunction
from ebmcli.core.energy import NoisyEnergy, noisy_gaussian
from ebmcli.core.samplers import (
    ParticleState,
    SeededNoise,
    ancestral_step,
    draw_particle,
    effective_particles,
    log_mean_weight,
    log_transition_ratio,
    noise_levels,
    smc_chain,
    systematic_resampling,
)

LOG_2PI = math.log(2 * math.pi)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def log_normal(x: Tensor, *, mean: float, variance: float) -> Tensor:
    """Log density of independent normals, (B,)."""
    return Normal(*double(mean, math.sqrt(variance))).log_prob(x).flatten(1).sum(1)


def test_effective_particles_and_mean_weight() -> None:
    weights = torch.stack([double(1, 1, 1, 1), double(5, 0, 0, 0), double(3, 3, 0, 0)])
    log_weights = weights.log() + 100
    assert effective_particles(log_weights).tolist() == pytest.approx([4, 1, 2])
    means = [100 + math.log(m) for m in (1, 1.25, 1.5)]
    assert log_mean_weight(log_weights).tolist() == pytest.approx(means)


def test_children_are_as_many_as_the_weight_says_rounded_up_or_down() -> None:
    """k W_j children in the mean over u, never off by one or more; each picture by its own u."""
    k, n = 8, 1000
    weights = double(0.31, 0.02, 0.2, 0.07, 0.15, 0.05, 0.1, 0.1)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    ancestors = systematic_resampling(weights.log().expand(n, k), u)
    assert ancestors.shape == (n, k)
    children = torch.stack([torch.bincount(row, minlength=k) for row in ancestors]).double()
    expected = k * weights
    assert bool((children >= expected.floor()).all())
    assert bool((children <= expected.ceil()).all())
    # a grid of u in 1/n steps: each end of a weight falls between two of its points
    torch.testing.assert_close(children.mean(0), expected, rtol=0, atol=2 / n)


def test_one_particle_is_drawn_with_the_probability_of_its_weight() -> None:
    weights, n = double(0.5, 0.0, 0.3, 0.2), 1000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = draw_particle(weights.log().expand(n, 4), u)
    share = torch.bincount(drawn, minlength=4).double() / n
    torch.testing.assert_close(share, weights, rtol=0, atol=1 / n)


def test_the_ratio_of_transitions_is_that_of_their_normal_densities(
    generator: torch.Generator,
) -> None:
    """q = N(D + r (x - D), b^2 (1 - r)), r = b^2 / a^2, from a to b; L has variance a^2 - b^2."""
    x, denoised, noise = (
        torch.randn(5, 1, 2, 3, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    a, b = 0.9, 0.7
    following = ancestral_step(x, denoised, sigma=a, sigma_next=b, noise=noise)
    r = b**2 / a**2
    forward = Normal(denoised + r * (x - denoised), b * math.sqrt(1 - r)).log_prob(following)
    back = Normal(following, math.sqrt(a**2 - b**2)).log_prob(x)
    found = log_transition_ratio(x, following, sigma=a, sigma_next=b, noise=noise)
    expected = (back - forward).flatten(1).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def last(
    energy: NoisyEnergy,
    sigmas: list[float],
    noise: SeededNoise,
    *,
    mean: float,
    variance: float,
    n_moves: int = 1,
    adapt: bool = False,
) -> list[ParticleState]:
    """SMC from exact draws of N(mean, variance), in float64."""
    x = mean + math.sqrt(variance) * noise.draw().double()
    start = log_normal(x, mean=mean, variance=variance)
    return list(
        smc_chain(energy, x, sigmas, noise, log_start_density=start, n_moves=n_moves, adapt=adapt)
    )


def test_around_a_fixed_image_every_weight_is_the_same_in_any_number_of_pixels() -> None:
    """E = |x - x0|^2 / (2 sigma^2) + d ln sigma has Z = (2 pi)^(d / 2) at every level, exactly."""
    shape = (3, 16, 16)
    noise = SeededNoise([0, 1], shape, chains=4)
    sigmas = noise_levels(6).tolist()
    for state in last(
        noisy_gaussian(mean=0.3, variance=0.0), sigmas, noise, mean=0.3, variance=sigmas[0] ** 2
    ):
        d = math.prod(shape)
        torch.testing.assert_close(state.effective, double(4, 4), rtol=0, atol=1e-6)
        assert not state.resampled.any()
        assert state.log_z.tolist() == pytest.approx([d / 2 * LOG_2PI] * 2, abs=1e-6)


def product_log_z(sigma: float, *, gap: float, variances: tuple[float, float], d: int) -> float:
    """log of the integral of exp(-E1 - E2), E_i of N(m_i, v_i + sigma^2) up to (2 pi)^(d / 2).

    = d / 2 (ln 2 pi - ln(s1 + s2) - gap^2 / (s1 + s2)),   s_i = v_i + sigma^2.
    """
    total = sum(variances) + 2 * sigma**2
    return d / 2 * (LOG_2PI - math.log(total) - gap**2 / total)


@pytest.mark.parametrize("n_moves", [0, 1])
def test_the_estimate_of_z_is_unbiased_on_a_product_of_gaussians(n_moves: int) -> None:
    """400 independent runs: the mean of exp(log Z - truth) is 1 within four standard errors.

    The error is measured between the runs, and small enough to find a factor of 1.2. The mean of x
    is the precision-weighted one. Without moves weights are less even: the flow drifts on products.
    """
    n, k, d = 400, 32, 1
    v, m = (0.5, 1.0), (0.0, 1.5)
    energy = conjunction(
        noisy_gaussian(mean=m[0], variance=v[0]), noisy_gaussian(mean=m[1], variance=v[1])
    )
    sigmas = noise_levels(24, sigma_min=0.4, sigma_max=4.0).tolist()
    noise = SeededNoise(range(n), (1, 1, d), chains=k)
    states = last(energy, sigmas, noise, mean=0.5, variance=10.0, n_moves=n_moves)
    assert sum(int(state.resampled.sum()) for state in states) > n / 4
    end = states[-1]
    truth = product_log_z(end.sigma, gap=m[1] - m[0], variances=v, d=d)
    ratio = (end.log_z - truth).exp()
    error = ratio.std().item() / math.sqrt(n)
    assert error < 0.04
    assert ratio.mean().item() == pytest.approx(1, abs=4 * error)
    precision = [1 / (v[i] + end.sigma**2) for i in (0, 1)]
    mean = sum(p * centre for p, centre in zip(precision, m, strict=True)) / sum(precision)
    weights = ratio[:, None] * end.log_weights.softmax(1)  # unbiased, where a mean of means is not
    x = end.x.view(n, k, d).mean(2)
    spread = ((weights * (x - mean)).sum(1)).std().item() / math.sqrt(n)
    assert (weights * (x - mean)).sum(1).mean().item() == pytest.approx(0, abs=4 * spread)
    assert spread < 0.03


def log_z_of_blobs(d: int, *, n: int = 12, k: int = 16) -> Tensor:
    """Errors of log Z, as commands run it, of two of four blobs, P = 0.7, (n,); d numbers a state.

    E = -log sum of p_j N(x; m_j, v + sigma^2) over the two is -log p(x) P(f | x), exactly.
    """
    generator = torch.Generator().manual_seed(0)
    centres = 0.6 * torch.randn(4, d, generator=generator, dtype=torch.float64)[:2]
    shares, v = double(0.4, 0.3), 0.04

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        total = (v + sigma.double().square())[:, None]
        squares = (x.flatten(1)[:, None] - centres).square().sum(2)
        each = shares.log() - squares / (2 * total) - d / 2 * (LOG_2PI + total.log())
        return -torch.logsumexp(each, 1)

    sigmas = [sigma for sigma in noise_levels(32).tolist() if sigma >= 0.3]
    noise = SeededNoise(range(n), (3, 4, d // 12), chains=k)
    start = sigmas[0] ** 2 + 0.36
    states = last(energy, sigmas, noise, mean=0.0, variance=start, n_moves=2, adapt=True)
    return states[-1].log_z - math.log(0.7)


def test_log_z_as_commands_estimate_it_scatters_more_the_more_numbers_a_state_has() -> None:
    """docs/samplers.md has these figures, and those of 3,072 numbers: 3.1 too low, spread 1.5."""
    few, more = log_z_of_blobs(48), log_z_of_blobs(768)
    assert abs(few.mean()) < 0.25
    assert few.std() < 0.5
    assert -2 < more.mean() < 0
    assert 0.3 < more.std() < 1.5


def test_steps_adapt_between_levels_and_pictures_do_not_meet() -> None:
    energy = noisy_gaussian(mean=0.0, variance=1.0)
    sigmas = noise_levels(8, sigma_min=0.3, sigma_max=5.0).tolist()

    def run(seeds: list[int], seed: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        noise = SeededNoise(seeds, (1, 4, 4), chains=4)
        states = last(energy, sigmas, noise, mean=0.0, variance=26.0, n_moves=2, adapt=True)
        i = seeds.index(seed)
        rows = slice(4 * i, 4 * i + 4)
        steps = [s.moves.step[rows] for s in states if s.moves.step is not None]
        return states[-1].x[rows], states[-1].log_z[i], steps

    x, log_z, steps = run([7], 7)
    other = run([3, 7, 11], 7)
    assert torch.equal(x, other[0])
    assert torch.equal(log_z, other[1])
    assert all(torch.equal(a, b) for a, b in zip(steps, other[2], strict=True))
    assert len({float(step[0]) for step in steps}) == len(sigmas)
    assert not torch.equal(x, run([7, 3], 3)[0])


def test_one_particle_is_refused() -> None:
    noise = SeededNoise([0], (1, 2, 2))
    chain = smc_chain(
        noisy_gaussian(mean=0.0, variance=1.0), noise.draw(), [1.0], noise,
        log_start_density=torch.zeros(1),
    )  # fmt: skip
    with pytest.raises(ValueError, match="at least 2 particles per picture, got 1"):
        next(chain)
