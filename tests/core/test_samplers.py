"""Samplers against Gaussians, where every step is linear: means and variances in closed form.

Pixels are independent here, so that n images of m pixels are n m chains. Tolerances are four
standard errors: sqrt(V / N) of a mean, V sqrt(2 / N) of a variance.
"""

import math
from itertools import islice, pairwise

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.composition import conjunction
from ebmcli.core.energy import (
    Energy,
    NoisyEnergy,
    at_noise_level,
    energy_and_gradient,
    energy_gradient,
    gaussian,
    noisy_gaussian,
)
from ebmcli.core.samplers import (
    SeededNoise,
    annealed_chain,
    exponential_langevin_step,
    heun_step,
    langevin_step,
    noise_levels,
)

SHAPE = (1, 64, 64)
N_IMAGES = 4
N = N_IMAGES * math.prod(SHAPE)  # 16,384 chains of one pixel


def start(*, mean: float, variance: float, seed: int = 12_345) -> Tensor:
    """Independent normal pixels."""
    noise = torch.randn(N_IMAGES, *SHAPE, generator=Generator().manual_seed(seed))
    return mean + math.sqrt(variance) * noise


def check(x: Tensor, *, mean: float, variance: float) -> None:
    """Mean and variance of all pixels are within four standard errors."""
    assert x.shape == (N_IMAGES, *SHAPE)
    assert x.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / N))
    assert x.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / N))


def product(*means: float) -> Energy:
    """The energy of a product of N(mean, 1)."""
    return lambda x: sum((gaussian(mean=m)(x) for m in means), torch.zeros(len(x)))


@pytest.mark.parametrize("h", [0.05, 0.3])
def test_langevin_on_a_conjunction_samples_the_product_density(h: float) -> None:
    """N(0, 1) N(2, 1) is N(1, 1/2); a step of size h inflates the variance by 1 / (1 - h)."""
    noise = SeededNoise(range(N_IMAGES), SHAPE)
    x = start(mean=0, variance=1)
    for _ in range(math.ceil(10 / h)):  # (1 - 2h)^n < e^-20: nothing is left of the start
        x = langevin_step(
            product(0.0, 2.0), x, step_size=h, noise_scale=math.sqrt(2 * h), noise=noise.draw()
        )
    check(x, mean=1, variance=0.5 / (1 - h))


def test_langevin_without_noise_is_gradient_descent() -> None:
    x = torch.full((1, 1, 2, 2), 3.0)
    moved = langevin_step(gaussian(mean=1.0), x, step_size=0.25, noise_scale=0, noise=x)
    assert moved.flatten().tolist() == [2.5] * 4
    assert x.flatten().tolist() == [3.0] * 4


@pytest.mark.parametrize("step", [0.15, 1.0, 4.0])
def test_an_exponential_step_leaves_noise_around_a_fixed_image_as_it_is(step: float) -> None:
    """N(mu, sigma^2) is invariant for every h, where the plain step inflates it."""
    sigma = torch.full((N_IMAGES,), 0.7)
    x = start(mean=0.3, variance=0.49)
    energy: NoisyEnergy = noisy_gaussian(mean=0.3, variance=0.0)
    noise = SeededNoise(range(100, 100 + N_IMAGES), SHAPE)
    for _ in range(10):
        x = exponential_langevin_step(energy, x, sigma, step=step, noise=noise.draw())
    check(x, mean=0.3, variance=0.49)


@pytest.mark.parametrize("step", [0.15, 1.0])
def test_an_exponential_step_cools_directions_in_which_images_vary(step: float) -> None:
    """Stationary variance (v + sigma^2) (2 - a) / (2 - s a), with s = sigma^2 / (v + sigma^2).

    a = 1 - e^-h. Exact for s = 1; where images vary much the temperature is 1 - a / 2.
    """
    v, sigma = 1.0, 1.0
    a, s = 1 - math.exp(-step), 0.5
    energy = noisy_gaussian(mean=-1.0, variance=v)
    noise = SeededNoise(range(N_IMAGES), SHAPE)
    x = start(mean=0, variance=1)
    levels = torch.full((N_IMAGES,), sigma)
    for _ in range(math.ceil(10 / (a * s))):
        x = exponential_langevin_step(energy, x, levels, step=step, noise=noise.draw())
    check(x, mean=-1, variance=(v + sigma**2) * (2 - a) / (2 - s * a))


