"""The chains of one batch of pictures: which sampler, how many, and which of them is shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.gaussian import gaussian_log_normaliser
from ebmcli.core.samplers import (
    HMC,
    MALA,
    ChainState,
    ParticleState,
    SeededNoise,
    annealed_chain,
    draw_particle,
    first_accepted,
    metropolis_chain,
    smc_chain,
)
from ebmcli.errors import ConfigError
from ebmcli.workflows.energies import Composed

SAMPLERS = ("auto", "heun", "langevin", "mala", "hmc", "smc", "rejection")
METHODS = {"mala": MALA, "hmc": HMC}
N_CHAINS = {"mala": 1, "hmc": 1, "smc": 16, "rejection": 16}  # per picture, chosen
N_CORRECTOR = {"auto": 6, "heun": 0, "langevin": 8, "mala": 12, "hmc": 4, "smc": 2, "rejection": 6}
N_WARMUP = {"mala": 6, "hmc": 3}  # moves per level that adapt the step, chosen

Level = ChainState | ParticleState


def check_sampler(
    sampler: str, *, corrector_steps: int | None, chains: int | None, logic: str, edits: bool
) -> None:
    """Refuse options that a sampler of SAMPLERS has no use for.

    Args:
        sampler: One of SAMPLERS.
        corrector_steps: As asked for, or None.
        chains: As asked for, or None.
        logic: ``exact`` or another.
        edits: Chains start from a picture.

    Raises:
        ConfigError: They do not go together, or a number is out of range.
    """
    if corrector_steps is not None and corrector_steps < 0:
        raise ConfigError(f"--corrector-steps must not be negative: {corrector_steps}")
    if sampler == "heun" and corrector_steps:
        hint = f"leave it out, or use --sampler langevin --corrector-steps {corrector_steps}"
        raise ConfigError("heun is the flow alone and takes no --corrector-steps", hint=hint)
    if sampler in METHODS and corrector_steps == 0:
        problem = f"{sampler} without corrector steps makes no move"
        raise ConfigError(problem, hint="--sampler heun is the flow alone")
    if chains is not None and sampler not in N_CHAINS:
        hint = f"leave it out, or choose a --sampler of {', '.join(N_CHAINS)}"
        raise ConfigError(f"--chains has no meaning with --sampler {sampler}", hint=hint)
    if chains is not None and chains < 1:
        raise ConfigError(f"--chains must be at least 1, got {chains}")
    if sampler == "smc" and chains == 1:
        problem = "smc weighs the particles of a picture against each other: one chain is too few"
        raise ConfigError(problem, hint="--chains 16, or --sampler mala for single chains")
    if sampler == "rejection" and logic != "exact":
        hint = "use --logic exact, or another --sampler"
        raise ConfigError("rejection keeps pictures by P(f | x) of --logic exact", hint=hint)
    if logic == "perp-neg" and sampler in (*METHODS, "smc"):
        hint = "use --sampler auto, heun or langevin, which follow its score"
        raise ConfigError(f"perp-neg has no energy that {sampler} could compare", hint=hint)
    if sampler in ("smc", "rejection") and edits:
        hint = "--from goes with auto, heun, langevin, mala and hmc"
        raise ConfigError(f"{sampler} starts from the base, not from a picture", hint=hint)


def run_chains(
    composed: Composed,
    x: Tensor,
    sigmas: Sequence[float],
    noise: SeededNoise,
    *,
    sampler: str,
    n_corrector: int,
    corrector_from: float,
) -> Iterator[Level]:
    """Carry states to pictures by one of SAMPLERS; yield one state per level.

    Args:
        composed: The energy of the formula; ``rejection`` draws from its base alone.
        x: States at ``sigmas[0]``, (P k, 3, S, S), k = ``noise.chains``.
        sigmas: Falling noise levels.
        noise: Source of all random numbers.
        sampler: One of SAMPLERS.
        n_corrector: Moves per level.
        corrector_from: Lowest noise level with moves, intensity.
    """
    if sampler == "smc":
        return _particles(
            composed, x, sigmas, noise, n_moves=n_corrector, corrector_from=corrector_from
        )
    if sampler in METHODS:
        return metropolis_chain(
            composed.energy, x, sigmas, noise, method=METHODS[sampler], n_corrector=n_corrector,
            n_warmup=N_WARMUP[sampler], corrector_from=corrector_from,
        )  # fmt: skip
    energy = composed.base if sampler == "rejection" else composed.energy
    return annealed_chain(
        energy, x, sigmas, noise, n_corrector=n_corrector, corrector_from=corrector_from
    )


def energy_calls(
    sampler: str, *, n_levels: int, n_corrected: int, n_corrector: int, n_chains: int
) -> int:
    """Evaluations of the energy with its gradient per picture and attempt.

    Args:
        sampler: One of SAMPLERS.
        n_levels: Noise levels.
        n_corrected: Those of them with moves.
        n_corrector: Moves per such level.
        n_chains: Chains per picture.
    """
    flow = 2 * n_levels - 1
    if sampler in METHODS:
        n_moves = n_corrector + N_WARMUP[sampler]
        return n_chains * (flow + n_corrected * (1 + n_moves * METHODS[sampler].n_calls))
    if sampler == "smc":
        tail = 2 * (n_levels - n_corrected + 1) - 1
        return tail + n_chains * n_corrected * (1 + n_corrector * MALA.n_calls)
    return n_chains * (flow + n_corrected * n_corrector)


def _particles(
    composed: Composed,
    x: Tensor,
    sigmas: Sequence[float],
    noise: SeededNoise,
    *,
    n_moves: int,
    corrector_from: float,
) -> Iterator[Level]:
    """Weighted particles down to ``corrector_from``, then the flow for one of them per picture."""
    n_levels = sum(sigma >= corrector_from for sigma in sigmas)
    level = torch.full((len(x),), sigmas[0], device=x.device)
    normaliser = gaussian_log_normaliser(x[0].numel())
    with torch.no_grad():
        log_start = -composed.gaussian.energy(x, level) - normaliser
    chain = smc_chain(
        composed.energy, x, sigmas[:n_levels], noise, log_start_density=log_start, n_moves=n_moves
    )
    for state in chain:
        yield state
        x, log_weights = state.x, state.log_weights
    uniform = noise.uniform_per_picture().to(x.device)
    rows = draw_particle(log_weights, uniform) + noise.chains * torch.arange(
        len(log_weights), device=x.device
    )
    for flow in annealed_chain(composed.energy, x[rows], sigmas[n_levels - 1 :], noise):
        if flow.level:
            yield ChainState(
                level=flow.level + n_levels - 1, sigma=flow.sigma, x=flow.x,
                denoised=flow.denoised, energy=flow.energy,
            )  # fmt: skip


@dataclass
class Batch:
    """Finished states of some pictures, on the CPU."""

    x: Tensor  # (P, 3, S, S)
    probability: Tensor  # P(f | x), (P,)
    merit: Tensor  # of two draws that are not kept, the one with more is shown, (P,)
    kept: Tensor  # (P,), bool: not to be drawn again
    frames: list[Tensor]

    def part(self, rows: slice) -> "Batch":
        """Some of the pictures."""
        return Batch(
            x=self.x[rows],
            probability=self.probability[rows],
            merit=self.merit[rows],
            kept=self.kept[rows],
            frames=[frame[rows] for frame in self.frames],
        )

    def copy_row(self, i: int, other: "Batch", row: int) -> None:
        """Take over one picture of another batch."""
        self.x[i], self.probability[i] = other.x[row], other.probability[row]
        self.merit[i], self.kept[i] = other.merit[row], other.kept[row]
        for mine, theirs in zip(self.frames, other.frames, strict=True):
            mine[i] = theirs[row]


def choose(
    x: Tensor,
    probability: Tensor,
    *,
    merit: Tensor,
    kept: Tensor,
    frames: list[Tensor],
    n_pictures: int,
) -> Batch:
    """One finished state per picture: the first of its chains that is kept, else the best.

    Args:
        x: (P k, 3, S, S), the chains of a picture next to each other; k may be 1.
        probability: P(f | x), (P k,).
        merit: What makes one the best, (P k,).
        kept: (P k,), bool.
        frames: Of all chains, or of one per picture already.
        n_pictures: P.
    """
    k = len(x) // n_pictures
    chosen = first_accepted(kept.view(n_pictures, k), merit.view(n_pictures, k))
    rows = chosen + k * torch.arange(n_pictures)
    return Batch(
        x=x[rows],
        probability=probability[rows],
        merit=merit[rows],
        kept=kept[rows],
        frames=[frame[rows] if len(frame) == len(x) else frame for frame in frames],
    )


def shown(state: Level) -> Tensor:
    """Denoised pictures for an animation: of all chains, or of the heaviest particle of each."""
    if not isinstance(state, ParticleState):
        return state.denoised
    n_pictures, k = state.log_weights.shape
    first = k * torch.arange(n_pictures, device=state.denoised.device)
    return state.denoised[first + state.log_weights.argmax(1)]
