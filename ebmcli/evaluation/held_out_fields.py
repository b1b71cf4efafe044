"""Numbers about a field on images it was not trained on: what was found, missed and invented."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ebmcli.core.concepts import TrainedConcept
from ebmcli.core.factors import Factor, Things
from ebmcli.core.fields import thing_of_row
from ebmcli.core.found import found_objects, n_matched
from ebmcli.core.images import TrainingImages
from ebmcli.core.objective import cross_entropy
from ebmcli.core.targets import cell_weights
from ebmcli.evaluation.held_out import POSTERIOR_SIGMAS, Read, read_batches
from ebmcli.evaluation.metrics import calibration_error


@dataclass(frozen=True, kw_only=True)
class FieldQuality:
    """How well a field does at one noise level.

    ``found`` is the share of true objects that were found with their look, within 0.2 of their
    place; ``invented`` the share of found objects that are none; ``count_error`` the mean of |sum
    over cells of the probability to be occupied - true count|; ``log_loss`` the cross-entropy of
    all cells together, nats per image; ``ece`` the calibration error of "this cell is occupied".
    """

    sigma: float
    found: float
    invented: float
    count_error: float
    log_loss: float
    ece: float

    def to_dict(self) -> dict[str, float]:
        """All but the noise level, rounded."""
        return {name: round(v, 4) for name, v in asdict(self).items() if name != "sigma"}


def field_quality(
    concept: TrainedConcept, images: TrainingImages, *, sigmas: Sequence[float] = POSTERIOR_SIGMAS
) -> list[FieldQuality]:
    """Objects found and missed, counts and calibration of a field on held-out images."""
    return [_quality_at(concept, images, sigma) for sigma in sigmas]


def _quality_at(concept: TrainedConcept, images: TrainingImages, sigma: float) -> FieldQuality:
    factor = concept.factor
    n_true = n_found = n_right = 0
    losses, occupied, truly, count_errors = [], [], [], []
    for log_q, labels in read_batches(concept, images, sigma, seed=0):
        target = cell_weights(factor, labels)
        losses.append(cross_entropy(log_q, target))
        chance, truth = (1 - _empty(values, factor) for values in (log_q.exp(), target))
        occupied.append(chance.flatten())
        truly.append(truth.flatten() > 0)
        count_errors.append((chance.sum(1) - truth.sum(1)).abs())
        for row, label in zip(log_q, labels, strict=True):
            things, known = found_objects(row, factor), labelled(label, factor)
            n_true, n_found = n_true + len(known), n_found + len(things)
            n_right += n_matched(things, known, factor)
    return FieldQuality(
        sigma=sigma,
        found=n_right / max(1, n_true),
        invented=(n_found - n_right) / max(1, n_found),
        count_error=float(torch.cat(count_errors).mean()),
        log_loss=float(torch.cat(losses).mean()),
        ece=calibration_error(torch.cat(occupied), torch.cat(truly)),
    )


def read_fullest(
    concept: TrainedConcept, images: TrainingImages, sigma: float, *, seed: int = 0
) -> Read:
    """The posterior of one cell of every image: the one that most probably holds an object.

    What can be there is nothing, or an object of one look; which cell it is depends on the image
    alone, so that a calibrated field is calibrated in it.

    Args:
        concept: Of a list of objects.
        images: With its labels.
        sigma: Noise level.
        seed: Draws the noise.

    Raises:
        DivergedError: The posterior is not a number.
    """
    factor = concept.factor
    parts: list[Tensor] = []
    targets: list[Tensor] = []
    for log_q, labels in read_batches(concept, images, sigma, seed=seed):
        fullest = _empty(log_q, factor).argmin(1)
        for values, found in ((log_q, parts), (cell_weights(factor, labels), targets)):
            cells = values.reshape(len(log_q), factor.n_groups, -1)
            found.append(cells[torch.arange(len(log_q)), fullest].float().cpu())
    target = torch.cat(targets)
    return Read(log_posterior=torch.cat(parts), target=target, labels=target.argmax(1))


def _empty(cells: Tensor, factor: Factor) -> Tensor:
    """Of cells (B, G K) what belongs to "empty": (B, G)."""
    return cells.reshape(len(cells), factor.n_groups, -1)[:, :, 0]


def labelled(rows: Tensor, factor: Factor) -> Things:
    """The objects in the rows (any, columns) of one label."""
    return [thing_of_row(factor, row) for row in rows[rows[:, 0] > 0].tolist()]
