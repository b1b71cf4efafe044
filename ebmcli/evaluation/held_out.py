"""Numbers about an energy or a concept on images it was not trained on, per noise level.

Notation: x0 held-out images, x = x0 + sigma n with noise n from a fixed seed, so that two models
are compared on the same noisy images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmcli.core.concepts import TrainedConcept, refuse_nan
from ebmcli.core.factors import Factor
from ebmcli.core.images import TrainingImages
from ebmcli.core.objective import add_noise, cross_entropy, denoising_loss
from ebmcli.core.targets import cell_weights
from ebmcli.evaluation.metrics import calibration_error

LOSS_SIGMAS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
POSTERIOR_SIGMAS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
BATCH = 64

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]  # x, sigma, labels -> D


@dataclass(frozen=True, kw_only=True)
class PosteriorQuality:
    """How well log p(k | x, sigma) does at one noise level."""

    sigma: float
    accuracy: float  # names: share of right MAP cells; numbers: share within one spacing
    mean_error: float | None  # numbers: mean |MAP - value| per coordinate, in the factor's unit
    log_loss: float  # cross-entropy with the cell weights, nats
    calibration_error: float  # expected calibration error of the MAP cell's probability


def loss_per_level(
    denoise: Denoiser,
    scale: Callable[[Tensor], Tensor],
    images: TrainingImages,
    *,
    sigmas: Sequence[float] = LOSS_SIGMAS,
) -> dict[float, float]:
    """Mean denoising loss of held-out images at each noise level; 1 is the Gaussian's."""
    losses = {}
    for sigma in sigmas:
        generator = Generator().manual_seed(0)
        total = 0.0
        for index in batches(len(images)):
            x0, labels = images.take(index)
            levels = torch.full((len(x0),), sigma, device=x0.device)
            x = add_noise(x0, levels, generator=generator)
            denoised = denoise(x, levels, labels).detach()
            total += float(denoising_loss(denoised, x0, scale(levels)).sum())
        losses[sigma] = total / len(images)
    return losses


def posterior_quality(
    concept: TrainedConcept,
    images: TrainingImages,
    *,
    sigmas: Sequence[float] = POSTERIOR_SIGMAS,
) -> list[PosteriorQuality]:
    """Accuracy, log loss and calibration of a concept on held-out images."""
    return [
        quality(concept.factor, read_posterior(concept, images, sigma), sigma) for sigma in sigmas
    ]


def batches(n: int) -> list[Tensor]:
    """The indices 0 to n - 1 in batches."""
    return [torch.arange(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a concept said about N images at one noise level, and what was true; on the CPU."""

    log_posterior: Tensor  # (N, K), nats
    target: Tensor  # cell weights of the labels, (N, K)
    labels: Tensor  # (N,) or (N, 2)

    @property
    def confidence(self) -> Tensor:
        """The probability of the MAP cell, (N,)."""
        return self.log_posterior.exp().amax(1)

    @property
    def hit(self) -> Tensor:
        """Weight of the label in the MAP cell, (N,): 0 or 1 for names, in between for numbers.

        What :attr:`confidence` foretells: its mean over the images of a calibrated posterior.
        """
        return self.target.gather(1, self.log_posterior.argmax(1)[:, None])[:, 0]


def read_batches(
    concept: TrainedConcept, images: TrainingImages, sigma: float, *, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """log q of every image at one noise level, (B, K), with its labels, batch by batch.

    Raises:
        DivergedError: It is not a number.
    """
    generator = Generator().manual_seed(seed)
    for index in batches(len(images)):
        x0, labels = images.take(index)
        levels = torch.full((len(x0),), sigma, device=x0.device)
        with torch.no_grad():
            log_q = concept.log_posterior(add_noise(x0, levels, generator=generator), levels)
        refuse_nan(log_q, concept.factor.name, sigma=sigma)
        yield log_q, labels


def read_posterior(
    concept: TrainedConcept, images: TrainingImages, sigma: float, *, seed: int = 0
) -> Read:
    """The posterior of every image, at one noise level; ``seed`` draws the noise.

    Raises:
        DivergedError: It is not a number.
    """
    parts, targets, truths = [], [], []
    for log_q, labels in read_batches(concept, images, sigma, seed=seed):
        parts.append(log_q.float().cpu())
        targets.append(cell_weights(concept.factor, labels).cpu())
        truths.append(labels.cpu())
    return Read(log_posterior=torch.cat(parts), target=torch.cat(targets), labels=torch.cat(truths))


def quality(factor: Factor, read: Read, sigma: float) -> PosteriorQuality:
    """Accuracy, log loss and calibration from what was read at one noise level."""
    right, error = _right(factor, read.log_posterior.argmax(1), read.labels)
    return PosteriorQuality(
        sigma=sigma,
        accuracy=float(right.float().mean()),
        mean_error=None if factor.names else float(error.mean()),
        log_loss=float(cross_entropy(read.log_posterior, read.target).mean()),
        calibration_error=calibration_error(read.confidence, read.hit),
    )


def _right(factor: Factor, cell: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which MAP cells are right, and the mean error per coordinate of numbers."""
    if factor.names:
        right = cell == labels
        return right, torch.zeros_like(right, dtype=torch.float32)
    values = torch.tensor([factor.cell_value(k) for k in range(factor.n_cells)])
    found = values[cell].view(len(labels), -1)
    distance = (found - labels.view(len(labels), -1)).abs()
    return (distance <= factor.spacing).all(1), distance.mean(1)
