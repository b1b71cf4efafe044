"""Blanks: objects vanish from medians, the light of each image stays."""

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.blanks import blank_some, n_blanks

SIZE = 16


def dots(n: int) -> Tensor:
    """Grey pictures, each of its own light, with a white square at a place of its own."""
    x = torch.linspace(-0.5, 0.5, n)[:, None, None, None].expand(n, 3, SIZE, SIZE).clone()
    for i in range(n):
        row, column = divmod(5 * i % 144, 12)
        x[i, :, row : row + 4, column : column + 4] = 1.0
    return x


def test_blanks_have_no_object_and_the_light_of_their_image() -> None:
    x = dots(40)
    replaced, blank = blank_some(x, share=0.25, generator=Generator().manual_seed(0))
    assert blank.tolist() == [True] * 10 + [False] * 30
    assert torch.equal(replaced[10:], x[10:])
    flat = replaced[:10].flatten(1)
    light = torch.linspace(-0.5, 0.5, 40)[:10]
    assert torch.allclose(flat.median(1).values, light, atol=0.03)  # next to it, one step off
    assert (flat.max(1).values - light).max() < 0.5  # the square is 1.0 to 1.5 brighter
    assert float(x.max()) == 1.0


def test_without_a_share_nothing_is_drawn() -> None:
    generator, x = Generator().manual_seed(0), dots(4)
    before = generator.get_state()
    replaced, blank = blank_some(x, share=0.0, generator=generator)
    assert replaced is x
    assert not blank.any()
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [(64, 0.1, 6), (64, 0.001, 1), (8, 0.99, 7), (2, 0.5, 1), (9, 0.0, 0)],
)
def test_some_are_replaced_and_some_stay(n: int, share: float, expected: int) -> None:
    assert n_blanks(n, share) == expected


def test_blanks_stay_in_range() -> None:
    x = 2 * torch.rand(8, 3, SIZE, SIZE, generator=Generator().manual_seed(1)) - 1
    x[0] = 1.0
    replaced, _ = blank_some(x, share=0.5, generator=Generator().manual_seed(0))
    assert replaced.abs().max() <= 1
