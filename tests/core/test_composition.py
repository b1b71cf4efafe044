"""Composed energies: gradients by differences, numbers at the ends of [0, 1], the paper's rules."""

import math

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.composition import (
    FLOOR,
    conditional_energy,
    conjunction,
    disjunction,
    event_log_probs,
    exact_energy,
    is_proper,
    log_probability,
    negation,
    paper_energy,
)
from ebmcli.core.energy import NoisyEnergy, energy_gradient, noisy_gaussian
from ebmcli.core.expression import Literal, parse, push_negations
from ebmcli.core.factors import Factor
from ebmcli.core.logic import Formula, compile_formula
from ebmcli.errors import ExpressionError

FACTORS = {
    factor.name: factor
    for factor in (
        Factor(name="old", kind="binary", names=("no", "yes")),
        Factor(name="male", kind="binary", names=("no", "yes")),
        Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
        Factor(name="size", kind="scalar", low=0.2, high=0.6),
    )
}
BASE = noisy_gaussian(mean=0.2, variance=0.5)


class LinearConcept:
    """A posterior log softmax(W x / (1 + sigma) + log pi), smooth in x; W drawn from a seed."""

    def __init__(self, name: str, n_pixels: int, *, scale: float = 1.0) -> None:
        n_cells = FACTORS[name].n_cells
        generator = Generator().manual_seed(sum(map(ord, name)))
        draw = torch.randn(n_cells, n_pixels + 1, generator=generator, dtype=torch.float64)
        self.weight = scale * draw[:, :-1]
        self.log_prior = draw[:, -1].log_softmax(0)
        self.n_calls = 0

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.n_calls += 1
        logits = x.flatten(1) @ self.weight.to(x).T / (1 + sigma[:, None])
        return torch.log_softmax(logits + self.log_prior.to(x), dim=1)


def setting(source: str, *, scale: float = 1.0) -> tuple[Formula, dict[str, LinearConcept]]:
    """A compiled formula and concepts over images of 1 x 2 x 2 pixels."""
    concepts = {name: LinearConcept(name, 4, scale=scale) for name in FACTORS}
    return compile_formula(parse(source), FACTORS), concepts


