"""The training loop on a least-squares problem: resuming, diverging, the schedule."""

import copy
import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from ebmcli.errors import ConfigError, DeadError, DivergedError
from ebmcli.training.ema import ema_decay
from ebmcli.training.gradients import Losses, Objective
from ebmcli.training.loop import (
    DEAD_AFTER,
    TrainingConfig,
    TrainingState,
    learning_rate,
    training_run,
)

CONFIG = TrainingConfig(n_steps=40, n_warmup=5, learning_rate=0.02, weight_decay=0.01)
TARGET = torch.tensor([[1.0, -2.0, 0.5]])


def network() -> nn.Sequential:
    """Two layers, the same weights every time; the first bias is frozen."""
    layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    generator = Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    layers.get_parameter("0.bias").requires_grad_(False)
    return layers


def least_squares(layers: nn.Module) -> Objective:
    """Fit a linear function of random inputs from the state's generator."""

    def objective(generator: Generator) -> Losses:
        x = torch.randn(16, 3, generator=generator)
        loss = (layers(x) - x @ TARGET.T).square().mean()
        return {"loss": loss, "half": loss / 2}

    return objective


def fresh(*, seed: int = 0, config: TrainingConfig = CONFIG) -> tuple[TrainingState, Objective]:
    """A state at step 0 and its objective."""
    layers = network()
    return TrainingState(layers, config, seed=seed), least_squares(layers)


class Spoilt(torch.autograd.Function):
    """The identity, with its gradient times a number."""

    @staticmethod
    def forward(context: Any, value: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None


def tensors(state: TrainingState) -> dict[str, Tensor]:
    """A copy of everything in a state."""
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


@pytest.mark.parametrize("n_first", [0, 1, 17])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(n_first: int) -> None:
    whole, objective = fresh()
    reports = list(training_run(whole, objective, CONFIG))
    first, objective = fresh()
    begun = list(islice(training_run(first, objective, CONFIG), n_first))
    second, objective = fresh(seed=99)  # everything is taken from the saved state
    with torch.no_grad():
        for parameter in second.parameters:
            parameter.zero_()
    second.load(tensors(first))
    assert begun + list(training_run(second, objective, CONFIG)) == reports
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name
    assert any(name.startswith("optimizer.") for name in whole.tensors())


def test_another_seed_gives_another_run() -> None:
    """Or the comparison above would say nothing."""
    one, objective_one = fresh(seed=0)
    two, objective_two = fresh(seed=1)
    first = next(training_run(one, objective_one, CONFIG))
    assert first != next(training_run(two, objective_two, CONFIG))


def test_saved_tensors_do_not_move_with_the_run() -> None:
    state, objective = fresh()
    run = training_run(state, objective, CONFIG)
    list(islice(run, 3))
    saved = state.tensors()
    kept = copy.deepcopy(saved)
    list(run)
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


def test_training_lowers_the_loss_and_reports_it() -> None:
    config = TrainingConfig(n_steps=300, n_warmup=20, learning_rate=0.03, gradient_clip=10.0)
    state, objective = fresh(config=config)
    reports = list(training_run(state, objective, config))
    assert [report.step for report in reports] == list(range(1, 301))
    assert {report.n_steps for report in reports} == {300}
    losses = [report.losses["loss"] for report in reports]
    assert sum(losses[-20:]) < 0.2 * sum(losses[:20])
    assert all(report.losses["half"] == report.losses["loss"] / 2 for report in reports)
    assert list(training_run(state, objective, config)) == []


def test_frozen_weights_stay() -> None:
    state, objective = fresh()
    list(training_run(state, objective, CONFIG))
    frozen = state.network.get_parameter("0.bias")
    assert torch.equal(frozen, network().get_parameter("0.bias"))
    assert len(state.parameters) == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_a_diverged_run_stops_with_the_weights_of_the_step_before(bad: float, place: str) -> None:
    """A loss that is not finite, or a finite loss whose gradient is not."""
    state, objective = fresh()
    n_good = 7

    def broken(generator: Generator) -> Losses:
        losses = objective(generator)
        if state.step == n_good:
            factor = torch.tensor(bad if place == "loss" else 1.0)
            losses["loss"] = losses["loss"] * factor
            if place == "gradient":
                losses["loss"] = Spoilt.apply(losses["loss"], bad)  # type: ignore[no-untyped-call]
        return losses

    run = training_run(state, broken, CONFIG)
    list(islice(run, n_good))
    before = tensors(state)
    with pytest.raises(DivergedError, match=f"diverged at step {n_good + 1}: loss ") as caught:
        next(run)
    assert "learning_rate=0.0067" in (caught.value.hint or "")
    after = state.tensors()
    assert state.step == n_good
    for name in before.keys() - {"generator"}:
        assert torch.equal(before[name], after[name]), name


def test_a_network_that_no_update_changes_is_called_dead() -> None:
    """As after a step so large that no rectifier answers; one gradient of 0 is none."""
    state, objective = fresh()

    def dying(generator: Generator) -> Losses:
        losses = objective(generator)
        return losses | {"loss": losses["loss"] * (0 if state.step in dead else 1)}

    dead: range = range(3, 3 + DEAD_AFTER - 1)
    assert len(list(training_run(state, dying, CONFIG))) == CONFIG.n_steps
    state, objective = fresh()
    dead = range(3, CONFIG.n_steps)
    with pytest.raises(DeadError, match=f"dead at step {3 + DEAD_AFTER}: its") as caught:
        list(training_run(state, dying, CONFIG))
    assert "--restart --set learning_rate=0.0067" in (caught.value.hint or "")


def test_the_learning_rate_warms_up_linearly_and_ends_at_zero() -> None:
    config = TrainingConfig(n_steps=100, n_warmup=10, learning_rate=2.0)
    rates = [learning_rate(step, config) for step in range(101)]
    for step in range(101):
        cosine = 1 + math.cos(math.pi * step / 100)
        assert rates[step] == pytest.approx(min(1, (step + 1) / 10) * cosine, abs=1e-12)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[99] < 1e-3 * max(rates)


@pytest.mark.parametrize("n_warmup", [0, 1, 1000])
def test_a_warmup_never_takes_more_than_a_fifth_of_the_run(n_warmup: int) -> None:
    config = TrainingConfig(n_steps=50, n_warmup=n_warmup, learning_rate=1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * 9 / 50))
    assert learning_rate(9, config) == pytest.approx(cosine, abs=1e-12)
    assert learning_rate(0, config) == (0.1 if n_warmup == 1000 else 1.0)


