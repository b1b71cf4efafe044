"""Temperatures: what they change, what they leave alone, and how they run between levels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from squares import COLOR, TALL, noisy_squares, random_concept

from ebmcli.core.concepts import METHODS, BothConcept
from ebmcli.core.temperature import Temperatures, tempered_posterior

EVIDENCE = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0]])
PRIOR = torch.tensor([0.5, 0.2, 0.3]).log()
ROWS = torch.eye(3)[[0, 1, 2, 0]]  # a value for each of four pictures
UNIFORM = torch.full((3,), 1 / 3).log()


def test_between_levels_the_logarithm_is_linear_and_outside_it_is_constant() -> None:
    temperatures = Temperatures({1.0: 2.0, 0.1: 0.5, 4.0: 1.0})
    sigma = torch.tensor([0.01, 0.1, math.sqrt(0.1), 1.0, 2.0, 4.0, 50.0])
    expected = torch.tensor([0.5, 0.5, 1.0, 2.0, math.sqrt(2.0), 1.0, 1.0])
    torch.testing.assert_close(temperatures.at(sigma), expected, rtol=1e-5, atol=0)
    only = Temperatures({0.5: 3.0}).at(sigma)
    torch.testing.assert_close(only, torch.full((7,), 3.0))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.floats(0.01, 10), st.floats(0.05, 20), min_size=1, max_size=6))
def test_a_temperature_stays_between_its_neighbours_and_is_positive(
    levels: dict[float, float],
) -> None:
    levels = {round(sigma, 2): t for sigma, t in levels.items() if round(sigma, 2) > 0}
    found = Temperatures(levels).at(torch.logspace(-3, 2, 50))
    assert float(found.min()) >= min(levels.values()) * (1 - 1e-5)
    assert float(found.max()) <= max(levels.values()) * (1 + 1e-5)


@pytest.mark.parametrize("levels", [{}, {0.1: 0.0}, {-1.0: 1.0}, {0.1: math.inf}])
def test_what_is_no_temperature_is_refused(levels: dict[float, float]) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        Temperatures(levels)


def test_a_tempered_posterior_is_the_power_of_the_evidence() -> None:
    """pi_k (q_k / pi_k)^(1/T) / normaliser, by hand in float64."""
    temperature = torch.tensor([0.5, 2.0, 3.0])
    q = torch.softmax(PRIOR.double() + EVIDENCE.double(), dim=1)
    powers = PRIOR.double().exp() * (q / PRIOR.double().exp()) ** (1 / temperature[:, None])
    expected = powers / powers.sum(1, keepdim=True)
    found = tempered_posterior(EVIDENCE, PRIOR, temperature).double().exp()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_it_sums_to_one_and_without_evidence_it_is_the_prior() -> None:
    for value in (0.1, 1.0, 7.0):
        log_q = tempered_posterior(EVIDENCE, PRIOR, torch.full((3,), value))
        torch.testing.assert_close(log_q.logsumexp(1), torch.zeros(3), rtol=0, atol=1e-6)
        torch.testing.assert_close(log_q[1], PRIOR, rtol=0, atol=1e-6)


def test_it_tends_to_the_prior_when_hot_and_to_the_best_cell_when_cold() -> None:
    hot = tempered_posterior(EVIDENCE, PRIOR, torch.full((3,), 1e6))
    torch.testing.assert_close(hot, PRIOR.expand(3, -1), rtol=0, atol=1e-4)
    cold = tempered_posterior(EVIDENCE, PRIOR, torch.full((3,), 1e-3))
    assert cold.exp()[[0, 2], [0, 1]].tolist() == [1.0, 1.0]


def test_with_a_uniform_prior_the_order_of_the_cells_never_changes() -> None:
    plain = tempered_posterior(EVIDENCE, UNIFORM).argsort(1)
    for value in (0.2, 3.0, 10.0):
        found = tempered_posterior(EVIDENCE, UNIFORM, torch.full((3,), value))
        assert torch.equal(found.argsort(1)[[0, 2]], plain[[0, 2]])


def test_with_a_uniform_prior_it_is_the_rule_of_guo() -> None:
    log_q = tempered_posterior(EVIDENCE, UNIFORM)
    expected = torch.log_softmax(log_q / 2.5, dim=1)
    found = tempered_posterior(EVIDENCE, UNIFORM, torch.full((3,), 2.5))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_temperature_of_one_changes_no_bit(method: str) -> None:
    concept = random_concept(method, COLOR)
    x, sigma = noisy_squares()
    before, ratio = concept.log_posterior(x, sigma), concept.log_ratio(x, sigma, ROWS)
    concept.set_temperatures({0.1: 1.0, 2.0: 1.0})
    assert torch.equal(concept.log_posterior(x, sigma), before)
    assert torch.equal(concept.log_ratio(x, sigma, ROWS), ratio)


@pytest.mark.parametrize("method", METHODS)
def test_a_concept_is_tempered_image_by_image(method: str) -> None:
    """Every image by the temperature of its own noise level; taken away, all is as before."""
    concept = random_concept(method, TALL)
    x, sigma = noisy_squares()
    before = concept.log_posterior(x, sigma)
    concept.set_temperatures({0.1: 0.5, 2.0: 4.0})
    temperature = Temperatures({0.1: 0.5, 2.0: 4.0}).at(sigma)
    expected = tempered_posterior(before - concept.log_prior, concept.log_prior, temperature)
    # evidence of up to 1000 nats in float32 is known to 1e-4, and doubled by T = 0.5
    torch.testing.assert_close(concept.log_posterior(x, sigma), expected, rtol=1e-5, atol=2e-3)
    concept.set_temperatures({})
    assert torch.equal(concept.log_posterior(x, sigma), before)


def test_drawing_uses_the_temperature_of_a_posterior_but_not_of_a_conditional_energy() -> None:
    x, sigma = noisy_squares()
    posterior = random_concept("posterior", COLOR)
    posterior.set_temperatures({1.0: 2.0})
    log_q = posterior.log_posterior(x, sigma) - posterior.log_prior
    found = posterior.log_ratio(x, sigma, ROWS)
    expected = log_q[torch.arange(4), [0, 1, 2, 0]]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for method in ("conditional", "both"):
        concept = random_concept(method, COLOR)
        before = concept.log_ratio(x, sigma, ROWS)
        concept.set_temperatures({1.0: 2.0})
        assert torch.equal(concept.log_ratio(x, sigma, ROWS), before)


def test_temperatures_are_no_part_of_the_weights() -> None:
    concept = random_concept("both", COLOR)
    assert isinstance(concept, BothConcept)
    names = list(concept.state_dict())
    concept.set_temperatures({1.0: 2.0})
    assert list(concept.state_dict()) == names
    assert concept.posterior.temperatures is not None
