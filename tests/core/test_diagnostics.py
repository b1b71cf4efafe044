"""Diagnostics of chains against processes whose answers are known."""

import math

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.diagnostics import (
    autocovariance,
    effective_sample_size,
    gelman_rubin,
    r_hat,
    rank_normalised,
    split_chains,
)


def autoregressive(phi: float, *, n_chains: int, n: int, generator: Generator) -> Tensor:
    """x_t = phi x_(t-1) + sqrt(1 - phi^2) noise, started in its stationary N(0, 1): (M, N)."""
    noise = torch.randn(n_chains, n, generator=generator, dtype=torch.float64)
    x = [noise[:, 0]]
    for t in range(1, n):
        x.append(phi * x[-1] + math.sqrt(1 - phi**2) * noise[:, t])
    return torch.stack(x, dim=1)


@pytest.mark.parametrize("phi", [0.0, 0.6, -0.4])
def test_the_effective_size_of_an_autoregressive_process(generator: Generator, phi: float) -> None:
    """M N (1 - phi) / (1 + phi). A sum over lags up to L errs by sqrt(2 (2 L + 1) / (M N)).

    Geyer's sum ends where the correlation drowns, phi^L near 1 / sqrt(M N): at most 12 lags here.
    """
    n_chains, n = 8, 4000
    x = autoregressive(phi, n_chains=n_chains, n=n, generator=generator)
    expected = n_chains * n * (1 - phi) / (1 + phi)
    allowed = 4 * math.sqrt(2 * 25 / (n_chains * n))
    assert effective_sample_size(x) == pytest.approx(expected, rel=allowed)


def test_the_effective_size_is_bounded_for_draws_that_repel() -> None:
    """Draws that alternate have a mean without error; the bound is S log10 S."""
    x = torch.tensor([1.0, -1.0]).repeat(2, 50)
    assert effective_sample_size(x) == pytest.approx(200 * math.log10(200))


def test_chains_that_stand_still_apart_have_hardly_a_draw_each(generator: Generator) -> None:
    """Between-chain variance counts: 4 chains of 1,000 draws, each around a place of its own."""
    places = torch.tensor([-6.0, -2.0, 2.0, 6.0])[:, None]
    x = places + 0.01 * torch.randn(4, 1000, generator=generator)
    assert effective_sample_size(x) < 8  # 4 chains, split in two


def test_r_hat_of_independent_draws_is_near_one(generator: Generator) -> None:
    """R^2 = (N - 1) / N + B / (N W), and B / W is chi^2_7 / 7 for 8 halves: below 4.3 but for 1e-4.

    The larger of two is below 1 + (4.3 - 1) / (2 N) but for 2e-4, and at least 1 - 1 / (2 N); the
    variance of W adds sqrt(2 / (8 N)) of each.
    """
    n = 500
    value = r_hat(torch.randn(4, 2 * n, generator=generator))
    assert 1 - 1.2 / (2 * n) < value < 1 + 1.2 * 3.3 / (2 * n)


def test_r_hat_of_chains_that_differ(generator: Generator) -> None:
    noise = torch.randn(4, 1000, generator=generator)
    apart = noise + torch.tensor([-4.0, -4.0, 4.0, 4.0])[:, None]
    scores = 2 / math.pi  # squared mean of half a normal density: all that ranks can show
    assert r_hat(apart) == pytest.approx(math.sqrt(1 + 8 / 7 * scores / (1 - scores)), rel=0.01)
    spreads = noise * torch.tensor([1.0, 1.0, 5.0, 5.0])[:, None]
    assert r_hat(spreads) > 1.2  # by folding: the centres agree
    assert gelman_rubin(rank_normalised(split_chains(spreads))) < 1.02
    drifting = noise + torch.linspace(-4, 4, 1000)
    assert r_hat(drifting) > 1.5  # by splitting: the chains agree with each other
    assert gelman_rubin(drifting.double()) < 1.02


def test_gelman_rubin_of_known_variances() -> None:
    """Chains (0, 2) and (4, 6): W = 2, B / N = 8, so R = sqrt((2 / 2 + 8) / 2)."""
    draws = torch.tensor([[0.0, 2.0], [4.0, 6.0]]).double()
    assert gelman_rubin(draws) == pytest.approx(math.sqrt(4.5))


def test_draws_that_never_move() -> None:
    still = torch.ones(2, 8)
    assert math.isnan(r_hat(still))
    assert math.isnan(effective_sample_size(still))
    assert r_hat(torch.tensor([1.0, 2.0])[:, None].expand(2, 8)) == math.inf


def test_ranks_become_normal_scores_and_ties_share_theirs() -> None:
    """Blom's scores: rank 2.5 of 4 twice is 2.125 / 4.25, the median."""
    scores = rank_normalised(torch.tensor([[5.0, 7.0], [7.0, 900.0]]))
    low = torch.special.ndtri(torch.tensor(0.625 / 4.25, dtype=torch.float64)).item()
    assert scores.flatten().tolist() == pytest.approx([low, 0, 0, -low], abs=1e-12)


def test_autocovariance_is_the_sum_of_products() -> None:
    x = torch.tensor([[1.0, 2.0, 0.0, -3.0]]).double()
    assert autocovariance(x).tolist()[0] == pytest.approx([14 / 4, 2 / 4, -6 / 4, -3 / 4])


def test_an_odd_draw_is_left_out_and_few_are_refused() -> None:
    halves = split_chains(torch.arange(10.0).view(2, 5))
    assert halves.tolist() == [[0, 1], [5, 6], [3, 4], [8, 9]]
    with pytest.raises(ValueError, match="at least 4"):
        split_chains(torch.zeros(2, 3))