def images(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """n images (n, 1, 2, 2) and their noise levels."""
    generator = Generator().manual_seed(0)
    x = torch.randn(n, 1, 2, 2, generator=generator, dtype=dtype)
    return x, torch.linspace(0.1, 2.0, n, dtype=dtype)


SOURCES = [
    "old",
    "~(old & male)",
    "shape=cube | ~shape=sphere & old",
    "1.5*(shape=cube | shape=sphere) & size>0.35",
    "size=0.41 & ~(size<0.3 | old) -> 3*male",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("strength", [1.0, 2.5])
def test_the_gradient_of_the_exact_energy_is_that_of_its_differences(
    source: str, strength: float
) -> None:
    """Central differences with step e = 1e-5 err by e^2 / 6 |E'''| and by rounding, 1e-14 / e:
    below 1e-8 together, as long as |E'''| < 500."""
    formula, concepts = setting(source)
    energy = exact_energy(BASE, formula, concepts, strength=strength)
    x, sigma = images(3)
    gradient = energy_gradient(lambda y: energy(y, sigma), x)
    step = 1e-5
    for pixel in range(4):
        shift = torch.zeros(4, dtype=x.dtype).index_fill(0, torch.tensor(pixel), step).view(1, 2, 2)
        slope = (energy(x + shift, sigma) - energy(x - shift, sigma)) / (2 * step)
        torch.testing.assert_close(gradient.flatten(1)[:, pixel], slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("source", SOURCES)
def test_the_exact_energy_is_bayes_rule_at_strength_1(source: str) -> None:
    """E_f = E0 - strength log P(f | x), with P in plain Python."""
    formula, concepts = setting(source)
    x, sigma = images(5)
    bayes = exact_energy(BASE, formula, concepts)(x, sigma)
    guided = exact_energy(BASE, formula, concepts, strength=2.5)(x, sigma)
    priors = {name: concept.log_prior.exp().tolist() for name, concept in concepts.items()}
    for i in range(5):
        one = x[i : i + 1], sigma[i : i + 1]
        posteriors = {n: c.log_posterior(*one)[0].exp().tolist() for n, c in concepts.items()}
        log_p = math.log(formula.probability(posteriors, priors))
        assert bayes[i].item() == pytest.approx(BASE(*one).item() - log_p, abs=1e-10)
        assert guided[i].item() == pytest.approx(BASE(*one).item() - 2.5 * log_p, abs=1e-10)


def test_the_conditional_energies_of_all_values_mix_to_the_base() -> None:
    """sum_k pi_k exp(-E(x | k)) = exp(-E0)."""
    x, sigma = images(5)
    _, concepts = setting("old")
    total = torch.zeros(5, dtype=x.dtype)
    for value in FACTORS["shape"].names:
        formula = compile_formula(parse(f"shape={value}"), FACTORS)
        log_prior = formula.log_prior({"shape": concepts["shape"].log_prior.tolist()})
        energy = conditional_energy(BASE, formula, concepts, log_prior=log_prior)
        total += (log_prior - energy(x, sigma)).exp()
    torch.testing.assert_close(total, (-BASE(x, sigma)).exp(), rtol=1e-10, atol=0)


def test_a_weight_of_zero_switches_a_concept_off() -> None:
    formula, concepts = setting("0*shape=cube & old")
    x, sigma = images(5)
    alone = log_probability(compile_formula(parse("old"), FACTORS), concepts, x, sigma)
    both = log_probability(formula, concepts, x, sigma)
    constant = concepts["shape"].log_prior[0].expand(5)
    torch.testing.assert_close(both - alone, constant, rtol=0, atol=1e-12)


def test_a_formula_asks_each_of_its_concepts_once_and_no_other() -> None:
    formula, concepts = setting("old & (shape=cube | shape=sphere) & ~(old & shape=cube)")
    log_probability(formula, concepts, *images(2))
    calls = {name: concept.n_calls for name, concept in concepts.items()}
    assert calls == {"old": 1, "male": 0, "shape": 1, "size": 0}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_energy_and_gradient_stay_finite_where_posteriors_are_exactly_0_and_1(
    source: str, scale: float
) -> None:
    formula, concepts = setting(source, scale=scale)
    x, sigma = images(16, torch.float32)
    shares = concepts["shape"].log_posterior(x, sigma).exp()
    assert {0.0, 1.0} <= set(shares.flatten().tolist())
    energy = exact_energy(BASE, formula, concepts)
    value = energy(x, sigma)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert energy_gradient(lambda y: energy(y, sigma), x).isfinite().all()


@pytest.mark.parametrize("weight", ["", "0*", "2*", "100*"])
@pytest.mark.parametrize("certain", [0, 1])
def test_log_posteriors_of_minus_infinity_are_a_floor_with_gradient_zero(
    weight: str, certain: int
) -> None:
    formula = compile_formula(parse(f"{weight}shape=cube | {weight}shape=sphere"), FACTORS)
    log_q = torch.tensor([[-math.inf] * 3])
    log_q[0, certain + 1] = 0.0  # sphere: certainly true; cylinder: certainly false
    log_q.requires_grad_()
    table = event_log_probs(formula.tables["shape"], log_q, torch.tensor([0.2, 0.3, 0.5]).log())
    value = formula.log_probability({"shape": table})
    (gradient,) = torch.autograd.grad(value.sum(), log_q)
    assert table.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[log_q.isneginf()] == 0).all()
    if weight != "0*":
        assert value.exp().item() == pytest.approx(1 - certain)


def test_an_event_far_in_the_tail_pulls_as_hard_as_its_log_says() -> None:
    """P = 1e-40 underflows in float32; log P and its gradient do not."""
    formula = compile_formula(parse("old & male"), FACTORS)
    logit = torch.tensor([-92.0], requires_grad=True)
    log_q = torch.stack([torch.zeros(1), logit], dim=1).log_softmax(1)
    prior = torch.tensor([0.5, 0.5]).log()
    tables = {n: event_log_probs(formula.tables[n], log_q, prior) for n in ("old", "male")}
    value = formula.log_probability(tables)
    (gradient,) = torch.autograd.grad(value.sum(), logit)
    assert value.item() == pytest.approx(-184, rel=1e-6)
    assert gradient.item() == pytest.approx(2, rel=1e-6)
    assert value.item() > 2 * FLOOR


def level(value: float) -> NoisyEnergy:
    """A constant energy."""
    return lambda x, sigma: torch.full((len(x),), value, dtype=x.dtype)


def test_the_papers_rules_by_hand() -> None:
    x, sigma = images(2)
    a, b = level(1.0), level(3.0)
    assert conjunction(a, b)(x, sigma).tolist() == [4, 4]
    mixture = -math.log(math.exp(-1) + math.exp(-3))
    assert disjunction(a, b)(x, sigma)[0].item() == pytest.approx(mixture, abs=1e-12)
    assert negation(a, strength=0.01)(x, sigma)[0].item() == pytest.approx(-0.01, abs=1e-15)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("old & male", 1 + 3),
        ("old & ~male", 1 - 0.5 * 3),
        ("old | male", -math.log(math.exp(-1) + math.exp(-3))),
        ("male & ~(old & male)", 3 - math.log(math.exp(0.5) + math.exp(1.5))),
        ("old & (male -> old)", 1 - math.log(math.exp(1.5) + math.exp(-1))),
    ],
)
def test_a_formula_by_the_papers_rules(source: str, expected: float) -> None:
    energies = {"old": level(1.0), "male": level(3.0)}

    def energy_of(literal: Literal) -> NoisyEnergy:
        return energies[literal.name]

    energy = paper_energy(parse(source), energy_of, negation_strength=0.5)
    assert energy(*images(1)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("source", "proper"),
    [
        ("a & ~b", True),
        ("a & (~b | ~c)", True),
        ("a | ~b", False),
        ("~a", False),
        ("~(a & ~b) & c", True),
        ("(a | ~b) & (~a | b)", False),
        ("a -> b", False),
    ],
)
def test_by_the_papers_rules_every_alternative_needs_a_positive_statement(
    source: str, proper: bool
) -> None:
    assert is_proper(push_negations(parse(source))) == proper
    if not proper:
        with pytest.raises(ExpressionError, match="no density") as caught:
            paper_energy(parse(source), lambda _: level(0.0))
        assert "--logic exact" in (caught.value.hint or "")
