"""Rejection: draw from the base, keep by the probability that the formula is true of the draw."""

from torch import Tensor


def reject(log_probability: Tensor, *, power: float, uniform: Tensor) -> Tensor:
    """Which draws x of p(x) are kept as draws of p(x) P(f | x)^power / Z: (B,), bool.

        keep x  if  u < P(f | x)^power,    u uniform in [0, 1)

    Exact for exact draws: P is at most 1, so the bound of rejection sampling is known. A draw is
    kept with probability Z = E_p[P^power], P(f) for power 1: one takes about 1 / P(f) draws.

    Args:
        log_probability: log P(f | x), nats, at most 0, (B,).
        power: 1 is Bayes' rule, p(x | f); more prefers pictures that show the formula clearly.
        uniform: One number per draw (B,).

    Source: von Neumann (1951).
    """
    return uniform < (power * log_probability).exp()


def first_accepted(accepted: Tensor, probability: Tensor) -> Tensor:
    """The draw to show for each picture: the first that was accepted, else the most probable; (P,).

    Taking the first, not the best of the accepted, keeps rejection exact.

    Args:
        accepted: (P, k), bool.
        probability: P(f | x), (P, k).
    """
    first = accepted.float().argmax(1)  # the first of the largest
    return first.where(accepted.any(1), probability.argmax(1))
