"""What chains tell on their way: energy, log P, acceptance, R-hat and particles per noise level."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebmcli.core.diagnostics import MIN_DRAWS, effective_sample_size, r_hat
from ebmcli.core.samplers import Moves, ParticleState
from ebmcli.workflows.chains import Level


@dataclass(frozen=True, kw_only=True)
class _Note:
    """One batch at one noise level."""

    energy: Tensor  # (B,), or the weighted means (P,)
    targets: list[str]  # what every chain is drawn from, B
    log_p: Tensor | None
    moves: Moves | None
    weights: "_Weights | None"


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """What is kept of particles: three numbers per picture, and none of their images."""

    effective: Tensor
    resampled: Tensor
    log_z: Tensor


class Trace:
    """Collects the levels of all batches of the first draws.

    Args:
        log_probability: log P(f | x) of denoised pictures (B, 3, S, S): (B,); None leaves it out,
            and saves one pass of the concepts per level.
    """

    def __init__(self, log_probability: Callable[[Tensor], Tensor] | None) -> None:
        self.log_probability = log_probability
        self._notes: dict[float, list[_Note]] = {}  # by noise level

    def note(self, state: Level, targets: Sequence[str]) -> None:
        """Remember what one batch tells at one level.

        Args:
            state: Of B chains.
            targets: A name for the energy that each of them follows, B: chains of different ones
                are not meant to agree.
        """
        energy, weights = state.energy, None
        if isinstance(state, ParticleState):
            share = state.log_weights.softmax(1)
            energy = (share * energy.view_as(share)).sum(1)
            weights = _Weights(
                effective=state.effective, resampled=state.resampled, log_z=state.log_z
            )
        log_p = self.log_probability(state.denoised) if self.log_probability else None
        note = _Note(
            energy=energy, targets=list(targets), log_p=log_p, moves=state.moves, weights=weights
        )
        self._notes.setdefault(state.sigma, []).append(note)

    def rows(self) -> list[dict[str, Any]]:
        """One row per noise level, means over all pictures; numbers that are none are left out.

        ``sigma``, ``energy``, ``log_p``; where chains move by themselves: ``r_hat`` of the
        energies, the largest of any energy that several chains follow, and ``ess``, added up;
        where moves can be refused: ``acceptance`` and ``step``; with particles: ``particles``
        (effective), ``resampled`` (share of pictures), ``log_z``. Particles have neither R-hat
        nor ESS of chains: they descend from each other and have weights.
        """
        return [
            {key: value for key, value in row.items() if math.isfinite(value)}
            for row in (_row(sigma, notes) for sigma, notes in self._notes.items())
        ]

    def summary(self) -> dict[str, Any]:
        """Mean acceptance, largest R-hat, fewest particles, log Z per picture and its spread."""
        rows = self.rows()
        found: dict[str, Any] = {}
        for key, choose in (("acceptance", _mean), ("r_hat", max), ("particles", min)):
            values = [row[key] for row in rows if key in row]
            if values:
                found[key] = choose(values)
        for notes in self._notes.values():  # the last level with particles stays
            ends = [note.weights.log_z for note in notes if note.weights is not None]
            if ends:
                found["log_z"] = torch.cat(ends).tolist()
                if len(found["log_z"]) > 1:  # of pictures that all estimate the same number
                    found["log_z_spread"] = float(torch.cat(ends).std())
        return found


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _row(sigma: float, notes: list[_Note]) -> dict[str, float]:
    """All numbers of one level."""
    row = {"sigma": sigma, "energy": float(torch.cat([n.energy for n in notes]).mean())}
    log_p = [n.log_p for n in notes if n.log_p is not None]
    if log_p:
        row["log_p"] = float(torch.cat(log_p).mean())
    moving = [note for note in notes if note.moves is not None]
    if moving:
        row |= _moves([note.moves for note in moving if note.moves is not None])
    if moving and not any(note.weights for note in notes):
        row |= _mixing(moving)
    weights = [n.weights for n in notes if n.weights is not None]
    if weights:
        row["particles"] = float(torch.cat([w.effective for w in weights]).mean())
        row["resampled"] = float(torch.cat([w.resampled for w in weights]).float().mean())
        row["log_z"] = float(torch.cat([w.log_z for w in weights]).mean())
    return row


def _moves(moves: list[Moves]) -> dict[str, float]:
    """Acceptance and step, means over chains."""
    row = {}
    acceptance = [m.acceptance for m in moves if m.acceptance is not None]
    step = [m.step for m in moves if m.step is not None]
    if acceptance:
        row["acceptance"] = float(torch.cat(acceptance).mean())
    if step:
        row["step"] = float(torch.cat(step).mean())
    return row


def _mixing(notes: list[_Note]) -> dict[str, float]:
    """R-hat and ESS of the energies, among chains that follow the same one."""
    draws = torch.cat([n.moves.energies for n in notes if n.moves is not None], dim=1).T.cpu()
    if draws.shape[1] < MIN_DRAWS:
        return {}
    chains: dict[str, list[int]] = {}
    for index, target in enumerate(target for note in notes for target in note.targets):
        chains.setdefault(target, []).append(index)
    groups = [draws[rows] for rows in chains.values()]
    sizes = [effective_sample_size(group) for group in groups]
    gaps = [r_hat(group) for group in groups if len(group) > 1]
    row = {"ess": sum(size for size in sizes if math.isfinite(size)) or math.nan}
    if gaps:
        row["r_hat"] = max(gaps, key=lambda gap: -math.inf if math.isnan(gap) else gap)
    return row