def heun_error(n: int) -> float:
    """Largest error of n Heun steps from sigma 4 to 1/2, against the solution of the flow.

    dx/dsigma = sigma (x - mu) / (v + sigma^2) has x - mu proportional to sqrt(v + sigma^2).
    """
    v, mu = 0.25, 0.5
    x = torch.linspace(-3, 3, 8, dtype=torch.float64).view(2, 1, 2, 2)
    exact = mu + (x - mu) * math.sqrt((v + 0.25) / (v + 16))
    sigmas = torch.linspace(4, 0.5, n + 1).tolist()
    for sigma, following in pairwise(sigmas):
        x, _, _ = heun_step(noisy_gaussian(mean=mu, variance=v), x, sigma, following)
    return (x - exact).abs().max().item()


def test_heun_steps_converge_at_second_order() -> None:
    """Halving the step divides the error by 4; Euler's by 2."""
    errors = [heun_error(n) for n in (32, 64, 128, 256)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] > 1e-6  # far above rounding: the orders mean something
    assert orders[-1] == pytest.approx(2, abs=0.1)
    assert orders == sorted(orders, key=lambda order: abs(order - 2), reverse=True)


def test_the_last_heun_step_ends_on_the_denoised_image() -> None:
    v, sigma = 0.5, 0.3
    x = start(mean=0, variance=1)
    last, denoised, value = heun_step(noisy_gaussian(mean=1.0, variance=v), x, sigma, 0.0)
    wiener = 1 + v / (v + sigma**2) * (x - 1)
    torch.testing.assert_close(denoised, wiener, rtol=0, atol=1e-5)
    torch.testing.assert_close(last, denoised, rtol=0, atol=1e-6)
    assert value.shape == (N_IMAGES,)


def recursion(
    sigmas: list[float],
    *,
    k: int,
    v: float,
    gap: float,
    variance: float,
    n: int,
    h: float,
    low: float,
) -> tuple[float, float]:
    """(mean - mu, variance) after an annealed chain on a product of k densities of variance v.

    Every step is x - mu <- g (x - mu) + noise. With slope(sigma) = k sigma / (v + sigma^2), one
    of the n corrector steps at sigma >= low has g = 1 - (1 - e^-h) sigma slope and noise of
    variance sigma^2 (1 - e^-2h); a Heun step averages the slopes at both ends.
    """

    def slope(sigma: float) -> float:
        return sigma * k / (v + sigma**2)

    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        for _ in range(n if sigma >= low else 0):
            g = 1 - (1 - math.exp(-h)) * sigma * slope(sigma)
            gap, variance = g * gap, g**2 * variance + sigma**2 * (1 - math.exp(-2 * h))
        move = following - sigma
        g = 1 + move * slope(sigma)
        if following > 0:
            g = 1 + move * (slope(sigma) + g * slope(following)) / 2
        gap, variance = g * gap, g**2 * variance
    return gap, variance


@pytest.mark.parametrize("n_corrector", [0, 2])
def test_an_annealed_chain_carries_noise_to_the_gaussian_of_the_images(n_corrector: int) -> None:
    """Mean and variance are those of the linear recursion, which ends close to N(0.4, 1/4)."""
    sigmas = noise_levels(32).tolist()
    states = list(
        annealed_chain(
            noisy_gaussian(mean=0.4, variance=0.25),
            start(mean=0, variance=100),
            sigmas,
            SeededNoise(range(N_IMAGES), SHAPE),
            n_corrector=n_corrector,
        )
    )
    assert [(state.level, state.sigma) for state in states] == list(enumerate(sigmas))
    assert torch.equal(states[-1].x, states[-1].denoised)
    gap, variance = recursion(
        sigmas, k=1, v=0.25, gap=-0.4, variance=100, n=n_corrector, h=0.15, low=0.3
    )
    check(states[-1].x, mean=0.4 + gap, variance=variance)
    assert gap == pytest.approx(0, abs=0.025)  # sqrt(v) / 10 of the first mean is left
    assert variance == pytest.approx(0.25, rel=0.06)


