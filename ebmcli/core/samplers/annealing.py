"""Annealed chains: moves at a noise level, then a Heun step to the next, down to no noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.energy import (
    Energy,
    NoisyEnergy,
    at_noise_level,
    energy_and_gradient,
    energy_gradient,
)
from ebmcli.core.samplers.adaptation import adapt_step
from ebmcli.core.samplers.langevin import exponential_langevin_step
from ebmcli.core.samplers.metropolis import MALA, Evaluated, Method, evaluate
from ebmcli.core.samplers.noise import SeededNoise


@dataclass(frozen=True, kw_only=True)
class Moves:
    """What the moves at one noise level tell; of adapted ones, those after the warm-up."""

    energies: Tensor  # E(x, sigma) after (unadjusted: before) each move, (n, B), nats
    acceptance: Tensor | None = None  # mean probability of being taken, (B,); None: always taken
    step: Tensor | None = None  # h, (B,)


@dataclass(frozen=True, kw_only=True)
class ChainState:
    """Where an annealed chain is after one noise level."""

    level: int  # 0 is the noisiest
    sigma: float  # the level just left
    x: Tensor  # states at the next level (B, C, H, W); the last ones have no noise
    denoised: Tensor  # D(x, sigma) at the level just left
    energy: Tensor  # E(x, sigma) at the level just left, (B,)
    moves: Moves | None = None  # None where none were made


Correct = Callable[[Tensor, float], tuple[Tensor, Moves | None]]


def fixed_level(energy: NoisyEnergy, x: Tensor, sigma: float) -> Energy:
    """The energy at one noise level, for batches as large as ``x``."""
    return at_noise_level(energy, torch.full((len(x),), sigma, device=x.device, dtype=x.dtype))


def heun_step(
    energy: NoisyEnergy, x: Tensor, sigma: float, sigma_next: float
) -> tuple[Tensor, Tensor, Tensor]:
    """From one noise level to the next along dx/dsigma = sigma dE/dx, second order.

    The last step, to sigma_next = 0, is a plain Euler step: it ends on the denoised image.

    Returns:
        The states at ``sigma_next``, and D (B, C, H, W) and E (B,) at ``sigma``.

    Source: Karras et al. (2022), Algorithm 1, without noise.
    """
    level = torch.full((len(x),), sigma, device=x.device)
    value, gradient = energy_and_gradient(at_noise_level(energy, level), x)
    slope = sigma * gradient
    following = x + (sigma_next - sigma) * slope
    if sigma_next > 0:
        level_next = torch.full_like(level, sigma_next)
        gradient_next = energy_gradient(at_noise_level(energy, level_next), following)
        slope_mean = 0.5 * (slope + sigma_next * gradient_next)
        following = x + (sigma_next - sigma) * slope_mean
    return following, x - sigma * slope, value


def annealed_chain(
    energy: NoisyEnergy,
    x: Tensor,
    sigmas: Sequence[float],
    noise: SeededNoise,
    *,
    n_corrector: int = 0,
    corrector_step: float = 0.15,
    corrector_from: float = 0.3,
) -> Iterator[ChainState]:
    """Carry states from the noisiest level to none; yield one state per level.

    At every level with sigma >= ``corrector_from``: ``n_corrector`` exponential Langevin steps at
    that level, then one Heun step to the next. Sums of noised energies, products of posteriors of
    several concepts and any strength but 1 give densities that are not noised versions of each
    other, so it is the corrector that makes compositions right.

    Args:
        energy: Energy of noised images, (B, C, H, W), (B,) -> (B,).
        x: States at ``sigmas[0]``, (B, C, H, W).
        sigmas: Falling noise levels, all positive.
        noise: Source of the corrector's noise.
        n_corrector: Langevin steps per level.
        corrector_step: h of each.
        corrector_from: Lowest noise level that is corrected, intensity.
    """

    def correct(x: Tensor, sigma: float) -> tuple[Tensor, Moves | None]:
        levels = torch.full((len(x),), sigma, device=x.device)
        recorded, energies = _recorded(energy)
        for _ in range(n_corrector):
            fresh = noise.draw().to(x)
            x = exponential_langevin_step(recorded, x, levels, step=corrector_step, noise=fresh)
        return x, Moves(energies=torch.stack(energies)) if energies else None

    return _anneal(energy, x, sigmas, correct=correct, corrector_from=corrector_from)


def _recorded(energy: NoisyEnergy) -> tuple[NoisyEnergy, list[Tensor]]:
    """The same energy, and the list that its values go to."""
    energies: list[Tensor] = []

    def recording(x: Tensor, sigma: Tensor) -> Tensor:
        value = energy(x, sigma)
        energies.append(value.detach())
        return value

    return recording, energies


def metropolis_chain(
    energy: NoisyEnergy,
    x: Tensor,
    sigmas: Sequence[float],
    noise: SeededNoise,
    *,
    method: Method = MALA,
    n_corrector: int = 12,
    n_warmup: int = 6,
    corrector_from: float = 0.3,
) -> Iterator[ChainState]:
    """Like :func:`annealed_chain`, with moves that leave exp(-E(x, sigma)) exactly as it is.

    At every level with sigma >= ``corrector_from``: ``n_warmup`` moves that adapt the step of each
    picture to the method's acceptance, starting from the step of the level before; then the step
    is frozen for ``n_corrector`` moves; then one Heun step to the next level.

    Args:
        energy: Energy of noised images, (B, C, H, W), (B,) -> (B,).
        x: States at ``sigmas[0]``, (P k, C, H, W), the k chains of a picture next to each other.
        sigmas: Falling noise levels, all positive.
        noise: Source of proposals and decisions, with k = ``noise.chains``.
        method: MALA or HMC.
        n_corrector: Moves per level with a frozen step.
        n_warmup: Moves per level that adapt the step.
        corrector_from: Lowest noise level at which chains move, intensity.
    """
    step = torch.full((len(x),), method.first_step, device=x.device, dtype=x.dtype)

    def correct(x: Tensor, sigma: float) -> tuple[Tensor, Moves | None]:
        nonlocal step
        here = fixed_level(energy, x, sigma)
        state = evaluate(here, x)
        for count in range(1, n_warmup + 1):
            moved = method.move(here, state, sigma, step, noise)
            state = moved.state
            step = adapt_step(
                step, moved.acceptance, target=method.target, count=count, chains=noise.chains
            )
        state, moves = move_chains(
            here, state, sigma, noise, method=method, step=step, n=n_corrector
        )
        return state.x, moves

    return _anneal(energy, x, sigmas, correct=correct, corrector_from=corrector_from)


def move_chains(
    energy: Energy,
    state: Evaluated,
    sigma: float,
    noise: SeededNoise,
    *,
    method: Method,
    step: Tensor,
    n: int,
) -> tuple[Evaluated, Moves]:
    """n moves with a frozen step h, one per chain (B,): the last states and what happened."""
    energies, total = [], torch.zeros_like(state.energy)
    for _ in range(n):
        moved = method.move(energy, state, sigma, step, noise)
        state, total = moved.state, total + moved.acceptance
        energies.append(state.energy)
    acceptance = total / n if n else None
    shape = (0, len(state.energy))
    found = torch.stack(energies) if energies else state.energy.new_empty(shape)
    return state, Moves(energies=found, acceptance=acceptance, step=step)


def _anneal(
    energy: NoisyEnergy,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    correct: Correct,
    corrector_from: float,
) -> Iterator[ChainState]:
    """Correct, step, yield, level by level."""
    ends = [*sigmas[1:], 0.0]
    for level, (sigma, sigma_next) in enumerate(zip(sigmas, ends, strict=True)):
        moves = None
        if sigma >= corrector_from:
            x, moves = correct(x, sigma)
        x, denoised, value = heun_step(energy, x, sigma, sigma_next)
        x = x.detach()
        yield ChainState(
            level=level, sigma=sigma, x=x, denoised=denoised.detach(), energy=value, moves=moves
        )
