"""Objectives: the right weights get gradients, and the losses are those of the formulas."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from several import OBJECT
from squares import COLOR, gaussian, random_base, random_concept, squares
from torch import Generator, Tensor, nn

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.blanks import blank_some
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept
from ebmcli.core.factors import Factor
from ebmcli.core.hues import change_some
from ebmcli.core.images import TrainingImages, to_intensity
from ebmcli.core.objective import (
    SIGMA_MAX,
    SIGMA_MIN,
    add_noise,
    draw_noise_levels,
)
from ebmcli.core.targets import cell_weights
from ebmcli.errors import ConfigError
from ebmcli.training.gradients import Objective
from ebmcli.training.objectives import (
    ObjectiveConfig,
    _posterior_score_loss,
    base_objective,
    both_objective,
    conditional_objective,
    drawn_cells,
    nothing,
    posterior_objective,
    residual_objective,
    spread_noise_levels,
)

CONFIG = ObjectiveConfig(score_batch=4)


def seeded(seed: int = 7) -> Generator:
    return Generator().manual_seed(seed)


def posterior() -> PosteriorConcept:
    concept = random_concept("posterior", COLOR)
    assert isinstance(concept, PosteriorConcept)
    return concept


def conditional() -> ConditionalConcept:
    concept = random_concept("conditional", COLOR)
    assert isinstance(concept, ConditionalConcept)
    return concept


def both() -> BothConcept:
    concept = random_concept("both", COLOR)
    assert isinstance(concept, BothConcept)
    return concept


def trained_by(objective: Objective, network: nn.Module) -> set[str]:
    """Names of the weights that one update moves."""
    losses = objective(seeded())
    assert all(value.ndim == 0 and bool(value.isfinite()) for value in losses.values())
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    return {
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
    }


def all_weights(network: nn.Module) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def test_a_base_trains_all_but_its_additive_constants() -> None:
    base = random_base()
    moved = trained_by(base_objective(base, squares(), batch_size=8), base)
    constants = {"network.linear.bias", "network.head.4.bias"}
    assert moved == all_weights(base) - constants


def test_a_posterior_trains_itself_and_never_its_base() -> None:
    concept, base = posterior(), random_base()
    objective = posterior_objective(concept, squares(COLOR), batch_size=8, config=CONFIG, base=base)
    assert trained_by(objective, concept) == all_weights(concept)
    assert all(parameter.grad is None for parameter in base.parameters())


def test_a_posterior_trains_on_a_frozen_base_too() -> None:
    concept, base = posterior(), random_base().requires_grad_(False)
    objective = posterior_objective(concept, squares(COLOR), batch_size=8, config=CONFIG, base=base)
    assert trained_by(objective, concept) == all_weights(concept)


def test_a_conditional_energy_trains_its_condition_too() -> None:
    concept = conditional()
    objective = conditional_objective(concept, squares(COLOR), batch_size=8, config=CONFIG)
    constants = {"body.network.linear.bias", "body.network.head.4.bias"}
    assert trained_by(objective, concept) == all_weights(concept) - constants


def test_both_parts_are_trained_at_once() -> None:
    concept = both()
    objective = both_objective(concept, squares(COLOR), batch_size=8, config=CONFIG)
    constants = {f"conditional.body.network.{name}.bias" for name in ("linear", "head.4")}
    moved = trained_by(objective, concept)
    assert all_weights(concept) - moved <= constants
    assert set(objective(seeded())) == {
        "loss", "denoising", "cross_entropy", "ratio_gap", "sigma",
    }  # fmt: skip


def test_the_gap_does_not_pull_the_posterior() -> None:
    """With the weight of the gap the posterior's gradient stays as it is."""
    gradients = []
    for weight in (0.0, 5.0):
        concept = both()
        config = ObjectiveConfig(ratio_weight=weight)
        objective = both_objective(concept, squares(COLOR), batch_size=8, config=config)
        objective(seeded())["loss"].backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad for p in concept.posterior.parameters()])
    for first, second in zip(*gradients, strict=True):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


