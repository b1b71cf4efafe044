"""Moves with an accept test: invariant densities in closed form, float64.

A chain is one row; energies are nats. Tolerances of sampled numbers are four standard errors over
independent chains: sqrt(V / N) of a mean, V sqrt(2 / N) of a normal variance, sqrt(p (1 - p) / N)
of a share. A wrong rule is far outside: without it a step h inflates N(1, 1/2) by 1 / (1 - h).
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from ebmcli.core.energy import Energy, gaussian
from ebmcli.core.samplers import (
    HMC,
    MALA,
    Evaluated,
    SeededNoise,
    Transition,
    evaluate,
    hmc_step,
    leapfrog,
    log_proposal_ratio,
    mala_step,
    metropolis_acceptance,
)

N = 4096  # chains
Step = Callable[[Energy, Evaluated, Generator], Transition]


def normal(*shape: int, generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniforms(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def mala(h: float, noise_scale: float | None = None) -> Step:
    """MALA with a step size, and by default the textbook's noise."""
    scale = math.sqrt(2 * h) if noise_scale is None else noise_scale

    def step(energy: Energy, state: Evaluated, generator: Generator) -> Transition:
        return mala_step(
            energy, state, step_size=h, noise_scale=scale,
            noise=normal(*state.x.shape, generator=generator),
            uniform=uniforms(len(state.x), generator),
        )  # fmt: skip

    return step


def hmc(h: float, n_leapfrog: int = 3) -> Step:
    def step(energy: Energy, state: Evaluated, generator: Generator) -> Transition:
        return hmc_step(
            energy, state, step_size=h, n_leapfrog=n_leapfrog,
            noise=normal(*state.x.shape, generator=generator),
            uniform=uniforms(len(state.x), generator),
        )  # fmt: skip

    return step


def run(energy: Energy, x: Tensor, step: Step, *, n: int, generator: Generator) -> Tensor:
    state = evaluate(energy, x)
    for _ in range(n):
        state = step(energy, state, generator).state
    return state.x


STEPS = [
    pytest.param(mala(0.3), id="mala"),
    pytest.param(mala(0.2, noise_scale=0.9), id="mala-other-noise"),
    pytest.param(hmc(0.15), id="hmc"),
]


def test_the_accept_rule_is_in_detailed_balance_on_a_grid(generator: Generator) -> None:
    """pi_i q_ij alpha_ij = pi_j q_ji alpha_ji for lopsided proposals; and pi P = pi."""
    n = 9
    energy = 3 * normal(n, generator=generator)
    log_q = (2 * normal(n, n, generator=generator)).log_softmax(1)
    log_ratio = energy[:, None] - energy[None, :] + log_q.T - log_q
    alpha = metropolis_acceptance(log_ratio.flatten()).view(n, n)
    pi = (-energy).softmax(0)
    flow = pi[:, None] * log_q.exp() * alpha
    torch.testing.assert_close(flow, flow.T, rtol=1e-12, atol=0)
    move = (log_q.exp() * alpha).fill_diagonal_(0)
    kernel = move + torch.diag(1 - move.sum(1))
    torch.testing.assert_close(pi @ kernel, pi, rtol=1e-12, atol=0)


def test_a_proposal_without_a_finite_energy_is_never_taken() -> None:
    ratio = torch.tensor([math.nan, -math.inf, math.inf, 0.0, -1.0])
    assert metropolis_acceptance(ratio).tolist() == pytest.approx([0, 0, 1, 1, math.exp(-1)])


def wavy(x: Tensor) -> Tensor:
    """An energy with curvature that differs from place to place: (B, 1, 1, 2) -> (B,)."""
    return (x.square() / 2 + torch.sin(2 * x)).flatten(1).sum(1)


