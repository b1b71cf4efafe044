"""Telling two factors apart, in a world of 4 by 5 pictures where two pairs are never seen.

A picture is x = (u, v): u speaks about s by the table a, v about c by the table b, exactly as
formulas assume. Everything can be counted.
"""

import pytest
import torch
from torch import Tensor

from ebmcli.core.independence import cross_entropy_given, pair_log_ratio, pair_shares

A = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.3, 0.5]]).double()
B = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.5, 0.1]]).double()
J = torch.tensor([[0.0, 0.3], [0.2, 0.2], [0.3, 0.0]]).double()  # (s, c); (0, 0), (2, 1) unseen
S, C = torch.meshgrid(torch.arange(3), torch.arange(2), indexing="ij")


def images() -> tuple[Tensor, Tensor]:
    """u and v of all 20 pictures."""
    u, v = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
    return u.flatten(), v.flatten()


def joint() -> Tensor:
    """p(x, s, c) of training pictures: (20, 3, 2)."""
    u, v = images()
    return J * A[:, u].T[:, :, None] * B[:, v].T[:, None, :]


def expected_loss(logits: Tensor) -> Tensor:
    """The mean of cross_entropy_given over p(x, s, c), for logits (20, 3)."""
    total = torch.zeros((), dtype=torch.float64)
    for s, c in zip(S.flatten().tolist(), C.flatten().tolist(), strict=True):
        if J[s, c] > 0:
            own, other = torch.full((20,), s), torch.full((20,), c)
            loss = cross_entropy_given(logits, J.log(), own, other)
            total = total + (joint()[:, s, c] * loss).sum()
    return total


def test_shares_are_counted_and_unseen_pairs_have_none() -> None:
    found = pair_shares(
        torch.tensor([0, 0, 1, 2]), torch.tensor([1, 1, 0, 0]), n_cells=3, n_others=2
    )
    assert found.exp().flatten().tolist() == [0.0, 0.5, 0.25, 0.0, 0.25, 0.0]


def test_what_a_picture_says_of_s_alone_has_the_least_loss() -> None:
    """It reaches the conditional entropy H(s | x, c), below which no logits get."""
    u, _ = images()
    alone = A.log()[:, u].T.clone().requires_grad_()
    loss = expected_loss(alone)
    p = joint()
    given = p / p.sum(1, keepdim=True).clamp_min(1e-300)
    entropy = -(p * given.clamp_min(1e-300).log()).sum()
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-12)
    (slope,) = torch.autograd.grad(loss, alone)
    assert slope.abs().max() < 1e-15


def test_an_ordinary_posterior_uses_the_company_of_s_as_a_clue() -> None:
    """So its logits are others, and their loss is larger."""
    u, _ = images()
    p = joint().sum(2)
    ordinary = (p / p.sum(1, keepdim=True)).log() - J.sum(1).log()
    same_u = ordinary.view(4, 5, 3).log_softmax(2)
    assert (same_u - same_u[:, :1]).abs().max() > 0.5  # differs with v, which says nothing of s
    assert expected_loss(ordinary) > expected_loss(A.log()[:, u].T) + 0.01


def test_company_of_one_kind_teaches_nothing() -> None:
    """Where c was seen with one s only, the loss is 0 whatever the logits are."""
    shares = torch.tensor([[0.5, 0.0], [0.0, 0.5]]).log()
    logits = torch.tensor([[3.0, -2.0], [-9.0, 4.0]])
    loss = cross_entropy_given(logits, shares, torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert loss.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("s", "c"), [(0, 1), (1, 0), (1, 1), (2, 0)])
def test_the_ratio_of_a_pair_is_that_of_its_density(s: int, c: int) -> None:
    """log p(x | s, c) / p(x) of all pictures, from tables that each lack a summand."""
    u, v = images()
    summand = torch.linspace(-3, 4, 20).double()[:, None]
    found = pair_log_ratio(
        A.log()[:, u].T + summand,
        B.log()[:, v].T - 2 * summand,
        J.log(),
        torch.full((20,), s),
        torch.full((20,), c),
    )
    exact = (joint()[:, s, c] / J[s, c] / joint().sum((1, 2))).log()
    assert torch.allclose(found, exact, atol=1e-12, rtol=0)


def test_pairs_that_were_drawn_independently_change_nothing() -> None:
    """J = pi rho: the cross-entropy is that of the posterior with prior pi."""
    prior, other = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.6, 0.4]).double()
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(20) % 3
    loss = cross_entropy_given(logits, (prior[:, None] * other).log(), labels, torch.arange(20) % 2)
    log_q = (logits + prior.log()).log_softmax(1)
    assert torch.allclose(loss, -log_q[torch.arange(20), labels], atol=1e-12, rtol=0)
