"""Inference: the most probable value of a factor, given one image or several of one thing.

Notation: k a cell of the factor (K cells), q_k(x) = p(k | x) what a concept says of image x, pi_k
the prior, x_1 ... x_m views of one thing, h the spacing of nodes. All logarithms natural.

Source: Du, Li and Mordatch, Compositional Visual Generation with Energy Based Models,
https://arxiv.org/abs/2004.06030, section 3.4 and table 1: the position of an object is the argmin
of the energy over a grid of positions, and energies of several images are summed. -log q_k is
that energy minus log pi_k, up to a constant of the image. Three things differ: the prior is
counted, once, the value is read between the nodes, and it comes with its probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ebmcli.core.factors import Factor, Label
from ebmcli.core.found import found_objects

FLOOR = -1e4  # nats, chosen: stands for log 0, so that differences stay finite


class Posterior(Protocol):
    """What inference asks of a concept."""

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma) for every cell: (B, K)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The most probable value of a factor.

    ``probability`` is the mass of the cell for names; for numbers and places that of all nodes
    within one spacing of the value (in both coordinates). The value of a list of objects is what
    ``found.found_objects`` finds; ``probability`` that of the most probable outcome of every cell
    of the floor together, and ``cell`` is 0.
    """

    value: Label
    probability: float
    cell: int


def log_posterior_at(
    concept: Posterior, images: Tensor, sigmas: Sequence[float], *, seed: int, n_groups: int = 1
) -> Tensor:
    """log q of images, averaged over small noise levels.

        log q_k(x) = mean over sigma of log p(k | x + sigma n_sigma, sigma), normalised

    The noise n_sigma is the same for every image of every call with this seed (common random
    numbers): equal images get equal answers in any batch, and differences between images are
    not noise.

    Args:
        concept: With ``log_posterior``.
        images: Clean, (B, 3, S, S), intensities in [-1, 1].
        sigmas: Noise levels, intensity, at least one.
        seed: Of the noise.
        n_groups: ``Factor.n_groups``: cells are normalised within each group.

    Returns:
        (B, K), nats.
    """
    generator = torch.Generator().manual_seed(seed)
    total: Tensor | None = None
    for sigma in sigmas:
        noise = torch.randn(images.shape[1:], generator=generator).to(images)
        level = torch.full((len(images),), sigma, device=images.device, dtype=images.dtype)
        log_q = concept.log_posterior(images + sigma * noise, level).clamp_min(FLOOR)
        total = log_q if total is None else total + log_q
    if total is None:
        raise ValueError("no noise levels")
    grouped = (total / len(sigmas)).reshape(len(total), n_groups, -1)
    return torch.log_softmax(grouped, dim=2).flatten(1)


def fuse(log_posteriors: Tensor, log_prior: Tensor, *, n_groups: int = 1) -> Tensor:
    """The posterior given all views, independent of each other given the value.

        log p(k | x_1 ... x_m) = log pi_k + sum_i (log q_k(x_i) - log pi_k) + const

    Args:
        log_posteriors: log q(x_i), (m, K).
        log_prior: log pi, (K,).
        n_groups: ``Factor.n_groups``.

    Returns:
        (K,), normalised, in float64: sums over many views keep their digits.
    """
    prior = log_prior.double().clamp_min(FLOOR).to(log_posteriors.device)
    ratios = log_posteriors.double().clamp_min(FLOOR) - prior
    grouped = (prior + ratios.sum(0)).reshape(n_groups, -1)
    return torch.log_softmax(grouped, dim=1).flatten()


def map_estimate(log_posteriors: Tensor, log_prior: Tensor, factor: Factor) -> Estimate:
    """The most probable value, given all views of one thing.

    Names: the cell of highest fused posterior. Numbers and places: the mean position of the
    nodes that are at most one step from that cell (3, or 3 x 3; fewer at the border), weighted
    by the sum over views of q_k. For a posterior that interpolates between two nodes, as
    concepts are trained to, this is exact, whereas the product over views would draw the value
    to the nearest node. A posterior much wider than h is read to h / 2 only.

    Args:
        log_posteriors: log q(x_i), (m, K), or (m, n, K) at n noise levels, whose logarithms are
            averaged; m = 1 for a single image.
        log_prior: log pi, (K,).
        factor: With K cells.
    """
    if factor.kind == "objects":
        return field_estimate(log_posteriors, log_prior, factor)
    if log_posteriors.dim() == 3:
        log_posteriors = torch.log_softmax(log_posteriors.clamp_min(FLOOR).mean(1), dim=1)
    fused = fuse(log_posteriors, log_prior)
    cell = int(fused.argmax())
    if factor.names:
        return Estimate(value=factor.names[cell], probability=float(fused[cell].exp()), cell=cell)
    places = node_places(factor).to(fused)
    near = (places - places[cell]).abs().amax(1) < 1.5 * factor.spacing
    views = torch.logsumexp(log_posteriors.double().clamp_min(FLOOR), dim=0)[near]
    centre = torch.softmax(views, dim=0) @ places[near]
    within = (places - centre).abs().amax(1) <= (1 + 1e-6) * factor.spacing
    value = tuple(float(c) for c in centre)
    return Estimate(
        value=(value[0], value[1]) if factor.kind == "position" else value[0],
        probability=min(1.0, float(fused[within].exp().sum())),
        cell=cell,
    )


def field_estimate(log_posteriors: Tensor, log_prior: Tensor, factor: Factor) -> Estimate:
    """The objects found in a field, given all views (m, G K) of one floor."""
    fused = fuse(log_posteriors, log_prior, n_groups=factor.n_groups)
    likeliest = fused.view(factor.n_groups, -1).amax(1).sum()
    return Estimate(value=found_objects(fused, factor), probability=float(likeliest.exp()), cell=0)


def node_places(factor: Factor) -> Tensor:
    """Coordinates of the nodes of a number (K, 1) or a place (K, 2), in the factor's unit."""
    axis = torch.tensor(factor.nodes, dtype=torch.float64)
    if factor.kind == "scalar":
        return axis[:, None]
    return torch.cartesian_prod(axis, axis)
