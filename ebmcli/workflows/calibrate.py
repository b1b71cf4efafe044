"""``ebm calibrate``: temperatures of a concept, from pictures it has not seen, into its record.

Only the record in registry.yaml changes, in one step; the weights stay as they are. Nothing is
written before the last number is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ebmcli.core.concepts import ConditionalConcept
from ebmcli.core.factors import Factor, difference
from ebmcli.core.images import TrainingImages
from ebmcli.core.temperature import Temperatures
from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_info, read_labels, verify_digest
from ebmcli.datasets.recipes import RECIPES
from ebmcli.errors import ConfigError, DigestError, UsageError
from ebmcli.evaluation.calibration import SIGMAS, Level, fit_level
from ebmcli.evaluation.held_out import read_posterior
from ebmcli.registry import Record, Registry, edit_registry
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.finished import least_probability
from ebmcli.workflows.judging import same_factors_hint
from ebmcli.workflows.loading import Concept, load_concept
from ebmcli.workflows.origin import created, data_origin, has_seen, versions

MIN_IMAGES = 100  # fewer say little about any noise level; chosen
N_LEAST = 1000  # pictures that say what real ones reach; chosen
MAX_IMAGES = 4000  # pictures that are read, the first of the file; chosen
PASSES = 8  # per picture, on average, of a concept that takes one pass per cell; chosen
N_SEEDS = 1 << 32  # torch reads the low 32 bits of a seed only
FRESH_SEED = 800_001  # of pictures to calibrate on: no training file has it, nor `ebm eval`

Report = Callable[[int, int, str], None]  # noise levels done, in all, what is going on


@dataclass(frozen=True, kw_only=True)
class CalibrateRequest:
    """What ``ebm calibrate`` was asked for."""

    name: str
    data: Path
    device: str = "auto"
    seed: int = 0  # of the noise
    command: str = ""  # as typed

    def __post_init__(self) -> None:
        if not 0 <= self.seed < N_SEEDS:
            raise ConfigError(f"--seed is between 0 and 2^32 - 1, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The record as it was, and what was fitted."""

    record: Record
    levels: tuple[Level, ...]
    n_images: int
    calibration: dict[str, Any]  # as it is recorded

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for --json."""
        return {"name": self.record.name, "n": self.n_images, "calibration": self.calibration}


def fit(request: CalibrateRequest, registry: Registry, *, report: Report) -> Fitted:
    """Fit a temperature per noise level; nothing is written.

    Raises:
        UnknownNameError: There is no such concept.
        UsageError: The pictures are of another space, lack the factor, are too few, or are those
            the concept was trained on.
        FileFormatError: The dataset or the weights cannot be read.
    """
    record = registry.get("concept", request.name)
    info = read_info(request.data)
    check_unseen(record, info)
    concept = load_concept(registry, request.name, device=resolve_device(request.device))
    before = record.temperatures
    concept.set_temperatures({})
    images = _images(info, concept, device=concept.log_prior.device)
    log_prior, levels = concept.log_prior.cpu(), []
    for index, sigma in enumerate(SIGMAS):
        report(index, len(SIGMAS), f"noise level {sigma:g}")
        read = read_posterior(concept, images, sigma, seed=request.seed)
        old = temperature_at(before, sigma)
        levels.append(fit_level(read, log_prior, sigma=sigma, before=old))
    concept.set_temperatures({level.sigma: level.temperature for level in levels})
    least = least_probability(concept, images.take_last(N_LEAST))
    return Fitted(
        record=record,
        levels=tuple(levels),
        n_images=len(images),
        calibration=_entry(request, info, levels, len(images)) | {"least": least},
    )


def save(path: Path, fitted: Fitted) -> Record:
    """Put temperatures into the record of a registry.yaml; on any failure it stays as it is.

    Raises:
        UnknownNameError: The concept is gone meanwhile.
        DigestError: It has other weights than those that were calibrated.
        RegistryError, OutputError: The registry is locked or cannot be written.
    """
    with edit_registry(path) as editor:
        record = editor.registry.get("concept", fitted.record.name)
        if record.sha256 != fitted.record.sha256:
            hint = "another command replaced them meanwhile; calibrate again"
            raise DigestError(path, f"{record.name} has other weights by now", hint=hint)
        record = replace(record, calibration=fitted.calibration)
        editor.put(record, overwrite=True)
    return record


def check_unseen(record: Record, info: DatasetInfo) -> None:
    """Refuse pictures that a concept cannot be calibrated on.

    Raises:
        UsageError: Another space, no such factor, too few pictures, or the concept's own training
            data (recognised by their digest, or the seed they were rendered with).
    """
    assert record.factor is not None
    check_one_value(record)
    check_readable(record, info)
    if info.n_images < MIN_IMAGES:
        problem = f"{info.n_images} images are too few, {MIN_IMAGES} at least"
        raise UsageError(f"{info.path}: {problem}", hint=fresh_data_hint(record.space))
    if known := has_seen(record, info):
        problem = f"{known}; it is calibrated on other pictures"
        raise UsageError(problem, hint=fresh_data_hint(record.space))


def check_readable(record: Record, info: DatasetInfo) -> None:
    """Refuse pictures of another space, and those without the concept's factor.

    Raises:
        UsageError: They are.
    """
    factor = record.factor
    assert factor is not None
    if info.space != record.space:
        problem = f"{record.name} is a concept of {record.space}, {info.path} is of {info.space}"
        raise UsageError(problem, hint=fresh_data_hint(record.space))
    if factor.name not in info.factors:
        hint = f"its factors: {', '.join(info.factors)}"
        raise UsageError(f"{info.path} has no labels of {factor.name}", hint=hint)
    if info.factors[factor.name] != factor:
        what = difference(info.factors[factor.name], factor)
        problem = f"{info.path} has another {factor.name} than {record.name} has learned: it {what}"
        raise UsageError(problem, hint=same_factors_hint(info))


def check_one_value(record: Record) -> None:
    """Refuse a concept that has no single value per picture, and so no confidence in it.

    Raises:
        UsageError: It is of a list of objects.
    """
    if record.factor is not None and record.factor.kind == "objects":
        hint = "calibrate concepts with one value per picture"
        raise UsageError(f"{record.name} is a field of cells and has no temperatures", hint=hint)


def fresh_data_hint(space: str) -> str:
    """The command that makes pictures of a space that no concept has seen."""
    recipe, _, size = space.rpartition("-")
    if recipe not in RECIPES:
        return f"import other pictures of {space}, with --like FILE: see docs/import.md"
    options = f"--recipe {recipe} --size {size} --n 2000 --seed {FRESH_SEED}"
    return f"fresh pictures: ebm render-dataset fresh-{space}.h5 {options}"


def affordable(concept: Concept, n: int) -> int:
    """How many of n pictures are read: fewer where every cell takes a pass of its own."""
    if not isinstance(concept, ConditionalConcept):
        return n
    return min(n, max(MIN_IMAGES, PASSES * n // concept.factor.n_cells))


def labelled_images(
    info: DatasetInfo, factor: Factor, n: int, *, device: torch.device
) -> TrainingImages:
    """The first n pictures of a dataset with the labels of one factor.

    Raises:
        DigestError: The content of the file is not what was written.
    """
    verify_digest(info.path)
    images = torch.from_numpy(read_images(info.path, 0, n))
    labels = torch.from_numpy(read_labels(info.path, factor.name, 0, n))
    return TrainingImages(images, labels, device=device)


def _images(info: DatasetInfo, concept: Concept, *, device: torch.device) -> TrainingImages:
    n = affordable(concept, min(info.n_images, MAX_IMAGES))
    return labelled_images(info, concept.factor, n, device=device)


def temperature_at(levels: Mapping[float, float], sigma: float) -> float:
    """The temperature of a noise level; 1 without any."""
    return float(Temperatures(levels).at(torch.tensor([sigma]))) if levels else 1.0


def _entry(
    request: CalibrateRequest, info: DatasetInfo, levels: list[Level], n: int
) -> dict[str, Any]:
    """What goes under ``calibration`` in the record."""
    rows = {
        f"{level.sigma:g}": {
            k: round(v, 4) for k, v in asdict(level).items() if k not in ("sigma", "temperature")
        }
        for level in levels
    }
    return {
        "temperatures": {f"{level.sigma:g}": level.temperature for level in levels},
        "held_out": rows,
        "command": request.command,
        **data_origin(info),
        "n": n,
        "seed": request.seed,
        "created": created(),
        "versions": versions(),
    }
