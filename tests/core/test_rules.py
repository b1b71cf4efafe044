"""The rules of the field: what each adds up, what it refuses, where it equals the exact one."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from ebmcli.core.composition import exact_energy
from ebmcli.core.energy import NoisyEnergy, energy_gradient, noisy_gaussian
from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.logic import compile_formula
from ebmcli.core.rules import RECYCLED_NEGATION, RULES, Parts, paper
from ebmcli.errors import ExpressionError

FACTORS = {
    factor.name: factor
    for factor in (
        Factor(name="old", kind="binary", names=("no", "yes")),
        Factor(name="male", kind="binary", names=("no", "yes")),
        Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
    )
}
GUIDED = [name for name in RULES if name != "paper"]
WITHOUT_OR = ["composable-diffusion", "dng", "perp-neg"]


class LinearConcept:
    """A posterior log softmax(W x + b) with W and b drawn from a seed."""

    def __init__(self, name: str) -> None:
        n_cells = FACTORS[name].n_cells
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        draw = torch.randn(n_cells, 5, generator=generator, dtype=torch.float64)
        self.weight, self.log_prior = draw[:, :4], draw[:, 4].log_softmax(0)

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        logits = x.flatten(1) @ self.weight.to(x).T / (1 + sigma[:, None])
        return torch.log_softmax(logits + self.log_prior.to(x), dim=1)


CONCEPTS = {name: LinearConcept(name) for name in FACTORS}
PARTS = Parts(base=noisy_gaussian(mean=0.2, variance=0.5), concepts=CONCEPTS, factors=FACTORS)


def images(n: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 2, 2, generator=generator, dtype=torch.float64)
    return x, torch.linspace(0.1, 2.0, n, dtype=torch.float64)


def energy_of(rule: str, source: str, strength: float = 1.0) -> NoisyEnergy:
    formula = compile_formula(parse(source), FACTORS)
    return RULES[rule](formula.expression, PARTS, strength=strength)


def exact(source: str, strength: float = 1.0) -> NoisyEnergy:
    formula = compile_formula(parse(source), FACTORS)
    return exact_energy(PARTS.base, formula, CONCEPTS, strength=strength)


def ratios() -> tuple[Tensor, Tensor, Tensor]:
    """E0, r_old and r_cube of the images, from the posteriors."""
    x, sigma = images()
    found = []
    for name, cell in (("old", 1), ("shape", 0)):
        concept = CONCEPTS[name]
        found.append(concept.log_posterior(x, sigma)[:, cell] - concept.log_prior[cell])
    return PARTS.base(x, sigma), found[0], found[1]


@pytest.mark.parametrize("rule", GUIDED)
@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_a_conjunction_means_the_same_by_every_rule_with_a_strength(
    rule: str, strength: float
) -> None:
    """E0 - w (r_old + r_cube), the exact energy up to w times the log of the prior."""
    base, old, cube = ratios()
    found = energy_of(rule, "old & shape=cube", strength)(*images())
    torch.testing.assert_close(found, base - strength * (old + cube), rtol=0, atol=1e-12)
    gap = found - exact("old & shape=cube", strength)(*images())
    torch.testing.assert_close(gap, gap[:1].expand(5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", [*GUIDED, "paper"])
def test_one_statement_is_bayes_rule_by_every_rule(rule: str) -> None:
    gap = energy_of(rule, "shape=sphere")(*images()) - exact("shape=sphere")(*images())
    torch.testing.assert_close(gap, gap[:1].expand(5), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "share"),
    [("composable-diffusion", 1.0), ("reduce-reuse-recycle", RECYCLED_NEGATION),
     ("logdiff-constant", 1.0), ("perp-neg", 1.0)],
)  # fmt: skip
def test_negations_by_constant_weights(rule: str, share: float) -> None:
    base, old, cube = ratios()
    found = energy_of(rule, "old & ~shape=cube", 2.0)(*images())
    torch.testing.assert_close(found, base - 2 * (old - share * cube), rtol=0, atol=1e-12)
    doubled = energy_of(rule, "old & ~3*shape=cube", 2.0)(*images())
    torch.testing.assert_close(doubled, base - 2 * (old - 3 * share * cube), rtol=0, atol=1e-12)


@pytest.mark.parametrize("strength", [1.0, 3.0])
@pytest.mark.parametrize("source", ["~old", "old & ~shape=cube", "~old & ~male & ~shape=cube"])
def test_dng_with_known_posteriors_is_exact_for_one_statement_per_concept(
    source: str, strength: float
) -> None:
    gap = energy_of("dng", source, strength)(*images()) - exact(source, strength)(*images())
    torch.testing.assert_close(gap, gap[:1].expand(5), rtol=0, atol=1e-12)


def test_the_weight_of_dng_is_q_over_1_minus_q() -> None:
    """grad E = grad E0 + w q / (1 - q) grad log q."""
    x, sigma = images()
    q = CONCEPTS["old"].log_posterior(x, sigma)[:, 1].exp().view(-1, 1, 1, 1)

    def log_q(y: Tensor) -> Tensor:
        return CONCEPTS["old"].log_posterior(y, sigma)[:, 1]

    base = energy_gradient(lambda y: PARTS.base(y, sigma), x)
    found = energy_gradient(lambda y: energy_of("dng", "~old", 2.0)(y, sigma), x)
    expected = base + 2 * q / (1 - q) * energy_gradient(log_q, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_dng_ignores_that_values_exclude_each_other() -> None:
    """A cube is no sphere: exactly `& ~shape=sphere` adds nothing, here it adds -log(1 - q)."""
    x, sigma = images()
    sphere = CONCEPTS["shape"].log_posterior(x, sigma)[:, 1].exp()
    twice = energy_of("dng", "shape=cube & ~shape=sphere")(x, sigma)
    once = energy_of("dng", "shape=cube")(x, sigma)
    torch.testing.assert_close(twice - once, -(1 - sphere).log(), rtol=0, atol=1e-12)
    both = exact("shape=cube & ~shape=sphere")(x, sigma)
    torch.testing.assert_close(both, exact("shape=cube")(x, sigma), rtol=0, atol=1e-12)


def test_or_is_an_equal_mixture_or_a_mean() -> None:
    base, old, cube = ratios()
    mixture = energy_of("reduce-reuse-recycle", "old | shape=cube", 2.0)(*images())
    expected = base - torch.logaddexp(2 * old, 2 * cube) + math.log(2)
    torch.testing.assert_close(mixture, expected, rtol=0, atol=1e-12)
    mean = energy_of("logdiff-constant", "old | shape=cube", 2.0)(*images())
    torch.testing.assert_close(mean, base - (old + cube), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["reduce-reuse-recycle", "logdiff-constant"])
def test_three_alternatives_count_alike_in_any_order(rule: str) -> None:
    left = energy_of(rule, "(old | male) | shape=cube")(*images())
    right = energy_of(rule, "shape=cube | (male | old)")(*images())
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", WITHOUT_OR)
@pytest.mark.parametrize(
    ("source", "column", "shown"),
    [
        ("male & (old | shape=cube)", 8, "old | shape=cube"),
        ("~(old & male)", 2, "~old | ~male"),
        ("old -> male", 0, "~old | male"),
    ],
)
def test_a_rule_without_or_says_so(rule: str, source: str, column: int, shown: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        energy_of(rule, source)
    assert f"{rule} has no rule for {shown}" in str(caught.value)
    assert caught.value.column == column
    assert "--logic exact" in (caught.value.hint or "")


def test_the_paper_has_no_strength() -> None:
    with pytest.raises(ValueError, match="no strength"):
        paper(parse("old"), PARTS, strength=2.0)


def test_perp_neg_pushes_only_across_the_positive_direction() -> None:
    """Its gradient: g0 - w (p - n + <n, p> p / |p|^2), from gradients taken one by one."""
    x, sigma = images()

    def gradient(energy: NoisyEnergy) -> Tensor:
        return energy_gradient(lambda y: energy(y, sigma), x).flatten(1)

    base = gradient(PARTS.base)
    p, n = (gradient(PARTS.log_ratio(parse(s))) for s in ("old", "shape=cube"))
    across = n - (n * p).sum(1, keepdim=True) / p.square().sum(1, keepdim=True) * p
    assert (across - n).abs().max() > 0.01
    found = gradient(energy_of("perp-neg", "old & ~shape=cube", 3.0))
    torch.testing.assert_close(found, base - 3 * (p - across), rtol=1e-10, atol=1e-12)
    plain = energy_of("composable-diffusion", "old & ~shape=cube", 3.0)
    value = energy_of("perp-neg", "old & ~shape=cube", 3.0)(x.clone().requires_grad_(), sigma)
    torch.testing.assert_close(value.detach(), plain(x, sigma), rtol=0, atol=1e-12)


def test_no_energy_has_the_score_of_perp_neg() -> None:
    """The Jacobian of a gradient is symmetric; this one is not. Beside it, one that is."""
    x, sigma = images(1)

    def asymmetry(rule: str) -> float:
        energy, columns = energy_of(rule, "old & ~shape=cube", 3.0), []
        for pixel in range(4):
            shift = 1e-5 * torch.eye(4, dtype=x.dtype)[pixel].view(1, 1, 2, 2)
            ends = [energy_gradient(lambda y: energy(y, sigma), x + s * shift) for s in (1, -1)]
            columns.append((ends[0] - ends[1]).flatten() / 2e-5)
        jacobian = torch.stack(columns)
        return float((jacobian - jacobian.T).abs().max())

    assert asymmetry("composable-diffusion") < 1e-8
    assert asymmetry("perp-neg") > 1e-2


def test_perp_neg_needs_a_direction_and_survives_one_of_length_zero() -> None:
    with pytest.raises(ExpressionError, match="needs a positive statement"):
        energy_of("perp-neg", "~old & ~male")
    x, sigma = images()
    still = energy_of("perp-neg", "0*old & ~shape=cube")
    plain = energy_of("composable-diffusion", "0*old & ~shape=cube")
    gradients = [energy_gradient(lambda y, e=e: e(y, sigma), x) for e in (still, plain)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_certain_posteriors_and_a_prior_of_zero_leave_energies_and_gradients_finite(
    rule: str,
) -> None:
    """Coordinates of 1e5 make posteriors of exactly 0 and 1 in float32."""

    class Certain(LinearConcept):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            if name == "shape":
                self.log_prior = torch.tensor([0.0, 0.5, 0.5]).log()

        def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
            logits = x.flatten(1) @ self.weight.to(x).T
            return torch.log_softmax(logits + self.log_prior.to(x), dim=1)

    concepts = {name: Certain(name) for name in FACTORS}
    parts = Parts(base=PARTS.base, concepts=concepts, factors=FACTORS)
    energy = RULES[rule](parse("old & ~male & ~shape=cube & ~shape=sphere"), parts)
    x, sigma = 1e5 * images()[0].float(), images()[1].float()
    assert energy(x, sigma).isfinite().all()
    assert energy_gradient(lambda y: energy(y, sigma), x).isfinite().all()


def test_every_rule_is_named_once_and_documents_its_source() -> None:
    sources = Counter(rule.__doc__ for rule in RULES.values())
    assert max(sources.values()) == 1
    assert all(text and "arxiv.org/abs/" in text for text in sources)
