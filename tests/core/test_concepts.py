"""Concepts: what ties their energies together holds exactly, for every method."""

from pathlib import Path

import pytest
import torch
from squares import COLOR, FACTORS, PLACE, TALL, TRUNK, noisy_squares, random_base, random_concept
from torch import Tensor

from ebmcli.checkpoint import read_checkpoint, write_checkpoint
from ebmcli.core.concepts import (
    METHODS,
    BothConcept,
    ConditionalConcept,
    PosteriorConcept,
    build_concept,
)
from ebmcli.core.energy import at_noise_level, energy_gradient
from ebmcli.core.factors import Factor
from ebmcli.core.targets import cell_weights, label_tensor
from ebmcli.errors import ConfigError
from ebmcli.workflows.loading import blank_concept


@pytest.mark.parametrize("factor", FACTORS.values(), ids=lambda factor: factor.name)
def test_conditional_energies_mix_to_the_unconditional_one(factor: Factor) -> None:
    """sum_k pi_k exp(-E(x | k)) = exp(-E0) with E(x | k) = E0 - log q_k + log pi_k."""
    concept, base = random_concept("posterior", factor), random_base()
    x, sigma = noisy_squares()
    plain = base.energy(x, sigma)[:, None].double()
    conditional = plain - concept.log_posterior(x, sigma).double() + concept.log_prior.double()
    mixed = -torch.logsumexp(concept.log_prior.double() - conditional, dim=1)
    torch.testing.assert_close(mixed, plain[:, 0], rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [COLOR, TALL], ids=lambda factor: factor.name)
def test_posteriors_are_distributions(method: str, factor: Factor) -> None:
    x, sigma = noisy_squares()
    log_q = random_concept(method, factor).log_posterior(x, sigma)
    assert log_q.shape == (4, factor.n_cells)
    torch.testing.assert_close(log_q.logsumexp(1), torch.zeros(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [COLOR, PLACE], ids=lambda factor: factor.name)
def test_the_log_ratio_of_one_cell_is_posterior_over_prior(factor: Factor) -> None:
    concept = random_concept("posterior", factor)
    x, sigma = noisy_squares(3)
    ratio = concept.log_posterior(x, sigma) - concept.log_prior
    for k in range(0, factor.n_cells, max(1, factor.n_cells // 5)):
        target = torch.eye(factor.n_cells)[k].expand(3, -1)
        found = concept.log_ratio(x, sigma, target)
        torch.testing.assert_close(found, ratio[:, k], rtol=1e-5, atol=1e-5)


def test_the_log_ratio_of_a_place_between_nodes_is_the_weighted_mean() -> None:
    concept = random_concept("posterior", PLACE)
    x, sigma = noisy_squares(2)
    target = cell_weights(PLACE, label_tensor(PLACE, (0.3, -0.44))).expand(2, -1)
    expected = (target * (concept.log_posterior(x, sigma) - concept.log_prior).exp()).sum(1).log()
    torch.testing.assert_close(concept.log_ratio(x, sigma, target), expected, rtol=1e-5, atol=1e-5)


def conditional(factor: Factor) -> ConditionalConcept:
    concept = random_concept("conditional", factor)
    assert isinstance(concept, ConditionalConcept)
    return concept


@pytest.mark.parametrize("factor", [COLOR, PLACE], ids=lambda factor: factor.name)
def test_the_conditional_energy_of_nothing_is_its_unconditional_one(factor: Factor) -> None:
    concept = conditional(factor)
    x, sigma = noisy_squares()
    none = torch.zeros(4, factor.n_cells)
    assert torch.equal(concept.energy(x, sigma, none), concept.unconditional(x, sigma))
    assert concept.log_ratio(x, sigma, none).abs().max() == 0


def test_a_conditional_log_posterior_is_bayes_rule_on_its_energies() -> None:
    concept = conditional(COLOR)
    x, sigma = noisy_squares()
    energies = torch.stack(
        [concept.energy(x, sigma, torch.eye(3)[k].expand(4, -1)) for k in range(3)], dim=1
    )
    expected = torch.log_softmax(concept.log_prior.double() - energies.double(), dim=1)
    found = concept.log_posterior(x, sigma).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)  # energies of 1000, float32


@pytest.mark.parametrize("factor", [COLOR, PLACE], ids=lambda factor: factor.name)
def test_a_conditional_denoiser_is_the_gradient_of_its_energy(factor: Factor) -> None:
    concept = conditional(factor)
    x, sigma = noisy_squares()
    target = torch.eye(factor.n_cells)[-1].expand(4, -1)

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        return concept.energy(x, sigma, target)

    gradient = energy_gradient(at_noise_level(energy, sigma), x)
    expected = x - sigma.square()[:, None, None, None] * gradient
    found = concept.denoise(x, sigma, target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_both_draws_by_one_part_and_reads_by_the_other() -> None:
    concept = random_concept("both", COLOR)
    assert isinstance(concept, BothConcept)
    x, sigma = noisy_squares()
    target = torch.eye(3)[1].expand(4, -1)
    assert torch.equal(
        concept.log_ratio(x, sigma, target), concept.conditional.log_ratio(x, sigma, target)
    )
    assert torch.equal(concept.log_posterior(x, sigma), concept.posterior.log_posterior(x, sigma))
    assert torch.equal(concept.unconditional(x, sigma), concept.conditional.unconditional(x, sigma))
    assert concept.own_gaussian is concept.conditional.body.gaussian


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [COLOR, PLACE], ids=lambda factor: factor.name)
def test_a_concept_survives_its_file(method: str, factor: Factor, tmp_path: Path) -> None:
    """Built blank from the header and filled from the tensors: the same numbers, bit for bit."""
    concept = random_concept(method, factor)
    path = tmp_path / "concept.safetensors"
    header = {
        "kind": "concept", "space": "squares-16", "config": TRUNK.to_dict(), "method": method,
        "factor": factor.to_dict(), "n_components": 8,
    }  # fmt: skip
    write_checkpoint(path, concept.state_dict(), header)
    tensors, read = read_checkpoint(path, kind="concept")
    again = blank_concept(read)
    again.load_state_dict(tensors)
    assert again.factor == factor
    x, sigma = noisy_squares(2)
    target = torch.eye(factor.n_cells)[1].expand(2, -1)
    assert torch.equal(again.log_ratio(x, sigma, target), concept.log_ratio(x, sigma, target))
    if factor is COLOR:  # conditional positions take 289 passes
        assert torch.equal(again.log_posterior(x, sigma), concept.log_posterior(x, sigma))


def test_methods_are_known_by_name() -> None:
    log_prior = torch.zeros(3)
    built = build_concept("posterior", COLOR, TRUNK, log_prior=log_prior)
    assert isinstance(built, PosteriorConcept)
    with pytest.raises(ConfigError, match="unknown method 'marginal'"):
        build_concept("marginal", COLOR, TRUNK, log_prior=log_prior)
