"""A tiny space for tests of lists of objects: one to three rectangles on a dark floor, 16x16."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ebmcli.core.factors import Factor, Things
from ebmcli.core.images import TrainingImages
from ebmcli.core.networks import TrunkConfig
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter
from ebmcli.datasets.object_lists import encode_things

SIZE = 16
TRUNK = TrunkConfig(size=SIZE, widths=(8, 16), depths=(1, 1), unshuffle=2, embedding=8, head=16)
OBJECT = Factor(
    name="object",
    kind="objects",
    most=3,
    parts=(
        Factor(name="height", kind="categorical", names=("low", "tall")),
        Factor(name="color", kind="categorical", names=("red", "green", "blue")),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
    ),
)


def draw_several(n: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], list[Things]]:
    """Pictures (n, 16, 16, 3) and their objects: two pixels wide, two or four high.

    The floor covers the inner 0.57 of the picture's width and 0.42 of its height, as in scenes.
    """
    source = np.random.default_rng(seed)
    images = source.integers(20, 40, size=(n, SIZE, SIZE, 3), dtype=np.uint8)
    lists: list[Things] = []
    for image in images:
        count = int(source.integers(1, 4))
        things: Things = []
        for x in source.permutation([-0.7, 0.0, 0.7])[:count]:
            y, look = float(source.uniform(-1, 1)), int(source.integers(6))
            column, row = round(8 + 0.57 * 8 * x), round(8 - 0.42 * 8 * y)
            tall, color = divmod(look, 3)
            image[row - 1 - tall : row + 1 + tall, column - 1 : column + 1] = 60
            image[row - 1 - tall : row + 1 + tall, column - 1 : column + 1, color] = 230
            things.append(
                {
                    "height": ("low", "tall")[tall],
                    "color": ("red", "green", "blue")[color],
                    "position": (float(x), y),
                }
            )
        lists.append(things)
    return images, lists


def several(n: int, *, seed: int = 0) -> TrainingImages:
    """Pictures in memory with their lists of objects."""
    images, lists = draw_several(n, seed=seed)
    rows = torch.from_numpy(encode_things(OBJECT, lists))
    return TrainingImages(torch.from_numpy(images), rows)


def several_file(path: Path, *, n: int = 130, seed: int = 0) -> Path:
    """A dataset file of the space squares-16, so that the bases of ``squares`` serve."""
    images, lists = draw_several(n, seed=seed)
    info = DatasetInfo(
        path=path, recipe="squares", size=SIZE, n_images=n, seed=seed, factors={"object": OBJECT},
        digest="", versions={},
    )  # fmt: skip
    with DatasetWriter(info) as writer:
        writer.write(images, {"object": encode_things(OBJECT, lists)})
        writer.finish()
    return path
