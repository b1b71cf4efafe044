"""Trunks and heads: shapes, what they may depend on, what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from squares import TRUNK, shaken
from torch import nn

from ebmcli.core.networks import (
    EnergyNetwork,
    PosteriorNetwork,
    ResidualBlock,
    Trunk,
    TrunkConfig,
    parameter_count,
)
from ebmcli.errors import ConfigError


def inputs(n: int = 3, channels: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, 16, 16, generator=generator), torch.tensor([0.1, 1.0, 5.0])[:n]


def test_an_energy_network_gives_one_number_per_image() -> None:
    assert EnergyNetwork(TRUNK)(*inputs()).shape == (3,)


def test_a_posterior_network_gives_one_logit_per_cell() -> None:
    network = PosteriorNetwork(TRUNK, n_cells=5, n_channels=3)
    assert network(*inputs(channels=3)).shape == (3, 5)


def test_a_trunk_ends_at_the_coarsest_side() -> None:
    assert Trunk(TRUNK, n_channels=6)(*inputs()).shape == (3, 8, TRUNK.side, TRUNK.side)
    assert TRUNK.side == 4


def test_values_depend_on_image_noise_level_and_condition() -> None:
    network = shaken(EnergyNetwork(TRUNK))
    x, sigma = inputs()
    plain = network(x, sigma)
    condition = torch.ones(3, TRUNK.embedding)
    for other in (network(x + 1, sigma), network(x, 2 * sigma), network(x, sigma, condition)):
        assert bool((plain != other).all())


def test_a_network_sees_where_something_is() -> None:
    """The head and the coordinates: the sum alone would not change under a shift."""
    network = shaken(EnergyNetwork(TRUNK))
    x, sigma = inputs(1)
    assert not torch.allclose(network(x, sigma), network(x.roll(8, dims=3), sigma))


def test_a_fresh_decoder_changes_nothing_and_a_trained_one_does() -> None:
    with_decoder = EnergyNetwork(replace(TRUNK, decoder=1))
    plain = EnergyNetwork(TRUNK)
    missing = plain.load_state_dict(with_decoder.state_dict(), strict=False)
    assert all(name.startswith("decoder.") for name in missing.unexpected_keys)
    assert torch.equal(with_decoder(*inputs()), plain(*inputs()))
    assert bool((shaken(with_decoder)(*inputs()) != plain(*inputs())).all())


def test_the_gradient_through_a_decoder_is_u_plus_jacobian_times_u() -> None:
    """With J = 0, of a decoder that is a constant picture U, the gradient is U itself."""
    network = EnergyNetwork(replace(TRUNK, decoder=1))
    assert network.decoder is not None
    nn.init.constant_(network.decoder.last.bias, 0.25)
    channels, sigma = inputs()
    plain = channels.clone().requires_grad_()
    changed = channels.clone().requires_grad_()
    nothing = EnergyNetwork(TRUNK)
    nothing.load_state_dict(network.state_dict(), strict=False)
    (before,) = torch.autograd.grad(nothing(plain, sigma).sum(), plain)
    (after,) = torch.autograd.grad(network(changed, sigma).sum(), changed)
    torch.testing.assert_close((after - before)[:, :3], torch.full((3, 3, 16, 16), 0.25))
    torch.testing.assert_close(after[:, 3:], before[:, 3:])


def test_a_fresh_block_is_not_conditioned_yet() -> None:
    block = ResidualBlock(4, 8)
    x = torch.ones(1, 4, 3, 3)
    assert torch.equal(block(x, torch.zeros(1, 8)), block(x, torch.ones(1, 8)))


def test_a_shape_survives_its_plain_form() -> None:
    assert TrunkConfig.from_dict(TRUNK.to_dict()) == TRUNK


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"size": 18}, "multiple of 4, got 18"),
        ({"size": 2}, "multiple of 4, got 2"),
        ({"depths": (1,)}, "same length"),
        ({"widths": (4, 0)}, "widths must be at least 1"),
        ({"widths": (), "depths": ()}, "widths must be at least 1"),
        ({"unshuffle": 0}, "unshuffle must be at least 1"),
        ({"embedding": 0}, "embedding must be at least 1"),
        ({"head": -1}, "head must be at least 1"),
        ({"depths": (1, -1)}, "depths and decoder must not be negative"),
        ({"decoder": -1}, "depths and decoder must not be negative"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        TrunkConfig(**{**TRUNK.to_dict(), "widths": (4, 8), "depths": (1, 1), **change})


def test_only_trainable_weights_are_counted() -> None:
    layers = nn.Linear(3, 2)
    layers.bias.requires_grad_(False)
    assert parameter_count([layers, nn.Linear(1, 1)]) == 6 + 2