@pytest.mark.parametrize(("h", "scale"), [(0.3, math.sqrt(0.6)), (0.2, 0.9)])
def test_the_density_of_a_proposal_is_the_normal_density_it_is_drawn_from(
    generator: Generator, h: float, scale: float
) -> None:
    """In particular with noise of variance 2 h the squares are divided by 4 h."""
    old, new = (evaluate(wavy, normal(50, 1, 1, 2, generator=generator)) for _ in range(2))

    def log_q(end: Evaluated, start: Evaluated) -> Tensor:
        density = Normal(start.x - h * start.gradient, scale).log_prob(end.x)
        return density.flatten(1).sum(1)

    found = log_proposal_ratio(old, new, step_size=h, noise_scale=scale)
    torch.testing.assert_close(found, log_q(old, new) - log_q(new, old), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("step", STEPS)
def test_moves_sample_a_gaussian_without_the_bias_of_the_step(
    generator: Generator, step: Step
) -> None:
    """N(1, 1/2) from a start at -1."""
    start = torch.full((N, 1, 1, 1), -1.0, dtype=torch.float64)
    x = run(gaussian(mean=1.0, variance=0.5), start, step, n=60, generator=generator)
    assert x.mean().item() == pytest.approx(1, abs=4 * math.sqrt(0.5 / N))
    assert x.var().item() == pytest.approx(0.5, rel=4 * math.sqrt(2 / N))


@pytest.mark.parametrize("step", STEPS)
def test_moves_sample_a_mixture_with_its_weights(generator: Generator, step: Step) -> None:
    """0.3 N(-1.2, 0.7^2) + 0.7 N(1.2, 0.7^2), all chains started in the smaller mode."""
    weights, means, s = torch.tensor([0.3, 0.7]).double(), torch.tensor([-1.2, 1.2]).double(), 0.7

    def energy(x: Tensor) -> Tensor:
        parts = Normal(means, s).log_prob(x.flatten()[:, None]) + weights.log()
        return -torch.logsumexp(parts, 1)

    x = run(
        energy,
        torch.full((N, 1, 1, 1), -1.2, dtype=torch.float64),
        step,
        n=150,
        generator=generator,
    )
    mean = float((weights * means).sum())
    variance = s**2 + float((weights * (means - mean) ** 2).sum())
    left = float((weights * Normal(means, s).cdf(torch.tensor(0.0).double())).sum())
    assert x.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / N))
    # flatter than a normal density: its fourth moment is below 3 V^2
    assert x.var().item() == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / N))
    share = (x < 0).double().mean().item()
    assert share == pytest.approx(left, abs=4 * math.sqrt(left * (1 - left) / N))


@pytest.mark.parametrize("step", STEPS)
def test_every_chain_decides_for_itself(generator: Generator, step: Step) -> None:
    """One decision for the batch would move all chains or none."""
    start = 3 * normal(200, 1, 1, 2, generator=generator)
    moved = step(wavy, evaluate(wavy, start), generator)
    changed = (moved.state.x != start).flatten(1).any(1)
    assert torch.equal(changed, moved.accepted)
    assert 20 < int(moved.accepted.sum()) < 200
    assert moved.acceptance.unique().numel() > 20
    torch.testing.assert_close(moved.state.energy, wavy(moved.state.x))
    torch.testing.assert_close(moved.state.gradient, evaluate(wavy, moved.state.x).gradient)


@pytest.mark.parametrize("take", [mala_step, hmc_step])
def test_a_decision_follows_the_number_of_its_own_chain(take: Any, generator: Generator) -> None:
    """Two equal chains with equal proposals, of which one draws 0 and the other almost 1."""
    x = torch.full((2, 1, 1, 1), 0.1, dtype=torch.float64)
    uphill = torch.full_like(x, 2.5)
    special = {"noise_scale": 1.0} if take is mala_step else {"n_leapfrog": 1}
    for low in (0, 1):
        uniform = torch.full((2,), 0.999, dtype=torch.float64)
        uniform[low] = 0.0
        energy = gaussian(mean=0.0, variance=0.5)
        moved = take(
            energy, evaluate(energy, x), step_size=0.5, noise=uphill, uniform=uniform, **special
        )
        assert moved.accepted.tolist() == [low == 0, low == 1]
    with pytest.raises(ValueError, match="one uniform number per chain"):
        take(
            energy, evaluate(energy, x), step_size=0.5, noise=uphill, uniform=uniform[:1], **special
        )


