"""The union of two spaces: exact mixtures, shares of its parts, and two bases as one."""

import math

import pytest
import torch
from squares import gaussian, noisy_squares, random_base
from torch import Tensor

from ebmcli.core.bennett import bennett_log_ratio
from ebmcli.core.energy import NoisyEnergy, energy_and_gradient
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.samplers import SeededNoise, annealed_chain, noise_levels
from ebmcli.core.union import UnionEnergy, mixture_energy

PLACES = {"left": (-1.5, -0.9), "right": (1.1, 1.2)}  # two modes of each part
SPREAD = {"left": 0.04, "right": 0.01}  # variance of a mode
DIMENSIONS = 2


def log_density(name: str, x: Tensor, sigma: Tensor) -> Tensor:
    """Of the mean of N(m, v + sigma^2) over the modes m of one part, normalised, (B,)."""
    total = SPREAD[name] + sigma.square()
    modes = []
    for m in PLACES[name]:
        square = (x - m).square().flatten(1).sum(1)
        modes.append(-square / (2 * total) - DIMENSIONS / 2 * (2 * math.pi * total).log())
    return torch.logaddexp(*modes) - math.log(2)


def shifted(name: str, constant: float) -> NoisyEnergy:
    """Energy of one part with a constant of its own at every level, as networks have it."""
    return lambda x, sigma: constant / sigma - log_density(name, x, sigma)


LEFT, RIGHT = shifted("left", -1.0), shifted("right", 2.5)


def true_ratio(sigma: Tensor) -> Tensor:
    """log Z_a - log Z_b = c_b / sigma - c_a / sigma."""
    return (2.5 + 1.0) / sigma


def exact_samples(name: str, sigma: float, n: int, generator: torch.Generator) -> Tensor:
    mode = torch.randint(2, (n,), generator=generator)
    place = torch.tensor(PLACES[name], dtype=torch.float64)[mode].view(-1, 1, 1, 1)
    noise = torch.randn(n, 1, 1, DIMENSIONS, generator=generator, dtype=torch.float64)
    return place + math.sqrt(SPREAD[name] + sigma**2) * noise


def test_the_mixture_is_that_of_normalised_densities(generator: torch.Generator) -> None:
    """log p = log(w_a p_a + w_b p_b) up to log Z_a(sigma), for any weights and constants."""
    x = 2 * torch.randn(50, 1, 1, DIMENSIONS, generator=generator, dtype=torch.float64)
    sigma = torch.logspace(-1, 1, 50, dtype=torch.float64)
    energy = mixture_energy(LEFT, RIGHT, weights=(0.3, 0.7), log_ratio=true_ratio)
    parts = (
        math.log(0.3) + log_density("left", x, sigma),
        math.log(0.7) + log_density("right", x, sigma),
    )
    expected = -torch.logaddexp(*parts) - 1.0 / sigma
    torch.testing.assert_close(energy(x, sigma), expected, rtol=1e-10, atol=1e-10)


def drawn_share(log_ratio: dict[float, float], *, weight: float, n: int) -> float:
    """Share of n chains that end in a mode of the left part, half of the way from the right."""
    sigmas = sorted(log_ratio, reverse=True)

    def known(sigma: Tensor) -> Tensor:
        return torch.full_like(sigma, log_ratio[min(log_ratio, key=lambda s: abs(s - sigma[0]))])

    energy = mixture_energy(LEFT, RIGHT, weights=(weight, 1 - weight), log_ratio=known)
    noise = SeededNoise(range(n), (1, 1, DIMENSIONS))
    x = sigmas[0] * noise.draw()
    for state in annealed_chain(energy, x, sigmas, noise, n_corrector=4):
        x = state.x
    return float((x.flatten(1).mean(1) < 0).double().mean())


def test_the_parts_get_their_shares_with_estimated_constants_and_not_with_equal_ones(
    generator: torch.Generator,
) -> None:
    """600 chains: 4 binomial errors, 4 errors of the constant where the parts separate.

    At D wrong by e the share w moves by w (1 - w) e. The start, N(0, 10^2), is nearly the mixture.
    Without D, 3.5 / sigma nats are missing: odds of 0.3 / 0.7 become 4 at sigma = 1.5.
    """
    weight, n = 0.3, 600
    sigmas = noise_levels(24, sigma_min=0.05).tolist()
    found: dict[float, float] = {}
    errors = []
    for sigma in sigmas:
        level = torch.full((400,), sigma, dtype=torch.float64)
        xs = [exact_samples(name, sigma, 400, generator) for name in ("left", "right")]
        ratio = bennett_log_ratio(*(RIGHT(x, level) - LEFT(x, level) for x in xs))
        found[sigma] = ratio.value
        if sigma > 1:  # below, no chain crosses from one part to the other
            errors.append(ratio.error)
    tolerance = (
        4
        * math.sqrt(weight * (1 - weight))
        * (1 / math.sqrt(n) + math.sqrt(weight * (1 - weight)) * max(errors))
    )
    assert tolerance < 0.2
    assert drawn_share(found, weight=weight, n=n) == pytest.approx(weight, abs=tolerance)
    naive = drawn_share(dict.fromkeys(sigmas, 0.0), weight=weight, n=100)
    assert naive > weight + 2 * tolerance


