"""From images to the most probable value of every concept, batch by batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ebmcli.core.concepts import refuse_nan
from ebmcli.core.factors import Factor, Label
from ebmcli.core.images import to_intensity
from ebmcli.core.inference import Estimate, fuse, log_posterior_at, map_estimate
from ebmcli.core.networks import TrunkConfig
from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_info, read_labels
from ebmcli.datasets.object_lists import decode_things
from ebmcli.errors import ConfigError, FileFormatError, UsageError
from ebmcli.imaging import Picture, find_images, fit_square, image_size, read_image
from ebmcli.registry import Registry

SIGMAS = (0.05, 0.1, 0.2)  # chosen: small against a picture's contrast, and trained at
NOISE_SEED = 0
ROWS = 256  # of a dataset per read, chosen
DATASET_SUFFIXES = (".h5", ".hdf5")


class Concept(Protocol):
    """What inference asks of a trained concept."""

    factor: Factor
    log_prior: Tensor
    config: TrunkConfig

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma) for every cell: (B, K)."""
        ...


@dataclass(frozen=True, kw_only=True)
class InferPlan:
    """What will be read, and which concepts are asked."""

    space: str
    concepts: tuple[str, ...]
    files: tuple[Path, ...]
    datasets: tuple[DatasetInfo, ...]

    @property
    def n_images(self) -> int:
        """Images in all, before any is found to be damaged."""
        return len(self.files) + sum(info.n_images for info in self.datasets)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image, where it is from, and the labels that its dataset has for it.

    ``stem`` is a short name for files that are made from it, ``shown`` the width and height of
    the images in it before they were fitted: one, or of several views each.
    """

    file: str
    stem: str
    picture: Picture
    shown: tuple[tuple[int, int], ...] = ()
    truth: dict[str, Label] = field(default_factory=dict)  # by factor


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """An image that could not be read, and why."""

    file: str
    error: FileFormatError


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the concepts say about one image, or about several views of one thing."""

    item: Item
    estimates: dict[str, Estimate]
    log_posteriors: dict[str, Tensor]  # (K,) each, float32 on the CPU


def plan_inference(
    images: Iterable[Path],
    registry: Registry,
    *,
    concepts: Iterable[str] = (),
    space: str | None = None,
) -> InferPlan:
    """Find the images, and settle which concepts of which space are asked.

    Args:
        images: Image files, folders of them, and dataset files (.h5); what is given twice is read
            once.
        registry: Where concepts are looked up.
        concepts: Names; none means all of the space.
        space: None takes that of the concepts, of the datasets, or the only one there is.

    Raises:
        UnknownNameError: No such concept.
        UsageError: The space is not settled, concepts are of several, or a dataset shows other
            things than the concepts know and ``space`` does not insist.
        FileFormatError: A path is missing, or a dataset cannot be read.
    """
    names = tuple(dict.fromkeys(concepts))
    spaces = {registry.get("concept", name).space for name in names}
    paths = list(dict.fromkeys(images))
    datasets = [path for path in paths if path.suffix.lower() in DATASET_SUFFIXES]
    infos = tuple(read_info(path) for path in datasets)
    files = tuple(find_images([path for path in paths if path not in datasets]))
    settled = _space(registry, space=space, of_concepts=spaces, infos=infos)
    wrong = [name for name in names if registry.get("concept", name).space != settled]
    if wrong:
        known = ", ".join(registry.factors(settled)) or "none"
        problem = f"{wrong[0]} is a concept of {registry.get('concept', wrong[0]).space}"
        raise UsageError(f"{problem}, not of {settled}", hint=f"concepts of {settled}: {known}")
    if space is None:
        _check_kinship(infos, settled, registry)
    return InferPlan(
        space=settled,
        concepts=names or tuple(registry.factors(settled)),
        files=files,
        datasets=infos,
    )


def _space(
    registry: Registry,
    *,
    space: str | None,
    of_concepts: set[str],
    infos: tuple[DatasetInfo, ...],
) -> str:
    """The one space that is meant."""
    known = list(dict.fromkeys(record.space for record in registry.concepts.values()))
    if not known:
        hint = "train one: ebm train --help; or choose another registry by --registry"
        raise UsageError(f"{registry.path} holds no concepts", hint=hint)
    if space is not None:
        if space not in known:
            hint = f"spaces with concepts: {', '.join(known)}"
            raise UsageError(f"no concept of a space {space!r}", hint=hint)
        return space
    of_datasets = {info.space for info in infos} & set(known)
    for candidates in (of_concepts, of_datasets, set(known)):
        if len(candidates) == 1:
            return next(iter(candidates))
        if len(candidates) > 1:
            break
    listing = ", ".join(sorted(candidates))
    hint = f"choose one, such as --space {sorted(candidates)[0]}"
    raise UsageError(f"there are several spaces of images: {listing}", hint=hint)


