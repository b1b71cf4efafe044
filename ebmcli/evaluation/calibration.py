"""Temperature scaling: how far the evidence of a posterior should be trusted, from held-out images.

Notation: N images, K cells, t (N, K) cell weights of the labels, s = log (q / pi) the evidence of
the posterior as trained, b = 1 / T. See ``core.temperature`` for what a temperature does.

Source: Guo et al. (2017), On Calibration of Modern Neural Networks,
https://arxiv.org/abs/1706.04599
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.factors import Factor
from ebmcli.core.objective import cross_entropy
from ebmcli.core.temperature import tempered_posterior
from ebmcli.evaluation.held_out import Read
from ebmcli.evaluation.metrics import calibration_error

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # intensity; where temperatures are fitted
PULL = 0.25  # of 1/T: standard deviation of what is believed beforehand about it; chosen
HOTTEST = 16.0  # no temperature is above it, or below its inverse
N_HALVINGS = 50  # of the interval of 1/T: beyond the last digit that is kept


@dataclass(frozen=True, kw_only=True)
class Level:
    """The temperature of one noise level, and what it changes.

    The numbers "after" (without "before") are of images that the temperature was not fitted to:
    each half of the images is read at the temperature of the other half.
    """

    sigma: float
    temperature: float
    log_loss_before: float  # nats
    log_loss: float
    calibration_error_before: float
    calibration_error: float


def fit_temperature(evidence: Tensor, log_prior: Tensor, target: Tensor) -> float:
    """The temperature of least log loss, with a weak pull to 1.

        minimise over b = 1 / T:   sum_i CE(t_i, softmax(log pi + b s_i)) + (b - 1)^2 / (2 PULL^2)

    The first term is convex in b, since logsumexp is; the second makes the minimum unique, and
    finite where every image is read rightly and the log loss alone would want T = 0. It counts
    as much as a few images. The root of the derivative is found by bisection.

    Args:
        evidence: s, up to a constant per image, (N, K).
        log_prior: log pi, (K,).
        target: t, (N, K).

    Raises:
        ValueError: No image, or evidence that is not finite.
    """
    s, prior, t = evidence.double(), log_prior.double(), target.double()
    if len(s) == 0 or not bool(s.isfinite().all()):
        raise ValueError("a temperature is fitted to the finite evidence of at least one image")
    s = s - (t * s).sum(1, keepdim=True)  # relative to the truth: the derivative is a mean of s
    low, high = 1 / HOTTEST, HOTTEST
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        slope = (torch.softmax(prior + middle * s, dim=1) * s).sum() + (middle - 1) / PULL**2
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)


def evidence_of(read: Read, log_prior: Tensor) -> Tensor:
    """s = log (q / pi) of what was read, (N, K)."""
    return read.log_posterior - log_prior


def fit_level(read: Read, log_prior: Tensor, *, sigma: float, before: float = 1.0) -> Level:
    """Fit the temperature of one noise level; 1 where that is no gain.

    No gain means: with each half of the images read at the temperature of the other half, the
    log loss is not below that of T = 1. Few images, or little evidence, then do no harm.

    Args:
        read: What the posterior says without temperatures.
        log_prior: log pi, (K,).
        sigma: Noise level of ``read``.
        before: The temperature there was.
    """
    s, halves = evidence_of(read, log_prior), _halves(len(read.target))
    found = round(fit_temperature(s, log_prior, read.target), 4)
    crossed = torch.empty(len(s))
    for mine, other in (halves, halves[::-1]):
        crossed[mine] = fit_temperature(s[other], log_prior, read.target[other])
    old = at_temperature(read, log_prior, torch.full((len(s),), before))
    new = at_temperature(read, log_prior, crossed)
    if _log_loss(new) >= _log_loss(read):
        found, new = 1.0, read
    return Level(
        sigma=sigma,
        temperature=found,
        log_loss_before=_log_loss(old),
        log_loss=_log_loss(new),
        calibration_error_before=calibration_error(old.confidence, old.hit),
        calibration_error=calibration_error(new.confidence, new.hit),
    )


def at_temperature(read: Read, log_prior: Tensor, temperature: Tensor) -> Read:
    """What would be read at temperatures (N,), from what is read without."""
    log_q = tempered_posterior(evidence_of(read, log_prior), log_prior, temperature)
    return Read(log_posterior=log_q, target=read.target, labels=read.labels)


def evidence_for(read: Read, log_prior: Tensor, factor: Factor) -> tuple[Tensor, Tensor]:
    """The log ratio log p(c | x) / p(c) of values c that images show, and of others.

    Yes and no: log p(yes | x) / p(yes) of images that are yes, and of those that are not. Names: of
    the image's own name (N,), and of all others (N (K - 1),). Numbers and places: of the
    image's own value, and of the value of the next image whose value is at least two spacings
    away in some coordinate; an image without one counts on the first side only.
    """
    s = evidence_of(read, log_prior)
    if factor.kind == "binary":
        shown = read.labels == 1
        return s[shown, 1], s[~shown, 1]
    if factor.names:
        own = torch.nn.functional.one_hot(read.labels.long(), factor.n_cells).bool()
        return s[own], s[~own]
    yes = torch.logsumexp(s + read.target.clamp_min(1e-30).log(), dim=1)
    values = read.labels.view(len(s), -1)
    others, found = torch.zeros(len(s), dtype=torch.long), torch.zeros(len(s), dtype=torch.bool)
    for shift in range(1, len(s)):
        far = (values - values.roll(-shift, 0)).abs().amax(1) >= 2 * factor.spacing
        fresh = far & ~found
        others[fresh] = (torch.arange(len(s)) + shift)[fresh] % len(s)
        found |= fresh
        if bool(found.all()):
            break
    no = torch.logsumexp(s + read.target[others].clamp_min(1e-30).log(), dim=1)
    return yes, no[found]


def _halves(n: int) -> tuple[Tensor, Tensor]:
    """Every other image, and the rest."""
    return torch.arange(0, n, 2), torch.arange(1, n, 2)


def _log_loss(read: Read) -> float:
    return float(cross_entropy(read.log_posterior, read.target).mean())
