"""Training images: intensities, labels that stay with their picture, the run's own draws."""

import torch
from squares import COLOR, squares

from ebmcli.core.images import TrainingImages, to_bytes, to_intensity


def numbered(n: int = 10) -> TrainingImages:
    """Picture i is filled with i and has the label i."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 4, 4, 3)
    return TrainingImages(images, torch.arange(n))


def test_bytes_survive_the_way_to_intensities_and_back() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    x = to_intensity(images)
    assert x.shape == (1, 3, 16, 16)
    assert (float(x.min()), float(x.max())) == (-1, 1)
    assert torch.equal(to_bytes(x), images)


def test_intensities_beyond_the_range_are_cut() -> None:
    x = torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert to_bytes(x).flatten().tolist() == [0] * 3 + [255] * 3


def test_channels_come_first_and_rows_keep_their_order() -> None:
    images = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    images[0, 1, 2, 0] = 255
    assert to_intensity(images)[0, 0, 1, 2] == 1


def test_every_picture_is_drawn_with_its_own_label() -> None:
    x, labels = numbered().draw(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_bytes(x)[:, 0, 0, 0], labels.to(torch.uint8))
    assert len(set(labels.tolist())) > 5


def test_draws_come_from_the_generator_alone() -> None:
    data = squares(COLOR)
    first, second = (data.draw(8, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_a_split_holds_out_the_last_ones() -> None:
    first, last = numbered().split(3)
    assert first.labels is not None
    assert last.labels is not None
    assert (len(first), len(last)) == (7, 3)
    assert last.labels.tolist() == [7, 8, 9]
    assert first.labels.tolist() == list(range(7))


def test_the_last_ones_are_all_where_there_are_fewer() -> None:
    data = numbered()
    assert data.take_last(99) is data
    assert len(data.take_last(4)) == 4


def test_a_base_has_no_labels() -> None:
    x, labels = squares().take(torch.arange(2))
    assert x.shape == (2, 3, 16, 16)
    assert labels.numel() == 0
