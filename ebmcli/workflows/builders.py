"""Networks with their objectives, ready to be trained, and their numbers on held-out images."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept, build_concept
from ebmcli.core.factors import Factor
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.images import TrainingImages, to_intensity
from ebmcli.core.targets import cell_weights, label_prior
from ebmcli.core.union import Base
from ebmcli.evaluation.held_out import loss_per_level, posterior_quality
from ebmcli.evaluation.held_out_fields import field_quality
from ebmcli.training.gradients import Objective
from ebmcli.training.independent import Partner, independent_objective
from ebmcli.training.objectives import (
    base_objective,
    both_objective,
    conditional_objective,
    posterior_objective,
)
from ebmcli.workflows.finished import least_probability
from ebmcli.workflows.loading import Concept
from ebmcli.workflows.settings import Settings

N_FIT = 6000  # images the Gaussian is fitted to; chosen: more change nothing and cost memory
N_SCORED = 500  # held-out images of the denoising losses
N_READ = 1000  # held-out images of accuracies


@dataclass(frozen=True)
class Built:
    """A network in training and what it minimises."""

    network: nn.Module
    objective: Objective


def build_base(
    images: TrainingImages, settings: Settings, *, device: torch.device, autocast: bool
) -> Built:
    """A fresh base on the Gaussian of the images."""
    base = BaseEnergy(fit_gaussian(images, settings), settings.trunk)
    base = base.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's gap
    base.autocast = autocast
    objective = base_objective(
        base,
        images,
        batch_size=settings.training.batch_size,
        hue_share=settings.objective.hue_share,
    )
    return Built(base, objective)


def fit_gaussian(images: TrainingImages, settings: Settings) -> GaussianEnergy:
    """The Gaussian of a space, rounded to float16 so that a file holds exactly what was used."""
    gaussian = GaussianEnergy.fit(
        to_intensity(images.images[:N_FIT].cpu()),
        n_components=settings.gaussian.n_components,
        floor=settings.gaussian.floor,
    )
    for buffer in gaussian.buffers():
        buffer.copy_(buffer.half().float())
    return gaussian


def build_trained_concept(
    method: str,
    factor: Factor,
    images: TrainingImages,
    settings: Settings,
    *,
    base: Base | None,
    device: torch.device,
    autocast: bool,
    partner: Partner | None = None,
) -> Built:
    """A fresh concept of a method, with the prior of the labels.

    With a ``partner`` a posterior is trained to be independent of it.
    """
    assert images.labels is not None
    if factor.kind == "objects":
        n_objects = (images.labels[:, :, 0] > 0).sum(1)
        factor = replace(factor, fewest=int(n_objects.min()))
    log_prior = label_prior(factor, images.labels.cpu())
    gaussian = None
    if method != "posterior":
        gaussian = base.gaussian if base is not None else fit_gaussian(images, settings)
    network = build_concept(method, factor, settings.trunk, log_prior=log_prior, gaussian=gaussian)
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's gap
    network.autocast = autocast
    if base is not None:
        base.autocast = autocast
    if partner is not None:
        partner.concept.autocast = autocast
    return Built(network, _objective(network, images, settings, base, partner))


def _objective(
    network: Concept,
    images: TrainingImages,
    settings: Settings,
    base: Base | None,
    partner: Partner | None,
) -> Objective:
    batch_size, config = settings.training.batch_size, settings.objective
    match network:
        case PosteriorConcept() if partner is not None:
            return independent_objective(
                network, images, partner, batch_size=batch_size, config=config, base=base
            )
        case PosteriorConcept():
            return posterior_objective(
                network, images, batch_size=batch_size, config=config, base=base
            )
        case ConditionalConcept():
            return conditional_objective(network, images, batch_size=batch_size, config=config)
        case BothConcept():
            return both_objective(network, images, batch_size=batch_size, config=config)


def held_out_numbers(
    network: BaseEnergy | Concept, held: TrainingImages, *, base: Base | None
) -> dict[str, Any]:
    """What is printed after training and stored in the registry, as plain numbers."""
    scored = held.take_last(N_SCORED)
    if isinstance(network, BaseEnergy):
        losses = loss_per_level(
            lambda x, sigma, _: network.denoise(x, sigma), network.gaussian.posterior_scale, scored
        )
        mean = sum(losses.values()) / len(losses)
        rows = {f"{sigma:g}": round(loss, 4) for sigma, loss in losses.items()}
        return {"loss": round(mean, 4), "held_out": rows}
    numbers: dict[str, Any] = {}
    denoiser = conditional_denoiser(network, base)
    if denoiser is not None:
        denoise, scale = denoiser
        losses = loss_per_level(denoise, scale, scored)
        numbers["loss"] = round(sum(losses.values()) / len(losses), 4)
        numbers["loss_per_sigma"] = {f"{s:g}": round(v, 4) for s, v in losses.items()}
    if network.factor.kind == "objects":
        rows_of = field_quality(network, held.take_last(N_SCORED))
        numbers["found"] = round(rows_of[0].found, 4)
        numbers["least"] = least_probability(network, held.take_last(N_SCORED))
        numbers["held_out"] = {f"{row.sigma:g}": row.to_dict() for row in rows_of}
        return numbers
    n_read = N_READ
    if isinstance(network, ConditionalConcept):  # one pass per cell
        n_read = max(32, 2 * N_READ // network.factor.n_cells)
    quality = posterior_quality(network, held.take_last(n_read))
    numbers["accuracy"] = round(quality[0].accuracy, 4)
    numbers["least"] = least_probability(network, held.take_last(N_READ))
    numbers["held_out"] = {
        f"{row.sigma:g}": {
            "accuracy": round(row.accuracy, 4),
            **({} if row.mean_error is None else {"mean_error": round(row.mean_error, 4)}),
            "log_loss": round(row.log_loss, 4),
            "ece": round(row.calibration_error, 4),
        }
        for row in quality
    }
    return numbers


def conditional_denoiser(network: Concept, base: Base | None) -> Any:
    """(D(x, sigma | label), its scale) of a concept; None for a posterior without a base."""
    if isinstance(network, PosteriorConcept):
        if base is None:
            return None

        def denoise(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                ratio = network.log_ratio(leaf, sigma, cell_weights(network.factor, labels))
                (slope,) = torch.autograd.grad(ratio.sum(), leaf)
            return base.denoise(x, sigma) + sigma.square()[:, None, None, None] * slope

        return denoise, base.gaussian.posterior_scale
    part = network.conditional if isinstance(network, BothConcept) else network

    def denoise_conditional(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return part.denoise(x, sigma, cell_weights(part.factor, labels))

    return denoise_conditional, part.body.gaussian.posterior_scale
