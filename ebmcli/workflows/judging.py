"""Labelled pictures in memory, the judge of a space, and what it reads in them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ebmcli.checkpoint import read_checkpoint
from ebmcli.core.factors import Factor, difference
from ebmcli.core.images import to_intensity
from ebmcli.datasets.hdf5 import DatasetInfo, read_images, read_info, read_labels, verify_digest
from ebmcli.datasets.recipes import RECIPES
from ebmcli.errors import FileFormatError, UsageError
from ebmcli.evaluation.judge import Judge, JudgeConfig, Readings
from ebmcli.registry import Record, Registry

BATCH = 256  # pictures that are read at once
N_REFERENCE = 6000  # real pictures that FID compares with; chosen
REFERENCE_SEED = 900_001  # of fresh renders: no training file has it


@dataclass(frozen=True)
class Labelled:
    """Pictures with all their labels, in memory."""

    images: Tensor  # uint8 (N, S, S, 3)
    labels: dict[str, Tensor]

    def take(self, rows: Tensor | slice) -> tuple[Tensor, dict[str, Tensor]]:
        """Chosen pictures in [-1, 1], (n, 3, S, S), and their labels."""
        return to_intensity(self.images[rows]), {k: v[rows] for k, v in self.labels.items()}

    def part(self, rows: slice) -> "Labelled":
        """Some of the pictures."""
        return Labelled(self.images[rows], {k: v[rows] for k, v in self.labels.items()})


def load_labelled(info: DatasetInfo, n: int | None = None) -> Labelled:
    """All pictures of a dataset file, or its first n, with their labels.

    Raises:
        DigestError: The content is not what was written: labels may have been edited.
    """
    verify_digest(info.path)
    stop = info.n_images if n is None else min(n, info.n_images)
    labels = {
        name: torch.from_numpy(read_labels(info.path, name, 0, stop)) for name in info.factors
    }
    return Labelled(torch.from_numpy(read_images(info.path, 0, stop)), labels)


def judge_record(registry: Registry, space: str) -> Record:
    """The judge of a space; of several the first.

    Raises:
        UsageError: The space has none.
    """
    for record in registry.judges.values():
        if record.space == space:
            return record
    hint = f"train one: ebm train-judge judge-{space} --data FILE"
    raise UsageError(f"no judge of {space} in {registry.path}", hint=hint)


def load_judge(registry: Registry, space: str) -> Judge:
    """The judge of a space, frozen, on the CPU.

    Raises:
        UsageError: The space has none.
        FileFormatError: Its file is damaged.
    """
    record = judge_record(registry, space)
    path = registry.file(record)
    tensors, header = read_checkpoint(path, kind="judge", sha256=record.sha256)
    factors = [Factor.from_dict(plain) for plain in header["factors"]]
    judge = Judge({f.name: f for f in factors}, JudgeConfig.from_dict(header["config"]))
    try:
        judge.load_state_dict(tensors)
    except RuntimeError as error:
        hint = f"train it again: ebm train-judge {record.name} --data FILE --overwrite"
        raise FileFormatError(path, "does not fit its own settings", hint=hint) from error
    return judge.eval().requires_grad_(False)


def read_all(judge: Judge, images: Tensor) -> tuple[Readings, Tensor]:
    """Readings and features (N, F) of pictures uint8 (N, S, S, 3), on the CPU, in batches."""
    parts, features = [], []
    with torch.no_grad():
        for batch in images.split(BATCH):  # type: ignore[no-untyped-call]  # torch has no type
            x = to_intensity(batch)
            parts.append(judge.read(x))
            features.append(judge.features(x))
    return Readings.join(parts), torch.cat(features)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real pictures of a space with their labels and the judge's features of them."""

    data: Labelled
    truth: Readings  # the labels, in the form of readings
    readings: Readings  # what the judge reads in them
    features: Tensor
    digest: str


def load_reference(
    judge: Judge, space: str, *, data: Path | None, n_read: int, seed: int
) -> Reference:
    """Pictures to compare with: from a file, or rendered afresh into one that is removed again.

    Args:
        judge: Gives the features.
        space: What the pictures must show.
        data: A dataset file, or None.
        n_read: Pictures that inference wants; at least N_REFERENCE are taken in any case.
        seed: Of fresh renders.

    Raises:
        UsageError: The file is of another space, or lacks a factor the judge reads.
        RenderError: There is no OpenGL to render with.
    """
    n = max(N_REFERENCE, n_read)
    with pictures_of(space, data=data, n=n, seed=seed) as info:
        return _reference(judge, space, info, n)


@contextmanager
def pictures_of(space: str, *, data: Path | None, n: int, seed: int) -> Iterator[DatasetInfo]:
    """A dataset of a space: the file that was given, or n fresh renders that are removed again.

    Raises:
        UsageError: No recipe renders the space.
        RenderError: There is no OpenGL to render with.
        FileFormatError: The file cannot be read.
    """
    if data is not None:
        yield read_info(data)
        return
    refuse_unrendered(space)
    from ebmcli.workflows.render import RenderSettings, render_dataset

    recipe, _, size = space.rpartition("-")
    settings = RenderSettings(recipe=recipe, n_images=n, size=int(size), seed=REFERENCE_SEED + seed)
    with tempfile.TemporaryDirectory(prefix="ebm-eval-") as folder:
        path = Path(folder) / "reference.h5"
        for _ in render_dataset(settings, path):
            pass
        yield read_info(path)


def check_reference(judge: Judge, space: str, info: DatasetInfo) -> None:
    """Refuse pictures of another space, or without a factor that the judge reads.

    Raises:
        UsageError: They are.
    """
    if info.space != space:
        hint = f"give a file of {space}" + (", or leave --data out" if can_render(space) else "")
        raise UsageError(f"{info.path} is of {info.space}, the judge reads {space}", hint=hint)
    for name, factor in judge.factors.items():
        if name not in info.factors:
            hint = f"its factors: {', '.join(info.factors)}"
            raise UsageError(f"{info.path} has no labels of {name}, which is judged", hint=hint)
        if info.factors[name] != factor:
            what = difference(info.factors[name], factor)
            problem = f"{info.path} has another {name} than the judge of {space}: it {what}"
            raise UsageError(problem, hint=same_factors_hint(info))


def same_factors_hint(info: DatasetInfo) -> str:
    """How to get pictures whose factors are those of another dataset."""
    if info.recipe in RECIPES:
        return "render it again by this version"
    return "import it with --like FILE, the dataset that was trained on; see docs/import.md"


def refuse_unrendered(space: str, *, instead: str = "") -> None:
    """Refuse to render what no recipe makes, as pictures that were imported.

    Raises:
        UsageError: It is such a space; the hint says what to give, and ``instead`` what else to do.
    """
    if not can_render(space):
        hint = f"give labelled ones that nothing was trained on: --data FILE{instead}"
        raise UsageError(f"pictures of {space} cannot be rendered", hint=hint)


def can_render(space: str) -> bool:
    """Does a recipe of this program make pictures of a space?"""
    return space.rpartition("-")[0] in RECIPES


def _reference(judge: Judge, space: str, info: DatasetInfo, n: int) -> Reference:
    check_reference(judge, space, info)
    data = load_labelled(info, n)
    truth = Readings(
        factors=judge.factors,
        values=data.labels,
        probabilities={},
        present=torch.ones(len(data.images)),
    )
    readings, features = read_all(judge, data.images)
    return Reference(
        data=data, truth=truth, readings=readings, features=features, digest=info.digest
    )
