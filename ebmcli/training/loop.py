"""One training run as an iterator of StepReport; the caller stops, saves and displays.

The whole state of a run (weights, average, optimiser, random source, step) is in a
:class:`TrainingState`, so that a resumed run equals the uninterrupted one bit for bit on the same
machine: batches and noise are drawn from the state's generator, and the learning rate depends on
the step alone. (On a GPU as far as its sums have an order of their own.)
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ebmcli.errors import ConfigError, DeadError, DivergedError
from ebmcli.training.ema import ema_decay, update_average
from ebmcli.training.gradients import Objective, gradients_of

DEAD_AFTER = 20  # updates in a row whose gradient is exactly 0; chosen


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How weights move."""

    n_steps: int = 4000  # updates
    batch_size: int = 16  # images per update; beat 32 and 64 at equal minutes (measured)
    learning_rate: float = 1.5e-3  # peak; warmed up linearly, then a half cosine down to 0
    n_warmup: int = 200  # updates
    weight_decay: float = 0.0
    gradient_clip: float = 1.0  # largest norm of the gradient
    ema_limit: float = 0.999  # decay of the averaged weights, once warmed up

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:  # NaN too
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.ema_limit < 1:
            raise ConfigError(f"ema_limit must be in [0, 1), got {self.ema_limit}")
        if self.n_warmup < 0 or self.weight_decay < 0:
            raise ConfigError("n_warmup and weight_decay must not be negative")


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one update did."""

    step: int  # updates done, counted from 1
    n_steps: int
    losses: dict[str, float]  # of this batch
    gradient_norm: float  # before clipping
    learning_rate: float


class TrainingState:
    """Everything a run needs to go on: weights, buffers, average, optimiser, random source, step.

    ``seconds`` is the time of all its sessions, kept by whoever saves the state.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig, *, seed: int) -> None:
        self.network = network
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        kept, named = network.state_dict(), dict(network.named_buffers())
        self.buffers = {name: named[name] for name in kept if name in named}
        self.average = [p.detach().clone() for p in self.parameters]
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=on_gpu,
        )
        self.generator = Generator(device if on_gpu else "cpu").manual_seed(seed)
        self.step = 0
        self.seconds = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, for a file."""
        named = {"step": torch.tensor(self.step), "generator": self.generator.get_state()}
        named["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        named |= {f"buffer.{name}": buffer for name, buffer in self.buffers.items()}
        for i, (parameter, average) in enumerate(zip(self.parameters, self.average, strict=True)):
            named[f"weights.{i}"] = parameter.detach()
            named[f"average.{i}"] = average
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer.{i}.{key}"] = torch.as_tensor(value)
        return {name: tensor.clone().contiguous() for name, tensor in named.items()}

    def load(self, named: dict[str, Tensor]) -> None:
        """Restore what :meth:`tensors` gave."""
        self.step = int(named["step"])
        self.seconds = float(named["seconds"])
        self.generator.set_state(named["generator"])
        with torch.no_grad():
            for name, buffer in self.buffers.items():
                buffer.copy_(named[f"buffer.{name}"])
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(named[f"weights.{i}"])
                self.average[i].copy_(named[f"average.{i}"])
                prefix = f"optimizer.{i}."
                state = {k[len(prefix) :]: v for k, v in named.items() if k.startswith(prefix)}
                if state:
                    self.optimizer.state[parameter] = {
                        key: _like(value, parameter) for key, value in state.items()
                    }

    def use_average(self) -> None:
        """Put the averaged weights into the network."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                parameter.copy_(average)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A moment estimate in the memory layout and on the device of its parameter."""
    if value.shape != parameter.shape:  # the count of updates, which a fused update has beside it
        return value.to(parameter.device) if parameter.device.type == "cuda" else value
    return torch.empty_like(parameter).copy_(value)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up over n_warmup updates, then a half cosine that reaches 0 after n_steps."""
    warmup = min(1.0, (step + 1) / max(1, min(config.n_warmup, config.n_steps // 5)))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / config.n_steps))


def training_run(
    state: TrainingState, objective: Objective, config: TrainingConfig
) -> Iterator[StepReport]:
    """Update until ``config.n_steps``; yield a report after each update.

    Raises:
        DivergedError: the loss or its gradient is not finite; the weights are left as before.
        DeadError: The gradient has been exactly 0 for DEAD_AFTER updates: a step too large has left
            no unit that answers, and no update ever will.
    """
    gradients = gradients_of(objective, state.parameters, state.generator)
    n_dead = 0
    while state.step < config.n_steps:
        rate = learning_rate(state.step, config)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        losses = gradients()
        norm = float(_clip(state.parameters, config.gradient_clip))
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(norm) or not math.isfinite(values["loss"]):
            raise DivergedError(
                f"training diverged at step {state.step + 1}: loss {values['loss']:.4g}, "
                f"gradient norm {norm:.4g}, largest sigma of the batch "
                f"{values.get('sigma', float('nan')):.3g}",
                hint="lower the learning rate: --set learning_rate="
                f"{config.learning_rate / 3:.2g}; the last good checkpoint was kept",
            )
        n_dead = n_dead + 1 if norm == 0 else 0
        if n_dead == DEAD_AFTER:
            raise DeadError(
                f"the network is dead at step {state.step + 1}: its gradient is 0",
                hint=f"start again with a lower learning rate: --restart --set learning_rate="
                f"{config.learning_rate / 3:.2g}",
            )
        state.optimizer.step()
        state.step += 1
        decay = ema_decay(state.step, limit=config.ema_limit)
        update_average(state.average, state.parameters, decay=decay)
        yield StepReport(
            step=state.step,
            n_steps=config.n_steps,
            losses=values,
            gradient_norm=norm,
            learning_rate=rate,
        )


def _clip(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    return torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
