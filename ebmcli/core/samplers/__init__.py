"""Samplers: one step function per method, and the iterators that carry chains from noise to images.

Notation of the folder: x (B, C, H, W) the states, sigma_1 > ... > sigma_n the noise levels,
E(x, sigma) the energy of noised images, D(x, sigma) = x - sigma^2 dE/dx its denoiser, h the step of
a move in units of sigma^2. A chain is one state; a picture may have k chains, which then stand next
to each other: B = P k rows, picture by picture.
"""

from ebmcli.core.samplers.adaptation import adapt_step
from ebmcli.core.samplers.annealing import (
    ChainState,
    Moves,
    annealed_chain,
    heun_step,
    metropolis_chain,
)
from ebmcli.core.samplers.langevin import exponential_langevin_step, langevin_step
from ebmcli.core.samplers.metropolis import (
    HMC,
    MALA,
    Evaluated,
    Method,
    Transition,
    evaluate,
    hmc_step,
    leapfrog,
    log_proposal_ratio,
    mala_step,
    metropolis_acceptance,
)
from ebmcli.core.samplers.noise import SeededNoise, noise_levels
from ebmcli.core.samplers.rejection import first_accepted, reject
from ebmcli.core.samplers.smc import (
    ParticleState,
    ancestral_step,
    draw_particle,
    effective_particles,
    log_mean_weight,
    log_transition_ratio,
    smc_chain,
    systematic_resampling,
)

__all__ = [
    "HMC",
    "MALA",
    "ChainState",
    "Evaluated",
    "Method",
    "Moves",
    "ParticleState",
    "SeededNoise",
    "Transition",
    "adapt_step",
    "ancestral_step",
    "annealed_chain",
    "draw_particle",
    "effective_particles",
    "evaluate",
    "exponential_langevin_step",
    "first_accepted",
    "heun_step",
    "hmc_step",
    "langevin_step",
    "leapfrog",
    "log_mean_weight",
    "log_proposal_ratio",
    "log_transition_ratio",
    "mala_step",
    "metropolis_acceptance",
    "metropolis_chain",
    "noise_levels",
    "reject",
    "smc_chain",
    "systematic_resampling",
]
