"""Training a posterior that knows its factor and not the company it kept: see core/independence."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmcli.core.concepts import PosteriorConcept, TrainedConcept
from ebmcli.core.images import TrainingImages
from ebmcli.core.independence import cross_entropy_given, pair_log_ratio, pair_shares
from ebmcli.core.objective import add_noise, denoising_loss, draw_noise_levels
from ebmcli.core.union import Base
from ebmcli.training.gradients import Losses, Objective
from ebmcli.training.objectives import ObjectiveConfig, spread_noise_levels

Ratio = Callable[[Tensor, Tensor], Tensor]  # x, sigma -> log p(x | s, c) / p(x) of a batch, (B,)


@dataclass(frozen=True)
class Partner:
    """A frozen concept of which another shall be independent, and its labels.

    ``labels`` are cells of the training images, (N,), in their order.
    """

    concept: TrainedConcept
    labels: Tensor


def independent_objective(
    concept: PosteriorConcept,
    images: TrainingImages,
    partner: Partner,
    *,
    batch_size: int,
    config: ObjectiveConfig,
    base: Base | None = None,
) -> Objective:
    """Cross-entropy of p(s | x, c), plus denoising by E0 - log p(x | s, c) / p(x) of seen pairs.

    The first teaches the posterior what the image says about s beside c; the second makes its
    gradient right *in company*: the composed denoiser meets the clean image. Both are those of
    ``posterior_objective`` where the factors are independent in the data and the partner knows
    nothing. Both factors have names; partner and base are frozen.

    Raises:
        ValueError: ``images`` has no labels.
    """
    if images.labels is None:
        raise ValueError("independent_objective needs labels")
    log_shares = pair_shares(
        images.labels.cpu(),
        partner.labels,
        n_cells=concept.factor.n_cells,
        n_others=partner.concept.factor.n_cells,
    ).to(images.device)
    place = images.labels.device
    both = torch.stack([images.labels.long(), partner.labels.to(place).long()], dim=1)
    pairs = TrainingImages(images.images, both, device=images.device)

    def objective(generator: Generator) -> Losses:
        x0, labels = pairs.draw(batch_size, generator=generator)
        own, other = labels.unbind(1)
        sigma = spread_noise_levels(batch_size, generator=generator).to(x0.device)
        x = add_noise(x0, sigma, generator=generator)
        entropy = cross_entropy_given(_evidence(concept, x, sigma), log_shares, own, other).mean()
        losses = {"loss": entropy, "cross_entropy": entropy, "sigma": sigma.max()}
        if base is not None and config.score_weight > 0 and config.score_batch > 0:
            part = slice(0, config.score_batch)

            def ratio(x: Tensor, sigma: Tensor) -> Tensor:
                first, second = _evidence(concept, x, sigma), _evidence(partner.concept, x, sigma)
                return pair_log_ratio(first, second, log_shares, own[part], other[part])

            score = composed_score_loss(base, ratio, x0[part], generator)
            losses |= {"loss": entropy + config.score_weight * score, "denoising": score}
        return losses

    return objective


def composed_score_loss(base: Base, ratio: Ratio, x0: Tensor, generator: Generator) -> Tensor:
    """Mean denoising loss of D = D0 + sigma^2 d/dx ratio(x, sigma), D0 of the frozen base.

    Its least value over all ratios is reached by log p(x | s, c) / p(x), the density of noisy
    images of the batch's labels: E |D - x0|^2 = E |D - E[x0 | x, s, c]|^2 + a constant.
    """
    sigma = draw_noise_levels(len(x0), generator=generator).to(x0.device)
    x = add_noise(x0, sigma, generator=generator)
    plain = base.denoise(x, sigma).detach()
    leaf = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(ratio(leaf, sigma).sum(), leaf, create_graph=True)
    denoised = plain + sigma.square()[:, None, None, None] * slope
    return denoising_loss(denoised, x0, base.gaussian.posterior_scale(sigma)).mean()


def _evidence(concept: TrainedConcept, x: Tensor, sigma: Tensor) -> Tensor:
    """log p(k | x, sigma) / pi_k: (B, K)."""
    return concept.log_posterior(x, sigma) - concept.log_prior