def union(*, weights: tuple[float, float] = (1.0, 3.0)) -> UnionEnergy:
    """Of two random bases, whose energies differ by some nats."""
    parts = random_base(seed=0), random_base(seed=1)
    ratios = {0.1: 4.0, 1.0: -2.0, 10.0: 0.5}
    joined = UnionEnergy(*parts, gaussian(), weights=weights, log_ratios=ratios)
    return joined.requires_grad_(False).eval()


def test_log_ratios_run_linearly_in_log_sigma() -> None:
    sigma = torch.tensor([0.01, 0.1, math.sqrt(0.1), 1.0, 10.0, 30.0])
    expected = torch.tensor([4.0, 4.0, 1.0, -2.0, 0.5, 0.5])
    torch.testing.assert_close(union().log_ratio_at(sigma), expected)


def test_the_denoiser_of_a_union_is_that_of_its_energy() -> None:
    """P_a D_a + P_b D_b = x - sigma^2 dE/dx, and the energy is the mixture's."""
    joined = union()
    x, sigma = noisy_squares(6)
    energy, gradient = energy_and_gradient(lambda y: joined.energy(y, sigma), x)
    expected = x - sigma.square()[:, None, None, None] * gradient
    torch.testing.assert_close(joined.denoise(x, sigma), expected, rtol=1e-3, atol=1e-3)
    parts = (
        math.log(0.25) - joined.left.energy(x, sigma),
        math.log(0.75) - joined.right.energy(x, sigma) + joined.log_ratio_at(sigma),
    )
    torch.testing.assert_close(energy, -torch.logaddexp(*parts))
    torch.testing.assert_close(joined.branch_probability(x, sigma), (parts[0] - parts[1]).sigmoid())


def test_a_union_keeps_its_parts_in_one_precision() -> None:
    joined = union()
    joined.autocast = True
    assert joined.left.autocast
    assert joined.right.autocast
    joined.autocast = False
    assert not joined.autocast


@pytest.mark.parametrize(
    ("weights", "ratios", "problem"),
    [
        ((1.0, 0.0), {1.0: 0.0}, "positive weights"),
        ((1.0,), {1.0: 0.0}, "positive weights"),
        ((1.0, 1.0), {}, "finite log ratios"),
        ((1.0, 1.0), {1.0: math.nan}, "finite log ratios"),
    ],
)
def test_a_union_needs_weights_and_constants(
    weights: tuple[float, ...], ratios: dict[float, float], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        UnionEnergy(random_base(), random_base(), gaussian(), weights=weights, log_ratios=ratios)


def random_gaussian(seed: int, *, n: int, rank: int, rest: float) -> GaussianEnergy:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, rank, generator=generator)).Q.T
    variances = rest + torch.rand(rank, generator=generator)
    mean = torch.randn(n, generator=generator)
    return GaussianEnergy(mean, basis, variances, torch.tensor(rest))


def covariance(part: GaussianEnergy) -> Tensor:
    u = part.components.double()
    eye = torch.eye(u.shape[1], dtype=torch.float64)
    return u.T @ torch.diag(part.variances.double()) @ u + part.rest.double() * (eye - u.T @ u)


def test_the_pooled_gaussian_has_the_moments_of_the_mixture() -> None:
    """Exact mean and trace; in the leading directions the covariance is the mixture's."""
    n, rank, weights = 12, 3, (0.3, 0.7)
    parts = [random_gaussian(seed, n=n, rank=rank, rest=0.1 * (seed + 1)) for seed in (0, 1)]
    pooled = GaussianEnergy.pooled(*parts, weights=weights)
    means = [part.mean.double() for part in parts]
    mean = weights[0] * means[0] + weights[1] * means[1]
    exact = sum(w * covariance(part) for w, part in zip(weights, parts, strict=True))
    apart = means[0] - means[1]
    exact = exact + weights[0] * weights[1] * apart[:, None] * apart[None]
    torch.testing.assert_close(pooled.mean.double(), mean, rtol=1e-5, atol=1e-5)
    found = covariance(pooled)
    torch.testing.assert_close(found.trace(), exact.trace(), rtol=1e-5, atol=1e-5)
    u = pooled.components.double()
    torch.testing.assert_close(u @ exact @ u.T, u @ found @ u.T, rtol=1e-4, atol=1e-5)
    leading = torch.linalg.eigvalsh(exact).flip(0)[:rank]
    torch.testing.assert_close(pooled.variances.double(), leading, rtol=1e-4, atol=1e-5)


def test_pooling_a_gaussian_with_itself_changes_nothing() -> None:
    part = random_gaussian(0, n=10, rank=3, rest=0.2)
    pooled = GaussianEnergy.pooled(part, part, weights=(0.4, 0.6))
    torch.testing.assert_close(covariance(pooled), covariance(part), rtol=1e-5, atol=1e-5)
    assert all(math.isfinite(v) for v in pooled.variances.tolist())
