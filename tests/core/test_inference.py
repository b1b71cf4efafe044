"""Estimates against posteriors known in closed form."""

import math

import pytest
import torch
from references import hat_weights
from torch import Tensor

from ebmcli.core.factors import Factor
from ebmcli.core.inference import fuse, log_posterior_at, map_estimate, node_places

SIZE = Factor(name="size", kind="scalar", low=0.0, high=1.6)  # nodes 0.1 apart
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))


def uniform(factor: Factor) -> Tensor:
    return torch.full((factor.n_cells,), -math.log(factor.n_cells))


def interpolating(factor: Factor, value: float | tuple[float, float]) -> Tensor:
    """The posterior a concept is trained to give: linear interpolation between the nodes."""
    if isinstance(value, tuple):
        x, y = (torch.tensor(hat_weights(v, factor.nodes)) for v in value)
        return torch.outer(x, y).flatten().log()
    return torch.tensor(hat_weights(value, factor.nodes)).log()


class MeanOfPixels:
    """Images are c + sigma n; the mean of D pixels is N(c, sigma^2 / D) and sufficient for c."""

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        n_pixels = x[0].numel()
        distance = x.flatten(1).mean(1, keepdim=True) - torch.tensor(SIZE.nodes)
        return torch.log_softmax(-0.5 * n_pixels * (distance / sigma[:, None]) ** 2, dim=1)


def test_views_are_fused_by_bayes_rule() -> None:
    """Two independent observations of k, by hand: p(k | a, b) ~ pi_k p(a | k) p(b | k)."""
    prior = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    a, b = torch.tensor([0.1, 0.5, 0.4]), torch.tensor([0.3, 0.3, 0.9])  # p(a | k), p(b | k)
    single = torch.stack([prior * a / (prior @ a.double()), prior * b / (prior @ b.double())])
    joint = prior * a * b
    found = fuse(single.log(), prior.log()).exp()
    torch.testing.assert_close(found, joint / joint.sum(), rtol=1e-6, atol=0)


def test_one_view_is_left_as_it_is() -> None:
    log_q = torch.log_softmax(torch.randn(1, 9, generator=torch.Generator().manual_seed(0)), 1)
    prior = torch.log_softmax(torch.arange(9.0), 0)
    torch.testing.assert_close(fuse(log_q, prior), log_q[0].double(), rtol=1e-5, atol=1e-6)


def test_views_that_say_nothing_leave_the_prior_counted_once() -> None:
    prior = torch.tensor([0.7, 0.2, 0.1]).log()
    found = fuse(prior.expand(50, 3), prior).exp()
    torch.testing.assert_close(found, prior.double().exp(), rtol=1e-5, atol=0)


def test_gaussian_views_add_their_precisions() -> None:
    """Nodes as samples of a Gaussian: m views of variance s^2 give variance s^2 / m."""
    nodes, s = torch.tensor(SIZE.nodes, dtype=torch.float64), 0.3
    means = torch.tensor([0.6, 0.8, 0.9, 0.7], dtype=torch.float64)
    views = torch.log_softmax(-0.5 * ((nodes - means[:, None]) / s) ** 2, dim=1)
    q = fuse(views, uniform(SIZE)).exp()
    mean = float(q @ nodes)
    assert mean == pytest.approx(0.75, abs=1e-4)
    assert float(q @ (nodes - mean) ** 2) == pytest.approx(s**2 / 4, rel=1e-2)


def test_impossible_cells_give_no_nan() -> None:
    views = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]).log()
    prior = torch.tensor([0.5, 0.5, 0.0]).log()
    found = fuse(views, prior)
    assert torch.isfinite(found).all()
    assert found.exp().tolist() == pytest.approx([0.0, 1.0, 0.0])


def test_the_most_probable_name_comes_with_its_mass() -> None:
    estimate = map_estimate(torch.tensor([[0.2, 0.7, 0.1]]).log(), uniform(COLOR), COLOR)
    assert estimate.value == "green"
    assert estimate.cell == 1
    assert estimate.probability == pytest.approx(0.7)


