"""Metropolis-Hastings: proposals of the gradient, each chain deciding for itself.

Notation: a chain at x has the density pi(x) proportional to exp(-E(x)); a proposal x' is drawn from
q(x' | x) and taken with probability min(1, pi(x') q(x | x') / (pi(x) q(x' | x))). Then pi is
invariant whatever the step; the step only decides how often a proposal is taken, and how far it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.energy import Energy, energy_and_gradient
from ebmcli.core.samplers.noise import SeededNoise

N_LEAPFROG = 5  # per HMC move, chosen: a trajectory of about one sigma at the adapted step


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Where chains are, with what a move has to know there: one energy call."""

    x: Tensor  # (B, C, H, W)
    energy: Tensor  # E(x), (B,), nats
    gradient: Tensor  # dE/dx (B, C, H, W), nats per intensity


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One move of every chain."""

    state: Evaluated
    acceptance: Tensor  # probability with which each proposal was taken, (B,)
    accepted: Tensor  # whether it was, (B,), bool


def evaluate(energy: Energy, x: Tensor) -> Evaluated:
    """E and dE/dx at x: (B, C, H, W) -> one energy call."""
    value, gradient = energy_and_gradient(energy, x)
    return Evaluated(x=x.detach(), energy=value, gradient=gradient)


def metropolis_acceptance(log_ratio: Tensor) -> Tensor:
    """alpha = min(1, exp(log_ratio)): (B,).

    ``log_ratio`` is log pi(x') q(x | x') - log pi(x) q(x' | x), nats. A proposal whose energy is
    not a number is never taken.

    Source: Hastings (1970).
    """
    return log_ratio.clamp(max=0).exp().nan_to_num(nan=0.0)


def log_proposal_ratio(
    old: Evaluated, new: Evaluated, *, step_size: Tensor | float, noise_scale: Tensor | float
) -> Tensor:
    """log q(x | x') - log q(x' | x) for q(x' | x) = N(x - step_size dE/dx, noise_scale^2 I): (B,).

        (|f|^2 - |r|^2) / (2 noise_scale^2),   f = x' - x + step_size dE/dx(x),
                                               r = x - x' + step_size dE/dx(x')

    The squares are subtracted as (f - r)(f + r): each is of the order of the number of pixels, and
    their difference of order one. ``noise_scale`` is the standard deviation itself; with
    noise_scale^2 = 2 step_size the denominator is the 4 step_size of the papers.
    """
    step, scale = per_chain(step_size, old.x), per_chain(noise_scale, old.x)
    forward = (new.x - old.x + step * old.gradient) / scale
    reverse = (old.x - new.x + step * new.gradient) / scale
    return 0.5 * ((forward - reverse) * (forward + reverse)).flatten(1).sum(1)


def mala_step(
    energy: Energy,
    state: Evaluated,
    *,
    step_size: Tensor | float,
    noise_scale: Tensor | float,
    noise: Tensor,
    uniform: Tensor,
) -> Transition:
    """One step of the Metropolis-adjusted Langevin algorithm: one energy call.

        x' = x - step_size * dE/dx + noise_scale * noise,   taken with probability
        min(1, exp(E(x) - E(x') + log q(x | x') - log q(x' | x)))

    Right for every pair of positive numbers. noise_scale = sqrt(2 step_size) is the textbook's;
    :func:`exponential_move` takes another one.

    Args:
        energy: Maps images (B, C, H, W) to energies (B,), nats.
        state: From :func:`evaluate` or an earlier step.
        step_size: Intensity^2 per nat: a number, or one per chain (B,).
        noise_scale: Intensity: a number, or one per chain (B,).
        noise: Standard normal (B, C, H, W).
        uniform: In [0, 1), one number per chain (B,): chains never share a decision.

    Source: Roberts and Tweedie (1996); log q in :func:`log_proposal_ratio`.
    """
    step, scale = per_chain(step_size, state.x), per_chain(noise_scale, state.x)
    proposal = evaluate(energy, state.x - step * state.gradient + scale * noise)
    ratio = log_proposal_ratio(state, proposal, step_size=step_size, noise_scale=noise_scale)
    return _decide(state, proposal, state.energy - proposal.energy + ratio, uniform)


def leapfrog(
    energy: Energy, state: Evaluated, momentum: Tensor, *, time_step: Tensor, n_steps: int
) -> tuple[Evaluated, Tensor]:
    """Hamilton's equations dx/dt = p, dp/dt = -dE/dx with unit mass: ``n_steps`` energy calls.

        p <- p - (eps/2) dE/dx(x);   x <- x + eps p;   p <- p - (eps/2) dE/dx(x),   eps = time_step

    Reversible (from the end with -p it comes back) and volume-preserving; H = E + |p|^2 / 2 changes
    by O(eps^2).

    Args:
        energy: Maps images (B, C, H, W) to energies (B,).
        state: Where the trajectories start.
        momentum: p, (B, C, H, W), sqrt(nats).
        time_step: eps, broadcasting against the states.
        n_steps: At least 1.

    Source: Neal (2011), Section 5.2.3.3.
    """
    for _ in range(n_steps):
        half = momentum - 0.5 * time_step * state.gradient
        state = evaluate(energy, state.x + time_step * half)
        momentum = half - 0.5 * time_step * state.gradient
    return state, momentum


def hmc_step(
    energy: Energy,
    state: Evaluated,
    *,
    step_size: Tensor | float,
    n_leapfrog: int,
    noise: Tensor,
    uniform: Tensor,
) -> Transition:
    """One move of Hamiltonian Monte Carlo with fresh momentum: ``n_leapfrog`` energy calls.

        p ~ N(0, I);   (x', p') = leapfrog(x, p), eps = sqrt(2 step_size);
        taken with probability min(1, exp(E(x) + |p|^2 / 2 - E(x') - |p'|^2 / 2))

    With one leapfrog step this is the textbook's MALA of the same ``step_size``. The momentum is
    drawn anew in every move, so that it need not be turned round after a rejection.

    Args:
        energy: Maps images (B, C, H, W) to energies (B,), nats.
        state: From :func:`evaluate` or an earlier step.
        step_size: eps^2 / 2, intensity^2 per nat: a number, or one per chain (B,).
        n_leapfrog: Leapfrog steps per move.
        noise: The momentum, standard normal (B, C, H, W).
        uniform: In [0, 1), one number per chain (B,).

    Source: Duane et al. (1987); Neal (2011), Section 5.3.2.
    """
    time_step = (2 * per_chain(step_size, state.x)).sqrt()
    proposal, momentum = leapfrog(energy, state, noise, time_step=time_step, n_steps=n_leapfrog)
    kinetic = 0.5 * ((noise - momentum) * (noise + momentum)).flatten(1).sum(1)
    return _decide(state, proposal, state.energy - proposal.energy + kinetic, uniform)


def _decide(old: Evaluated, new: Evaluated, log_ratio: Tensor, uniform: Tensor) -> Transition:
    """Take the new state in every chain whose own number falls below its own probability."""
    if uniform.shape != log_ratio.shape:
        raise ValueError(
            f"one uniform number per chain: {tuple(log_ratio.shape)}, got {tuple(uniform.shape)}"
        )
    acceptance = metropolis_acceptance(log_ratio)
    accepted = uniform < acceptance
    wide = per_chain(accepted, old.x)
    state = Evaluated(
        x=torch.where(wide, new.x, old.x),
        energy=torch.where(accepted, new.energy, old.energy),
        gradient=torch.where(wide, new.gradient, old.gradient),
    )
    return Transition(state=state, acceptance=acceptance, accepted=accepted)


def per_chain(value: Tensor | float, x: Tensor) -> Tensor:
    """A number, or one per chain (B,), in a shape that multiplies states (B, C, H, W)."""
    if not isinstance(value, Tensor):
        value = torch.tensor(value, dtype=x.dtype)
    return value.to(x.device).reshape(-1, *[1] * (x.dim() - 1))


Move = Callable[[Energy, Evaluated, float, Tensor, SeededNoise], Transition]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A move at a noise level, and how its step is found.

    ``move(energy, state, sigma, step, noise)`` takes the step h, one per chain (B,), in units of
    sigma^2, since that is the variance of the narrowest directions of a noised density.
    """

    move: Move
    target: float  # acceptance that adaptation aims at
    first_step: float  # h where adaptation starts
    n_calls: int  # energy calls of a move


def exponential_move(
    energy: Energy, state: Evaluated, sigma: float, step: Tensor, noise: SeededNoise
) -> Transition:
    """MALA whose proposal is the exponential Langevin step of ``langevin.py``.

        step_size = (1 - e^-h) sigma^2,   noise_scale = sigma sqrt(1 - e^-2h)

    Around a fixed image, pi = N(x0, sigma^2 I), every proposal is taken, whatever h and however
    many pixels; the textbook's pair would need h of the order of (number of pixels)^(-1/3).
    """
    keep = (-step).exp()
    return mala_step(
        energy,
        state,
        step_size=(1 - keep) * sigma**2,
        noise_scale=sigma * (1 - keep.square()).sqrt(),
        noise=noise.draw().to(state.x),
        uniform=noise.uniform().to(state.energy),
    )


def hamiltonian_move(
    energy: Energy, state: Evaluated, sigma: float, step: Tensor, noise: SeededNoise
) -> Transition:
    """HMC with ``N_LEAPFROG`` leapfrog steps of eps = sigma sqrt(2 h)."""
    return hmc_step(
        energy,
        state,
        step_size=step * sigma**2,
        n_leapfrog=N_LEAPFROG,
        noise=noise.draw().to(state.x),
        uniform=noise.uniform().to(state.energy),
    )


MALA = Method(move=exponential_move, target=0.574, first_step=0.15, n_calls=1)
HMC = Method(move=hamiltonian_move, target=0.651, first_step=0.02, n_calls=N_LEAPFROG)
# Targets, for many pixels: Roberts and Rosenthal (1998) for MALA, Beskos et al. (2013) for HMC.
