"""`ebm union`: two bases that were trained apart as one base, whose density is their mixture.

Both draw pictures of their own; at every noise level the chains of one are read by the other, and
Bennett's method gives the ratio of the two normalising constants. No picture of any data is
needed, and nothing is trained. The new file holds both networks: it stands by itself.
"""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ebmcli
from ebmcli.checkpoint import read_header
from ebmcli.core.bennett import LogRatio, bennett_log_ratio
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.samplers import SeededNoise, annealed_chain, noise_levels
from ebmcli.core.union import Base, UnionEnergy
from ebmcli.errors import ConfigError, DivergedError, OutputExistsError, UsageError
from ebmcli.registry import Record, Registry, read_registry
from ebmcli.registry.schema import check_name
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.generate import CORRECT_FROM, SIGMA_MAX, SIGMA_MIN
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.loading import load_base

N_LEVELS = 32  # as `ebm generate` has them by default: there nothing is interpolated
N_CORRECTOR = 6  # Langevin steps per level, as there
BATCH = 16
N_SEEDS = 1 << 32  # torch reads the low 32 bits of a seed only

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class UnionRequest:
    """What ``ebm union`` was asked for."""

    name: str
    parts: tuple[str, str]  # names of two bases of one space
    weights: tuple[float, float] = (0.5, 0.5)  # shares of pictures; scaled to add up to 1
    n: int = 64  # chains of each base
    steps: int = N_LEVELS  # noise levels
    seed: int = 0
    device: str = "auto"
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not all(0 < weight < math.inf for weight in self.weights):
            shown = ",".join(f"{weight:g}" for weight in self.weights)
            raise ConfigError(f"--weights are two positive numbers, got {shown}")
        if not 2 <= self.n <= 100_000:
            raise ConfigError(f"-n is between 2 and 100,000, got {self.n}")
        if not 2 <= self.steps <= 1000:
            raise ConfigError(f"--steps is between 2 and 1,000, got {self.steps}")
        if not 0 <= self.seed <= N_SEEDS - 2 * self.n:
            raise ConfigError(f"seeds are between 0 and 2^32 - 1, got --seed {self.seed}")
        if self.name in self.parts or self.parts[0] == self.parts[1]:
            problem = "a union joins two bases under a name of its own"
            raise UsageError(problem, hint="ebm union NEW ONE OTHER")

    @property
    def shares(self) -> tuple[float, float]:
        """The weights, adding up to 1."""
        total = sum(self.weights)
        return self.weights[0] / total, self.weights[1] / total


@dataclass(frozen=True, kw_only=True)
class United:
    """A finished union: its record, and the estimate at each noise level."""

    record: Record
    levels: dict[float, LogRatio]
    seconds: float

    def rows(self) -> list[dict[str, float]]:
        """For a table: sigma, log ratio, its error and the overlap, from noise to picture."""
        return [_row(sigma, self.levels[sigma]) for sigma in sorted(self.levels, reverse=True)]


def unite(request: UnionRequest, path: Path, *, progress: Progress | None = None) -> United:
    """Estimate the constants of two bases, write their union and register it as a base.

    Args:
        request: What was asked for.
        path: The registry.yaml, which is changed.
        progress: Told of levels done and levels in all.

    Raises:
        UnknownNameError: There is no such base.
        UsageError: The bases are of two spaces.
        OutputExistsError: The name is taken and was not to be replaced.
    """
    start = time.monotonic()
    registry = read_registry(path)
    records = [registry.get("base", name) for name in request.parts]
    if records[0].space != records[1].space:
        problem = f"{records[0].name} is of {records[0].space}, {records[1].name} of another space"
        raise UsageError(f"{problem}, {records[1].space}", hint="unite bases of one space")
    if request.name in registry.bases and not request.overwrite:
        hint = f"add --overwrite to replace it, or keep it: ebm rename {request.name} NEW"
        raise OutputExistsError(f"base {request.name} of {path}", hint=hint)
    device = resolve_device(request.device)
    parts = [load_base(registry, name, device=device) for name in request.parts]
    levels = log_ratios(parts[0], parts[1], request, device=device, progress=progress)
    union = joined(parts[0], parts[1], request, levels)
    seconds = time.monotonic() - start
    record = Record(
        kind="base",
        name=request.name,
        space=records[0].space,
        file="",
        sha256="",
        measured={"union": {f"{s:.6g}": _row(s, ratio) for s, ratio in levels.items()}},
        provenance=_provenance(request, records, device=device, seconds=seconds),
    )
    kept = keep_trained(
        path, record, union.state_dict(), _header(registry, records, request, union, levels),
        overwrite=request.overwrite,
    )  # fmt: skip
    return United(record=kept, levels=levels, seconds=seconds)


