"""Pictures without a recognisable object or face, made from pictures that have one.

The judge learns from them what "absent" looks like; no energy model has a part in them, though a
posterior trained with ``blank_share`` sees emptied pictures of its own data. Notation:
x clean pictures (B, 3, S, S) in [-1, 1]. Every space gets four kinds, in equal shares with those
of the next paragraph:

- ghost: the mean of two pictures whose labels differ much (see :func:`differ_much`);
- blurred: two box blurs of radius S/8 (8 pixels at 64), so that nothing has an outline;
- average: the mean of many medians of 31 pictures, with noise of standard deviation U(0, 1);
- shuffled: the 8 x 8 tiles of a picture in random order.

Spaces with a position or a list of objects get two more, the others one:

- emptied: the pixelwise median of 31 pictures (see :func:`empty_floors`), brought to the colour of
  another; objects stand in different places and vanish, the floor stays;
- faded: a picture mixed into its emptied version with a weight U(0, 0.15);
- erased: one side of a random line through the middle, or the whole picture (one in four), filled
  with the colour of the upper corners.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ebmcli.core.blanks import N_MEDIAN, in_the_light_of
from ebmcli.core.factors import Factor

N_TILES = 8  # tiles per side of a shuffled picture, each smaller than an object
MUCH = 0.5  # of the half range of a position, or of the named factors
FADED = 0.15  # largest weight of an object that is still hard to see


def differ_much(labels: Mapping[str, Tensor], factors: Mapping[str, Factor]) -> Tensor:
    """Which pairs of pictures differ much: (B, B) bool.

    With a position: by half its half range in one coordinate; with a list of objects: all of them;
    otherwise: in half of the named factors; with numbers alone: by half the half range in half of
    them.
    """
    for name, factor in factors.items():
        if factor.kind == "objects":
            return torch.ones(len(labels[name]), len(labels[name]), dtype=torch.bool)
        if factor.kind == "position":
            place = labels[name]
            distance = (place[:, None] - place[None]).abs().amax(2)
            return distance >= MUCH * (factor.high - factor.low) / 2
    differ = [
        labels[name][:, None] != labels[name] for name, factor in factors.items() if factor.names
    ]
    if not differ:
        differ = [
            (labels[name][:, None] - labels[name]).abs() >= MUCH * (factor.high - factor.low) / 2
            for name, factor in factors.items()
        ]
    return torch.stack(differ).float().mean(0) >= MUCH


def without_object(
    x: Tensor,
    labels: Mapping[str, Tensor],
    factors: Mapping[str, Factor],
    *,
    floors: Tensor,
    generator: Generator,
) -> Tensor:
    """One negative for every picture of a batch; the kinds take turns from picture to picture.

    Args:
        x: Clean pictures (B, 3, S, S), B at least 2; left unchanged.
        labels: As in :func:`ebmcli.evaluation.judge.judge_losses`.
        factors: The factors of the space.
        floors: Empty pictures of the space (P, 3, S, S), from :func:`empty_floors`; without a
            position or objects only the mean of them is used.
        generator: Source of every choice, on the CPU.
    """
    partner = partners(differ_much(labels, factors), generator=generator)
    kinds: list[Callable[[Tensor], Tensor]] = [
        lambda rows: (x[rows] + x[partner[rows]]) / 2,
        lambda rows: box_blur(x[rows], radius=x.shape[-1] // 8),
        lambda rows: noisy_average(floors.mean(0).expand_as(x[rows]), generator=generator),
        lambda rows: shuffled(x[rows], generator=generator),
    ]
    if any(factor.kind in ("position", "objects") for factor in factors.values()):
        kinds.append(lambda rows: emptied(x[rows], floors, generator=generator))
        kinds.append(lambda rows: faded(x[rows], floors, generator=generator))
    else:
        kinds.append(lambda rows: erased(x[rows], generator=generator))
    negatives = torch.empty_like(x)
    for turn, kind in enumerate(kinds):
        rows = torch.arange(turn, len(x), len(kinds))
        if len(rows):
            negatives[rows] = kind(rows)
    return negatives.clamp_(-1, 1)


def partners(allowed: Tensor, *, generator: Generator) -> Tensor:
    """For every row of a (B, B) mask a random allowed column, or any other row if none is: (B,)."""
    chance = torch.rand(allowed.shape, generator=generator) + allowed.float()
    return chance.fill_diagonal_(-1).argmax(1)


def box_blur(x: Tensor, *, radius: int) -> Tensor:
    """Two means over squares of 2 radius + 1 pixels; pixels outside do not count."""
    width = 2 * radius + 1
    for _ in range(2):
        x = F.avg_pool2d(x, width, stride=1, padding=radius, count_include_pad=False)
    return x


def noisy_average(x: Tensor, *, generator: Generator) -> Tensor:
    """x plus noise whose standard deviation is U(0, 1) per picture, intensity."""
    scale = torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + scale * torch.randn(x.shape, generator=generator)


def shuffled(x: Tensor, *, generator: Generator) -> Tensor:
    """The tiles of every picture in a random order of its own."""
    side = x.shape[-1] // N_TILES
    tiles = F.unfold(x, side, stride=side)
    order = torch.rand(len(x), 1, tiles.shape[2], generator=generator).argsort(2)
    return F.fold(tiles.gather(2, order.expand_as(tiles)), x.shape[-1], side, stride=side)


def empty_floors(images: Tensor, n: int, *, generator: Generator) -> Tensor:
    """n pixelwise medians of 31 random pictures each: (n, 3, S, S).

    No object covers a pixel in most of them. Of pictures without a position, such as faces, the
    medians are blurred averages.
    """
    chosen = torch.randint(len(images), (n, N_MEDIAN), generator=generator)
    return torch.stack([images[rows].median(0).values for rows in chosen])


def emptied(x: Tensor, floors: Tensor, *, generator: Generator) -> Tensor:
    """A random floor for every picture, shifted to the median colour difference from it."""
    floor = floors[torch.randint(len(floors), (len(x),), generator=generator)]
    return in_the_light_of(x, floor)


def faded(x: Tensor, floors: Tensor, *, generator: Generator) -> Tensor:
    """Pictures whose object is nearly transparent."""
    weight = FADED * torch.rand(len(x), 1, 1, 1, generator=generator)
    floor = emptied(x, floors, generator=generator)
    return floor + weight * (x - floor)


def erased(x: Tensor, *, generator: Generator) -> Tensor:
    """Pictures of which one side of a line through the middle, or everything, is filled."""
    count, size = len(x), x.shape[-1]
    corner = max(1, size // 16)
    corners = torch.cat([x[..., :corner, :corner], x[..., :corner, -corner:]], dim=3)
    colour = corners.mean((2, 3), keepdim=True)
    angle = 2 * torch.pi * torch.rand(count, 1, 1, generator=generator)
    line = torch.linspace(-1, 1, size)
    side = line[:, None] * angle.sin() + line * angle.cos()
    filled = (side > 0) | (torch.rand(count, 1, 1, generator=generator) < 0.25)
    return torch.where(filled[:, None], colour, x)
