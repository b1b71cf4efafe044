"""From an expression to pictures: compose, draw by annealed chains, keep the probable ones."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ebmcli.core.concepts import ConditionalConcept
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.images import to_bytes, to_intensity
from ebmcli.core.logic import Formula
from ebmcli.core.replay import replayed
from ebmcli.core.samplers import SeededNoise, noise_levels, reject
from ebmcli.errors import ConfigError, DivergedError, UnknownNameError
from ebmcli.imaging import read_image
from ebmcli.registry import Registry
from ebmcli.workflows.branching import WITH_BRANCHES, Branching, branching_of, check_branches
from ebmcli.workflows.chains import (
    N_CHAINS,
    N_CORRECTOR,
    SAMPLERS,
    Batch,
    check_sampler,
    choose,
    energy_calls,
    run_chains,
    shown,
)
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.energies import LOGICS, WITHOUT_STRENGTH, Composed, base_alone, compose
from ebmcli.workflows.finished import READ_SIGMAS, acceptance, known_least, mean_reading
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.tracing import Trace

LIMITS = {  # least and most; the upper ends keep a slip from filling the memory
    "n": (1, 100_000),
    "steps": (2, 1000),
    "attempts": (1, 1000),
    "batch_size": (1, 4096),
}
DEFAULT_STRENGTH = 4.0  # measured: red cubes at a place are cubes in 62 % at 2, 81 % at 4
SIGMA_MIN, SIGMA_MAX = 0.02, 10.0  # intensity; ends of the annealing
CORRECT_FROM = 0.3  # intensity; below, a picture is decided and corrections change nothing
N_SEEDS = 1 << 32  # torch reads the low 32 bits of a seed only
ATTEMPT_STRIDE = 0x9E3779B1  # odd, chosen: seeds of later attempts lie far from first ones

Progress = Callable[[int, int], None]  # levels done, levels in all


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What ``ebm generate`` was asked for."""

    expression: str = ""  # empty with ``base`` alone
    base: str | None = None  # draw from this base and ask for nothing
    n: int = 16
    seed: int = 0  # of the first picture; the next has seed + 1
    steps: int = 32  # noise levels
    sampler: str = "auto"
    corrector_steps: int | None = None  # moves per level; None: the sampler's own
    chains: int | None = None  # per picture; None: the sampler's own
    strength: float | None = None  # weight of guidance; None: DEFAULT_STRENGTH, 1 for rejection
    logic: str = "exact"
    branches: str | None = None  # of BRANCHES; None: see branching_of
    attempts: int = 3  # draws per picture, while the model itself thinks it is wrong
    batch_size: int = 16
    device: str = "auto"
    start_image: Path | None = None  # edit it instead of starting from noise
    start_noise: float = 1.0  # intensity; noise added to it: more changes more
    keep_frames: bool = False

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            shown = "-n" if name == "n" else f"--{name.replace('_', '-')}"
            if value < least:
                raise ConfigError(f"{shown} must be at least {least}, got {value}")
            if value > most:
                raise ConfigError(f"{shown} is at most {most:,}, got {value:,}")
        if self.sampler not in SAMPLERS:
            raise UnknownNameError("sampler", self.sampler, SAMPLERS)
        if self.logic not in LOGICS:
            raise UnknownNameError("logic", self.logic, LOGICS)
        check_sampler(
            self.sampler,
            corrector_steps=self.corrector_steps,
            chains=self.chains,
            logic=self.logic,
            edits=self.start_image is not None,
        )
        if self.base is not None:
            self._check_base_alone()
        check_branches(self.branches, without=self.without_branches)
        if self.strength is not None and self.logic in WITHOUT_STRENGTH:
            hint = "leave it out, or use --logic exact"
            raise ConfigError(f"--strength has no meaning with --logic {self.logic}", hint=hint)
        if self.strength is not None and not 0 < self.strength <= 20:
            raise ConfigError(f"--strength is above 0 and at most 20, got {self.strength:g}")
        if not SIGMA_MIN < self.start_noise <= SIGMA_MAX:
            raise ConfigError(
                f"--noise is above {SIGMA_MIN} and at most {SIGMA_MAX}, got {self.start_noise:g}"
            )
        if not 0 <= self.seed <= N_SEEDS - self.n:
            last = self.seed + self.n - 1
            got = f"--seed {self.seed}" if self.seed < 0 or self.n == 1 else f"the last one {last}"
            raise ConfigError(f"seeds are between 0 and 2^32 - 1, got {got}")

    def _check_base_alone(self) -> None:
        """Refuse what only a formula has."""
        if self.expression:
            hint = "leave one of them out; concepts draw with the base they were trained on"
            raise ConfigError("--base asks for nothing and takes no formula", hint=hint)
        asked = {"--strength": self.strength is not None, "--logic": self.logic != "exact"}
        asked["--sampler rejection"] = self.sampler == "rejection"
        for option in (name for name, given in asked.items() if given):
            hint = "leave it out: nothing is asked for"
            raise ConfigError(f"{option} has no meaning with --base", hint=hint)

    @property
    def without_branches(self) -> str | None:
        """The option that leaves pictures no branches to be given, as typed."""
        if self.base is not None:
            return "--base"
        if self.start_image is not None:
            return "--from"
        if self.logic != "exact":
            return f"--logic {self.logic}"
        return None if self.sampler in WITH_BRANCHES else f"--sampler {self.sampler}"

    @property
    def title(self) -> str:
        """What the pictures show, in words."""
        return self.expression if self.base is None else f"any picture of {self.base}"

    @property
    def n_chains(self) -> int:
        """Chains per picture."""
        return N_CHAINS.get(self.sampler, 1) if self.chains is None else self.chains

    @property
    def n_corrector(self) -> int:
        """Moves per noise level at which pictures are corrected."""
        asked = self.corrector_steps
        return N_CORRECTOR[self.sampler] if asked is None else asked

    @property
    def power(self) -> float:
        """The weight of guidance; 1 for a rule that has none, and for rejection: Bayes' rule."""
        if self.logic in WITHOUT_STRENGTH:
            return 1.0
        if self.strength is not None:
            return self.strength
        return 1.0 if self.sampler == "rejection" else DEFAULT_STRENGTH


