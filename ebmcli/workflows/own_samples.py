"""Pictures as the chains of a base draw them, with what is asked of them; kept chunk by chunk."""

import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcli.checkpoint import write_bytes
from ebmcli.core.expression import Literal, value_text
from ebmcli.core.factors import Factor, Value, as_typed
from ebmcli.core.fields import appearance_of, floor_of
from ebmcli.datasets.hdf5 import DatasetInfo, read_labels
from ebmcli.datasets.object_lists import decode_things
from ebmcli.errors import FileFormatError, UsageError
from ebmcli.registry import Registry
from ebmcli.workflows.generate import GenerateRequest, draw_pictures

CHUNK = 16  # pictures of one formula
MOST_STATEMENTS = 3  # in one formula; chosen
FIRST_SEED = 1 << 31  # of the pictures; published figures have small seeds

Progress = Callable[[int, int], None]  # pictures done, in all


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Which pictures are drawn."""

    base: str
    data: DatasetInfo  # its labels say what is asked for
    n: int
    seed: int
    device: torch.device


def own_samples(
    request: SampleRequest, registry: Registry, folder: Path, *, progress: Progress
) -> Tensor:
    """uint8 (n, S, S, 3): as ``ebm generate`` draws them, none rejected.

    Chunk by chunk a formula on none to three concepts, true of a random picture of the data (of a
    list of objects up to three are described), so that what is asked for is distributed as there.
    Chunks that ``folder`` holds already are not drawn again.
    """
    concepts = concepts_on(registry, request.base, request.data)
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for index in range((request.n + CHUNK - 1) // CHUNK):
        path = folder / f"{index:05}.npy"
        if not path.exists():
            write_bytes(path, _as_bytes(_chunk(request, registry, concepts, index)))
        parts.append(_read(path))
        progress(min((index + 1) * CHUNK, request.n), request.n)
    return torch.from_numpy(np.concatenate(parts)[: request.n])


def concepts_on(registry: Registry, base: str, data: DatasetInfo) -> dict[str, Factor]:
    """The posteriors that draw with this base and whose factor the data has, by name."""
    return {
        record.name: record.factor
        for record in registry.concepts.values()
        if record.base == base
        and record.factor is not None
        and data.factors.get(record.factor.name) == record.factor
    }


def _chunk(
    request: SampleRequest, registry: Registry, concepts: Mapping[str, Factor], index: int
) -> NDArray[np.uint8]:
    seed = (FIRST_SEED + request.seed * 1_000_003 + index * CHUNK) % (1 << 32)
    source = random.Random(f"{request.seed} {index}")
    row = source.randrange(request.data.n_images)
    n_statements = source.randint(0, min(MOST_STATEMENTS, len(concepts)))
    asked = source.sample(sorted(concepts), n_statements)
    said = [_statements(name, concepts[name], request.data, row, source) for name in asked]
    formula = " & ".join(statement for statements in said for statement in statements)
    drawing = GenerateRequest(
        expression=formula,
        base=None if formula else request.base,
        n=CHUNK,
        seed=seed,
        attempts=1,
        device=str(request.device),
    )
    return draw_pictures(drawing, registry).images


def _statements(
    name: str, factor: Factor, data: DatasetInfo, row: int, source: random.Random
) -> list[str]:
    """What is said of one picture: a concept's value, or some parts of some of its objects."""
    if factor.kind != "objects":
        return [f"{name}={value_text(_label(data, factor, row))}"]
    things = decode_things(factor, read_labels(data.path, factor.name, row, row + 1)[0])
    said = []
    for thing in source.sample(things, min(len(things), source.randint(1, MOST_STATEMENTS))):
        parts = [*appearance_of(factor), floor_of(factor)]
        named = source.sample(parts, source.randint(1, len(parts)))
        values = {part.name: _typed(part, thing[part.name]) for part in named}
        said.append(Literal(name, parts=tuple(values.items())).statement)
    return list(dict.fromkeys(said))


def _typed(factor: Factor, value: Value) -> Value:
    """A value as people write it."""
    if isinstance(value, tuple):
        return (as_typed(factor, value[0]), as_typed(factor, value[1]))
    return value if isinstance(value, str) else as_typed(factor, value)


def _label(data: DatasetInfo, factor: Factor, row: int) -> Value:
    """What one picture shows, as a value of the language, numbers as people write them."""
    label = read_labels(data.path, factor.name, row, row + 1)[0]
    if factor.names:
        return factor.names[int(label)]
    numbers = [as_typed(factor, float(part)) for part in np.atleast_1d(label)]
    return (numbers[0], numbers[1]) if factor.kind == "position" else numbers[0]


def _as_bytes(images: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    return buffer.getvalue()


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        found: NDArray[np.uint8] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        hint = f"remove {path} and type the command again"
        raise FileFormatError(path, "cannot be read", hint=hint) from error
    return found


def refuse_foreign(data: DatasetInfo, space: str) -> None:
    """Refuse pictures of another space.

    Raises:
        UsageError: They are.
    """
    if data.space != space:
        problem = f"{data.path} is of {data.space}, the base of {space}"
        raise UsageError(problem, hint="give pictures of its own space by --data")