def test_of_blanks_a_posterior_is_to_say_its_prior() -> None:
    """By hand from the same draws: two blanks of eight, and the score of the others alone."""
    concept, base, data = posterior(), random_base(), squares(COLOR)
    config = replace(CONFIG, blank_share=0.25, score_batch=8)
    objective = posterior_objective(concept, data, batch_size=8, config=config, base=base)
    losses = objective(seeded())

    generator = seeded()
    x0, labels = data.draw(8, generator=generator)
    x0, blank = blank_some(x0, share=0.25, generator=generator)
    assert blank.tolist() == [True] * 2 + [False] * 6
    sigma = spread_noise_levels(8, generator=generator)
    log_q = concept.log_posterior(add_noise(x0, sigma, generator=generator), sigma)
    of_blanks = -(log_q[:2] * concept.log_prior.exp()).sum(1)
    of_images = -log_q[torch.arange(2, 8), labels[2:]]
    entropy = torch.cat([of_blanks, of_images]).mean()
    assert losses["cross_entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    score = _posterior_score_loss(concept, base, x0[2:], cell_weights(COLOR, labels[2:]), generator)
    assert losses["denoising"].item() == pytest.approx(score.item(), rel=1e-5)


def test_of_other_hues_a_posterior_of_colors_is_to_say_its_prior() -> None:
    """By hand from the same draws; a posterior of shapes keeps its labels there."""
    concept, data = posterior(), squares(COLOR)
    config = replace(CONFIG, hue_share=0.5)
    loss = posterior_objective(concept, data, batch_size=8, config=config)(seeded())["loss"]

    generator = seeded()
    x0, labels = data.draw(8, generator=generator)
    x0, changed = change_some(x0, share=0.5, generator=generator)
    assert 0 < changed.sum() < 8
    sigma = spread_noise_levels(8, generator=generator)
    log_q = concept.log_posterior(add_noise(x0, sigma, generator=generator), sigma)
    by_label = -log_q[torch.arange(8), labels]
    by_prior = -(log_q * concept.log_prior.exp()).sum(1)
    entropy = torch.where(changed, by_prior, by_label).mean()
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-5)

    concept.factor = replace(COLOR, name="shape")
    kept = posterior_objective(concept, data, batch_size=8, config=config)(seeded())["loss"]
    assert kept.item() == pytest.approx(by_label.mean().item(), rel=1e-5)


def test_the_blank_of_a_list_of_objects_has_none() -> None:
    concept = SimpleNamespace(factor=OBJECT, log_prior=torch.zeros(OBJECT.n_cells))
    empty = nothing(concept).view(OBJECT.n_groups, OBJECT.n_outcomes)
    assert empty[:, 0].tolist() == [1.0] * OBJECT.n_groups
    assert empty.sum() == OBJECT.n_groups


def test_the_losses_of_a_posterior_are_those_computed_by_hand() -> None:
    """Cross-entropy and the denoising term, from the same draws, in the order of the objective."""
    concept, base, data = posterior(), random_base(), squares(COLOR)
    objective = posterior_objective(concept, data, batch_size=8, config=CONFIG, base=base)
    losses = objective(seeded())

    generator = seeded()
    x0, labels = data.draw(8, generator=generator)
    sigma = spread_noise_levels(8, generator=generator)
    x = add_noise(x0, sigma, generator=generator)
    log_q = concept.log_posterior(x, sigma)
    entropy = -log_q[torch.arange(8), labels].mean()
    assert losses["cross_entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert losses["sigma"] == sigma.max()

    x0, labels = x0[:4], labels[:4]
    sigma = draw_noise_levels(4, generator=generator)
    x = add_noise(x0, sigma, generator=generator).requires_grad_()
    picked = concept.log_posterior(x, sigma)[torch.arange(4), labels]
    energy = base.energy(x, sigma) - picked + concept.log_prior[labels]
    (slope,) = torch.autograd.grad(energy.sum(), x)
    denoised = x - sigma.square()[:, None, None, None] * slope
    scale = base.gaussian.posterior_scale(sigma)
    error = (denoised - x0).square().mean((1, 2, 3)) / scale.square()
    assert losses["denoising"].item() == pytest.approx(error.mean().item(), rel=1e-3)
    total = entropy + CONFIG.score_weight * error.mean()
    assert losses["loss"].item() == pytest.approx(total.item(), rel=1e-3)


@pytest.mark.parametrize("config", [{"score_weight": 0.0}, {"score_batch": 0}])
def test_the_denoising_term_can_be_left_out(config: dict[str, float]) -> None:
    objective = posterior_objective(
        posterior(),
        squares(COLOR),
        batch_size=8,
        config=ObjectiveConfig(**config),  # type: ignore[arg-type]
        base=random_base(),
    )
    losses = objective(seeded())
    assert set(losses) == {"loss", "cross_entropy", "sigma"}
    assert losses["loss"] is losses["cross_entropy"]


def test_without_the_network_a_base_costs_what_its_gaussian_costs() -> None:
    base = random_base()
    for parameter in base.network.parameters():
        parameter.data.zero_()
    data = squares()
    loss = base_objective(base, data, batch_size=8)(seeded())["loss"]
    generator = seeded()
    x0, _ = data.draw(8, generator=generator)
    sigma = draw_noise_levels(8, generator=generator)
    x = add_noise(x0, sigma, generator=generator)
    error = (base.gaussian.denoise(x, sigma) - x0).square().mean((1, 2, 3))
    expected = (error / gaussian().posterior_scale(sigma).square()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_labels_are_dropped_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within four standard errors, and a label that is kept is the right one."""
    concept, data, n, rate = conditional(), squares(COLOR, n=32), 4000, 0.15
    seen: list[Tensor] = []

    def noting(x: Tensor, sigma: Tensor, target: Tensor, **_: bool) -> Tensor:
        seen.append(target)
        return x

    monkeypatch.setattr(concept, "denoise", noting)
    config = ObjectiveConfig(label_dropout=rate)
    conditional_objective(concept, data, batch_size=n, config=config)(seeded())
    (target,) = seen
    kept = target.sum(1)
    assert set(kept.tolist()) == {0.0, 1.0}
    share = 1 - kept.mean().item()
    assert share == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / n))
    labels = data.draw(n, generator=seeded())[1]
    assert torch.equal(target[kept > 0], cell_weights(COLOR, labels)[kept > 0])


def test_noise_levels_of_a_posterior_are_uniform_in_their_logarithm() -> None:
    n = 4000
    logs = spread_noise_levels(n, generator=seeded()).log()
    low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
    assert logs.min() >= low
    assert logs.max() <= high
    share = ((logs - low) / (high - low) < 0.25).float().mean().item()
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / n))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"label_dropout": 1.0}, r"label_dropout must be in \[0, 1\)"),
        ({"score_weight": -1.0}, "score_weight must not be negative"),
        ({"score_batch": -1}, "score_batch must not be negative"),
        ({"ratio_weight": -0.1}, "ratio_weight must not be negative"),
    ],
)
def test_weights_out_of_range_are_refused(setting: dict[str, float], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ObjectiveConfig(**setting)  # type: ignore[arg-type]


class ExactRatio(BaseEnergy):
    """t times the log ratio of two noised pictures, a of the data and b of the samples."""

    def __init__(self, a: Tensor, b: Tensor, t: float) -> None:
        nn.Module.__init__(self)
        self.a, self.b, self.t = a, b, t

    def log_ratio(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(|x - b|^2 - |x - a|^2) / 2 sigma^2, (B,)."""
        far, near = ((x - part).square().sum((1, 2, 3)) for part in (self.b, self.a))
        return self.t * (far - near) / (2 * sigma.square())


def test_the_loss_of_a_residual_is_least_at_the_log_ratio_of_the_densities() -> None:
    """One picture against another that differs by one grey level; 4,000 noisy copies of each."""
    pictures = torch.full((2, 16, 16, 3), 100, dtype=torch.uint8)
    pictures[1] += 1
    data, own = (TrainingImages(picture[None]) for picture in pictures)
    a, b = to_intensity(pictures)

    def loss(t: float) -> float:
        objective = residual_objective(ExactRatio(a, b, t), data, own, batch_size=4000)
        return float(objective(seeded())["loss"])

    assert loss(0.0) == pytest.approx(2 * math.log(2), rel=1e-6)  # knows nothing
    assert loss(1.0) < min(loss(0.5), loss(2.0)) < loss(0.0)
    assert loss(-1.0) > loss(0.0)


def test_cells_are_drawn_by_their_weights() -> None:
    target = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]).repeat(4000, 1)
    cells = drawn_cells(target, seeded())
    assert set(cells.flatten().tolist()) == {0.0, 1.0}
    assert cells.sum(1).tolist() == [1.0] * len(cells)
    assert cells[1::2].mean(0).tolist() == [0.0, 0.0, 1.0]
    assert cells[::2].mean(0).tolist() == pytest.approx([0.25, 0.75, 0.0], abs=0.03)