@dataclass(kw_only=True)
class Drawn:
    """Pictures and what is known about them."""

    images: NDArray[np.uint8]  # (N, S, S, 3)
    probabilities: NDArray[np.float64]  # P(f | x) as the model has it, (N,)
    seeds: list[int]
    attempts: list[int]  # draws each picture took
    acceptance: float  # P(f | x) below which a picture is drawn again
    kept: list[bool]  # else the best of all attempts, (N,)
    first_accepted: float  # share of first draws that were kept
    seconds: float
    n_energy_calls: int  # per picture of one attempt
    space: str
    digests: dict[str, str]
    frames: list[NDArray[np.uint8]] = field(default_factory=list)  # (N, S, S, 3) per level
    trace: list[dict[str, Any]] = field(default_factory=list)  # one row per level
    diagnostics: dict[str, Any] = field(default_factory=dict)  # of Trace.summary
    branches: list[str] = field(default_factory=list)  # that pictures were given, if there are any
    notes: list[str] = field(default_factory=list)  # what the user should know, one line each


def draw_pictures(
    request: GenerateRequest, registry: Registry, *, progress: Progress | None = None
) -> Drawn:
    """Draw n pictures of a formula, or of a base alone, one per seed.

    Every picture depends on its own seed and not on the others. A picture whose P(f | x), of one
    that was given a branch P(b | x), is by the model itself below :func:`acceptance`, or that looks
    less real to the residual of a mended base than 19 of 20 real ones, is drawn again from fresh
    noise, up to ``attempts`` times, and the best draw is kept: that of the highest product of both.
    No judge takes part. With rejection it is drawn again while no draw of the base was accepted.
    """
    start = time.monotonic()
    formula, space, branching = None, "", None
    notes: list[str] = []
    device = resolve_device(request.device)
    if request.base is not None:
        composed, space = base_alone(registry, request.base, device=device)
    else:
        formula, space = formula_of(registry, request.expression)
        composed = compose(
            registry, formula, logic=request.logic, strength=request.power, device=device
        )
    accept = acceptance(formula, known_least(registry, formula)) if formula else 0.0
    if formula and not request.without_branches:
        branching, notes = branching_of(
            registry, formula, composed, asked=request.branches, strength=request.power
        )
    work = _Work(request, composed, device, accept=accept, branching=branching, progress=progress)
    seeds = [request.seed + i for i in range(request.n)]
    notes += [branching.note(seeds)] if branching else []
    best = work.draw(seeds, attempt=0)
    first = float(best.kept.float().mean())
    taken = [1] * request.n
    for attempt in range(1, request.attempts):
        poor = (~best.kept).nonzero()[:, 0].tolist()
        if not poor:
            break
        again = work.draw([seeds[i] for i in poor], attempt=attempt)
        for row, i in enumerate(poor):
            taken[i] += 1
            if again.kept[row] or again.merit[row] > best.merit[i]:
                best.copy_row(i, again, row)
    return Drawn(
        images=to_bytes(best.x).numpy(),
        probabilities=best.probability.double().numpy(),
        seeds=seeds,
        attempts=taken,
        acceptance=accept,
        kept=best.kept.tolist(),
        first_accepted=first,
        seconds=time.monotonic() - start,
        n_energy_calls=work.n_calls,
        space=space,
        digests=composed.digests,
        frames=[to_bytes(frame).numpy() for frame in best.frames],
        trace=work.trace.rows() if request.keep_frames else [],
        diagnostics=work.trace.summary(),
        branches=branching.texts(seeds) if branching else [],
        notes=notes + (_rejected(best, request, formula, composed) if formula else []),
    )


