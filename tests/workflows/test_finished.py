"""What finished pictures are asked for: the limit that real pictures set."""

from types import SimpleNamespace

import pytest
import torch
from several import OBJECT
from torch import Tensor

from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.images import TrainingImages
from ebmcli.core.logic import compile_formula
from ebmcli.core.statements import resolve
from ebmcli.core.targets import field_weights
from ebmcli.datasets.object_lists import encode_things
from ebmcli.workflows.finished import ODD, acceptance, least_probability

TALL = Factor(name="tall", kind="binary", names=("no", "yes"))
WIDTH = Factor(name="width", kind="scalar", low=0.0, high=1.0)


def grey(levels: Tensor) -> Tensor:
    """Pictures uint8 (N, 16, 16, 3), each of one intensity in [0, 1]."""
    return (255 * levels).round().to(torch.uint8)[:, None, None, None].expand(-1, 16, 16, 3)


def brightness(x: Tensor) -> Tensor:
    """Intensity in [0, 1] of noisy pictures, (B,): noise averages out over 768 numbers."""
    return ((x.mean((1, 2, 3)) + 1) / 2).clamp(0.001, 0.999)


def test_all_but_one_in_twenty_real_pictures_reach_the_limit():
    """The posterior of the label is the brightness of the picture, evenly spread."""
    levels = torch.linspace(0.1, 0.9, 200)
    labels = torch.arange(200) % 2

    def log_posterior(x: Tensor, _: Tensor) -> Tensor:
        right = brightness(x)
        both = torch.stack([right, 1 - right], dim=1)
        return torch.where((odd(x))[:, None], both.flip(1), both).log()

    def odd(x: Tensor) -> Tensor:
        """Which rows are labelled 1: the batches come in order."""
        return (torch.arange(len(x)) % 2) == 1

    concept = SimpleNamespace(factor=TALL, log_posterior=log_posterior)
    least = least_probability(concept, TrainingImages(grey(levels), labels))
    assert least == pytest.approx(0.1 + ODD * 0.8, abs=0.03)


def test_a_number_counts_the_cells_that_a_statement_of_it_counts():
    """All mass on the node of the label is a sure reading; on the far end it is none."""
    nodes = torch.tensor(WIDTH.nodes)
    labels = nodes[torch.arange(40) % len(nodes)]

    def at(cells: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(cells, len(nodes)).clamp_min(1e-9).float().log()

    images = TrainingImages(grey(torch.full((40,), 0.5)), labels)
    right = SimpleNamespace(factor=WIDTH, log_posterior=lambda x, _: at(torch.arange(len(x)) % 17))
    wrong = SimpleNamespace(
        factor=WIDTH, log_posterior=lambda x, _: at((torch.arange(len(x)) + 8) % 17)
    )
    assert len(nodes) == 17
    assert least_probability(right, images) == pytest.approx(1, abs=1e-3)
    assert least_probability(wrong, images) < 1e-3


def test_the_limit_of_objects_is_that_of_one_statement_with_all_its_parts():
    """A field that knows every first object with the probability of the picture's brightness."""
    levels = torch.linspace(0.1, 0.9, 200)
    things = [{"height": "low", "color": "red", "position": (0.25, 0.25)}, {}]
    labels = torch.from_numpy(encode_things(OBJECT, [things[:1], []])).repeat(100, 1, 1)
    one = field_weights(OBJECT, labels[:1])

    def log_posterior(x: Tensor, _: Tensor) -> Tensor:
        known = brightness(x)[:, None]
        empty = field_weights(OBJECT, labels[1:2])
        return (known * one + (1 - known) * empty).clamp_min(1e-12).log()

    concept = SimpleNamespace(factor=OBJECT, log_posterior=log_posterior)
    found = least_probability(concept, TrainingImages(grey(levels), labels))
    assert isinstance(found, dict)
    assert list(found) == [
        "height", "color", "position",
        "color height", "height position", "color position", "color height position",
    ]  # fmt: skip
    expected = float(levels[::2].quantile(ODD))
    assert list(found.values()) == pytest.approx([expected] * 7, abs=0.02)


def test_the_limit_of_a_place_is_above_that_of_a_look() -> None:
    """A field that knows where the first object stands, but not whether it is red or green."""
    thing = {"height": "low", "color": "red", "position": (0.25, 0.25)}
    both = [encode_things(OBJECT, [[{**thing, "color": name}]]) for name in ("red", "green")]
    one, other = (field_weights(OBJECT, torch.from_numpy(rows)) for rows in both)

    def log_posterior(x: Tensor, _: Tensor) -> Tensor:
        return (0.6 * one + 0.4 * other).clamp_min(1e-12).log().expand(len(x), -1)

    concept = SimpleNamespace(factor=OBJECT, log_posterior=log_posterior)
    labels = torch.from_numpy(both[0]).repeat(40, 1, 1)
    found = least_probability(concept, TrainingImages(grey(torch.full((40,), 0.5)), labels))
    assert isinstance(found, dict)
    expected = {"position": 1.0, "height position": 1.0, "color": 0.6, "color position": 0.6}
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-3)


def test_several_objects_ask_for_as_much_each() -> None:
    def limit(text: str, known: float | dict[str, float]) -> float:
        formula = compile_formula(resolve(parse(text), {"object": OBJECT}), {"object": OBJECT})
        return acceptance(formula, {"object": known})

    assert limit("object(color=red)", 0.9) == pytest.approx(0.9)
    assert limit("object(color=red) & object(color=blue)", 0.9) == pytest.approx(0.81)
    assert limit("object(color=red, position=(0,0))", 0.01) == 0.125
    assert limit("object(color=red) & ~object(color=blue)", 0.999) == pytest.approx(0.95**2)
    by_parts = {"color": 0.9, "color position": 0.4}
    assert limit("object(color=red) & object(position=(0,0), color=blue)", by_parts) == (
        pytest.approx(0.9 * 0.4)
    )
    assert limit("object(color=red) & object(height=low)", by_parts) == 0.5
    assert limit("object", by_parts) == 0.5


def test_pictures_of_nothing_set_no_limit() -> None:
    labels = torch.from_numpy(encode_things(OBJECT, [[]])).repeat(40, 1, 1)
    concept = SimpleNamespace(factor=OBJECT, log_posterior=None)
    images = TrainingImages(grey(torch.full((40,), 0.5)), labels)
    found = least_probability(concept, images)
    assert isinstance(found, dict)
    assert set(found.values()) == {0.0}