def joined(
    left: Base, right: Base, request: UnionRequest, levels: dict[float, LogRatio]
) -> UnionEnergy:
    """The mixture in memory, frozen; chains start from the pooled Gaussian of both parts."""
    gaussian = GaussianEnergy.pooled(left.gaussian, right.gaussian, weights=request.shares)
    ratios = {sigma: ratio.value for sigma, ratio in levels.items()}
    union = UnionEnergy(left, right, gaussian, weights=request.shares, log_ratios=ratios)
    return union.requires_grad_(False).eval().to(left.gaussian.mean.device)


def log_ratios(
    left: Base,
    right: Base,
    request: UnionRequest,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> dict[float, LogRatio]:
    """log(Z_left / Z_right) by noise level, each from ``request.n`` chains of either base.

    Raises:
        DivergedError: A chain or an energy is not finite.
    """
    sigmas = [
        float(s) for s in noise_levels(request.steps, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    ]
    n_batches = math.ceil(request.n / BATCH)
    gaps: list[Tensor] = []  # of each base: E_right - E_left, (levels, n)
    for side, base in enumerate((left, right)):
        columns = []
        for batch in range(n_batches):
            first = request.seed + side * request.n + batch * BATCH
            seeds = range(first, min(first + BATCH, request.seed + (side + 1) * request.n))
            rows = []
            for level, (sigma, x) in enumerate(level_states(base, seeds, sigmas, device=device)):
                here = torch.full((len(x),), sigma, device=device)
                with torch.no_grad():
                    rows.append((right.energy(x, here) - left.energy(x, here)).cpu())
                if progress:
                    done = (side * n_batches + batch) * len(sigmas) + level + 1
                    progress(done, 2 * n_batches * len(sigmas))
            columns.append(torch.stack(rows))
        gaps.append(torch.cat(columns, dim=1))
    if not all(bool(gap.isfinite().all()) for gap in gaps):
        problem = "a base drew pictures whose energy is not finite"
        raise DivergedError(problem, hint="ebm verify checks the files; train the base longer")
    pairs = zip(sigmas, *gaps, strict=True)
    return {sigma: bennett_log_ratio(first, second) for sigma, first, second in pairs}


def level_states(
    base: Base, seeds: Sequence[int], sigmas: Sequence[float], *, device: torch.device
) -> Iterator[tuple[float, Tensor]]:
    """Chains of a base as they arrive at each noise level: sigma and states (B, 3, S, S)."""
    size = base.config.size
    noise = SeededNoise(list(seeds), (3, size, size))
    x = base.gaussian.noised_sample(noise.draw().to(device), sigmas[0])
    chain = annealed_chain(
        base.energy, x, sigmas, noise, n_corrector=N_CORRECTOR, corrector_from=CORRECT_FROM
    )
    yield sigmas[0], x
    for sigma, state in zip(sigmas[1:], chain, strict=False):  # the last step is not needed
        yield sigma, state.x


def _row(sigma: float, ratio: LogRatio) -> dict[str, float]:
    """An estimate in plain types; an infinite error is left out."""
    row = {"sigma": round(sigma, 6), "log_ratio": round(ratio.value, 4)}
    row |= {"error": round(ratio.error, 4)} if math.isfinite(ratio.error) else {}
    return row | {"overlap": round(ratio.overlap, 6)}


def _header(
    registry: Registry,
    records: Sequence[Record],
    request: UnionRequest,
    union: UnionEnergy,
    levels: dict[float, LogRatio],
) -> dict[str, Any]:
    """What it takes to build the union again; the parts are described as in their own files."""
    return {
        "kind": "base",
        "space": records[0].space,
        "name": request.name,
        "config": union.config.to_dict(),
        "n_components": len(union.gaussian.variances),
        "parts": [read_header(registry.file(record)) for record in records],
        "weights": list(request.shares),
        "log_ratios": {repr(sigma): ratio.value for sigma, ratio in levels.items()},
    }


def _provenance(
    request: UnionRequest, records: Sequence[Record], *, device: torch.device, seconds: float
) -> dict[str, Any]:
    """Where the union comes from, its parts with all that is known of them."""
    settings = asdict(request)
    return {
        "command": request.command,
        "parts": [
            {"name": r.name, "sha256": r.sha256, "provenance": r.provenance} for r in records
        ],
        "weights": list(request.shares),
        **{key: settings[key] for key in ("n", "steps", "seed")},
        "seconds": round(seconds, 1),
        "device": str(device),
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {
            "ebm": ebmcli.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
