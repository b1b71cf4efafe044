"""Networks over noisy images: a trunk, and on it an energy head or a posterior head.

Notation: u the scaled noisy image, w the Wiener-denoised one, both (B, 3, S, S); S image size; E
width of the conditioning vector; K cells of a factor. No normalisation layers: they made the
second derivative 5 to 18 times slower on a CPU. Smooth activations (SiLU) throughout, since
training differentiates the gradient of an energy once more.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebmcli.core.convolution import Convolution
from ebmcli.errors import ConfigError

N_PICTURE = 3  # channels of a picture
N_RATIO = 32  # maps that a ratio network makes of each resolution; chosen


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """Shape of a trunk."""

    size: int = 64  # pixels per side, a multiple of unshuffle * 2^(len(widths) - 1)
    widths: tuple[int, ...] = (24, 64, 96, 128)  # channels per resolution, finest first
    depths: tuple[int, ...] = (1, 1, 2, 2)  # residual blocks per resolution
    unshuffle: int = 2  # pixels folded into channels before the first convolution
    embedding: int = 128  # width of the conditioning vector
    head: int = 128  # width of the head
    decoder: int = 0  # residual blocks per resolution on the way back up, energies only; 0: no way

    def __post_init__(self) -> None:
        counts = {"widths": self.widths, "unshuffle": (self.unshuffle,)}
        counts |= {"embedding": (self.embedding,), "head": (self.head,)}
        for name, values in counts.items():
            if not values or min(values) < 1:
                raise ConfigError(f"{name} must be at least 1")
        if min(self.depths, default=0) < 0 or self.decoder < 0:
            raise ConfigError("depths and decoder must not be negative")
        step = self.unshuffle * 2 ** (len(self.widths) - 1)
        if self.size < step or self.size % step:
            near = sorted({max(1, self.size // step) * step, (self.size // step + 1) * step})
            hint = f"render or import pictures of {' or '.join(map(str, near))} pixels"
            raise ConfigError(
                f"image size must be a multiple of {step}, got {self.size}", hint=hint
            )
        if len(self.widths) != len(self.depths):
            raise ConfigError("widths and depths must have the same length")

    @property
    def side(self) -> int:
        """Side of the coarsest feature map."""
        side: int = self.size // (self.unshuffle * 2 ** (len(self.widths) - 1))
        return side

    def to_dict(self) -> dict[str, Any]:
        """Plain types for a file header."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "TrunkConfig":
        """The inverse of :meth:`to_dict`."""
        known: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        return cls(**known)


class ResidualBlock(nn.Module):
    """x + s conv(silu(FiLM(conv(silu(x))))): gains and biases from the conditioning vector."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = Convolution(width, width, 3, padding=1)
        self.second = Convolution(width, width, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * width)
        self.scale = nn.Parameter(torch.tensor(0.3))  # measured: trains without normalisation
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features (B, width, s, s) and conditioning (B, E) -> features of the same shape."""
        gain, bias = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.first(F.silu(x)) * (1 + gain) + bias
        changed: Tensor = x + self.scale * self.second(F.silu(hidden))
        return changed


