"""Independent posteriors: the ordinary losses where nothing is confounded, frozen company."""

from dataclasses import replace

import pytest
import torch
from squares import COLOR, TALL, draw_squares, random_base, random_concept, squares
from torch import Generator, Tensor

from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.images import TrainingImages
from ebmcli.core.objective import add_noise, denoising_loss, draw_noise_levels
from ebmcli.training.independent import Partner, composed_score_loss, independent_objective
from ebmcli.training.objectives import ObjectiveConfig, posterior_objective

CONFIG = ObjectiveConfig(score_batch=4)


def posterior(factor: object = TALL) -> PosteriorConcept:
    assert factor in (TALL, COLOR)
    concept = random_concept("posterior", TALL if factor == TALL else COLOR)
    assert isinstance(concept, PosteriorConcept)
    return concept


def partner(labels: Tensor) -> Partner:
    return Partner(posterior(COLOR).requires_grad_(False), labels)


def balanced() -> tuple[TrainingImages, Tensor]:
    """60 pictures labelled so that every pair of cells occurs ten times."""
    images = squares(n=60).images
    return TrainingImages(images, torch.arange(60) % 2), torch.arange(60) % 3


def test_the_losses_are_the_ordinary_ones_where_nothing_is_confounded() -> None:
    """Pairs drawn independently and a partner that knows nothing: both terms, same draws."""
    images, others = balanced()
    concept, base, ignorant = posterior(), random_base(), posterior(COLOR)
    concept.log_prior.fill_(0.5).log_()
    with torch.no_grad():
        for parameter in ignorant.parameters():
            parameter.zero_()  # logits 0 everywhere: the posterior is the prior
    plain = posterior_objective(concept, images, batch_size=8, config=CONFIG, base=base)
    found = independent_objective(
        concept, images, Partner(ignorant, others), batch_size=8, config=CONFIG, base=base
    )
    first = plain(Generator().manual_seed(7))
    second = found(Generator().manual_seed(7))
    for name in ("cross_entropy", "denoising", "loss", "sigma"):
        assert second[name].item() == pytest.approx(first[name].item(), rel=1e-4), name


def test_only_the_new_concept_is_trained() -> None:
    _, labels = draw_squares(64, seed=0)
    concept, base = posterior(), random_base()
    other = partner(torch.from_numpy(labels["color"]))
    objective = independent_objective(
        concept, squares(TALL), other, batch_size=8, config=CONFIG, base=base
    )
    losses = objective(Generator().manual_seed(7))
    assert all(bool(value.isfinite()) for value in losses.values())
    losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    assert all(p.grad is not None and bool(p.grad.any()) for p in concept.parameters())
    assert all(p.grad is None for p in base.parameters())


def test_a_pair_that_was_left_out_leaves_all_losses_finite() -> None:
    images, others = balanced()
    assert images.labels is not None
    kept = ~((images.labels == 0) & (others == 1))
    objective = independent_objective(
        posterior(),
        TrainingImages(images.images[kept], images.labels[kept]),
        partner(others[kept]),
        batch_size=32,
        config=CONFIG,
        base=random_base(),
    )
    losses = objective(Generator().manual_seed(0))
    losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    assert all(bool(value.isfinite()) for value in losses.values())


def test_without_a_base_there_is_only_the_cross_entropy() -> None:
    images, others = balanced()
    objective = independent_objective(
        posterior(), images, partner(others), batch_size=8, config=CONFIG
    )
    assert set(objective(Generator().manual_seed(0))) == {"loss", "cross_entropy", "sigma"}


def test_images_without_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="needs labels"):
        independent_objective(
            posterior(), squares(), partner(torch.zeros(64)), batch_size=8, config=CONFIG
        )


def test_the_composed_loss_denoises_by_base_and_ratio() -> None:
    """With the ratio <w, x> the denoiser is D0 + sigma^2 w, from the same draws."""
    base, x0 = random_base(), squares().take(torch.arange(4))[0]
    w = torch.linspace(-0.1, 0.1, x0[0].numel()).view(x0[0].shape)
    loss = composed_score_loss(
        base, lambda x, _: (w * x).sum((1, 2, 3)), x0, Generator().manual_seed(2)
    )
    generator = Generator().manual_seed(2)
    sigma = draw_noise_levels(4, generator=generator)
    x = add_noise(x0, sigma, generator=generator)
    denoised = base.denoise(x, sigma) + sigma.square()[:, None, None, None] * w
    exact = denoising_loss(denoised, x0, base.gaussian.posterior_scale(sigma)).mean()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_hues_change_pictures_and_not_the_labels() -> None:
    """A share of 1 changes the loss; the same seed gives the same loss again."""
    concept = posterior()
    losses = []
    for share in (0.0, 1.0, 1.0):
        config = replace(CONFIG, hue_share=share)
        objective = posterior_objective(concept, squares(TALL), batch_size=8, config=config)
        losses.append(objective(Generator().manual_seed(7))["loss"].item())
    assert losses[1] == losses[2] != losses[0]
