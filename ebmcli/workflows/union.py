"""`ebm union`: two bases that were trained apart as one base, whose density is their mixture.

Both draw pictures of their own. At the highest noise the chains of one are read by the other, and
Bennett's method gives the ratio of their normalising constants; the same method then follows the
constant of either base from level to level. No picture of any data is needed, and nothing is
trained. The new file holds both networks: it stands by itself.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmcli.checkpoint import read_header
from ebmcli.core.bennett import bennett_log_ratio, level_gaps
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.replay import replayed
from ebmcli.core.samplers import SeededNoise, annealed_chain, noise_levels
from ebmcli.core.union import Base, UnionEnergy
from ebmcli.errors import ConfigError, DivergedError, OutputExistsError, UsageError
from ebmcli.registry import Record, Registry, read_registry
from ebmcli.registry.schema import check_name
from ebmcli.workflows.chains import N_CORRECTOR
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.generate_request import CORRECT_FROM, N_SEEDS, SIGMA_MAX, SIGMA_MIN
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.loading import load_base
from ebmcli.workflows.origin import created, versions
from ebmcli.workflows.plans import refuse_clash

N_LEVELS = 32  # as `ebm generate` has them by default: there nothing is interpolated
MEETING = 0.01  # overlap below which a constant wrong by a nat moves less than 0.3 % of pictures
BATCH = 16

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
        if not 0 <= self.seed <= N_SEEDS - self.n:
            problem = f"seeds from --seed on are between 0 and 2^32 - 1, {self.n} from {self.seed}"
            raise ConfigError(f"{problem} are not")
        if self.name in self.parts or self.parts[0] == self.parts[1]:
            problem = "a union joins two bases under a name of its own"
            raise UsageError(problem, hint="ebm union NEW ONE OTHER")

    @property
    def shares(self) -> tuple[float, float]:
        """The weights, adding up to 1."""
        total = sum(self.weights)
        return self.weights[0] / total, self.weights[1] / total


@dataclass(frozen=True)
class Constant:
    """log(Z_left / Z_right) at one noise level, nats."""

    log_ratio: float
    error: float  # standard error, as if all chains had noise of their own; inf: any in the gap
    direct: float  # from this level alone: the same where the overlap is large
    overlap: float  # of both densities at this level, from 0 to 1


@dataclass(frozen=True, kw_only=True)
class United:
    """A finished union: its record, and the estimate at each noise level."""

    record: Record
    levels: dict[float, Constant]
    seconds: float

    def rows(self) -> list[dict[str, float]]:
        """For a table: sigma and the numbers of a Constant, from noise to picture."""
        return [_row(sigma, self.levels[sigma]) for sigma in sorted(self.levels, reverse=True)]


def unite(request: UnionRequest, path: Path, *, progress: Progress | None = None) -> United:
    """Estimate the constants of two bases, write their union and register it as a base.

    Args:
        request: What was asked for.
        path: The registry.yaml, which is changed.
        progress: Told of batches done and batches in all.

    Raises:
        UnknownNameError: There is no such base.
        UsageError: The bases are of two spaces, or the name is too close to another.
        OutputExistsError: The name is taken and was not to be replaced.
    """
    start = time.monotonic()
    registry = read_registry(path)
    records = check_union(request, registry)
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
        measured={"union": {f"{s:.6g}": _row(s, level) for s, level in levels.items()}},
        provenance=_provenance(request, records, device=device, seconds=seconds),
    )
    kept = keep_trained(
        path, record, union.state_dict(), _header(registry, records, request, union, levels),
        overwrite=request.overwrite,
    )  # fmt: skip
    return United(record=kept, levels=levels, seconds=seconds)


def check_union(request: UnionRequest, registry: Registry) -> list[Record]:
    """The records of both bases, once nothing speaks against their union.

    Raises:
        UnknownNameError, UsageError, OutputExistsError: As :func:`unite`.
    """
    records = [registry.get("base", name) for name in request.parts]
    if records[0].space != records[1].space:
        problem = f"{records[0].name} is of {records[0].space}, {records[1].name} of another space"
        raise UsageError(f"{problem}, {records[1].space}", hint="unite bases of one space")
    if request.name in registry.bases and not request.overwrite:
        hint = "give the union another name, or add --overwrite to replace the old one"
        raise OutputExistsError(f"base {request.name} of {registry.path}", hint=hint)
    refuse_clash(registry, "base", request.name)
    return records


def joined(
    left: Base, right: Base, request: UnionRequest, levels: dict[float, Constant]
) -> UnionEnergy:
    """The mixture in memory, frozen; chains start from the pooled Gaussian of both parts."""
    gaussian = GaussianEnergy.pooled(left.gaussian, right.gaussian, weights=request.shares)
    ratios = {sigma: constant.log_ratio for sigma, constant in levels.items()}
    union = UnionEnergy(left, right, gaussian, weights=request.shares, log_ratios=ratios)
    return union.requires_grad_(False).eval().to(left.gaussian.mean.device)


def log_ratios(
    left: Base,
    right: Base,
    request: UnionRequest,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> dict[float, Constant]:
    """log(Z_left / Z_right) by noise level, from ``request.n`` chains of either base.

    Raises:
        DivergedError: A chain or an energy is not finite.
    """
    sigmas = [
        float(s) for s in noise_levels(request.steps, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    ]
    n_batches = math.ceil(request.n / BATCH)
    sides = []
    for side, base in enumerate((left, right)):
        batches = []
        for batch in range(n_batches):
            if progress:
                progress(side * n_batches + batch, 2 * n_batches)
            first = request.seed + batch * BATCH  # equal noise for both: errors cancel in part
            seeds = range(first, min(first + BATCH, request.seed + request.n))
            batches.append(_gaps(base, (left, right), seeds, sigmas, device=device))
        sides.append(_Gaps(*(torch.cat(parts, dim=1) for parts in zip(*batches, strict=True))))
    if progress:
        progress(2 * n_batches, 2 * n_batches)
    if not all(bool(gap.isfinite().all()) for side in sides for gap in side):
        problem = "a base drew pictures whose energy is not finite"
        raise DivergedError(problem, hint="ebm verify checks the files; train the base longer")
    return dict(zip(sigmas, _summed(sides[0], sides[1]), strict=True))


class _Gaps(NamedTuple):
    """Energy gaps at chains of one base, as ``bennett`` wants them."""

    across: Tensor  # E_right - E_left at every level, (levels, n)
    down: Tensor  # from every level to the next one, of the base alone, (levels - 1, n)
    up: Tensor  # and back


def _gaps(
    base: Base,
    pair: tuple[Base, Base],
    seeds: Sequence[int],
    sigmas: Sequence[float],
    *,
    device: torch.device,
) -> _Gaps:
    """What the chains of some seeds tell."""
    size = base.config.size
    noise = SeededNoise(list(seeds), (3, size, size))
    states = list(level_states(base, noise, sigmas, device=device))
    across, down, up = [], [], []
    for x, sigma in zip(states, sigmas, strict=True):
        level = torch.full((len(x),), sigma, device=device)
        with torch.no_grad():
            across.append((pair[1].energy(x, level) - pair[0].energy(x, level)).cpu())
    for index in range(len(sigmas) - 1):
        gaps = level_gaps(
            base.energy, states[index], states[index + 1],
            sigma=sigmas[index], sigma_next=sigmas[index + 1],
            noise=(noise.draw().to(device), noise.draw().to(device)),
        )  # fmt: skip
        down.append(gaps[0].cpu())
        up.append(gaps[1].cpu())
    return _Gaps(torch.stack(across), torch.stack(down), torch.stack(up))


def _summed(left: _Gaps, right: _Gaps) -> list[Constant]:
    """Across at the noisiest level, where both are nearly one Gaussian, then down either base.

    A level that is surer by itself speaks for itself, and so does one where no chain changes
    sides: there the middle of the gap is right, whatever the steps add up to.
    """
    found = []
    path, variance = 0.0, 0.0
    for index in range(len(left.across)):
        direct = bennett_log_ratio(left.across[index], right.across[index])
        if index == 0:
            path, variance = direct.value, direct.error**2
        else:
            steps = [bennett_log_ratio(g.down[index - 1], g.up[index - 1]) for g in (left, right)]
            path += steps[1].value - steps[0].value
            variance += steps[0].error ** 2 + steps[1].error ** 2
        value, error = min((math.sqrt(variance), path), (direct.error, direct.value))[::-1]
        if direct.overlap < MEETING:
            value, error = direct.value, math.inf
        found.append(Constant(value, error, direct.value, direct.overlap))
    return found


def level_states(
    base: Base, noise: SeededNoise, sigmas: Sequence[float], *, device: torch.device
) -> Iterator[Tensor]:
    """Chains of a base as they arrive at each noise level: (B, 3, S, S) for each of ``sigmas``."""
    x = base.gaussian.noised_sample(noise.draw().to(device), sigmas[0])
    chain = annealed_chain(
        replayed(base.energy),
        x,
        sigmas,
        noise,
        n_corrector=N_CORRECTOR["auto"],
        corrector_from=CORRECT_FROM,
    )
    yield x
    for _, state in zip(sigmas[1:], chain, strict=False):  # the last step is not needed
        yield state.x


def _row(sigma: float, constant: Constant) -> dict[str, float]:
    """An estimate in plain types; an infinite error is left out."""
    numbers = {"sigma": sigma, **asdict(constant)}
    return {key: round(value, 6) for key, value in numbers.items() if math.isfinite(value)}


def _header(
    registry: Registry,
    records: Sequence[Record],
    request: UnionRequest,
    union: UnionEnergy,
    levels: dict[float, Constant],
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
        "log_ratios": {repr(sigma): level.log_ratio for sigma, level in levels.items()},
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
        "created": created(),
        "versions": versions(),
    }
