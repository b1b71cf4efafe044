"""Sequential Monte Carlo: particles with weights from level to level, and an estimate of log Z.

Notation: k particles of one picture; pi_l(x) = exp(-E(x, sigma_l)) / Z_l; W their weights. All
particles of a picture share its generator and nothing else: pictures never meet.

One step of an SMC sampler (Del Moral, Doucet and Jasra 2006, Section 3.1) from sigma to sigma':

    x' ~ q(x' | x) = N(D + (sigma'^2 / sigma^2) (x - D), sigma'^2 (1 - sigma'^2 / sigma^2) I)
    L(x | x')      = N(x'; (sigma^2 - sigma'^2) I)
    W' = W exp(E(x, sigma) - E(x', sigma')) L(x | x') / q(x' | x)

q is the reverse transition of a diffusion (Ho et al. 2020, Eq. 7), L the noising it reverses.
The weights are exact for any q and L: weighted means and the estimate of Z_n / Z_1 converge to the
truth for any number of levels. q and L only decide how even the weights are. For a single image x0,
where E = |x - x0|^2 / (2 sigma^2) + const, they are equal, whatever the number of pixels.
Reweighting alone (annealed importance sampling: x' = x, W' = W exp(E(x, sigma) - E(x, sigma'))) is
as exact, but its log-weights spread by about sqrt(d / 2) (sigma^2 / sigma'^2 - 1) nats over d
numbers: 35 near sigma = 1 for 32 levels and d = 12,288, so that one particle takes all.

Weights have a finite variance where sigma' > sigma / sqrt(2): q is a little too narrow in
directions in which images vary. Moves at the new level leave pi' as it is and cost no weight.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.samplers.adaptation import adapt_step
from ebmcli.core.samplers.annealing import Moves, fixed_level, move_chains
from ebmcli.core.samplers.metropolis import MALA, Evaluated, Method, evaluate
from ebmcli.core.samplers.noise import SeededNoise

SLOWEST = 5  # count at which the gain of the adaptation stops falling, since levels differ
RESAMPLE_BELOW = 0.5  # effective share of particles at which they are drawn anew; usual


@dataclass(frozen=True, kw_only=True)
class ParticleState:
    """Where the particles are at one noise level, after reweighting, resampling and moves."""

    level: int  # 0 is the noisiest
    sigma: float
    x: Tensor  # states at this level (P k, C, H, W)
    denoised: Tensor  # D(x, sigma)
    energy: Tensor  # E(x, sigma), (P k,), nats
    moves: Moves
    log_weights: Tensor  # of the particles as they stand, (P, k)
    effective: Tensor  # particles that counted before resampling, (P,)
    resampled: Tensor  # (P,), bool
    log_z: Tensor  # estimate of log Z at this level, (P,), nats


def ancestral_step(
    x: Tensor, denoised: Tensor, *, sigma: float, sigma_next: float, noise: Tensor
) -> Tensor:
    """Draw x' from q(x' | x) of the module's docstring, 0 < sigma_next < sigma.

    Args:
        x: States at ``sigma``, (B, C, H, W).
        denoised: D(x, sigma).
        sigma: Noise level of ``x``, intensity.
        sigma_next: Noise level of x'.
        noise: Standard normal, the shape of ``x``.

    Source: Ho et al. (2020), Eq. 7; variance exploding as in Song et al. (2021), Appendix F.
    """
    keep = (sigma_next / sigma) ** 2
    return denoised + keep * (x - denoised) + sigma_next * math.sqrt(1 - keep) * noise


def log_transition_ratio(
    x: Tensor, following: Tensor, *, sigma: float, sigma_next: float, noise: Tensor
) -> Tensor:
    """log L(x | x') - log q(x' | x) of the module's docstring, where ``noise`` gave x': (B,), nats.

    = (|noise|^2 - |x - x'|^2 / (sigma^2 - sigma'^2)) / 2 + d ln(sigma' / sigma); x has d numbers.
    """
    back = (x - following) / math.sqrt(sigma**2 - sigma_next**2)
    squares = ((noise - back) * (noise + back)).flatten(1).sum(1)
    return 0.5 * squares + x[0].numel() * math.log(sigma_next / sigma)


def log_mean_weight(log_weights: Tensor) -> Tensor:
    """log of the mean of exp(log_weights): (P, k) -> (P,)."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def effective_particles(log_weights: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2, between 1 and k: (P, k) -> (P,).

    Source: Kong, Liu and Wong (1994).
    """
    return 1 / log_weights.softmax(1).square().sum(1)


def systematic_resampling(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Ancestors of k new particles of equal weight: indices (P, k), sorted.

    One uniform number u per picture sets the points (u + i) / k, i = 0 ... k - 1, on the sums of
    the weights: particle j has floor(k W_j) or ceil(k W_j) children, and k W_j in the mean.

    Args:
        log_weights: (P, k), need not be normalised.
        uniform: (P,), in [0, 1).

    Source: Kitagawa (1996); Douc, Cappe and Moulines (2005).
    """
    n_particles = log_weights.shape[1]
    points = (uniform[:, None] + torch.arange(n_particles, device=uniform.device)) / n_particles
    ends = log_weights.softmax(1).cumsum(1)
    found = torch.searchsorted(ends, points.to(ends).contiguous(), right=True)
    return found.clamp(max=n_particles - 1)


def draw_particle(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """One particle per picture, with the probability of its weight: indices (P,)."""
    ends = log_weights.softmax(1).cumsum(1)
    found = torch.searchsorted(ends, uniform[:, None].to(ends).contiguous(), right=True)
    return found[:, 0].clamp(max=log_weights.shape[1] - 1)


def smc_chain(
    energy: NoisyEnergy,
    x: Tensor,
    sigmas: Sequence[float],
    noise: SeededNoise,
    *,
    log_start_density: Tensor,
    n_moves: int = 2,
    method: Method = MALA,
    adapt: bool = True,
) -> Iterator[ParticleState]:
    """Carry weighted particles from the noisiest level down; yield one state per level.

    At every level: new weights, resampling of the pictures whose effective particles fall below
    half, ``n_moves`` moves of ``method``. ``log_z`` estimates log of the integral of
    exp(-E(x, sigma)): exp of it is unbiased while the step is frozen. With ``adapt`` the step of a
    level follows from the acceptance at the level before, which leaves it consistent in the number
    of particles (Beskos et al. 2016) and no longer unbiased.

    Args:
        energy: Energy of noised images, (B, C, H, W), (B,) -> (B,).
        x: States (P k, C, H, W) drawn from the start density.
        sigmas: Falling noise levels, all positive.
        noise: Source of all random numbers, with k = ``noise.chains`` at least 2.
        log_start_density: Normalised log density of ``x`` they were drawn from, (P k,), nats.
        n_moves: Moves per level.
        method: MALA or HMC.
        adapt: Adapt the step between levels.

    Raises:
        ValueError: Fewer than two particles per picture.

    Source: Del Moral, Doucet and Jasra (2006), Section 3.1 and Eq. 14 for log Z.
    """
    k = noise.chains
    if k < 2:
        raise ValueError(f"SMC needs at least 2 particles per picture, got {k}")
    state = evaluate(fixed_level(energy, x, sigmas[0]), x)
    log_weights = (-state.energy - log_start_density).view(-1, k)
    past = torch.zeros_like(log_weights[:, 0])
    step = torch.full_like(state.energy, method.first_step)
    for level, sigma in enumerate(sigmas):
        if level:
            state, change = _descend(energy, state, sigmas[level - 1], sigma, noise)
            log_weights = log_weights + change.view(-1, k)
        effective = effective_particles(log_weights)
        poor = effective < RESAMPLE_BELOW * k
        log_z = past + log_mean_weight(log_weights)
        state = _resample(state, log_weights, poor, noise.uniform_per_picture().to(x.device))
        past = torch.where(poor, log_z, past)
        log_weights = torch.where(poor[:, None], 0.0, log_weights)
        here = fixed_level(energy, x, sigma)
        state, moves = move_chains(here, state, sigma, noise, method=method, step=step, n=n_moves)
        if adapt and moves.acceptance is not None:
            count = min(level + 1, SLOWEST)
            step = adapt_step(step, moves.acceptance, target=method.target, count=count, chains=k)
        yield ParticleState(
            level=level, sigma=sigma, x=state.x, denoised=_denoised(state, sigma),
            energy=state.energy, moves=moves, log_weights=log_weights, effective=effective,
            resampled=poor, log_z=log_z,
        )  # fmt: skip


def _descend(
    energy: NoisyEnergy, state: Evaluated, sigma: float, sigma_next: float, noise: SeededNoise
) -> tuple[Evaluated, Tensor]:
    """Particles at the next level, and what is added to their log-weights, (P k,)."""
    fresh = noise.draw().to(state.x)
    denoised = _denoised(state, sigma)
    x = ancestral_step(state.x, denoised, sigma=sigma, sigma_next=sigma_next, noise=fresh)
    following = evaluate(fixed_level(energy, x, sigma_next), x)
    ratio = log_transition_ratio(state.x, x, sigma=sigma, sigma_next=sigma_next, noise=fresh)
    return following, state.energy - following.energy + ratio


def _resample(state: Evaluated, log_weights: Tensor, poor: Tensor, uniform: Tensor) -> Evaluated:
    """Replace the particles of the poor pictures by children of the heavy ones."""
    n_pictures, k = log_weights.shape
    own = torch.arange(k, device=poor.device).expand(n_pictures, k)
    ancestors = torch.where(poor[:, None], systematic_resampling(log_weights, uniform), own)
    rows = (ancestors + k * torch.arange(n_pictures, device=poor.device)[:, None]).flatten()
    return Evaluated(x=state.x[rows], energy=state.energy[rows], gradient=state.gradient[rows])


def _denoised(state: Evaluated, sigma: float) -> Tensor:
    return state.x - sigma**2 * state.gradient
