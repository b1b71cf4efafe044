"""What one update minimises, for a base and for each method of training a concept.

Notation: x0 clean images, x = x0 + sigma n, D the denoiser of an energy, r its scale, t (B, K)
cell weights of the labels, q the posterior. Every objective draws its own batch, noise levels and
noise from the generator it is given, on the generator's device.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.blanks import blank_some, n_blanks
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept
from ebmcli.core.hues import COLOR_NAMES, change_some, random_hues
from ebmcli.core.images import TrainingImages
from ebmcli.core.objective import (
    SIGMA_MAX,
    SIGMA_MIN,
    add_noise,
    cross_entropy,
    denoising_loss,
    draw_noise_levels,
)
from ebmcli.core.targets import cell_weights
from ebmcli.core.union import Base
from ebmcli.errors import ConfigError
from ebmcli.training.gradients import Losses, Objective

MIRRORED = 0.5  # share of pictures that a residual sees mirrored


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the parts of a loss."""

    score_weight: float = 0.3  # of the denoising loss of base + posterior; 0 by default on a CPU
    score_batch: int = 8  # images of each batch that enter it
    label_dropout: float = 0.15  # share of images trained without label, method conditional
    ratio_weight: float = 0.02  # of the squared gap between both log ratios (nats), method both
    hue_share: float = 0.0  # share of images shown in other colours; see posterior_objective
    blank_share: float = 0.0  # share of images replaced by blanks, which show nothing

    def __post_init__(self) -> None:
        if not 0 <= self.label_dropout < 1:
            raise ConfigError(f"label_dropout must be in [0, 1), got {self.label_dropout}")
        if not 0 <= self.hue_share <= 1:
            raise ConfigError(f"hue_share must be in [0, 1], got {self.hue_share}")
        if not 0 <= self.blank_share < 1:
            raise ConfigError(f"blank_share must be in [0, 1), got {self.blank_share}")
        for name in ("score_weight", "score_batch", "ratio_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


def base_objective(
    base: BaseEnergy, images: TrainingImages, *, batch_size: int, hue_share: float = 0.0
) -> Objective:
    """Denoising score matching of the energy of a space.

    With a ``hue_share`` it is the energy of a mixture: of the images, and of the images in other
    colours.
    """

    def objective(generator: Generator) -> Losses:
        x0, _ = _drawn(images, batch_size, hue_share, generator)
        sigma = draw_noise_levels(batch_size, generator=generator).to(x0.device)
        x = add_noise(x0, sigma, generator=generator)
        denoised = base.denoise(x, sigma, create_graph=True)
        loss = denoising_loss(denoised, x0, base.gaussian.posterior_scale(sigma)).mean()
        return {"loss": loss, "sigma": sigma.max()}

    return objective


def posterior_objective(
    concept: PosteriorConcept,
    images: TrainingImages,
    *,
    batch_size: int,
    config: ObjectiveConfig,
    base: Base | None = None,
) -> Objective:
    """Cross-entropy of log p(k | x, sigma), plus denoising by E0 - log q + log pi.

    Cross-entropy makes the posterior right on average; the second term makes its *gradient* right,
    which is what drawing uses. The base is frozen. With a ``blank_share`` that much of a batch are
    blanks, see ``core/blanks.py``, of which it is to say the prior; no object, of a list of them.
    With a ``hue_share`` images in other colours keep their labels, but for a factor that is a
    color: of them it is to say its prior, as their color is none of those it has names for.

    Source: Chao et al. (2022), Denoising likelihood score matching, for the second term.
    """

    def objective(generator: Generator) -> Losses:
        x0, labels = images.draw(batch_size, generator=generator)
        x0, changed = change_some(x0, share=config.hue_share, generator=generator)
        target = cell_weights(concept.factor, labels)
        if concept.factor.name in COLOR_NAMES:
            target = torch.where(changed[:, None], nothing(concept), target)
        if config.blank_share > 0:
            x0, blank = blank_some(x0, share=config.blank_share, generator=generator)
            target = torch.where(blank[:, None], nothing(concept), target)
        sigma = spread_noise_levels(batch_size, generator=generator).to(x0.device)
        x = add_noise(x0, sigma, generator=generator)
        entropy = cross_entropy(concept.log_posterior(x, sigma), target).mean()
        losses = {"loss": entropy, "cross_entropy": entropy, "sigma": sigma.max()}
        if base is not None and config.score_weight > 0 and config.score_batch > 0:
            part = slice(0, config.score_batch)
            if config.blank_share > 0:  # those at the end are images
                n_blank = n_blanks(batch_size, config.blank_share)
                part = slice(max(n_blank, batch_size - config.score_batch), None)
            score = _posterior_score_loss(concept, base, x0[part], target[part], generator)
            losses |= {"loss": entropy + config.score_weight * score, "denoising": score}
        return losses

    return objective


def nothing(concept: PosteriorConcept) -> Tensor:
    """Cell weights (K,) of a blank: the prior, as nothing speaks for a value; empty cells."""
    if concept.factor.kind == "objects":
        empty = concept.log_prior.new_zeros(concept.factor.n_groups, concept.factor.n_outcomes)
        empty[:, 0].fill_(1.0)  # a number set by index would be a tensor of the CPU
        return empty.flatten()
    return concept.log_prior.exp()


def _posterior_score_loss(
    concept: PosteriorConcept, base: Base, x0: Tensor, target: Tensor, generator: Generator
) -> Tensor:
    """Mean denoising loss of D = D0 + sigma^2 d/dx log (q_k / pi_k), D0 of the frozen base.

    Soft targets, of numbers and places, have their cell drawn from them: given k images have the
    density p(x | k), while those of a value have not the mixture of its cells' densities.
    """
    if concept.factor.kind in ("scalar", "position"):
        target = drawn_cells(target, generator)
    sigma = draw_noise_levels(len(x0), generator=generator).to(x0.device)
    x = add_noise(x0, sigma, generator=generator)
    plain = base.denoise(x, sigma).detach()
    leaf = x.detach().requires_grad_()
    ratio = concept.log_ratio(leaf, sigma, target)
    (slope,) = torch.autograd.grad(ratio.sum(), leaf, create_graph=True)
    denoised = plain + sigma.square()[:, None, None, None] * slope
    return denoising_loss(denoised, x0, base.gaussian.posterior_scale(sigma)).mean()


def drawn_cells(target: Tensor, generator: Generator) -> Tensor:
    """One cell per row of weights (B, K), drawn by them: 1 there and 0 elsewhere."""
    uniform = torch.rand(len(target), generator=generator, device=generator.device)
    reached = target.cumsum(1) > uniform.to(target.device)[:, None] * target.sum(1, keepdim=True)
    return torch.where(reached & (reached.cumsum(1) == 1), 1.0, 0.0)


def conditional_objective(
    concept: ConditionalConcept,
    images: TrainingImages,
    *,
    batch_size: int,
    config: ObjectiveConfig,
) -> Objective:
    """Denoising score matching of E(x, sigma | c), with labels dropped now and then."""

    def objective(generator: Generator) -> Losses:
        x0, target = _draw_with_dropout(concept, images, batch_size, config, generator)
        sigma = draw_noise_levels(batch_size, generator=generator).to(x0.device)
        x = add_noise(x0, sigma, generator=generator)
        denoised = concept.denoise(x, sigma, target, create_graph=True)
        scale = concept.body.gaussian.posterior_scale(sigma)
        loss = denoising_loss(denoised, x0, scale).mean()
        return {"loss": loss, "sigma": sigma.max()}

    return objective


def both_objective(
    concept: BothConcept, images: TrainingImages, *, batch_size: int, config: ObjectiveConfig
) -> Objective:
    """The losses of both parts, and the square of the gap between their log ratios.

    The gap E(x | none) - E(x | c) - log (q_c / pi_c) ties the conditional energy to the posterior:
    the cross-entropy has seen how likely each value is, which score matching does not see.
    """
    first = conditional_objective(concept.conditional, images, batch_size=batch_size, config=config)
    second = posterior_objective(
        concept.posterior, images, batch_size=4 * batch_size, config=config
    )

    def objective(generator: Generator) -> Losses:
        one, two = first(generator), second(generator)
        x0, labels = _drawn(images, max(1, batch_size // 4), config.hue_share, generator)
        sigma = spread_noise_levels(len(x0), generator=generator).to(x0.device)
        x = add_noise(x0, sigma, generator=generator)
        target = cell_weights(concept.factor, labels)
        with torch.no_grad():
            known = concept.posterior.log_ratio(x, sigma, target)
        gap = (concept.conditional.log_ratio(x, sigma, target) - known).square().mean()
        return {
            "loss": one["loss"] + two["loss"] + config.ratio_weight * gap,
            "denoising": one["loss"],
            "cross_entropy": two["cross_entropy"],
            "ratio_gap": gap,
            "sigma": torch.maximum(one["sigma"], two["sigma"]),
        }

    return objective


def _drawn(
    images: TrainingImages, n: int, hue_share: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """n images, some of them in other colours, and their labels."""
    x0, labels = images.draw(n, generator=generator)
    return random_hues(x0, share=hue_share, generator=generator), labels


def _draw_with_dropout(
    concept: ConditionalConcept,
    images: TrainingImages,
    n: int,
    config: ObjectiveConfig,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Images and their cell weights, zero where the label is dropped."""
    x0, labels = _drawn(images, n, config.hue_share, generator)
    uniform = torch.rand(n, generator=generator, device=generator.device).to(x0.device)
    kept = uniform >= config.label_dropout
    return x0, cell_weights(concept.factor, labels) * kept[:, None]


def residual_objective(
    base: BaseEnergy, images: TrainingImages, own: TrainingImages, *, batch_size: int
) -> Objective:
    """Logistic loss of noised data against as many noised samples of the energy's own chains.

    Each picture is mirrored now and then, data and samples alike: what the chains do wrong is no
    matter of left and right, and the samples are few.

    Source: Gutmann and Hyvarinen (2010), equation 3.
    """

    def objective(generator: Generator) -> Losses:
        parts = [part.draw(batch_size, generator=generator)[0] for part in (images, own)]
        x0 = torch.cat(parts)
        uniform = torch.rand(len(x0), generator=generator, device=generator.device)
        mirrored = uniform.to(x0.device) < MIRRORED
        x0 = torch.where(mirrored[:, None, None, None], x0.flip(3), x0)
        sigma = spread_noise_levels(batch_size, generator=generator).repeat(2).to(x0.device)
        ratio = base.log_ratio(add_noise(x0, sigma, generator=generator), sigma)
        data, samples = ratio.chunk(2)
        loss = F.softplus(-data).mean() + F.softplus(samples).mean()
        return {"loss": loss, "sigma": sigma.max()}

    return objective


def spread_noise_levels(n: int, *, generator: Generator) -> Tensor:
    """sigma (n,), ln sigma uniform over the range: a posterior is asked at every level alike."""
    low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
    uniform = torch.rand(n, generator=generator, device=generator.device)
    return (low + (high - low) * uniform).exp()
