"""Blanks: pictures of nothing, from which a posterior learns to read nothing.

A posterior over the values of a factor has to say one of them of any picture, and what it says of
an empty scene was never taught: *one* object, say, where there are few. A chain that follows it
strongly then ends at the empty scene. A blank is made from the data alone,

    blank_i = m_i + median over pixels of (x_i - m_i)

with m_i the pixelwise median of N_MEDIAN images: objects stand in different places and vanish from
it, the light of x_i stays.
"""

import torch
from torch import Generator, Tensor

N_MEDIAN = 31  # images in a median; chosen: large objects cover a pixel in a third of them


def n_blanks(n: int, share: float) -> int:
    """How many of n images are replaced: at least one is, and one stays, unless the share is 0."""
    return min(max(1, round(share * n)), n - 1) if share > 0 else 0


def blank_some(x: Tensor, *, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images of which the first are replaced by blanks, each of its own light.

    A batch is drawn at random, so that its first images are any. With share 0 nothing is drawn from
    the generator and the images are returned as they are. No shape depends on what is drawn, so
    that an update can be replayed as a graph.

    Args:
        x: Clean images (B, 3, S, S) in [-1, 1]; medians are of members of the batch.
        share: Of the batch, in [0, 1), see :func:`n_blanks`.
        generator: On any device; what is drawn follows it.

    Returns:
        Images (B, 3, S, S), and which of them are blanks, (B,) bool.
    """
    n = n_blanks(len(x), share)
    blank = torch.arange(len(x), device=x.device) < n
    if n == 0:
        return x, blank
    place = generator.device
    members = torch.randint(len(x), (n, N_MEDIAN), generator=generator, device=place)
    empty = x[members.to(x.device)].median(1).values
    return torch.cat([in_the_light_of(x[:n], empty).clamp(-1, 1), x[n:]]), blank


def in_the_light_of(x: Tensor, empty: Tensor) -> Tensor:
    """Empty pictures (B, 3, S, S), shifted by the median difference of each channel from x."""
    shift = (x - empty).flatten(2).median(2).values
    return empty + shift[:, :, None, None]
