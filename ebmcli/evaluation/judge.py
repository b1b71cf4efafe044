"""The judge: a small network that reads every factor of a clean picture, to score others' work.

Notation: x images (B, 3, S, S), intensities in [-1, 1]; F width of the features; K the names of a
factor. The judge learns from data of its own and never sees an energy, its gradients or its
weights. It also says whether there is a recognisable object or face at all: pictures without one
are made in ``negatives.py``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ebmcli.core.factors import Factor
from ebmcli.errors import ConfigError
from ebmcli.evaluation.object_reader import ObjectReader

N_STAGES = 4  # each halves the picture
LARGEST_MAP = 4  # side of the last feature map; larger pictures are averaged down to it
NOISE_SCALE = 0.05  # intensity; residual noise up to this does not change what a person reads
BRIGHTNESS = 0.05  # relative
N_CHANNELS = 5  # colours and two coordinates
REGRESSION_WEIGHT = 4.0  # of an error of a measured factor beside one nat of a named one; chosen
REGRESSION_KNEE = 0.02  # of the half range; errors above count linearly, below quadratically


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Shape of a judge: 0.45 million weights at 64 x 64."""

    size: int = 64  # pixels per side, a multiple of 16
    widths: tuple[int, ...] = (32, 64, 96, 128)  # channels after each stage
    n_features: int = 128

    def __post_init__(self) -> None:
        if self.size < 2**N_STAGES or self.size % 2**N_STAGES:
            raise ConfigError(f"a judge needs a size that is a multiple of 16, got {self.size}")
        if len(self.widths) != N_STAGES:
            raise ConfigError(f"a judge has {N_STAGES} stages, got widths {self.widths}")

    def to_dict(self) -> dict[str, Any]:
        """Plain types for a file header."""
        return asdict(self) | {"widths": list(self.widths)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "JudgeConfig":
        """The inverse of :meth:`to_dict`."""
        return cls(**{**plain, "widths": tuple(plain["widths"])})


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What a judge reads in B pictures.

    ``values`` are cell indices (B,) int64 for names, numbers (B,) for scalars, (B, 2) for
    positions, in the unit of the factor, and rows (B, 2 most, columns) for lists of objects, see
    ``Factor.columns``. ``probabilities`` (B, K) are given for names only.
    """

    factors: Mapping[str, Factor]
    values: dict[str, Tensor]
    probabilities: dict[str, Tensor]
    present: Tensor  # probability of a recognisable object or face, (B,)

    def __len__(self) -> int:
        return len(self.present)

    @classmethod
    def join(cls, parts: list["Readings"]) -> "Readings":
        """Readings of consecutive batches as one."""
        first = parts[0]
        return cls(
            factors=first.factors,
            values={k: torch.cat([p.values[k] for p in parts]) for k in first.values},
            probabilities={
                k: torch.cat([p.probabilities[k] for p in parts]) for k in first.probabilities
            },
            present=torch.cat([p.present for p in parts]),
        )


class Judge(nn.Module):
    """Four strided convolutions with batch normalisation, one layer of features, linear heads.

    Args:
        factors: What to read, by name.
        config: Shape of the network.
    """

    coordinates: Tensor

    def __init__(self, factors: Mapping[str, Factor], config: JudgeConfig) -> None:
        super().__init__()
        self.factors = dict(factors)
        self.config = config
        channels = (N_CHANNELS, *config.widths)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(b),
                    nn.ReLU(),
                )
                for a, b in pairwise(channels)
            )
        )
        self.side = min(LARGEST_MAP, config.size // 2**N_STAGES)
        self.penultimate = nn.Linear(config.widths[-1] * self.side**2, config.n_features)
        self.head_sizes = [head_size(factor) for factor in self.factors.values()]
        self.heads = nn.Linear(config.n_features, sum(self.head_sizes) + 1)
        self.readers = nn.ModuleDict(
            {
                _key(name): ObjectReader(factor, n_channels=N_CHANNELS, widths=config.widths)
                for name, factor in self.factors.items()
                if factor.kind == "objects"
            }
        )
        line = torch.linspace(-1, 1, config.size)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
        self.register_buffer("coordinates", grid, persistent=False)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, F), non-negative; FID compares their distributions."""
        return self._features(self._maps(self._channels(x))[-1])

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Raw outputs of every factor and of "present" (B,).

        Names have logits (B, K), numbers and places are scaled; lists of objects have the
        log-probability of every outcome in every cell of the floor, (B, G K).
        """
        channels = self._channels(x)
        maps = self._maps(channels)
        outputs = self.heads(self._features(maps[-1])).split([*self.head_sizes, 1], dim=1)
        read = dict(zip(self.factors, outputs, strict=False))
        lists = [name for name, factor in self.factors.items() if factor.kind == "objects"]
        found = {name: self.object_reader(name)(channels, maps) for name in lists}
        return read | found, outputs[-1][:, 0]

    def _channels(self, x: Tensor) -> Tensor:
        grid = self.coordinates.expand(len(x), -1, -1, -1)
        return torch.cat([x, grid], dim=1).contiguous(memory_format=torch.channels_last)

    def _maps(self, channels: Tensor) -> list[Tensor]:
        """What every stage makes of the picture, finest first."""
        maps = []
        for stage in self.stages:
            channels = stage(channels)
            maps.append(channels)
        return maps

    def _features(self, coarsest: Tensor) -> Tensor:
        averaged = F.adaptive_avg_pool2d(coarsest, self.side)
        return F.relu(self.penultimate(averaged.flatten(1)))

    def object_reader(self, name: str) -> ObjectReader:
        """The part that reads a factor of kind ``objects``."""
        reader = self.readers[_key(name)]
        assert isinstance(reader, ObjectReader)
        return reader

    @torch.no_grad()
    def read(self, x: Tensor) -> Readings:
        """Read pictures (B, 3, S, S); call ``eval()`` first, or batches influence each other."""
        outputs, present = self(x)
        values: dict[str, Tensor] = {}
        probabilities: dict[str, Tensor] = {}
        for name, factor in self.factors.items():
            if factor.names:
                probabilities[name] = outputs[name].softmax(1)
                values[name] = outputs[name].argmax(1)
            elif factor.kind == "objects":
                values[name] = self.object_reader(name).rows(outputs[name])
            else:
                value = middle(factor) + half_range(factor) * outputs[name]
                values[name] = value if factor.kind == "position" else value[:, 0]
        return Readings(
            factors=self.factors,
            values=values,
            probabilities=probabilities,
            present=present.sigmoid(),
        )


def _key(name: str) -> str:
    """What the part for a list of objects is called: no attribute of a module, as ``type`` is."""
    return f"list-{name}"


def head_size(factor: Factor) -> int:
    """Outputs of the linear heads for one factor: K logits, a number, two; none for objects."""
    if factor.kind == "objects":
        return 0
    return len(factor.names) or (2 if factor.kind == "position" else 1)


def middle(factor: Factor) -> float:
    """The centre of the range of a scalar or a position."""
    return (factor.low + factor.high) / 2


def half_range(factor: Factor) -> float:
    """Half the range, which the judge's outputs are scaled by."""
    return (factor.high - factor.low) / 2


def judge_losses(
    judge: Judge, positives: Tensor, negatives: Tensor, labels: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Losses of one batch: cross-entropy of names, smooth L1 of numbers, and of presence.

    Args:
        judge: In training mode.
        positives: Pictures (B, 3, S, S) with labels.
        negatives: Pictures (B', 3, S, S) without a recognisable object.
        labels: Cell indices (B,) for names, rows (B, most, columns) for objects, else numbers (B,)
            or (B, 2).

    Returns:
        Scalars by factor, "present", and their sum "loss".
    """
    outputs, present = judge(torch.cat([positives, negatives]))
    losses: dict[str, Tensor] = {}
    for name, factor in judge.factors.items():
        output, label = outputs[name][: len(positives)], labels[name]
        if factor.names:
            losses[name] = F.cross_entropy(output, label)
        elif factor.kind == "objects":
            losses[name] = judge.object_reader(name).loss(output, label)
        else:
            target = (label.view(len(label), -1) - middle(factor)) / half_range(factor)
            error = F.smooth_l1_loss(output, target, beta=REGRESSION_KNEE)
            losses[name] = REGRESSION_WEIGHT * error
    truth = torch.zeros_like(present)
    truth[: len(positives)] = 1
    losses["present"] = F.binary_cross_entropy_with_logits(present, truth)
    return losses | {"loss": torch.stack(list(losses.values())).sum()}


def disturb(x: Tensor, *, generator: Generator) -> Tensor:
    """What leaves a picture readable: slight noise, blur and change of brightness.

    Per picture: intensities in [0, 1] times U(0.95, 1.05); a 3 x 3 binomial blur mixed in with a
    weight U(0, 1) for every other picture; noise of standard deviation U(0, 0.05) in [-1, 1].
    """

    def uniform() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator).to(x)

    brighter = ((x + 1) * (1 + BRIGHTNESS * (2 * uniform() - 1))) - 1
    weight = uniform() * (uniform() < 0.5)
    blurred = brighter + weight * (binomial_blur(brighter) - brighter)
    noise = torch.randn(x.shape, generator=generator).to(x)
    return (blurred + NOISE_SCALE * uniform() * noise).clamp(-1, 1)


def binomial_blur(x: Tensor) -> Tensor:
    """Blur by (1, 2, 1)/4 along both axes; edges are repeated."""
    row = torch.tensor([0.25, 0.5, 0.25], device=x.device, dtype=x.dtype)
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
