"""Recipe -> labels -> frames -> pictures -> dataset file.

The images of one chunk depend on (seed, index of the chunk) alone: any number of workers writes
the same bytes.
"""

import shlex
from collections.abc import Generator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.expression import value_text
from ebmcli.core.factors import Label, Value
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter, read_info
from ebmcli.datasets.labels import Restriction, draw_labels, read_restriction
from ebmcli.datasets.recipes import find_recipe
from ebmcli.datasets.renderer import MAX_SIZE, MIN_SIZE, Renderer
from ebmcli.datasets.stored_labels import encode_labels
from ebmcli.errors import ConfigError, FileFormatError, InterruptedRun, OutputError
from ebmcli.workflows.spawned import check_stop, spawned_map

CHUNK = 500  # images up to CHUNK_SIDE pixels a side, fewer above; part of what a seed means
CHUNK_SIDE = 128
MAX_WORKERS = 256  # chosen
MAX_IMAGES = 10_000_000  # chosen
MAX_SEED = 2**63 - 1
MS_PER_PIXEL = 2.0 / (64 * 64)  # on one core; for estimates only


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """What a dataset shows; with the seed, all that its bytes depend on."""

    recipe: str
    n_images: int
    size: int = 64  # pixels a side
    seed: int = 0
    fix: tuple[str, ...] = ()  # such as color=red,blue
    grid: tuple[str, ...] = ()  # such as position=20
    hold_out: str = ""  # an expression that no image satisfies

    def __post_init__(self) -> None:
        find_recipe(self.recipe)
        if not 1 <= self.n_images <= MAX_IMAGES:
            raise ConfigError(f"--n is from 1 to {MAX_IMAGES}, not {self.n_images}")
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            problem = f"--size is from {MIN_SIZE} to {MAX_SIZE} pixels, not {self.size}"
            raise ConfigError(problem, hint="the bundled models see 64 x 64 pixels")
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"--seed is from 0 to {MAX_SEED}, not {self.seed}")
        self.restriction()

    def restriction(self) -> Restriction:
        """The restrictions, read and checked."""
        recipe = find_recipe(self.recipe)
        return read_restriction(recipe, fix=self.fix, grid=self.grid, hold_out=self.hold_out)

    def info(self, path: Path) -> DatasetInfo:
        """The header of the dataset to be."""
        restrictions = {"fix": list(self.fix), "grid": list(self.grid), "hold_out": self.hold_out}
        return DatasetInfo(
            path=path,
            recipe=self.recipe,
            size=self.size,
            n_images=self.n_images,
            seed=self.seed,
            factors=find_recipe(self.recipe).factors,
            digest="",
            versions={},
            settings={name: value for name, value in restrictions.items() if value},
        )

    def command(self, path: Path, *, workers: int, resume: bool = False) -> str:
        """The command line that renders this dataset."""
        words = ["ebm", "render-dataset", str(path), "--recipe", self.recipe]
        words += ["--n", str(self.n_images), "--size", str(self.size), "--seed", str(self.seed)]
        words += ["--workers", str(workers)]
        for option, values in (("--fix", self.fix), ("--grid", self.grid)):
            words += [word for value in values for word in (option, value)]
        words += ["--hold-out", self.hold_out] if self.hold_out else []
        return shlex.join(words + ["--resume"] * resume)


@dataclass(frozen=True, kw_only=True)
class RenderPlan:
    """What a run would do; ``seconds`` is a guess, ``example`` the labels of the first image."""

    settings: RenderSettings
    n_bytes: int
    seconds: float
    example: dict[str, Label]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    def statements(self) -> list[str]:
        """The example as an expression would say it, numbers rounded."""
        said = []
        for name, label in self.example.items():
            if isinstance(label, list):
                said += [f"{name}({_described(thing)})" for thing in label]
            else:
                said.append(f"{name}={_rounded(label)}")
        return said


def _described(thing: Mapping[str, Value]) -> str:
    """The parts of one object, numbers rounded."""
    return ", ".join(f"{name}={_rounded(value)}" for name, value in thing.items())