@pytest.mark.parametrize("value", [0.0, 0.03, 0.05, 0.731, 1.55, 1.6])
@pytest.mark.parametrize("n_views", [1, 5])
def test_a_number_between_two_nodes_is_read_exactly(value: float, n_views: int) -> None:
    views = interpolating(SIZE, value).expand(n_views, -1)
    estimate = map_estimate(views, uniform(SIZE), SIZE)
    assert estimate.value == pytest.approx(value, abs=1e-6)
    assert estimate.probability == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("value", [(0.0, 0.0), (-1.0, 1.0), (0.31, -0.77), (0.9999, 0.06)])
def test_a_place_between_four_nodes_is_read_exactly(value: tuple[float, float]) -> None:
    estimate = map_estimate(interpolating(PLACE, value)[None], uniform(PLACE), PLACE)
    assert estimate.value == pytest.approx(value, abs=1e-6)
    assert estimate.probability == pytest.approx(1.0, abs=1e-6)


def test_a_view_that_says_nothing_hardly_moves_a_place() -> None:
    views = torch.stack([interpolating(PLACE, (0.31, -0.77)), uniform(PLACE)])
    value = map_estimate(views, uniform(PLACE), PLACE).value
    assert value == pytest.approx((0.31, -0.77), abs=0.03 * PLACE.spacing)


def test_the_probability_of_a_number_is_the_mass_within_one_spacing() -> None:
    q = torch.full((17,), 0.04 / 14)
    q[4:7] = torch.tensor([0.16, 0.64, 0.16])
    estimate = map_estimate(q.log()[None], uniform(SIZE), SIZE)
    assert estimate.value == pytest.approx(0.5)
    assert estimate.probability == pytest.approx(0.96)


def test_noise_levels_are_averaged() -> None:
    """A view at two levels counts as the geometric mean of both, not as two views."""
    levels = torch.tensor([[[0.8, 0.1, 0.1], [0.2, 0.6, 0.2]]]).log()
    mean = torch.tensor([0.4, math.sqrt(0.06), math.sqrt(0.02)])
    estimate = map_estimate(levels, uniform(COLOR), COLOR)
    assert estimate.value == "red"
    assert estimate.probability == pytest.approx(float(0.4 / mean.sum()))


def test_noised_images_give_the_closed_form_on_average_over_seeds() -> None:
    """E[log q] of a Gaussian posterior: its clean logits minus a constant, so the same argmax."""
    images = torch.stack([torch.full((3, 8, 8), c) for c in (0.2, 0.8, 1.3)])
    log_q = log_posterior_at(MeanOfPixels(), images, [0.1, 0.2], seed=0)
    torch.testing.assert_close(log_q.exp().sum(1), torch.ones(3))
    values = [map_estimate(row[None], uniform(SIZE), SIZE).value for row in log_q]
    assert values == pytest.approx([0.2, 0.8, 1.3], abs=4 * 0.2 / math.sqrt(192))


def test_an_image_gets_the_same_answer_in_any_batch() -> None:
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = log_posterior_at(MeanOfPixels(), images, [0.05, 0.1], seed=3)
    alone = torch.cat(
        [log_posterior_at(MeanOfPixels(), i[None], [0.05, 0.1], seed=3) for i in images]
    )
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-4)
    other = log_posterior_at(MeanOfPixels(), images, [0.05, 0.1], seed=4)
    assert not torch.allclose(whole, other)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    log_posterior_at(MeanOfPixels(), torch.zeros(1, 3, 8, 8), [0.1], seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_noise_levels_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="no noise levels"):
        log_posterior_at(MeanOfPixels(), torch.zeros(1, 3, 8, 8), [], seed=0)


def test_nodes_are_in_the_order_of_the_cells() -> None:
    for factor in (SIZE, PLACE):
        for cell, place in enumerate(node_places(factor).tolist()):
            value = factor.cell_value(cell)
            assert place == pytest.approx(value if isinstance(value, tuple) else (value,))
