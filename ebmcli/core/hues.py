"""Hues: the same picture in other colours, to train on what the labels say nothing about.

A pixel with channels r, g, b has the value V = max, the chroma C = max - min and a hue h in [0, 6):
red 0, yellow 1, green 2, cyan 3, blue 4, purple 5 (Smith 1978). All of it is unchanged, but for
scale, by a common factor and a common summand of the channels, so that [-1, 1] serves as well as
[0, 1], and

    turn(L a + w) = L turn(a) + w        for a light L > 0, a surface a = (r, g, b), a gloss w:

a turned picture of a matt or glossy thing in white light is the picture of that thing in another
colour. V and V - C stay, hence no intensity leaves its range; grey (C = 0) stays grey.

Source: Smith (1978), Color gamut transform pairs.
"""

import torch
from torch import Generator, Tensor

GREY_RATE = (
    1 / 8
)  # of the pictures that are changed, drawn without chroma; chosen: white is a colour
COLOR_NAMES = ("color", "colour", "hue")  # factors whose labels another hue would make wrong
TINY = 1e-6  # chroma below which a hue means nothing


def turn_hues(x: Tensor, turn: Tensor, chroma: Tensor) -> Tensor:
    """Add ``turn`` to the hue of every pixel and multiply its chroma, the value kept.

        channel_n = V - C max(0, min(1, k, 4 - k)),   k = (n + h) mod 6,   n = 5, 3, 1 for r, g, b

    A turn by 2 is the cyclic exchange r -> g -> b -> r.

    Args:
        x: Images (B, 3, S, S), of any range; left unchanged.
        turn: (B,), sixths of a full turn.
        chroma: Factor of C, (B,), in [0, 1].

    Returns:
        (B, 3, S, S), every pixel within its own [min, max].
    """
    red, green, blue = x.unbind(1)
    value, low = x.amax(1), x.amin(1)
    spread = value - low
    safe = spread.clamp_min(TINY)
    hue = torch.where(
        red == value,
        (green - blue) / safe,
        torch.where(green == value, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + turn[:, None, None]
    depth = spread * chroma[:, None, None]
    channels = []
    for n in (5, 3, 1):
        k = (n + hue).remainder(6)
        channels.append(value - depth * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def random_hues(x: Tensor, *, share: float, generator: Generator) -> Tensor:
    """Images of which each is, with probability ``share``, shown in other colours.

    The turn is uniform; one in eight of the changed ones loses its chroma. With share 0 nothing is
    drawn from the generator and the images are returned as they are.

    Args:
        x: Clean images (B, 3, S, S) in [-1, 1].
        share: In [0, 1].
        generator: On any device; what is drawn follows it.
    """
    return change_some(x, share=share, generator=generator)[0]


def change_some(x: Tensor, *, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """As :func:`random_hues`, and which of the images are changed, (B,) bool."""
    if share == 0:
        return x, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    place = generator.device
    changed, grey = torch.rand(2, len(x), generator=generator, device=place)
    turn = 6 * torch.rand(len(x), generator=generator, device=place)
    chosen = changed < share
    turn = turn * chosen
    chroma = 1.0 - (chosen & (grey < GREY_RATE)).float()
    return turn_hues(x, turn.to(x.device), chroma.to(x.device)), chosen.to(x.device)
