"""A tiny space for tests: one coloured square on a dark floor, 16x16, and networks for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcli.checkpoint import write_checkpoint
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept, build_concept
from ebmcli.core.factors import Factor
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import TrainingImages, to_intensity
from ebmcli.core.networks import TrunkConfig
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter
from ebmcli.registry import Record, checkpoint_file, create_registry, edit_registry

SIZE = 16
SPACE = "squares-16"
COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))
TALL = Factor(name="tall", kind="binary", names=("no", "yes"))
WIDTH = Factor(name="size", kind="scalar", low=0.2, high=0.5)
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
FACTORS = {factor.name: factor for factor in (COLOR, TALL, WIDTH, PLACE)}
TRUNK = TrunkConfig(size=SIZE, widths=(4, 8), depths=(1, 1), unshuffle=2, embedding=8, head=8)
TINY = (  # the same by --set
    "widths=4,8", "depths=1,1", "embedding=8", "head=8", "n_components=8", "batch_size=8",
    "score_batch=4",
)  # fmt: skip

Concept = PosteriorConcept | ConditionalConcept | BothConcept
Labels = dict[str, NDArray[Any]]


def draw_squares(n: int, *, seed: int) -> tuple[NDArray[np.uint8], Labels]:
    """Pictures (n, 16, 16, 3) and their labels; x to the right, y up."""
    source = np.random.default_rng(seed)
    labels: Labels = {
        "color": source.integers(3, size=n),
        "tall": source.integers(2, size=n),
        "size": source.uniform(0.2, 0.5, size=n).astype(np.float32),
        "position": source.uniform(-1, 1, size=(n, 2)).astype(np.float32),
    }
    line = (np.arange(SIZE) + 0.5) / SIZE * 3 - 1.5  # the middles of pixels; the edge is 1.5
    across, up = np.meshgrid(line, -line)
    x, y = (labels["position"][:, axis, None, None] for axis in (0, 1))
    half = labels["size"][:, None, None]
    height = half * (1 + labels["tall"][:, None, None])
    inside = (np.abs(across - x) <= half) & (np.abs(up - y) <= height)
    images = source.integers(20, 40, size=(n, SIZE, SIZE, 3), dtype=np.uint8)
    images[inside] = 60
    rows, i, j = np.nonzero(inside)
    images[rows, i, j, labels["color"][rows]] = 230
    return images, labels


def squares_file(path: Path, *, n: int = 130, seed: int = 0, recipe: str = "squares") -> Path:
    """A dataset file."""
    info = DatasetInfo(
        path=path, recipe=recipe, size=SIZE, n_images=n, seed=seed, factors=FACTORS,
        digest="", versions={},
    )  # fmt: skip
    images, labels = draw_squares(n, seed=seed)
    with DatasetWriter(info) as writer:
        writer.write(images, labels)
        writer.finish()
    return path


def squares(factor: Factor | None = None, *, n: int = 64, seed: int = 0) -> TrainingImages:
    """Pictures in memory with the labels of one factor."""
    images, labels = draw_squares(n, seed=seed)
    chosen = None if factor is None else torch.from_numpy(labels[factor.name])
    return TrainingImages(torch.from_numpy(images), chosen)


def gaussian() -> GaussianEnergy:
    """The Gaussian of some squares."""
    return GaussianEnergy.fit(to_intensity(squares().images), n_components=8)


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, also where training starts from 0: gains and biases."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.2)
    return network


def random_base(*, seed: int = 0) -> BaseEnergy:
    """A base with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = BaseEnergy(gaussian(), TRUNK)
    shaken(base)
    return base


def random_concept(method: str, factor: Factor, *, seed: int = 0) -> Concept:
    """A concept with random weights and a prior that is not uniform."""
    log_prior = torch.linspace(0, 1, factor.n_cells).log_softmax(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        concept = build_concept(method, factor, TRUNK, log_prior=log_prior, gaussian=gaussian())
    shaken(concept)
    return concept


def noisy_squares(n: int = 4, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy pictures (n, 3, 16, 16) and their noise levels (n,), from 0.1 to 3."""
    generator = torch.Generator().manual_seed(seed)
    x0, _ = squares(n=n).take(torch.arange(n))
    sigma = torch.logspace(-1, 0.5, n)
    return x0 + sigma[:, None, None, None] * torch.randn(x0.shape, generator=generator), sigma


def put(registry: Path, record: Record, network: torch.nn.Module, header: dict[str, Any]) -> Record:
    """Write weights and register them."""
    whole = {"kind": record.kind, "space": record.space, "name": record.name, **header}
    digest = write_checkpoint(registry.parent / record.file, network.state_dict(), whole, half=True)
    record = Record(**{**vars(record), "sha256": digest})
    with edit_registry(registry) as editor:
        editor.put(record, overwrite=True)
    return record


def put_base(
    registry: Path,
    name: str = SPACE,
    *,
    space: str = SPACE,
    network: BaseEnergy | None = None,
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
) -> Record:
    """A base in a registry, random unless it is given."""
    record = Record(
        kind="base", name=name, space=space, file=checkpoint_file(name, kind="base"), sha256="",
        provenance=provenance or {},
    )  # fmt: skip
    base = network or random_base(seed=seed)
    header = {"config": TRUNK.to_dict(), "n_components": len(base.gaussian.variances)}
    return put(registry, record, base, header)


def put_concept(
    registry: Path,
    factor: Factor,
    *,
    name: str = "",
    method: str = "posterior",
    base: str | None = SPACE,
    space: str = SPACE,
) -> Record:
    """A random concept in a registry."""
    name = name or factor.name
    record = Record(
        kind="concept", name=name, space=space, file=checkpoint_file(name), sha256="",
        factor=factor, method=method, base=base,
    )  # fmt: skip
    header: dict[str, Any] = {
        "config": TRUNK.to_dict(),
        "factor": factor.to_dict(),
        "method": method,
    }
    concept = random_concept(method, factor)
    if not isinstance(concept, PosteriorConcept):
        header["n_components"] = len(concept.own_gaussian.variances)
    return put(registry, record, concept, header)


def random_registry(folder: Path, factors: Sequence[Factor] = (COLOR, TALL, WIDTH, PLACE)) -> Path:
    """A registry with a base and a posterior concept per factor, all of random weights."""
    registry = create_registry(folder)
    put_base(registry)
    for factor in factors:
        put_concept(registry, factor)
    return registry