def test_hmc_of_one_leapfrog_step_is_mala(generator: Generator) -> None:
    state = evaluate(wavy, normal(64, 1, 1, 2, generator=generator))
    noise, uniform = normal(64, 1, 1, 2, generator=generator), uniforms(64, generator)
    step = torch.linspace(0.05, 0.6, 64, dtype=torch.float64)  # one per chain
    plain = mala_step(
        wavy, state, step_size=step, noise_scale=(2 * step).sqrt(), noise=noise, uniform=uniform
    )
    other = hmc_step(wavy, state, step_size=step, n_leapfrog=1, noise=noise, uniform=uniform)
    torch.testing.assert_close(plain.acceptance, other.acceptance, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(plain.state.x, other.state.x, rtol=1e-12, atol=1e-12)


def test_a_trajectory_comes_back_when_the_momentum_is_turned_round(generator: Generator) -> None:
    state, momentum = (
        evaluate(wavy, normal(8, 1, 1, 2, generator=generator)),
        torch.ones(8, 1, 1, 2),
    )
    eps = torch.tensor(0.3, dtype=torch.float64)
    end, last = leapfrog(wavy, state, momentum.double(), time_step=eps, n_steps=7)
    back, first = leapfrog(wavy, end, -last, time_step=eps, n_steps=7)
    torch.testing.assert_close(back.x, state.x, rtol=0, atol=1e-12)
    torch.testing.assert_close(-first, momentum.double(), rtol=0, atol=1e-12)


def test_a_trajectory_keeps_volume() -> None:
    """On E = x^2 / 2 it is linear; the determinant of (x, p) -> (x', p') is 1."""
    x = torch.tensor([1.0, 0.0]).double().view(2, 1, 1, 1)
    p = torch.tensor([0.0, 1.0]).double().view(2, 1, 1, 1)
    energy = gaussian(mean=0.0)
    end, last = leapfrog(
        energy, evaluate(energy, x), p, time_step=torch.tensor(0.7).double(), n_steps=5
    )
    matrix = torch.stack([end.x.flatten(), last.flatten()])
    assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=1e-12)


def test_the_energy_error_of_a_trajectory_is_of_second_order() -> None:
    """Halving the step at the same length divides the change of H by 4."""
    x = torch.full((1, 1, 1, 2), 0.4, dtype=torch.float64)
    p = torch.tensor([[[[1.0, -0.5]]]]).double()
    state = evaluate(wavy, x)

    def change(n: int) -> float:
        eps = torch.tensor(1.0 / n, dtype=torch.float64)
        end, last = leapfrog(wavy, state, p, time_step=eps, n_steps=n)
        return float(end.energy - state.energy + (last.square().sum() - p.square().sum()) / 2)

    ratio = change(64) / change(128)
    assert ratio == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("h", [0.01, 0.5, 3.0])
def test_noise_around_a_fixed_image_refuses_no_exponential_move(h: float) -> None:
    """N(x0, sigma^2 I) in 3,000 dimensions: acceptance 1, where the textbook's has almost none."""
    sigma, noise = 0.7, SeededNoise([0], (3, 10, 100), chains=4)
    energy = gaussian(mean=0.3, variance=sigma**2)
    state = evaluate(energy, 0.3 + sigma * noise.draw().double())
    moved = MALA.move(energy, state, sigma, torch.full((4,), h, dtype=torch.float64), noise)
    torch.testing.assert_close(moved.acceptance, torch.ones(4).double(), rtol=0, atol=1e-9)
    assert moved.accepted.all()


@pytest.mark.parametrize("method", [MALA, HMC])
def test_a_move_at_a_noise_level_costs_what_is_said(method: Any) -> None:
    calls = []

    def energy(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.square().flatten(1).sum(1)

    noise = SeededNoise([0, 1], (1, 2, 2))
    state = evaluate(energy, noise.draw())
    calls.clear()
    method.move(energy, state, 0.5, torch.full((2,), 0.1), noise)
    assert calls == [2] * method.n_calls


def test_ranks_of_the_truth_among_draws_are_uniform(generator: Generator) -> None:
    """theta ~ N(0, 1), y ~ N(theta, 1): theta is one more draw of p(theta | y) = N(y / 2, 1/2).

    Simulation-based calibration (Talts et al. 2018): the rank of theta among 19 thinned draws is
    uniform on 0 ... 19. Chi-square with 19 degrees of freedom, false alarms at a rate of 1e-4 over
    seeds. Draws with a variance wrong by a fifth are found (p < 1e-4 with 4,000 replicas).
    """
    n, n_draws = 4000, 19
    theta = normal(n, generator=generator)
    y = theta + normal(n, generator=generator)

    def energy(x: Tensor) -> Tensor:
        value = x.flatten()
        return value.square() / 2 + (y - value).square() / 2

    state, rank = evaluate(energy, torch.zeros(n, 1, 1, 1).double()), torch.zeros(n)
    for count in range(40 + 6 * n_draws):
        state = mala(0.3)(energy, state, generator).state
        if count >= 40 and (count - 40) % 6 == 5:
            rank += state.x.flatten() < theta
    expected = n / (n_draws + 1)
    counts = torch.bincount(rank.long(), minlength=n_draws + 1).double()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    p_value = torch.special.gammaincc(torch.tensor(n_draws / 2).double(), chi_square / 2)
    assert p_value.item() > 1e-4
