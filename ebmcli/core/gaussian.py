"""The exact energy of a noised Gaussian: what every learned energy starts from.

Notation: x0 clean image, x = x0 + sigma n noisy image, D the number of pixels times channels,
mu and C mean and covariance of the clean images, C = U diag(lambda) U^T + rest (I - U U^T) with R
principal components U. If x0 were Gaussian, x would be N(mu, C + sigma^2 I): energy, score and
denoiser have closed forms, and a network has only to learn what is not Gaussian.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

VARIANCE_FLOOR = 0.15**2  # intensity^2; keeps object edges from being smoothed away (measured)
DATA_SCALE = 0.5  # standard deviation of intensities in [-1, 1], about; only sets input scaling


class GaussianEnergy(nn.Module):
    """Energy of N(mu, C + sigma^2 I) over images (B, C, H, W), intensities in [-1, 1].

    Args:
        mean: mu, (D,).
        components: Orthonormal rows U^T, (R, D).
        variances: lambda, (R,), intensity^2.
        rest: Variance of every direction outside U, a scalar tensor.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, mean: Tensor, components: Tensor, variances: Tensor, rest: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.register_buffer("variances", variances)
        self.register_buffer("rest", rest)

    @classmethod
    def blank(cls, n_pixels: int, n_components: int) -> "GaussianEnergy":
        """A Gaussian of the right shape, to be filled from a file."""
        zeros = torch.zeros
        return cls(zeros(n_pixels), zeros(n_components, n_pixels), zeros(n_components), zeros(()))

    @classmethod
    def fit(
        cls, images: Tensor, *, n_components: int = 256, floor: float = VARIANCE_FLOOR
    ) -> "GaussianEnergy":
        """Fit mean, principal components and the rest variance to images (N, C, H, W).

        Every variance is raised to at least ``floor``: lambda = max(lambda, floor). Deterministic.
        """
        flat = images.flatten(1).float()
        mean = flat.mean(0)
        centred = flat - mean
        rank = min(n_components, len(flat) - 1)
        components, variances = _principal_components(centred, rank)
        total = centred.square().sum() / len(flat)
        rest = (total - variances.sum()).clamp_min(0) / max(1, flat.shape[1] - rank)
        return cls(mean, components, variances.clamp_min(floor), rest.clamp_min(floor))

    @classmethod
    def pooled(
        cls, left: "GaussianEnergy", right: "GaussianEnergy", *, weights: Sequence[float]
    ) -> "GaussianEnergy":
        """The Gaussian with mean and covariance of the mixture w_a N(mu_a, C_a) + w_b N(mu_b, C_b).

            mu = w_a mu_a + w_b mu_b,   C = w_a C_a + w_b C_b + w_a w_b (mu_a - mu_b)(mu_a - mu_b)^T

        As many leading components as the parts have are kept, all others share one variance, as in
        :meth:`fit`: about what a fit to the images of both, mixed so, would give.

        Args:
            left: N(mu_a, C_a).
            right: N(mu_b, C_b), over images of the same size.
            weights: w_a and w_b, positive, summing to 1.
        """
        first, second = weights
        rest = first * left.rest + second * right.rest  # of C outside all directions below
        spread = (
            _beyond_rest(left, first),
            _beyond_rest(right, second),
            math.sqrt(first * second) * (left.mean - right.mean)[None],
        )
        _, singular, directions = torch.linalg.svd(torch.cat(spread), full_matrices=False)
        rank = max(len(left.variances), len(right.variances))
        n_others = left.mean.numel() - rank
        lost = singular[rank:].square().sum() / max(1, n_others)
        mean = first * left.mean + second * right.mean
        return cls(mean, directions[:rank], rest + singular[:rank].square(), rest + lost)

    def energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E_G(x, sigma) = 1/2 (x - mu)^T (C + sigma^2)^-1 (x - mu) + 1/2 ln det(C + sigma^2).

        Args:
            x: Noisy images (B, C, H, W).
            sigma: Noise standard deviation (B,), intensity.

        Returns:
            Energies (B,), nats, up to the constant D/2 ln 2 pi.
        """
        centred = x.flatten(1) - self.mean
        projected = centred @ self.components.T
        noise = sigma.square()[:, None]
        inside = (projected.square() / (self.variances + noise)).sum(1)
        outside = centred.square().sum(1) - projected.square().sum(1)
        rest = self.rest + noise[:, 0]
        n_rest = self.mean.numel() - len(self.variances)
        log_det = (self.variances + noise).log().sum(1) + n_rest * rest.log()
        return 0.5 * (inside + outside / rest + log_det)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Wiener filter: E[x0 | x] = mu + C (C + sigma^2)^-1 (x - mu); (B, C, H, W)."""
        centred = x.flatten(1) - self.mean
        noise = sigma.square()[:, None]
        keep_rest = self.rest / (self.rest + noise)
        keep = self.variances / (self.variances + noise)
        projected = centred @ self.components.T
        shrunk = keep_rest * centred + (projected * (keep - keep_rest)) @ self.components
        return (self.mean + shrunk).view_as(x)

    def noised_sample(self, noise: Tensor, sigma: float) -> Tensor:
        """Exact samples of N(mu, C + sigma^2 I), where annealed chains start: (B, C, H, W).

        mu + (C + sigma^2 I)^(1/2) noise. Starting from sigma * noise instead leaves an error of mu
        that the flow never forgets: pictures came out too bright.

        Args:
            noise: Standard normal (B, C, H, W).
            sigma: Noise standard deviation, intensity.
        """
        flat = noise.flatten(1)
        rest = (self.rest + sigma**2).sqrt()
        stretch = (self.variances + sigma**2).sqrt() - rest
        inside = ((flat @ self.components.T) * stretch) @ self.components
        return (self.mean + rest * flat + inside).view_as(noise)

    def posterior_scale(self, sigma: Tensor) -> Tensor:
        """r(sigma): standard deviation of x0 given x, root mean square over dimensions; (B,).

        r^2 = mean over dimensions of sigma^2 lambda / (sigma^2 + lambda).
        """
        noise = sigma.square()[:, None]
        inside = (noise * self.variances / (noise + self.variances)).sum(1)
        noise = noise[:, 0]
        n_rest = self.mean.numel() - len(self.variances)
        total = inside + n_rest * noise * self.rest / (noise + self.rest)
        return (total / self.mean.numel()).sqrt()


