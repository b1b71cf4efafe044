"""What an energy means, on worlds whose every joint value is listed: p(x | f) and nothing else.

E_f(x) = E0(x) - log P(f | x) = -log p(x, f). The right-hand side is added up over the rows of the
world in which the formula is true (tests/worlds.py); the left-hand side is the program's.
"""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from worlds import (
    CELL,
    COINS,
    FACTORS,
    BlobWorld,
    PointWorld,
    along,
    random_shares,
    random_tree,
    random_weights,
    tempered,
    truth,
    weigh,
)

from ebmcli.core.composition import exact_energy
from ebmcli.core.energy import NoisyEnergy, energy_gradient
from ebmcli.core.expression import Expression, parse
from ebmcli.core.logic import Formula, compile_formula
from ebmcli.errors import ExpressionError

randoms = st.integers(0, 2**32).map(Random)  # hypothesis prefers small trees; see test_logic
N_STATEMENTS = 12
EVEN = dict.fromkeys(FACTORS, 1.0)


def compiled(tree: Expression) -> Formula | None:
    """A formula, or None where the listed rows say that it is never or always true, too."""
    mask = truth(tree)[COINS > 0]
    if mask.any() and not mask.all():
        return compile_formula(tree, FACTORS)
    with pytest.raises(ExpressionError, match="always" if mask.all() else "never"):
        compile_formula(tree, FACTORS)
    return None


def points(rng: Random, *, zeros: bool) -> PointWorld:
    """Six images with random densities and posteriors."""
    posteriors = {
        name: torch.stack([random_shares(rng, f.n_cells, zeros=zeros) for _ in range(6)])
        for name, f in FACTORS.items()
    }
    return PointWorld(log_p=random_shares(rng, 6).log(), posteriors=posteriors)


def energy_of(formula: Formula, world: PointWorld | BlobWorld) -> NoisyEnergy:
    return exact_energy(world.base, formula, {name: world.concept(name) for name in FACTORS})


@given(randoms)
@settings(deadline=None, max_examples=100)
def test_the_energy_of_any_formula_is_minus_log_of_the_rows_where_it_is_true(rng: Random) -> None:
    """To 1e-12 of 1 nat: sums of at most 3,000 terms of one sign err by some 1e-15, relatively,
    and energies of at most some 50 nats by 50 times 1e-16 more."""
    weights = random_weights(rng)
    tree = random_tree(rng, rng.randint(1, N_STATEMENTS), weights)
    formula, world = compiled(tree), points(rng, zeros=False)
    if formula is None:
        return
    x = torch.arange(6.0, dtype=torch.float64).view(6, 1, 1, 1)
    found = energy_of(formula, world)(x, torch.ones(6).double())
    for point in range(6):
        cells = {
            name: tempered(q[point], world.priors[name], weights[name])
            for name, q in world.posteriors.items()
        }
        log_p = weigh(cells)[truth(tree)].sum().log()
        torch.testing.assert_close(found[point], -world.log_p[point] - log_p, rtol=0, atol=1e-12)


@given(randoms)
@settings(deadline=None, max_examples=50)
def test_images_that_show_their_values_beyond_doubt_are_in_or_out(rng: Random) -> None:
    """Posteriors of exactly 0 and 1: the energy is E0 - log P where P > 0, and far above it, yet
    finite, where P = 0."""
    tree = random_tree(rng, rng.randint(1, N_STATEMENTS), EVEN)
    formula, world = compiled(tree), points(rng, zeros=True)
    if formula is None:
        return
    x = torch.arange(6.0, dtype=torch.float64).view(6, 1, 1, 1)
    found = energy_of(formula, world)(x, torch.ones(6).double())
    assert found.isfinite().all()
    for point in range(6):
        cells = {name: q[point] for name, q in world.posteriors.items()}
        p = weigh(cells)[truth(tree)].sum()
        if p > 0:
            expected = -world.log_p[point] - p.log()
            torch.testing.assert_close(found[point], expected, rtol=0, atol=1e-12)
        else:
            assert found[point] > 5000


def rows_of(world: BlobWorld, x: Tensor, sigma: Tensor) -> Tensor:
    """p(x, row), one image: (2, 2, 3, P, 2, 2)."""
    likelihoods = {n: world.log_likelihood(x, sigma, n)[0].exp() for n in FACTORS}
    return weigh({name: world.priors[name] * likelihoods[name] for name in FACTORS})