def _rounded(value: Value) -> str:
    """A value with two decimals."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return value_text((round(value[0], 2), round(value[1], 2)))
    return value_text(round(value, 2))


def plan_dataset(settings: RenderSettings, *, workers: int = 1) -> RenderPlan:
    """Say what would be rendered, and draw the labels of the first image.

    Raises:
        ConfigError: ``workers`` is out of range.
    """
    _check_workers(workers)
    recipe = find_recipe(settings.recipe)
    rng = _source(settings.seed, 0, 0)
    pixels = settings.n_images * settings.size**2
    return RenderPlan(
        settings=settings,
        n_bytes=3 * pixels,
        seconds=pixels * MS_PER_PIXEL / 1000 / workers,
        example=draw_labels(recipe, settings.restriction(), rng),
    )


def rehearse_dataset(
    settings: RenderSettings,
    path: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Refuse, without writing, what :func:`render_dataset` would be refused for.

    Raises:
        ConfigError, OutputExistsError, OutputError, RenderError: As it does.
    """
    _check_workers(workers)
    if resume and not overwrite and is_rendered(settings, path):
        return
    DatasetWriter.check(settings.info(path), resume=resume, overwrite=overwrite)
    _renderer(settings.size, find_recipe(settings.recipe).roundness)


def render_dataset(
    settings: RenderSettings,
    path: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[int]:
    """Write a dataset, yielding the number of images that are safely in the file.

    The caller takes all values; the file has its name after the last. With ``resume`` a complete
    file of the same settings is left as it is.

    Raises:
        ConfigError: ``workers`` is out of range, or the file to resume has other settings.
        OutputExistsError, OutputError: The output is there, or cannot be written.
        RenderError: There is no OpenGL.
        InterruptedRun: Ctrl-C; the hint is the command that goes on.
    """
    _check_workers(workers)
    if resume and not overwrite and is_rendered(settings, path):
        yield settings.n_images
        return
    again = settings.command(path, workers=workers, resume=True)
    try:
        with DatasetWriter(settings.info(path), resume=resume, overwrite=overwrite) as writer:
            yield writer.n_written
            chunk = chunk_size(settings.size)
            n_done = -(-writer.n_written // chunk)  # the last chunk may be a short one
            indices = range(n_done, -(-settings.n_images // chunk))
            jobs = [(settings, index) for index in indices]
            with closing(spawned_map(render_chunk, jobs, workers=workers)) as chunks:
                for images, labels in chunks:
                    writer.write(images, labels)
                    yield writer.n_written
            writer.finish()
    except KeyboardInterrupt as error:
        raise InterruptedRun("interrupted", hint=f"to go on: {again}") from error
    except BrokenProcessPool as error:
        problem = "a worker was killed, perhaps for want of memory"
        raise OutputError(problem, hint=f"with fewer workers: {again}") from error


def is_rendered(settings: RenderSettings, path: Path) -> bool:
    """Is there a complete dataset of these settings already?"""
    if not path.is_file():
        return False
    try:
        found = read_info(path)
    except FileFormatError:
        return False
    wanted = settings.info(path)
    same = ("recipe", "size", "n_images", "seed", "factors", "settings")
    return all(getattr(found, name) == getattr(wanted, name) for name in same)


def _check_workers(workers: int) -> None:
    """Refuse a number of processes that cannot be meant."""
    if not 1 <= workers <= MAX_WORKERS:
        raise ConfigError(f"--workers is from 1 to {MAX_WORKERS}, not {workers}")


Job = tuple[RenderSettings, int]
Chunk = tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]


def chunk_size(size: int) -> int:
    """Images per chunk: at most 25 MB of them."""
    return max(1, min(CHUNK, CHUNK * CHUNK_SIDE**2 // size**2))


def render_chunk(job: Job) -> Chunk:
    """Images (n, S, S, 3) and stored labels of one chunk; depends on its arguments only."""
    settings, index = job
    recipe, restriction = find_recipe(settings.recipe), settings.restriction()
    chunk = chunk_size(settings.size)
    n_images = min(chunk, settings.n_images - index * chunk)
    label_rng, frame_rng = _source(settings.seed, index, 0), _source(settings.seed, index, 1)
    renderer = _renderer(settings.size, recipe.roundness)
    images = np.empty((n_images, settings.size, settings.size, 3), dtype=np.uint8)
    drawn = []
    for i in range(n_images):
        check_stop()
        labels = draw_labels(recipe, restriction, label_rng)
        images[i] = renderer.render(recipe.frame(labels, frame_rng))
        drawn.append(labels)
    return images, {
        name: encode_labels(factor, [labels[name] for labels in drawn])
        for name, factor in recipe.factors.items()
    }


def _source(seed: int, chunk: int, stream: int) -> np.random.Generator:
    """The random source of one chunk: stream 0 draws labels, stream 1 what is not labelled."""
    return np.random.default_rng([seed, chunk, stream])


@cache  # never dropped: a dropped one would free the names of the next
def _renderer(size: int, roundness: tuple[int, int]) -> Renderer:
    """The renderer of this process for one size and recipe."""
    return Renderer(size=size, roundness=roundness)
