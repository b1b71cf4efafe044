"""The branches of a formula: disjoint, complete, drawn by their prior, at any strength."""

import math
from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from several import OBJECT
from torch import Tensor
from worlds import FACTORS, PointWorld, random_shares, random_tree, random_weights

from ebmcli.core.branches import Branch, Branches, tally
from ebmcli.core.composition import branch_energy, exact_energy, log_probability
from ebmcli.core.energy import NoisyEnergy, energy_and_gradient
from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.logic import Formula, compile_formula
from ebmcli.core.samplers import SeededNoise, annealed_chain, noise_levels
from ebmcli.errors import ExpressionError

randoms = st.integers(0, 2**32).map(Random)
SHAPE = FACTORS["shape"]
ONE = dict.fromkeys(FACTORS, 1.0)  # weights


def world_of(rng: Random, n_points: int = 3) -> PointWorld:
    log_p = random_shares(rng, n_points).log()
    posteriors = {
        name: torch.stack([random_shares(rng, factor.n_cells) for _ in range(n_points)])
        for name, factor in FACTORS.items()
    }
    return PointWorld(log_p=log_p, posteriors=posteriors)


def of(source: str, factors: dict[str, Factor] | None = None) -> Branches:
    """Its branches, all cells equally probable."""
    factors = FACTORS if factors is None else factors
    formula = compile_formula(parse(source), factors)
    n_each = {n: f.n_outcomes if f.kind == "objects" else f.n_cells for n, f in factors.items()}
    priors = {n: [-math.log(n_each[n])] * f.n_cells for n, f in factors.items()}
    return Branches(formula, priors)


@given(randoms)
@settings(deadline=None, max_examples=60)
def test_branches_exclude_each_other_and_cover_the_formula(rng: Random) -> None:
    """sum_b P(b | x) = P(f | x) at every image, and sum_b P(b | f) = 1."""
    try:
        formula = compile_formula(random_tree(rng, rng.randint(1, 8), random_weights(rng)), FACTORS)
    except ExpressionError:
        return  # never or always true
    world = world_of(rng)
    concepts = {name: world.concept(name) for name in formula.concepts}
    branches = Branches(formula, {n: c.log_prior.tolist() for n, c in concepts.items()})
    listed = list(branches.shares())
    assert len(listed) == branches.n_branches
    assert math.fsum(share for _, share in listed) == pytest.approx(1, abs=1e-9)
    priors = {name: concept.log_prior.tolist() for name, concept in concepts.items()}
    assert math.log(branches.probability) == pytest.approx(formula.log_prior(priors), abs=1e-9)

    x = torch.arange(3, dtype=torch.float64).view(3, 1, 1, 1)
    sigma = torch.ones(3, dtype=torch.float64)
    total = torch.zeros(3, dtype=torch.float64)
    for branch, _ in listed:
        masks = branches.masks([branch] * 3)
        energy = branch_energy(lambda x, _: x.new_zeros(len(x)), formula, concepts, masks)
        total += (-energy(x, sigma)).exp()
    expected = log_probability(formula, concepts, x, sigma).exp()
    assert torch.allclose(total, expected, atol=1e-9)


@given(randoms)
@settings(deadline=None, max_examples=20)
def test_a_branch_is_drawn_as_often_as_its_prior_says(rng: Random) -> None:
    formula = None
    while formula is None:
        try:
            formula = compile_formula(random_tree(rng, 4, random_weights(rng)), FACTORS)
        except ExpressionError:
            continue
    priors = {name: random_shares(rng, f.n_cells).log().tolist() for name, f in FACTORS.items()}
    branches = Branches(formula, priors)
    n = 2000
    drawn = Counter(
        branches.text(branches.draw([rng.random() for _ in formula.concepts])) for _ in range(n)
    )
    expected = {branches.text(branch): share for branch, share in branches.shares()}
    assert len(expected) == branches.n_branches  # no two with the same text
    assert set(drawn) <= set(expected)
    for text, share in expected.items():
        spread = math.sqrt(n * max(0.0, share * (1 - share)))  # a sum of shares may pass 1
        assert abs(drawn[text] - n * share) <= 6 * spread + 1, text


