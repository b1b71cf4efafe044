"""Chains with an accept test from level to level: adapted steps, exact levels, own seeds."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ebmcli.core.composition import conjunction
from ebmcli.core.energy import noisy_gaussian
from ebmcli.core.samplers import (
    HMC,
    MALA,
    SeededNoise,
    adapt_step,
    metropolis_chain,
    noise_levels,
)


def test_a_step_follows_the_acceptance_of_its_own_picture() -> None:
    """ln h moves by count^-0.6 (mean over the picture's chains - target)."""
    step = torch.full((4,), 0.1, dtype=torch.float64)
    acceptance = torch.tensor([1.0, 0.8, 0.0, 0.2], dtype=torch.float64)
    for count, gain in ((1, 1.0), (32, 1 / 8)):
        found = adapt_step(step, acceptance, target=0.5, count=count, chains=2)
        up, down = 0.1 * math.exp(0.4 * gain), 0.1 * math.exp(-0.4 * gain)
        assert found.tolist() == pytest.approx([up, up, down, down])
    kept = adapt_step(step * 29, acceptance, target=0.0, count=1, chains=4)
    assert kept.tolist() == [3.0] * 4


@pytest.mark.parametrize("method", [MALA, HMC], ids=["mala", "hmc"])
def test_a_warm_up_finds_the_acceptance_it_aims_at(method: Any) -> None:
    """After 60 updates the gain is 0.09; the mean over 24 pictures of 20 frozen moves is near.

    Allowed: 0.05 for what is left of the start, and four times the spread of a mean over 480 moves
    whose acceptance spreads by at most 1/2.
    """
    noise = SeededNoise(range(24), (1, 8, 8))
    chain = metropolis_chain(
        noisy_gaussian(mean=0.0, variance=1.0), 3 * noise.draw(), [1.5], noise,
        method=method, n_corrector=20, n_warmup=60,
    )  # fmt: skip
    (state,) = chain
    assert state.moves is not None
    assert state.moves.acceptance is not None
    assert state.moves.energies.shape == (20, 24)
    allowed = 0.05 + 4 * 0.5 / math.sqrt(480)
    assert state.moves.acceptance.mean().item() == pytest.approx(method.target, abs=allowed)


@pytest.mark.parametrize("method", [MALA, HMC], ids=["mala", "hmc"])
def test_the_frozen_step_is_that_of_the_warm_up(method: Any) -> None:
    """Without warm-up, the first step at every level."""
    noise = SeededNoise([0, 1], (1, 2, 2))
    chain = metropolis_chain(
        noisy_gaussian(mean=0.0, variance=1.0), noise.draw(), [2.0, 1.0, 0.1], noise,
        method=method, n_corrector=3, n_warmup=0,
    )  # fmt: skip
    moves = [state.moves for state in chain]
    assert moves[2] is None  # below corrector_from
    for made in moves[:2]:
        assert made is not None
        assert made.step is not None
        assert made.step.tolist() == pytest.approx([method.first_step] * 2)


@pytest.mark.parametrize("method", [MALA, HMC], ids=["mala", "hmc"])
def test_a_level_of_a_product_is_sampled_exactly(method: Any) -> None:
    """N(0, 1) N(2, 1) at sigma 1: N(1, 1), and D(x) = x - E'(x) = 1 for every x.

    So the last step shows nothing; the next level, sigma' = 1/2, does: one Heun step is linear,
    x' - 1 = g (x - 1), with the slopes 2 sigma / (1 + sigma^2) = 1 and 0.8 at both ends.
    """
    n = 8192
    energy = conjunction(
        noisy_gaussian(mean=0.0, variance=1.0), noisy_gaussian(mean=2.0, variance=1.0)
    )
    noise = SeededNoise([5], (1, 1, 1), chains=n)
    x = torch.full((n, 1, 1, 1), -1.0, dtype=torch.float64)
    first, _ = metropolis_chain(
        energy, x, [1.0, 0.5], noise, method=method, n_corrector=60, n_warmup=20,
        corrector_from=0.7,
    )  # fmt: skip
    half_way = 1 - 0.5 * 1.0
    g = 1 - 0.5 * (1.0 + half_way * 0.8) / 2
    assert first.x.mean().item() == pytest.approx(1, abs=4 * g / math.sqrt(n))
    assert first.x.var().item() == pytest.approx(g**2, rel=4 * math.sqrt(2 / n))
    torch.testing.assert_close(first.denoised, torch.ones_like(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [MALA, HMC], ids=["mala", "hmc"])
@pytest.mark.parametrize("chains", [1, 3])
def test_a_picture_depends_on_its_seed_and_not_on_its_batch(method: Any, chains: int) -> None:
    shape = (3, 4, 4)
    energy = conjunction(
        noisy_gaussian(mean=0.0, variance=0.3), noisy_gaussian(mean=0.5, variance=1.0)
    )

    def picture(seeds: list[int], seed: int) -> Tensor:
        noise = SeededNoise(seeds, shape, chains=chains)
        chain = metropolis_chain(
            energy, 10 * noise.draw(), noise_levels(6).tolist(), noise,
            method=method, n_corrector=3, n_warmup=3,
        )  # fmt: skip
        *_, last = chain
        first = seeds.index(seed) * chains
        return last.x[first : first + chains]

    alone = picture([7], 7)
    assert torch.equal(alone, picture([3, 7, 7, 2**40], 7))
    assert not torch.equal(alone, picture([3, 7], 3))


def test_noise_of_several_chains_belongs_to_one_seed() -> None:
    one, two = SeededNoise([4], (1, 2, 2), chains=3), SeededNoise([9, 4], (1, 2, 2), chains=3)
    assert torch.equal(one.draw(), two.draw()[3:])
    assert torch.equal(one.uniform(), two.uniform()[3:])
    assert torch.equal(one.uniform_per_picture(), two.uniform_per_picture()[1:])
    assert (one.uniform() < 1).all()
