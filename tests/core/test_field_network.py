"""The network of a field and the concept on it: where it looks, and what its cells sum to."""

import pytest
import torch
from several import OBJECT, TRUNK, several

from ebmcli.core.concepts import PosteriorConcept, build_concept
from ebmcli.core.factors import N_FIELD_CELLS
from ebmcli.core.field_network import FieldNetwork, interpolation, line
from ebmcli.core.targets import cell_weights, label_prior
from ebmcli.errors import ConfigError

G, K = N_FIELD_CELLS**2, OBJECT.n_outcomes


def concept() -> PosteriorConcept:
    images = several(64)
    assert images.labels is not None
    log_prior = label_prior(OBJECT, images.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PosteriorConcept(OBJECT, TRUNK, log_prior)


def test_interpolation_is_exact_on_linear_functions() -> None:
    places = torch.tensor([-0.7, 0.0, 0.33, 0.8])
    weights = interpolation(places, 8)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    torch.testing.assert_close(weights @ line(8), places)
    edge = interpolation(torch.tensor([1.0, 1.125, 1.5]), 8)
    assert edge.sum(1).tolist() == pytest.approx([0.5, 0.0, 0.0], abs=1e-6)


def test_cells_read_the_picture_where_they_lie() -> None:
    """A map of coordinates, read at the cells, gives their places: x to the right, y up."""
    network = FieldNetwork(TRUNK, n_outcomes=K, n_channels=3)
    with torch.no_grad():
        network.middle.copy_(torch.tensor([0.1, -0.05]))
        network.reach.copy_(torch.tensor([0.5, 0.4]))
    right, down = line(8).expand(8, 8), line(8)[:, None].expand(8, 8)
    found = network._on_floor(torch.stack([right, down])[None])[0]
    assert found.shape == (2, N_FIELD_CELLS, N_FIELD_CELLS)
    x, y = (0.1 + 0.5 * network.nodes), (-0.05 + 0.4 * network.nodes)
    torch.testing.assert_close(found[0], x[:, None].expand(-1, N_FIELD_CELLS))
    torch.testing.assert_close(found[1], -y[None, :].expand(N_FIELD_CELLS, -1))


def test_every_cell_of_the_floor_has_a_distribution_of_its_own() -> None:
    x, _ = several(3).take(torch.arange(3))
    log_q = concept().log_posterior(x, torch.full((3,), 0.3))
    assert log_q.shape == (3, G * K)
    torch.testing.assert_close(log_q.exp().view(3, G, K).sum(2), torch.ones(3, G))


def test_the_log_ratio_sums_over_cells_and_can_be_differentiated_twice() -> None:
    """Training differentiates the slope of the ratio once more."""
    network = concept()
    x, labels = several(2).take(torch.arange(2))
    target, sigma = cell_weights(OBJECT, labels), torch.full((2,), 0.3)
    x.requires_grad_()
    ratio = network.log_ratio(x, sigma, target)
    by_hand = (target * (network.log_posterior(x, sigma) - network.log_prior)).sum(1)
    torch.testing.assert_close(ratio, by_hand)
    (slope,) = torch.autograd.grad(ratio.sum(), x, create_graph=True)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(slope.square().sum(), parameters, allow_unused=True)
    known = [gradient for gradient in gradients if gradient is not None]
    assert all(gradient.isfinite().all() for gradient in known)
    assert sum(float(gradient.abs().sum()) for gradient in known) > 0


@pytest.mark.parametrize("method", ["conditional", "both"])
def test_other_methods_have_no_energy_of_lists(method: str) -> None:
    with pytest.raises(ConfigError, match="no energy of a list of objects"):
        build_concept(method, OBJECT, TRUNK, log_prior=torch.zeros(G * K), n_components=4)