class Trunk(nn.Module):
    """Convolutional features of a noisy image at falling resolution.

    Args:
        config: Widths and depths.
        n_channels: Channels of the input at full resolution (before the unshuffle).
    """

    coordinates: Tensor
    frequencies: Tensor

    def __init__(self, config: TrunkConfig, *, n_channels: int) -> None:
        super().__init__()
        self.config = config
        widths, embedding = config.widths, config.embedding
        self.register_buffer("frequencies", torch.linspace(0.25, 4.0, 32), persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        n_folded = n_channels * config.unshuffle**2 + 2
        self.stem = Convolution(n_folded, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, embedding) for _ in range(depth))
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.downs = nn.ModuleList(
            Convolution(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        line = torch.linspace(-1, 1, config.size // config.unshuffle)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
        self.register_buffer("coordinates", grid, persistent=False)

    def forward(self, channels: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """Channels (B, n, S, S), noise level (B,), optional conditioning (B, E) -> (B, w, s, s)."""
        return F.silu(self.levels(channels, sigma, condition)[0][-1])

    def levels(
        self, channels: Tensor, sigma: Tensor, condition: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Features of every resolution, finest first, and the conditioning vector (B, E)."""
        angles = sigma.log()[:, None] * self.frequencies
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        embedded = F.silu(embedded if condition is None else embedded + condition)
        folded = F.pixel_unshuffle(channels, self.config.unshuffle)
        grid = self.coordinates.to(folded.dtype).expand(len(folded), -1, -1, -1)
        hidden = self.stem(torch.cat([folded, grid], dim=1))
        found = []
        for index, stage in enumerate(self.stages):
            for block in stage:  # type: ignore[attr-defined]  # ModuleList of ModuleLists
                hidden = block(hidden, embedded)
            found.append(hidden)
            if index < len(self.downs):
                hidden = self.downs[index](hidden)
        return found, embedded


class Decoder(nn.Module):
    """From features of every resolution back to a picture, as in a U-Net.

    Its last convolution starts at zero: a fresh decoder changes nothing, so that one can be added
    to trained weights.
    """

    def __init__(self, config: TrunkConfig, *, n_channels: int) -> None:
        super().__init__()
        self.unshuffle = config.unshuffle
        upward = config.widths[::-1]  # coarsest first
        self.ups = nn.ModuleList(Convolution(a, b, 1) for a, b in itertools.pairwise(upward))
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, config.embedding) for _ in range(config.decoder))
            for width in upward[1:]
        )
        self.last = Convolution(upward[-1], n_channels * config.unshuffle**2, 3, padding=1)
        with torch.no_grad():
            for parameter in self.last.parameters():
                parameter.zero_()

    def forward(self, levels: Sequence[Tensor], condition: Tensor) -> Tensor:
        """Features (B, w, s, s), finest first, conditioning (B, E) -> (B, n_channels, S, S)."""
        hidden = levels[-1]
        for up, stage, beside in zip(self.ups, self.stages, levels[-2::-1], strict=True):
            hidden = F.interpolate(up(hidden), scale_factor=2.0) + beside
            for block in stage:  # type: ignore[attr-defined]  # ModuleList of ModuleLists
                hidden = block(hidden, condition)
        return F.pixel_shuffle(self.last(F.silu(hidden)), self.unshuffle)


class EnergyNetwork(nn.Module):
    """f(u, w, sigma, condition): one number per image.

    A linear sum over places plus a non-linear head on the flattened map: sums alone are additive
    over places and cannot say "exactly one object". With a decoder U also <u, U(u, w, sigma)>: its
    gradient U + J^T u moves every pixel by what a U-Net says, which makes outlines sharp.
    """

    def __init__(self, config: TrunkConfig, *, n_channels: int = 6) -> None:
        super().__init__()
        self.trunk = Trunk(config, n_channels=n_channels)
        width, head = config.widths[-1], config.head
        self.linear = nn.Linear(width, 1)
        self.head = nn.Sequential(
            nn.Linear(width * config.side**2, head),
            nn.SiLU(),
            nn.Linear(head, head),
            nn.SiLU(),
            nn.Linear(head, 1),
        )
        self.decoder = Decoder(config, n_channels=N_PICTURE) if config.decoder else None

    def forward(self, channels: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """Channels (B, n, S, S), u first, noise level (B,) -> values (B,), dimensionless."""
        return self.value(channels, *self.trunk.levels(channels, sigma, condition))

    def value(self, channels: Tensor, levels: Sequence[Tensor], embedded: Tensor) -> Tensor:
        """The same from the channels and what ``trunk.levels`` made of them."""
        features = F.silu(levels[-1])
        total: Tensor = self.linear(features.mean((2, 3))) + self.head(features.flatten(1))
        if self.decoder is None:
            return total[:, 0]
        drawn = self.decoder(levels, embedded).float()
        product: Tensor = (channels[:, :N_PICTURE] * drawn).sum((1, 2, 3))
        return total[:, 0].float() + product


class RatioNetwork(nn.Module):
    """One number per image from the features of a frozen trunk, at every resolution.

    Of each resolution N_RATIO maps, conditioned on the noise level, are averaged over places both
    plainly and by a smooth maximum, log mean exp: what is wrong may lie in one place.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        width = N_RATIO
        self.reads = nn.ModuleList(Convolution(w, width, 1) for w in config.widths)
        self.films = nn.ModuleList(nn.Linear(config.embedding, 2 * width) for _ in config.widths)
        self.maps = nn.ModuleList(Convolution(width, width, 3, padding=1) for _ in config.widths)
        last = nn.Linear(2 * width, 1)
        with torch.no_grad():
            last.weight.zero_()  # features can be large: start where nothing is known
        self.head = nn.Sequential(
            nn.Linear(2 * width * len(config.widths), 2 * width), nn.SiLU(), last
        )

    def forward(self, levels: Sequence[Tensor], embedded: Tensor) -> Tensor:
        """Features (B, w, s, s), finest first, conditioning (B, E) -> values (B,)."""
        pooled = []
        parts = zip(levels, self.reads, self.films, self.maps, strict=True)
        for level, read, film, last in parts:
            gain, bias = film(embedded)[:, :, None, None].chunk(2, dim=1)
            found = last(F.silu(read(F.silu(level)) * (1 + gain) + bias)).float().flatten(2)
            n_places = found.shape[2]
            pooled += [found.mean(2), torch.logsumexp(found, dim=2) - math.log(n_places)]
        value: Tensor = self.head(torch.cat(pooled, dim=1))
        return value[:, 0]


class PosteriorNetwork(nn.Module):
    """Logits over the K cells of a factor, from a noisy image."""

    def __init__(self, config: TrunkConfig, *, n_cells: int, n_channels: int = 6) -> None:
        super().__init__()
        self.trunk = Trunk(config, n_channels=n_channels)
        self.head = nn.Sequential(
            nn.Linear(config.widths[-1] * config.side**2, config.head),
            nn.SiLU(),
            nn.Linear(config.head, config.head),
            nn.SiLU(),
            nn.Linear(config.head, n_cells),
        )

    def forward(self, channels: Tensor, sigma: Tensor) -> Tensor:
        """Channels (B, n, S, S), noise level (B,) -> logits (B, K)."""
        logits: Tensor = self.head(self.trunk(channels, sigma).flatten(1))
        return logits


def parameter_count(modules: Sequence[nn.Module]) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)