def _beyond_rest(part: GaussianEnergy, weight: float) -> Tensor:
    """Rows (R, D) whose outer products sum to weight (C - rest I)."""
    excess: Tensor = weight * (part.variances - part.rest).clamp_min(0)
    return excess[:, None].sqrt() * part.components


def input_scale(sigma: Tensor) -> Tensor:
    """sqrt(v) = sqrt(sigma^2 + d^2), by which noisy images are divided before a network; (B,)."""
    return (sigma.square() + DATA_SCALE**2).sqrt()


def _principal_components(centred: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Leading principal directions (R, D) and variances (R,) of centred rows (N, D).

    Randomised subspace iteration (Halko, Martinsson, Tropp 2011) from a fixed seed, so that the
    same images give the same components.
    """
    generator = torch.Generator().manual_seed(0)
    n_rows, n_pixels = centred.shape
    width = min(rank + 16, n_rows, n_pixels)
    basis = torch.randn(n_pixels, width, generator=generator)
    for _ in range(4):
        basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
    scores = centred @ basis
    _, singular, right = torch.linalg.svd(scores, full_matrices=False)
    components = (right @ basis.T)[:rank]
    return components.contiguous(), singular[:rank].square() / n_rows


def gaussian_log_normaliser(n_pixels: int) -> float:
    """D/2 ln 2 pi, the constant left out of :meth:`GaussianEnergy.energy`, nats."""
    return 0.5 * n_pixels * math.log(2 * math.pi)