def _rejected(
    best: Batch, request: GenerateRequest, formula: Formula, composed: Composed
) -> list[str]:
    """What rejection could not draw, and why: nothing, or one line."""
    n_poor = int((~best.kept).sum())
    if request.sampler != "rejection" or not n_poor:
        return []
    log_priors = {name: c.log_prior.tolist() for name, c in composed.concepts.items()}
    chance = math.exp(formula.log_prior(log_priors))
    n_draws = request.n_chains * request.attempts
    largest = float(best.probability[~best.kept].max())
    return [
        f"{n_poor} of {request.n} pictures: none of {n_draws} draws of the base was accepted, the "
        f"most probable is kept, P(f | x) = {largest:.2g} at most; P(f) is {chance:.2g} by chance, "
        "so --chains or --attempts would have to grow, or --sampler auto leads chains there"
    ]


class _Work:
    """One request in progress: draws batches, counts levels of pictures for the progress bar."""

    def __init__(
        self,
        request: GenerateRequest,
        composed: Composed,
        device: torch.device,
        *,
        accept: float,
        branching: Branching | None,
        progress: Progress | None,
    ) -> None:
        self.request, self.device, self.branching = request, device, branching
        self.composed = replace(
            composed,
            energy=branching.energy if branching else replayed(composed.energy),
            base=replayed(composed.base),
        )
        self.accept, self.progress, self.done, self.total = accept, progress, 0, 0
        self.trace = Trace(self._log_probability if request.keep_frames else None)
        self.sigmas = self._levels()
        self.n_corrector = request.n_corrector
        self.n_calls = energy_calls(
            request.sampler,
            n_levels=len(self.sigmas),
            n_corrected=sum(sigma >= CORRECT_FROM for sigma in self.sigmas),
            n_corrector=self.n_corrector,
            n_chains=request.n_chains,
        )

    def _levels(self) -> list[float]:
        highest = SIGMA_MAX if self.request.start_image is None else self.request.start_noise
        levels = noise_levels(self.request.steps, sigma_min=SIGMA_MIN, sigma_max=highest)
        return [float(level) for level in levels]

    def draw(self, seeds: Sequence[int], *, attempt: int) -> Batch:
        """One draw of every seed, in batches."""
        parts = []
        self.total += len(seeds) * len(self.sigmas)  # what is drawn again comes on top
        for chunk in _chunks(seeds, max(1, self.request.batch_size // self.request.n_chains)):
            parts.append(self._chunk(chunk, attempt))
        frames = [torch.cat(level) for level in zip(*(p.frames for p in parts), strict=True)]
        return Batch(
            x=torch.cat([part.x for part in parts]),
            probability=torch.cat([part.probability for part in parts]),
            merit=torch.cat([part.merit for part in parts]),
            kept=torch.cat([part.kept for part in parts]),
            frames=frames,
        )

    def _chunk(self, seeds: Sequence[int], attempt: int) -> Batch:
        size = self.composed.size
        own = [(seed + attempt * ATTEMPT_STRIDE) % N_SEEDS for seed in seeds]
        noise = SeededNoise(own, (3, size, size), chains=self.request.n_chains)
        if self.branching:
            self.branching.settle(seeds, n_chains=self.request.n_chains, device=self.device)
        x = self._start(noise)
        chain = run_chains(
            self.composed,
            x,
            self.sigmas,
            noise,
            sampler=self.request.sampler,
            n_corrector=self.n_corrector,
            corrector_from=CORRECT_FROM,
        )
        frames, last = [], x
        for state in chain:
            last = state.x
            if self.request.keep_frames:
                frames.append(shown(state).cpu())
            if attempt == 0:
                self.trace.note(state)
            self.done += len(seeds)
            if self.progress:
                self.progress(self.done, self.total)
        if not bool(last.isfinite().all()):
            hint = "lower --strength or the weights in the formula; ebm verify checks the files"
            raise DivergedError("drawing ended in numbers that are not finite", hint=hint)
        probability = self._probability(self.composed.log_probability, last)
        branching, merit = self.branching, probability.log()
        if branching:
            merit = self._probability(branching.log_probability, last).log()
        if self.request.sampler == "rejection":
            kept = reject(merit, power=self.request.power, uniform=noise.uniform())
        else:
            log_real, real = self._realism(last)
            merit, kept = merit + log_real, (merit.exp() >= self.accept) & real
        return choose(
            last.cpu(), probability, merit=merit, kept=kept, frames=frames, n_pictures=len(seeds)
        )

    def _start(self, noise: SeededNoise) -> Tensor:
        """States at the highest level: samples of the Gaussian base, or a picture with noise."""
        fresh = noise.draw().to(self.device)
        if self.request.start_image is None:
            return self.composed.gaussian.noised_sample(fresh, self.sigmas[0])
        picture = torch.from_numpy(read_image(self.request.start_image, self.composed.size))
        return to_intensity(picture[None]).to(self.device) + self.sigmas[0] * fresh

    def _probability(self, log_probability: NoisyEnergy, x: Tensor) -> Tensor:
        """A probability of finished pictures, (B,): the geometric mean of what noise levels say.

        One reading at the lowest level for rejection, where it is a probability to draw by, and
        for conditional concepts, of which it takes a pass per cell.
        """
        slow = any(isinstance(c, ConditionalConcept) for c in self.composed.concepts.values())
        if slow or self.request.sampler == "rejection":
            log_p = mean_reading(log_probability, x, sigmas=READ_SIGMAS[:1], n_noises=1)
        else:
            log_p = mean_reading(log_probability, x)
        return log_p.exp().cpu()

    @torch.no_grad()
    def _realism(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log P(real | x) of finished pictures, and which look as real as most real ones; (B,).

        Without a residual nothing is known: 0, and all of them.
        """
        base = self.composed.mended
        if base is None or base.residual is None:
            return torch.zeros(len(x)), torch.ones(len(x), dtype=torch.bool)
        ratio = mean_reading(base.log_ratio, x)
        return F.logsigmoid(ratio).cpu(), (ratio >= base.residual.least).cpu()

    def _log_probability(self, denoised: Tensor) -> Tensor:
        """log P(f | x) of the denoised pictures of one batch."""
        level = torch.full((len(denoised),), READ_SIGMAS[0], device=denoised.device)
        return self.composed.log_probability(denoised, level)


def _chunks(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]