@pytest.mark.parametrize(
    ("n_corrector", "h", "share"), [(0, 0.15, 0.02), (8, 0.15, 0.85), (64, 0.05, 0.95)]
)
def test_on_a_product_the_corrector_makes_up_for_the_drift_of_the_flow(
    n_corrector: int, h: float, share: float
) -> None:
    """N(0, 1) N(2, 1) = N(1, 1/2): the flow alone keeps 2% of its variance, many steps all of it.

    Noised factors multiply to a density narrower than the noised product; a small h removes the
    cooling of a / 2.
    """
    energy = conjunction(
        noisy_gaussian(mean=0.0, variance=1.0), noisy_gaussian(mean=2.0, variance=1.0)
    )
    sigmas = noise_levels(32).tolist()
    chain = annealed_chain(
        energy,
        start(mean=0, variance=100),
        sigmas,
        SeededNoise(range(N_IMAGES), SHAPE),
        n_corrector=n_corrector,
        corrector_step=h,
        corrector_from=0.0,
    )
    gap, variance = recursion(sigmas, k=2, v=1, gap=-1, variance=100, n=n_corrector, h=h, low=0)
    *_, last = chain
    check(last.x, mean=1 + gap, variance=variance)
    assert variance / 0.5 == pytest.approx(share, abs=0.015)


def test_the_corrector_acts_on_its_noise_levels_only() -> None:
    """Below ``corrector_from`` no noise is drawn: two levels of three, three steps each."""
    noise = SeededNoise([0], (1, 2, 2))
    list(
        annealed_chain(
            noisy_gaussian(mean=0.0, variance=1.0),
            torch.zeros(1, 1, 2, 2),
            [3.0, 1.0, 0.2],
            noise,
            n_corrector=3,
            corrector_from=1.0,
        )
    )
    untouched = SeededNoise([0], (1, 2, 2))
    for _ in range(6):
        untouched.draw()
    assert torch.equal(noise.draw(), untouched.draw())


def test_a_picture_depends_on_its_seed_and_not_on_its_batch() -> None:
    shape = (3, 8, 8)
    energy = conjunction(
        noisy_gaussian(mean=0.0, variance=0.3), noisy_gaussian(mean=0.5, variance=1.0)
    )

    def picture(seeds: list[int], seed: int) -> Tensor:
        noise = SeededNoise(seeds, shape)
        chain = annealed_chain(
            energy, 10 * noise.draw(), noise_levels(12).tolist(), noise, n_corrector=2
        )
        return list(chain)[-1].x[seeds.index(seed)]

    alone = picture([7], 7)
    assert torch.equal(alone, picture([3, 7, 7, 2**40], 7))
    assert torch.equal(alone, picture([7, 1, 0], 7))
    assert not torch.equal(alone, picture([3, 7], 3))


def test_a_chain_is_drawn_level_by_level_and_leaves_its_start_alone() -> None:
    x = torch.ones(2, 1, 2, 2)
    chain = annealed_chain(
        noisy_gaussian(mean=0.0, variance=1.0), x, [2.0, 1.0], SeededNoise([0, 1], (1, 2, 2))
    )
    (first,) = islice(chain, 1)
    assert (x == 1).all()
    assert (first.level, first.sigma) == (0, 2.0)
    assert not first.x.requires_grad
    assert first.energy.tolist() == pytest.approx([4 / 10 + 2 * math.log(5)] * 2)


def test_noise_levels_fall_evenly_in_the_root() -> None:
    levels = noise_levels(9, sigma_min=0.1, sigma_max=5.0, rho=3.0)
    assert levels[0].item() == pytest.approx(5.0, rel=1e-6)
    assert levels[-1].item() == pytest.approx(0.1, rel=1e-6)
    steps = levels.pow(1 / 3).diff()
    assert steps.tolist() == pytest.approx([steps[0].item()] * 8, rel=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        noise_levels(1)


def test_an_energy_must_return_one_value_per_image() -> None:
    with pytest.raises(ValueError, match=r"must return shape \(3,\), got \(3, 1\)"):
        energy_gradient(lambda x: x.flatten(1).sum(1, keepdim=True), torch.zeros(3, 1, 2, 2))


def test_the_gradient_of_a_gaussian_and_of_its_noised_kin() -> None:
    x = start(mean=0, variance=1)[:2]
    value, gradient = energy_and_gradient(gaussian(mean=0.5, variance=2.0), x)
    torch.testing.assert_close(gradient, (x - 0.5) / 2)
    torch.testing.assert_close(value, ((x - 0.5) ** 2 / 4).sum((1, 2, 3)))
    sigma = torch.tensor([1.0, 2.0])
    noised = energy_gradient(at_noise_level(noisy_gaussian(mean=0.5, variance=2.0), sigma), x)
    torch.testing.assert_close(noised, (x - 0.5) / (2 + sigma.square())[:, None, None, None])
    assert not noised.requires_grad