def test_the_rates_reported_are_those_of_the_schedule() -> None:
    state, objective = fresh()
    rates = [report.learning_rate for report in training_run(state, objective, CONFIG)]
    assert rates == [learning_rate(step, CONFIG) for step in range(CONFIG.n_steps)]


def test_the_average_follows_the_weights_and_replaces_them_on_demand() -> None:
    """Recomputed from the weights after every update, to float32 rounding of 40 steps."""
    state, objective = fresh()
    expected = [parameter.detach().double() for parameter in state.parameters]
    for report in training_run(state, objective, CONFIG):
        d = ema_decay(report.step, limit=CONFIG.ema_limit)
        pairs = zip(expected, state.parameters, strict=True)
        expected = [d * a + (1 - d) * p.detach().double() for a, p in pairs]
    for average, by_hand in zip(state.average, expected, strict=True):
        torch.testing.assert_close(average.double(), by_hand, rtol=0, atol=40 * 2**-23)
    assert not torch.equal(state.average[0], state.parameters[0])
    state.use_average()
    for average, parameter in zip(state.average, state.parameters, strict=True):
        assert torch.equal(average, parameter.detach())


def test_gradients_are_clipped_and_the_norm_before_is_reported() -> None:
    """loss = 100 w: the gradient 100 is reported, 2 is left for the optimiser."""
    layers = nn.Linear(1, 1, bias=False)
    config = TrainingConfig(n_steps=1, gradient_clip=2.0)
    state = TrainingState(layers, config, seed=0)

    def steep(_: Generator) -> Losses:
        return {"loss": 100 * layers.weight.sum()}

    (report,) = training_run(state, steep, config)
    assert report.gradient_norm == 100
    assert layers.weight.grad is not None
    assert layers.weight.grad.item() == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"n_steps": 0}, "n_steps must be positive, got 0"),
        ({"batch_size": -1}, "batch_size must be positive"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, "learning_rate must be positive, got nan"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive"),
        ({"ema_limit": 1.0}, r"ema_limit must be in \[0, 1\)"),
        ({"n_warmup": -1}, "must not be negative"),
        ({"weight_decay": -0.1}, "must not be negative"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: dict[str, float], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        TrainingConfig(**setting)  # type: ignore[arg-type]