@given(randoms)
@settings(deadline=None, max_examples=60)
def test_the_text_of_a_branch_means_the_branch(rng: Random) -> None:
    try:
        formula = compile_formula(random_tree(rng, rng.randint(1, 6), ONE), FACTORS)
    except ExpressionError:
        return  # never or always true
    world = world_of(rng)
    concepts = {name: world.concept(name) for name in formula.concepts}
    branches = Branches(formula, {n: c.log_prior.tolist() for n, c in concepts.items()})
    posteriors = {name: q[0].tolist() for name, q in world.posteriors.items()}
    for branch, _ in branches.shares():
        rows = {n: t.probabilities(posteriors[n]) for n, t in formula.tables.items()}
        expected = math.prod(math.fsum(rows[n][r] for r in some) for n, some in branch.rows.items())
        meant = compile_formula(parse(branches.text(branch)), FACTORS)
        assert meant.probability(posteriors) == pytest.approx(expected, abs=1e-9)


def test_the_ends_of_the_uniform_numbers_have_branches() -> None:
    branches = of("shape=cube | shape=sphere")
    assert branches.text(branches.draw([0.0])) == "shape=cube"
    assert branches.text(branches.draw([0.5])) == "shape=sphere"
    assert branches.text(branches.draw([1 - 2**-53])) == "shape=sphere"


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("shape=cube & old & ~male", ["shape=cube & old & ~male"]),
        ("~shape=cube", ["~shape=cube"]),
        ("shape=cube | shape=sphere", ["shape=cube", "shape=sphere"]),
        ("old | male", ["old", "~old & male"]),
        ("old -> male", ["old & male", "~old"]),
        ("size<0.3 | size>0.5", ["size<0.3", "size>0.5"]),
        ("(size>0.3 & old) | size>0.5", ["size>0.3 & ~size>0.5 & old", "size>0.5"]),
        ("size<0.3 | size<0.5", ["size<0.5"]),  # ranges that touch
        ("size<0.3875 | size>0.4125", ["size<0.3875", "size>0.4125"]),  # ends of a cell
        ("size=0.3 | size=0.31", ["(size=0.3 | size=0.31)"]),  # points that overlap
        ("size=0.3 | size=0.5", ["size=0.3", "size=0.5"]),
        ("shape=cube | ~shape=sphere", ["shape=cube", "~shape=cube & ~shape=sphere"]),
    ],
)
def test_branches_as_text(source: str, texts: list[str]) -> None:
    branches = of(source)
    assert sorted(branches.text(branch) for branch, _ in branches.shares()) == sorted(texts)


def test_statements_about_objects_are_no_branches_of_each_other() -> None:
    """With a red one, ``object(color=red)``, there may be a blue one too."""
    two = "object(color=red) | object(color=blue)"
    factors = {"object": OBJECT, **FACTORS}
    assert of(two, factors).n_branches == 1
    mixed = of(f"old & ({two}) | male", factors)
    either = "(object(color=red) | object(color=blue))"
    assert {mixed.text(branch) for branch, _ in mixed.shares()} == {
        "~old & male",
        f"old & {either}",
        "old & ~object(color=red) & ~object(color=blue) & male",
    }