def _check_kinship(infos: Iterable[DatasetInfo], settled: str, registry: Registry) -> None:
    """Refuse datasets of another recipe than that of the space; only the size may differ."""
    for info in infos:
        if info.recipe == settled.rpartition("-")[0]:
            continue
        fitting = ", ".join(registry.factors(info.space)) or "none, ebm train makes one"
        raise UsageError(
            f"{info.path} holds images of {info.space}, and the concepts asked are of {settled}",
            hint=f"concepts of {info.space}: {fitting}; --space {settled} reads it all the same",
        )


def items(plan: InferPlan, *, size: int) -> Iterator[Item | Skipped]:
    """Every image of a plan at ``size`` pixels per side; damaged ones are yielded as Skipped."""
    for path in plan.files:
        try:
            picture = read_image(path, size)
        except FileFormatError as error:
            yield Skipped(file=str(path), error=error)
        else:
            shown = (image_size(path),)
            yield Item(file=str(path), stem=path.stem, picture=picture, shown=shown)
    for info in plan.datasets:
        for start in range(0, info.n_images, ROWS):
            stop = min(start + ROWS, info.n_images)
            pictures = read_images(info.path, start, stop)
            labels = {name: read_labels(info.path, name, start, stop) for name in info.factors}
            for i, picture in enumerate(pictures):
                yield Item(
                    file=f"{info.path}#{start + i}",
                    stem=f"{info.path.stem}-{start + i}",
                    picture=fit_square(picture, size),
                    shown=(picture.shape[1::-1],),
                    truth={n: _value(info.factors[n], column[i]) for n, column in labels.items()},
                )


def _value(factor: Factor, stored: np.ndarray) -> Label:
    """A stored label as a value."""
    if factor.kind == "objects":
        return decode_things(factor, stored)
    if factor.names:
        return factor.names[int(stored)]
    if factor.kind == "position":
        return (float(stored[0]), float(stored[1]))
    return float(stored)


def answers(
    plan: InferPlan,
    concepts: Mapping[str, Concept],
    *,
    as_one: bool = False,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> Iterator[Reading | Skipped]:
    """Carry out a plan: a Reading per image or, ``as_one``, one for all; and what was skipped."""
    size = next(iter(concepts.values())).config.size
    stream = infer(items(plan, size=size), concepts, batch_size=batch_size, device=device)
    if not as_one:
        yield from stream
        return
    views: list[Reading] = []
    for outcome in stream:
        if isinstance(outcome, Skipped):
            yield outcome
        else:
            views.append(outcome)
    if views:
        yield together(views, concepts)


def infer(
    source: Iterable[Item | Skipped],
    concepts: Mapping[str, Concept],
    *,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> Iterator[Reading | Skipped]:
    """Yield a Reading per image, in order, and Skipped ones as they come.

    Args:
        source: See :func:`items`; one batch of it is in memory at a time.
        concepts: By name, on ``device``.
        batch_size: Images per evaluation, at least 1.
        device: Where networks run.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size is at least 1, not {batch_size}")
    stream = iter(source)
    while chunk := list(islice(stream, batch_size)):
        yield from (item for item in chunk if isinstance(item, Skipped))
        good = [item for item in chunk if isinstance(item, Item)]
        if good:
            yield from _readings(good, concepts, torch.device(device))


def _readings(
    batch: list[Item], concepts: Mapping[str, Concept], device: torch.device
) -> Iterator[Reading]:
    """One Reading per image of a batch."""
    pictures = torch.from_numpy(np.stack([item.picture for item in batch]))
    x = to_intensity(pictures).to(device)
    with torch.inference_mode():
        tables = {
            name: log_posterior_at(
                concept, x, SIGMAS, seed=NOISE_SEED, n_groups=concept.factor.n_groups
            )
            .float()
            .cpu()
            for name, concept in concepts.items()
        }
    for name, table in tables.items():
        refuse_nan(table, name)
    for i, item in enumerate(batch):
        rows = {name: table[i] for name, table in tables.items()}
        estimates = {
            name: map_estimate(row[None], concepts[name].log_prior.cpu(), concepts[name].factor)
            for name, row in rows.items()
        }
        yield Reading(item=item, estimates=estimates, log_posteriors=rows)


def together(views: Sequence[Reading], concepts: Mapping[str, Concept]) -> Reading:
    """All images, at least one, as views of one thing; the picture is the first one's."""
    estimates, fused = {}, {}
    for name, concept in concepts.items():
        table = torch.stack([view.log_posteriors[name] for view in views])
        estimates[name] = map_estimate(table, concept.log_prior.cpu(), concept.factor)
        n_groups = concept.factor.n_groups
        fused[name] = fuse(table, concept.log_prior.cpu(), n_groups=n_groups).float()
    item = Item(
        file=f"{len(views)} images together",
        stem="together",
        picture=views[0].item.picture,
        shown=tuple(shape for view in views for shape in view.item.shown),
    )
    return Reading(item=item, estimates=estimates, log_posteriors=fused)