def blobs(rng: Random) -> tuple[BlobWorld, Tensor, Tensor]:
    """A mixture, three images anywhere near its components, and their noise levels."""
    world = BlobWorld(priors={n: random_shares(rng, f.n_cells) for n, f in FACTORS.items()})
    x = torch.tensor([rng.uniform(-0.5, 3.0) for _ in range(12)]).double().view(3, 1, 1, 4)
    return world, x, torch.tensor([rng.uniform(0.0, 1.0) for _ in range(3)]).double()


@given(randoms)
@settings(deadline=None, max_examples=60)
def test_in_a_mixture_energy_and_gradient_are_those_of_the_components_where_f_is_true(
    rng: Random,
) -> None:
    """-log p(x, f) and its gradient, (x - mean of the true rows' means) / variance per axis.

    Central differences with e = 1e-5 err by e^2 |E'''| / 6; the third cumulant of means that lie
    within 3 of each other is below 3^3, divided by variance^3 > 1/64: below 1e-7, with rounding.
    """
    tree = random_tree(rng, rng.randint(1, N_STATEMENTS), EVEN)
    formula = compiled(tree)
    if formula is None:
        return
    world, x, sigma = blobs(rng)
    energy, mask = energy_of(formula, world), truth(tree)
    found, gradient = energy(x, sigma), energy_gradient(lambda y: energy(y, sigma), x)
    for i in range(3):
        one, level = x[i : i + 1], sigma[i : i + 1]
        rows = rows_of(world, one, level) * mask
        torch.testing.assert_close(found[i], -rows.sum().log(), rtol=0, atol=1e-11)
        for axis, mean in enumerate(true_means(world, rows)):
            slope = (one.flatten()[axis] - mean) / (0.25 + level[0] ** 2)
            torch.testing.assert_close(gradient.flatten(1)[i, axis], slope, rtol=1e-10, atol=1e-10)
    for axis in range(4):
        shift = 1e-5 * torch.eye(4, dtype=torch.float64)[axis].view(1, 1, 4)
        slopes = (energy(x + shift, sigma) - energy(x - shift, sigma)) / 2e-5
        torch.testing.assert_close(gradient.flatten(1)[:, axis], slopes, rtol=0, atol=1e-7)


def true_means(world: BlobWorld, rows: Tensor) -> list[Tensor]:
    """Mean position of the components of weighted rows on every axis."""
    total = rows.sum()
    means = []
    for name in FACTORS:
        where = world.means(name).double()
        spread = along(where[CELL], "piece") if name == "size" else along(where, name)
        means.append((rows * spread).sum() / total)
    return means


@given(randoms)
@settings(deadline=None, max_examples=40)
def test_far_from_everything_energy_and_gradient_stay_finite_in_float32(rng: Random) -> None:
    """At coordinates up to 3,000 posteriors are exactly 0 and 1."""
    tree = random_tree(rng, rng.randint(1, N_STATEMENTS), random_weights(rng))
    formula = compiled(tree)
    if formula is None:
        return
    world, _, _ = blobs(rng)
    x = torch.tensor([rng.choice([-3000.0, -30.0, 0.5, 30.0, 3000.0]) for _ in range(32)])
    x, sigma = x.view(8, 1, 1, 4), torch.linspace(0.01, 1, 8)
    energy = energy_of(formula, world)
    assert energy(x, sigma).isfinite().all()
    assert energy_gradient(lambda y: energy(y, sigma), x).isfinite().all()


def test_the_rows_of_a_world_are_a_distribution() -> None:
    """The oracle itself: rows add up to 1, and single statements have their known shares."""
    counts = {name: factor.n_cells for name, factor in FACTORS.items()}
    rows = weigh({name: torch.ones(n).double() / n for name, n in counts.items()})
    shares = {"old": 1 / 2, "shape=cube": 1 / 3, "old & male -> shape=cube": 1 - 1 / 4 * 2 / 3}
    shares["size>0.4"] = 1 / 2  # the middle of the range
    shares["size<0.3 | size>0.5"] = 2 * 4.5 / 17  # cells of 0.3 and 0.5 are cut in half; ends: 1
    for source, share in shares.items():
        assert rows[truth(parse(source))].sum().item() == pytest.approx(share, abs=1e-12), source
    assert rows.sum().item() == pytest.approx(1, abs=1e-12)