def test_a_concept_of_which_a_branch_says_nothing_does_not_move_its_picture() -> None:
    world = world_of(Random(3))
    branches = of("old | male")
    concepts = {name: world.concept(name) for name in ("old", "male")}
    free = Branch({"old": branches.draw([0.1, 0.5]).rows["old"]})
    masks = branches.masks([free, branches.draw([0.9, 0.5])])
    assert masks["male"].tolist()[0] == [True, True]
    energy = branch_energy(world.base, branches.formula, concepts, masks, strength=3)
    x = torch.tensor([1.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    value = energy(x, torch.ones(2, dtype=torch.float64))
    old, male = (world.posteriors[name][1] for name in ("old", "male"))
    base = -world.log_p[1]
    assert value[0].item() == pytest.approx((base - 3 * old[1].log()).item())
    assert value[1].item() == pytest.approx((base - 3 * (old[0] * male[1]).log()).item())


class Line:
    """Images on a line, x (B, 1, 1, 1): one narrow Gaussian per shape."""

    means = torch.tensor([0.0, 1.0, 6.0])  # a cube looks much like a sphere, a cylinder like none
    log_prior = torch.tensor([0.4, 0.3, 0.3]).log()
    width = 0.1

    def joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        variance = (self.width**2 + sigma.square())[:, None]
        distance = (x.flatten(1) - self.means).square()
        return self.log_prior - distance / (2 * variance) - 0.5 * variance.log()

    def energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -self.joint(x, sigma).logsumexp(1)

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.joint(x, sigma).log_softmax(1)


def share_of_spheres(energy: NoisyEnergy, n: int) -> tuple[float, float]:
    """Among the pictures at the sphere or the cylinder; and how many are at neither."""
    noise = SeededNoise(range(n), (1, 1, 1))
    sigmas = noise_levels(32).tolist()
    mean = (Line.means * Line.log_prior.exp()).sum()
    x = mean + sigmas[0] * noise.draw()
    for state in annealed_chain(energy, x, sigmas, noise, n_corrector=6):
        x = state.x
    near = (x.flatten(1) - Line.means).abs().argmin(1)
    return float((near == 1).sum() / (near > 0).sum()), float((near == 0).float().mean())


def test_at_any_strength_every_branch_has_its_share() -> None:
    """And without branches the one that is recognised sooner has more than its half."""
    line, n = Line(), 1000
    formula: Formula = compile_formula(parse("shape=sphere | shape=cylinder"), {"shape": SHAPE})
    branches = Branches(formula, {"shape": line.log_prior.tolist()})
    concepts = {"shape": line}
    uniforms = ((i + 0.5) / n for i in range(n))
    masks = branches.masks([branches.draw([u]) for u in uniforms])
    drawn = branch_energy(line.energy, formula, concepts, masks, strength=4)
    share, wrong = share_of_spheres(drawn, n)
    assert wrong == 0
    assert share == pytest.approx(0.5, abs=0.01)
    free = exact_energy(line.energy, formula, concepts, strength=4)
    assert share_of_spheres(free, n)[0] < 0.4


def test_the_gradient_is_finite_where_a_branch_is_impossible() -> None:
    """Of exactly 0 and 1, as a sure posterior has in float32."""

    class Sure(Line):
        def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
            cube = torch.tensor([0.0, -math.inf, -math.inf])
            return cube.expand(len(x), 3) + 0 * x.flatten(1)

    line = Sure()
    formula = compile_formula(parse("shape=sphere | shape=cylinder"), {"shape": SHAPE})
    branches = Branches(formula, {"shape": line.log_prior.tolist()})
    masks = branches.masks([branches.draw([0.9])])
    energy = branch_energy(line.energy, formula, {"shape": line}, masks, strength=4)
    x = torch.full((1, 1, 1, 1), 0.1)
    value, gradient = energy_and_gradient(lambda x: energy(x, torch.tensor([0.02])), x)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_a_value_that_never_occurs_is_no_branch() -> None:
    formula = compile_formula(parse("shape=cube | shape=sphere"), {"shape": SHAPE})
    branches = Branches(formula, {"shape": [-math.inf, math.log(0.5), math.log(0.5)]})
    assert [branches.text(branch) for branch, _ in branches.shares()] == ["shape=sphere"]


def test_a_tally_names_the_most_frequent_branches() -> None:
    texts = list("aabbbcdeeeef")
    assert tally(["red", "blue", "red"]) == "red 2, blue 1"
    assert tally(texts) == "e 4, b 3, a 2, c 1, others 2"