class Line:
    """Images of one pixel, whose intensity is the number: every posterior is a sum over a grid."""

    factor = Factor(name="size", kind="scalar", low=-1.0, high=1.0)
    grid = torch.linspace(-1, 1, 201, dtype=torch.float64)

    def __init__(self, power: float) -> None:
        self.power = power
        self.weights = cell_weights(self.factor, self.grid).double()
        self.log_prior = self.weights.mean(0).log()
        self.gaussian = SimpleNamespace(posterior_scale=torch.ones_like)

    def log_weights(self, x: Tensor, sigma: Tensor) -> Tensor:
        distance = (x.reshape(-1, 1) - self.grid) / sigma[:, None]
        return torch.log_softmax(-0.5 * distance.square(), dim=1)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return (self.log_weights(x, sigma).exp() @ self.grid).reshape(x.shape)

    def log_ratio(self, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        q = (self.log_weights(x, sigma).exp() @ self.weights).clamp_min(1e-300).log()
        ratio = self.power * (q - self.log_prior)
        ratio = ratio - torch.logsumexp(ratio + self.log_prior, dim=1, keepdim=True)
        return torch.logsumexp(ratio + target.double().clamp_min(1e-30).log(), dim=1)


def test_the_denoising_term_of_a_number_rewards_no_false_certainty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The right posterior has the least loss, neither a surer one nor one that is less sure.

    At a third of a spacing, where the mixture over both nodes, no cell drawn, prefers power 1.5.
    """
    sigma = Line.factor.spacing / 3
    levels = "ebmcli.training.objectives.draw_noise_levels"
    monkeypatch.setattr(levels, lambda n, generator: torch.full((n,), sigma))
    numbers = Line.grid[torch.randint(201, (3000,), generator=seeded())]
    x0, target = numbers.reshape(-1, 1, 1, 1), cell_weights(Line.factor, numbers)

    def loss(power: float) -> float:
        line: Any = Line(power)  # concept and base in one: it has what the loss asks of either
        score = _posterior_score_loss(line, line, x0, target, seeded())
        return score.item()

    right = loss(1.0)
    assert loss(1.5) > right
    assert loss(0.7) > right
