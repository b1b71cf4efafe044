"""R-hat and ESS of a trace: among chains of one energy, and not of all that are drawn at once."""

import pytest
import torch

from ebmcli.core.diagnostics import effective_sample_size
from ebmcli.core.samplers import ChainState, Moves
from ebmcli.workflows.tracing import Trace

N_DRAWS = 400


def state(draws: torch.Tensor) -> ChainState:
    """Chains (B, N) of energies at one level, as a sampler yields them."""
    pictures = torch.zeros(len(draws), 3, 2, 2)
    last, moves = draws[:, -1], Moves(energies=draws.T)
    return ChainState(level=0, sigma=1.0, x=pictures, denoised=pictures, energy=last, moves=moves)


@pytest.fixture
def draws() -> torch.Tensor:
    """Four chains that have mixed, two around 0 and two around 50."""
    noise = torch.randn(4, N_DRAWS, generator=torch.Generator().manual_seed(0))
    return noise + torch.tensor([[0.0], [0.0], [50.0], [50.0]])


def row(draws: torch.Tensor, *batches: list[str]) -> dict[str, float]:
    trace, start = Trace(None), 0
    for targets in batches:
        trace.note(state(draws[start : start + len(targets)]), targets)
        start += len(targets)
    (found,) = trace.rows()
    return found


def test_chains_of_two_energies_are_not_asked_to_agree(draws: torch.Tensor) -> None:
    apart = row(draws, ["red", "red", "blue", "blue"])
    assert apart["r_hat"] < 1.02
    own = [effective_sample_size(draws[:2]), effective_sample_size(draws[2:])]
    assert apart["ess"] == pytest.approx(sum(own))
    assert apart["ess"] > 1000
    together = row(draws, ["either"] * 4)
    assert together["r_hat"] > 1.5
    assert together["ess"] < 20


def test_the_worst_of_several_energies_is_told(draws: torch.Tensor) -> None:
    assert row(draws, ["red", "blue", "blue", "green"])["r_hat"] > 1.5
    assert "r_hat" not in row(draws, ["red", "blue", "green", "white"])


def test_chains_of_one_energy_may_be_of_several_batches(draws: torch.Tensor) -> None:
    assert row(draws, ["red", "blue"], ["blue", "red"])["r_hat"] > 1.5
    assert row(draws, ["red", "red"], ["blue", "blue"])["r_hat"] < 1.02
