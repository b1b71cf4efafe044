"""Other hues: surfaces change colour, light and gloss stay, grey stays grey."""

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.hues import GREY_RATE, random_hues, turn_hues

ROUNDING = 1e-5  # a dozen float32 operations on numbers of order one
RED, YELLOW, GREEN = (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0)


def pixels(*colors: tuple[float, float, float]) -> Tensor:
    """One image per colour, (B, 3, 1, 1)."""
    return torch.tensor(colors)[:, :, None, None]


def noise(n: int = 6, *, seed: int = 0) -> Tensor:
    return 2 * torch.rand(n, 3, 5, 5, generator=Generator().manual_seed(seed)) - 1


def turned(x: Tensor, turn: float, chroma: float = 1.0) -> Tensor:
    return turn_hues(x, torch.full((len(x),), turn), torch.full((len(x),), chroma))


def close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, atol=ROUNDING, rtol=0)


def test_a_sixth_of_a_turn_goes_from_red_over_yellow_to_green() -> None:
    assert close(turned(pixels(RED, YELLOW), 1.0), pixels(YELLOW, GREEN))


def test_a_third_of_a_turn_exchanges_the_channels_cyclically() -> None:
    x = noise()
    assert close(turned(x, 2.0), x[:, [2, 0, 1]])


def test_no_turn_leaves_a_picture_as_it_is() -> None:
    x = noise()
    assert close(turned(x, 0.0), x)
    assert close(turned(x, 6.0), x)


def test_turns_add_up() -> None:
    x = noise()
    assert close(turned(turned(x, 1.3), 3.9), turned(x, 5.2))


def test_brightest_and_darkest_channel_stay() -> None:
    """Hence no intensity leaves the range it was in."""
    x = noise()
    y = turned(x, 0.7)
    assert close(y.amax(1), x.amax(1))
    assert close(y.amin(1), x.amin(1))


def test_grey_stays_grey() -> None:
    grey = noise()[:, :1].expand(-1, 3, -1, -1)
    assert close(turned(grey, 2.7), grey)


def test_light_and_gloss_stay_on_a_surface_of_another_colour() -> None:
    """turn(L a + w) = L turn(a) + w: what a renderer would show of the other surface."""
    surface = noise()
    light, gloss = torch.rand(2, 6, 1, 5, 5, generator=Generator().manual_seed(1))
    assert close(turned(light * surface + gloss, 1.9), light * turned(surface, 1.9) + gloss)


def test_without_chroma_a_picture_is_white_where_it_was_brightest() -> None:
    x = noise()
    assert close(turned(x, 1.0, chroma=0.0), x.amax(1, keepdim=True).expand_as(x))


def test_no_share_draws_nothing() -> None:
    """A run without it draws the same batches as before there was such a setting."""
    generator = Generator().manual_seed(3)
    before = generator.get_state()
    x = noise()
    assert random_hues(x, share=0.0, generator=generator) is x
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_share_is_that_of_changed_pictures(share: float) -> None:
    """Red pictures: changed with probability ``share``, an eighth of these to white.

    Counts of 4,000 are binomial: 4 standard deviations fail once in 16,000 seeds, and the seed is
    fixed.
    """
    n = 4000
    y = random_hues(
        pixels(RED).expand(n, -1, -1, -1), share=share, generator=Generator().manual_seed(0)
    )
    changed = (y - pixels(RED)).abs().amax((1, 2, 3)) > ROUNDING
    white = y.amin((1, 2, 3)) > 1 - ROUNDING
    for found, rate in ((changed, share), (white, share * GREY_RATE)):
        spread = (n * rate * (1 - rate)) ** 0.5
        assert abs(int(found.sum()) - n * rate) <= 4 * spread + 1  # a turn may be about 0


def test_the_same_generator_gives_the_same_pictures() -> None:
    x = noise()
    first, second = (
        random_hues(x, share=0.5, generator=Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first, second)
