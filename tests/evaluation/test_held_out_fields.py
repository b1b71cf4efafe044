"""Numbers about fields, of a concept that knows the labels and of one that sees nothing."""

import pytest
import torch
from several import OBJECT, several

from ebmcli.core.targets import cell_weights, field_weights, label_prior
from ebmcli.evaluation.held_out_fields import field_quality, labelled, read_fullest


class Told:
    """Answers with given fields, image by image, whatever it is shown."""

    factor = OBJECT

    def __init__(self, fields: torch.Tensor) -> None:
        self.fields, self.at = fields, 0

    def log_posterior(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        rows = self.fields[self.at : self.at + len(x)]
        self.at += len(x)
        return rows.clamp_min(1e-12).log()


def test_a_field_that_knows_the_labels_finds_all() -> None:
    images = several(20)
    assert images.labels is not None
    (row,) = field_quality(Told(field_weights(OBJECT, images.labels)), images, sigmas=[0.1])
    assert (row.found, row.invented) == (1, 0)
    assert row.count_error == pytest.approx(0, abs=1e-4)
    assert row.log_loss == pytest.approx(0, abs=1e-4)
    assert row.ece == pytest.approx(0, abs=1e-4)
    assert set(row.to_dict()) == {"found", "invented", "count_error", "log_loss", "ece"}


def test_a_field_that_sees_nothing_misses_all() -> None:
    """It finds nothing, is wrong by the whole count, and calibrated where there is nothing."""
    images = several(20)
    assert images.labels is not None
    n_objects = images.labels[..., 0].sum().item()
    empty = torch.zeros(20, OBJECT.n_groups, OBJECT.n_outcomes)
    empty[:, :, 0] = 1
    (row,) = field_quality(Told(empty.flatten(1)), images, sigmas=[0.1])
    assert (row.found, row.invented) == (0, 0)
    assert row.count_error == pytest.approx(n_objects / 20)
    assert row.ece == pytest.approx(n_objects / 20 / OBJECT.n_groups)


def test_what_is_not_there_is_invented() -> None:
    images = several(20)
    assert images.labels is not None
    others = field_weights(OBJECT, several(20, seed=1).labels)
    (row,) = field_quality(Told(others), images, sigmas=[0.1])
    assert row.found < 0.5
    assert row.invented > 0.5


def test_labels_become_one_outcome_per_cell() -> None:
    """The prior counts each outcome once more than it was seen, in all cells alike."""
    images = several(50)
    assert images.labels is not None
    weights = cell_weights(OBJECT, images.labels).view(50, OBJECT.n_groups, OBJECT.n_outcomes)
    assert (weights.sum(2) == 1).all()
    assert weights[:, :, 1:].sum((1, 2)).tolist() == images.labels[..., 0].sum(1).tolist()
    things = labelled(images.labels[0], OBJECT)
    x, y = things[0]["position"]
    cell = int((x + 1) * 6) * 12 + int((y + 1) * 6)
    look = ("low", "tall").index(things[0]["height"]) * 3
    look += ("red", "green", "blue").index(things[0]["color"])
    assert weights[0, cell, 1 + look] == 1
    prior = label_prior(OBJECT, images.labels).exp().view(OBJECT.n_groups, -1)
    n_seen = weights.sum((0, 1)) + 1
    torch.testing.assert_close(prior[7], n_seen / n_seen.sum())


def test_of_every_image_the_cell_that_most_probably_holds_an_object_is_read() -> None:
    """All objects are known with probability 0.6, but for their look; one more cell has 0.5."""
    images, n = several(20), 20
    assert images.labels is not None
    truth = field_weights(OBJECT, images.labels).view(n, OBJECT.n_groups, OBJECT.n_outcomes)
    shown = truth[:, :, 1:].sum(2) > 0
    said = torch.zeros_like(truth)
    said[:, :, 0] = 1
    said[shown] = 0.3 * truth[shown]
    said[shown, 0], said[shown, -1] = 0.4, said[shown, -1] + 0.3
    free = (~shown).float().argmax(1)
    said[torch.arange(n), free, 0] = 0.5
    said[torch.arange(n), free, 1] = 0.5
    read = read_fullest(Told(said.flatten(1)), images, 0.1)
    assert read.log_posterior.shape == read.target.shape == (n, OBJECT.n_outcomes)
    assert (read.target[:, 0] == 0).all()  # an object is there
    torch.testing.assert_close(read.log_posterior[:, 0].exp(), torch.full((n,), 0.4))
    assert read.labels.tolist() == read.target.argmax(1).tolist()
    assert (read.labels > 0).all()
    know = read_fullest(Told(truth.flatten(1)), images, 0.1)
    assert know.hit.tolist() == [1.0] * n
    torch.testing.assert_close(know.confidence, torch.ones(n))
