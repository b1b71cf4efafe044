"""Cramer's V: 0 for independent labels, 1 where one tells the other, and by hand in between."""

import pytest
import torch

from ebmcli.core.factors import Factor
from ebmcli.evaluation.association import classes, cramers_v

SIZE = Factor(name="size", kind="scalar", low=0.2, high=0.6)
PLACE = Factor(name="place", kind="position", low=-1.0, high=1.0)


def test_a_two_by_two_table_by_hand() -> None:
    """30, 10, 20, 40: chi^2 = 100 (30 * 40 - 10 * 20)^2 / (40 * 60 * 50 * 50) = 50 / 3."""
    one = torch.tensor([0] * 40 + [1] * 60)
    other = torch.tensor([0] * 30 + [1] * 10 + [0] * 20 + [1] * 40)
    phi = 50 / 300 - 1 / 99
    assert cramers_v(one, other) == pytest.approx((phi / (1 - 1 / 99)) ** 0.5)
    assert cramers_v(other, one) == pytest.approx(cramers_v(one, other))


def test_what_tells_the_other_and_what_never_varies() -> None:
    names = torch.arange(300) % 3
    assert cramers_v(names, 2 - names) == pytest.approx(1, abs=0.01)
    assert cramers_v(names, torch.zeros(300)) == 0
    assert cramers_v(names[:1], names[:1]) == 0


def test_independent_labels_have_none_but_for_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (60, 2000):
        for _ in range(20):
            one, other = (torch.randint(8, (n,), generator=generator) for _ in range(2))
            assert cramers_v(one, other) == 0


def test_numbers_and_places_have_classes_by_parts_of_their_range() -> None:
    sizes = classes(SIZE, torch.tensor([0.2, 0.31, 0.45, 0.6]))
    assert sizes is not None
    assert torch.equal(sizes, torch.tensor([0, 1, 2, 3]))
    places = classes(PLACE, torch.tensor([[-1.0, -1.0], [0.0, 0.9], [1.0, -0.1]]))
    assert places is not None
    assert torch.equal(places, torch.tensor([0, 5, 7]))
    objects = Factor(name="object", kind="objects", parts=(PLACE, NAMED), most=2)
    assert classes(objects, torch.zeros(3, 2, 4)) is None


NAMED = Factor(name="color", kind="categorical", names=("red", "blue"))
