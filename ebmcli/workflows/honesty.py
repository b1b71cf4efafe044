"""The honest test of an energy: does it keep its objects when the chain runs longer?

A corrector leaves the samples of a right energy as they are, but for a slight cooling
(docs/theory.md). If pictures lose their object under 2 or 8 Langevin steps per noise level, the
energy gives too much mass to "no object", and a sampler without corrector would only hide it.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import to_bytes
from ebmcli.core.replay import replayed
from ebmcli.core.samplers import SeededNoise, annealed_chain, noise_levels
from ebmcli.core.union import Base, UnionEnergy
from ebmcli.evaluation.truth import PRESENT
from ebmcli.registry import Registry
from ebmcli.workflows.judging import load_judge, read_all
from ebmcli.workflows.loading import Concept

CORRECTOR_STEPS = (0, 2, 8)
N_LEVELS = 32
BATCH = 32
STRIDE = 37  # cells between the values of neighbouring images; shares no divisor with 17
CORRECT_FROM = 0.3  # intensity; as in generate


def object_share(
    energy: NoisyEnergy,
    gaussian: GaussianEnergy,
    registry: Registry,
    space: str,
    *,
    size: int,
    n: int,
    device: torch.device,
    seed: int = 0,
    correctors: Sequence[int] = CORRECTOR_STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float] | None:
    """Share of pictures in which the judge sees an object, by corrector steps per level.

    Returns:
        {"0": share, "2": share, "8": share}; None where the space has no judge.
    """
    if not any(record.space == space for record in registry.judges.values()):
        return None
    judge = load_judge(registry, space)
    shares, energy = {}, replayed(energy)
    for index, n_corrector in enumerate(correctors):
        parts = []
        for start in range(seed, seed + n, BATCH):
            seeds = range(start, min(start + BATCH, seed + n))
            images = draw_plain(
                energy, gaussian, seeds, size=size, n_corrector=n_corrector, device=device
            )
            parts.append(images)
            if progress:
                progress(index * n + start - seed + len(seeds), n * len(correctors))
        readings, _ = read_all(judge, torch.cat(parts))
        shares[str(n_corrector)] = round(float((readings.present > PRESENT).float().mean()), 4)
    return shares


def draw_plain(
    energy: NoisyEnergy,
    gaussian: GaussianEnergy,
    seeds: Sequence[int],
    *,
    size: int,
    n_corrector: int,
    device: torch.device,
    n_levels: int = N_LEVELS,
) -> torch.Tensor:
    """Pictures of one energy as they come, uint8 (B, S, S, 3): one draw per seed, none rejected."""
    sigmas = [float(level) for level in noise_levels(n_levels)]
    noise = SeededNoise(list(seeds), (3, size, size))
    x = gaussian.noised_sample(noise.draw().to(device), sigmas[0])
    chain = annealed_chain(
        energy, x, sigmas, noise, n_corrector=n_corrector, corrector_from=CORRECT_FROM
    )
    for state in chain:
        x = state.x
    return to_bytes(x)


def unconditional_or_one_value(network: Base | Concept, base: Base | None) -> NoisyEnergy:
    """What an energy is tested on: a base by itself, a concept asked for its values in turn."""
    if isinstance(network, BaseEnergy | UnionEnergy):
        return network.energy
    return one_value_energy(network, base)


def one_value_energy(concept: Concept, base: Base | None) -> NoisyEnergy:
    """E(x, sigma | c) with a value per image: the cells of the factor in turn.

    A posterior draws with its base, the other methods with an unconditional energy of their own.
    """
    n_cells = concept.factor.n_cells

    def energy(x: Tensor, sigma: Tensor) -> Tensor:
        cells = (torch.arange(len(x), device=x.device) * STRIDE) % n_cells
        target = F.one_hot(cells, n_cells).float()
        if isinstance(concept, PosteriorConcept):
            assert base is not None
            plain = base.energy(x, sigma)
        else:
            plain = concept.unconditional(x, sigma)
        return plain - concept.log_ratio(x, sigma, target)

    return energy
