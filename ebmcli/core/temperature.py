"""Temperatures: how far the evidence of a posterior is trusted, per noise level.

Notation: k a cell (K cells), pi_k its prior, q_k(x, sigma) the posterior as trained, T(sigma) > 0.
Tempered is the evidence, which is the ratio of posterior to prior, and not the posterior itself:

    q_k^(T) = pi_k (q_k / pi_k)^(1/T) / normaliser

T > 1 takes confidence away, T < 1 adds some, T = 1 changes nothing. Where an image says nothing,
q = pi, every T leaves pi as it is: at high noise a posterior tends to its prior whatever T was
fitted, which softmax(log q / T) of Guo et al. would not do. With a uniform prior both are the same
and the order of the cells never changes. A network whose logits are added to log pi, as ours,
has its logits divided by T. A weight w in a formula multiplies: the exponent is w / T.

Source: Guo et al. (2017), On Calibration of Modern Neural Networks,
https://arxiv.org/abs/1706.04599
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebmcli.core.levels import between_levels


class Temperatures(nn.Module):
    """T(sigma): log T is linear in log sigma between the levels, and constant outside.

    Args:
        levels: T by sigma (intensity), at least one, all positive and finite.

    Raises:
        ValueError: There is none, or one is not positive and finite.
    """

    log_sigma: Tensor
    log_temperature: Tensor

    def __init__(self, levels: Mapping[float, float]) -> None:
        super().__init__()
        numbers = [*levels.keys(), *levels.values()]
        if not numbers or not all(0 < number < math.inf for number in numbers):
            raise ValueError(f"temperatures are positive and finite, by noise level: {levels}")
        pairs = torch.tensor(sorted(levels.items()), dtype=torch.float64).log().float()
        self.register_buffer("log_sigma", pairs[:, 0].clone(), persistent=False)
        self.register_buffer("log_temperature", pairs[:, 1].clone(), persistent=False)

    def at(self, sigma: Tensor) -> Tensor:
        """T of noise levels (B,): (B,), float32; exactly 1 where all temperatures are 1."""
        return between_levels(self.log_sigma, self.log_temperature, sigma).exp()


def tempered_posterior(
    evidence: Tensor, log_prior: Tensor, temperature: Tensor | None = None, *, n_groups: int = 1
) -> Tensor:
    """log q^(T) = log softmax_k(log pi_k + s_k / T): (B, K), nats.

    Args:
        evidence: s, the log ratio of posterior to prior up to a constant per image, (B, K).
        log_prior: log pi, (K,).
        temperature: T, (B,), positive; None and exactly 1 are the same, bit for bit.
        n_groups: Neighbouring groups of K / n_groups cells, of which each has probability 1.
    """
    if temperature is not None:
        evidence = evidence / temperature[:, None]
    grouped = (log_prior + evidence).reshape(len(evidence), n_groups, -1)
    return F.log_softmax(grouped, dim=2).flatten(1)
