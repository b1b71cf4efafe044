"""Gradients of a batch: as they are computed, and as a CUDA graph replays them."""

import pytest
import torch
from torch import Generator, nn

from ebmcli.training.gradients import gradients_of
from ebmcli.training.loop import TrainingConfig, TrainingState, training_run


def layers(device: str = "cpu") -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(device)


def objective_of(network):
    """The squared slope of a network at random places: a second derivative, as in training."""

    def objective(generator):
        x = torch.randn(16, 3, generator=generator, device=generator.device).requires_grad_()
        (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        loss = (slope - 1).square().mean()
        return {"loss": loss, "half": loss / 2}

    return objective


def losses_of_a_run(device: str, *, n_steps: int = 12, stop: int | None = None) -> list[float]:
    """Losses of a run; with ``stop`` its state is saved there and goes on in a fresh network."""
    config = TrainingConfig(n_steps=n_steps, n_warmup=2, learning_rate=0.05)
    network = layers(device)
    state, found = TrainingState(network, config, seed=1), []
    for update in training_run(state, objective_of(network), config):
        found.append(update.losses["loss"])
        if update.step == stop:
            break
    if stop is not None:
        saved, network = state.tensors(), layers(device)
        state = TrainingState(network, config, seed=99)
        state.load(saved)
        found += [u.losses["loss"] for u in training_run(state, objective_of(network), config)]
    return found


def test_a_batch_leaves_its_gradient_and_no_older_one():
    network, generator = layers(), Generator().manual_seed(0)
    parameters = list(network.parameters())
    gradients = gradients_of(objective_of(network), parameters, generator)
    gradients()
    first = [p.grad.clone() for p in parameters if p.grad is not None]
    generator.manual_seed(0)
    assert float(gradients()["loss"].detach()) > 0
    for a, b in zip(first, (p.grad for p in parameters if p.grad is not None), strict=True):
        assert torch.equal(a, b)


def test_a_run_that_is_interrupted_has_the_losses_of_one_that_is_not():
    assert losses_of_a_run("cpu", stop=5) == losses_of_a_run("cpu")


@pytest.mark.gpu
def test_a_graph_gives_the_losses_that_are_computed_one_by_one(monkeypatch):
    replayed = losses_of_a_run("cuda")
    monkeypatch.setattr("ebmcli.training.gradients._captured", computed)
    assert replayed == pytest.approx(losses_of_a_run("cuda"), rel=1e-4)


@pytest.mark.gpu
def test_a_run_on_a_gpu_goes_on_with_its_own_random_numbers():
    assert losses_of_a_run("cuda", stop=5) == pytest.approx(losses_of_a_run("cuda"), rel=1e-4)


def computed(objective, parameters, generator):
    """What a graph replays, without a graph."""

    def gradients():
        losses = objective(generator)
        for parameter in parameters:
            parameter.grad = None
        losses["loss"].backward()
        return losses

    return gradients
