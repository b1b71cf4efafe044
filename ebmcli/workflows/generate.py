"""From an expression to pictures: compose, draw by annealed chains, keep the probable ones."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcli.core.expression import Literal, Value, literals
from ebmcli.core.images import to_bytes, to_intensity
from ebmcli.core.logic import Formula
from ebmcli.core.samplers import ChainState, SeededNoise, annealed_chain, noise_levels
from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.imaging import read_image
from ebmcli.registry import Registry
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.energies import LOGICS, Composed, compose
from ebmcli.workflows.formulas import formula_of

SAMPLERS = ("auto", "heun", "langevin")
DEFAULT_STRENGTH = 4.0  # measured: red cubes at a place are cubes in 62 % at 2, 81 % at 4
READ_SIGMA = 0.1  # intensity; noise at which a finished picture's probability is read
SIGMA_MIN, SIGMA_MAX = 0.02, 10.0  # intensity; ends of the annealing
CORRECT_FROM = 0.3  # intensity; below, a picture is decided and corrections change nothing
N_SEEDS = 1 << 32  # torch reads the low 32 bits of a seed only
ATTEMPT_STRIDE = 0x9E3779B1  # odd, chosen: seeds of later attempts lie far from first ones

Progress = Callable[[int, int], None]  # levels done, levels in all


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What ``ebm generate`` was asked for."""

    expression: str
    n: int = 16
    seed: int = 0  # of the first picture; the next has seed + 1
    steps: int = 32  # noise levels
    sampler: str = "auto"
    corrector_steps: int | None = None  # Langevin steps per level; None: the sampler's own
    strength: float | None = None  # power of P(f | x); None: DEFAULT_STRENGTH
    logic: str = "exact"
    attempts: int = 3  # draws per picture, while the model itself thinks it is wrong
    batch_size: int = 16
    device: str = "auto"
    start_image: Path | None = None  # edit it instead of starting from noise
    start_noise: float = 1.0  # intensity; noise added to it: more changes more
    keep_frames: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("steps", 2), ("attempts", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                shown = "-n" if name == "n" else f"--{name.replace('_', '-')}"
                raise ConfigError(f"{shown} must be at least {least}, got {getattr(self, name)}")
        if self.sampler not in SAMPLERS:
            raise UnknownNameError("sampler", self.sampler, SAMPLERS)
        if self.logic not in LOGICS:
            raise UnknownNameError("logic", self.logic, LOGICS)
        if self.corrector_steps is not None and self.corrector_steps < 0:
            raise ConfigError(f"--corrector-steps must not be negative: {self.corrector_steps}")
        if self.strength is not None and self.logic != "exact":
            hint = "leave it out, or use --logic exact"
            raise ConfigError("--strength has no meaning by the paper's rules", hint=hint)
        if self.strength is not None and not 0 < self.strength <= 20:
            raise ConfigError(f"--strength is above 0 and at most 20, got {self.strength:g}")
        if not SIGMA_MIN < self.start_noise <= SIGMA_MAX:
            raise ConfigError(
                f"--noise is above {SIGMA_MIN} and at most {SIGMA_MAX}, got {self.start_noise:g}"
            )
        if not 0 <= self.seed <= N_SEEDS - self.n:
            raise ConfigError(f"seeds are between 0 and 2^32 - 1, got --seed {self.seed}")

    def n_corrector(self, n_concepts: int) -> int:
        """Langevin steps per noise level at which pictures are corrected.

        The energy of one concept is nearly that of its noised pictures; that of several is not, and
        the corrector makes it so (measured for old & male & ~wavy, one draw: 50 % right with 6
        steps, 84 % with 12).
        """
        if self.corrector_steps is not None:
            return self.corrector_steps
        return {"auto": 6 if n_concepts == 1 else 12, "heun": 0, "langevin": 8}[self.sampler]

    @property
    def power(self) -> float:
        """The power of P(f | x) in the energy."""
        return DEFAULT_STRENGTH if self.strength is None else self.strength


@dataclass(kw_only=True)
class Drawn:
    """Pictures and what is known about them."""

    images: NDArray[np.uint8]  # (N, S, S, 3)
    probabilities: NDArray[np.float64]  # P(f | x) as the model has it, (N,)
    seeds: list[int]
    attempts: list[int]  # draws each picture took
    acceptance: float  # P(f | x) above which a picture counts as satisfying the formula
    first_accepted: float  # share of first draws that were kept
    seconds: float
    n_energy_calls: int  # per picture of one attempt
    space: str
    digests: dict[str, str]
    frames: list[NDArray[np.uint8]] = field(default_factory=list)  # (N, S, S, 3) per level
    trace: list[dict[str, Any]] = field(default_factory=list)  # one row per level


def draw_pictures(
    request: GenerateRequest, registry: Registry, *, progress: Progress | None = None
) -> Drawn:
    """Draw n pictures of a formula, one per seed.

    Every picture depends on its own seed and not on the others. A picture whose P(f | x) by the
    model itself is below :func:`acceptance` is drawn again from fresh noise, up to ``attempts``
    times, and the most probable draw is kept; no judge takes part.
    """
    start = time.monotonic()
    formula, space = formula_of(registry, request.expression)
    device = resolve_device(request.device)
    composed = compose(
        registry, formula, logic=request.logic, strength=request.power, device=device
    )
    work = _Work(request, composed, device, progress)
    seeds = [request.seed + i for i in range(request.n)]
    accept = acceptance(formula)
    best = work.draw(seeds, attempt=0)
    first = float((best.probability >= accept).float().mean())
    taken = [1] * request.n
    for attempt in range(1, request.attempts):
        poor = (best.probability < accept).nonzero()[:, 0].tolist()
        if not poor:
            break
        again = work.draw([seeds[i] for i in poor], attempt=attempt)
        for row, i in enumerate(poor):
            taken[i] += 1
            if again.probability[row] > best.probability[i]:
                best.copy_row(i, again, row)
    return Drawn(
        images=to_bytes(best.x).numpy(),
        probabilities=best.probability.double().numpy(),
        seeds=seeds,
        attempts=taken,
        acceptance=accept,
        first_accepted=first,
        seconds=time.monotonic() - start,
        n_energy_calls=work.n_calls,
        space=space,
        digests=composed.digests,
        frames=[to_bytes(frame).numpy() for frame in best.frames],
        trace=work.trace(),
    )


def acceptance(formula: Formula) -> float:
    """The P(f | x) below which a picture is drawn again: one half for words.

    Each coordinate that is asked for at a point halves it once more: a right picture has its
    probability spread over neighbouring nodes, of which the point takes a part.
    """
    points = {
        literal: sum(_n_coordinates(value) for value in _values(literal))
        for literal in literals(formula.expression)
    }
    return 0.5 ** (1 + sum(points.values()))


def _values(literal: Literal) -> list[Value]:
    """What a statement asks for at a point: its value, or the values of its parts."""
    if literal.comparison == "=" and literal.value is not None:
        return [literal.value]
    return [value for _, value in literal.parts]


def _n_coordinates(value: Value) -> int:
    """Numbers in a value: none in a word."""
    if isinstance(value, str):
        return 0
    return 2 if isinstance(value, tuple) else 1


@dataclass
class _Batch:
    """Finished states of some chains, on the CPU."""

    x: Tensor  # (B, 3, S, S)
    probability: Tensor  # (B,)
    frames: list[Tensor]

    def copy_row(self, i: int, other: "_Batch", row: int) -> None:
        """Take over one picture of another batch."""
        self.x[i], self.probability[i] = other.x[row], other.probability[row]
        for mine, theirs in zip(self.frames, other.frames, strict=True):
            mine[i] = theirs[row]


class _Work:
    """One request in progress: draws batches and counts levels for the progress bar."""

    def __init__(
        self,
        request: GenerateRequest,
        composed: Composed,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        self.request, self.composed, self.device = request, composed, device
        self.progress = progress
        self._notes: dict[float, list[tuple[Tensor, Tensor]]] = {}  # by noise level
        self.sigmas = self._levels()
        corrected = sum(sigma >= CORRECT_FROM for sigma in self.sigmas)
        self.n_corrector = request.n_corrector(len(composed.concepts))
        self.n_calls = 2 * len(self.sigmas) - 1 + self.n_corrector * corrected

    def _levels(self) -> list[float]:
        highest = SIGMA_MAX if self.request.start_image is None else self.request.start_noise
        levels = noise_levels(self.request.steps, sigma_min=SIGMA_MIN, sigma_max=highest)
        return [float(level) for level in levels]

    def draw(self, seeds: Sequence[int], *, attempt: int) -> _Batch:
        """One draw of every seed, in batches."""
        parts = []
        chunks = list(_chunks(seeds, self.request.batch_size))
        for number, chunk in enumerate(chunks):
            parts.append(self._chunk(chunk, attempt, number * len(self.sigmas), len(chunks)))
        frames = [torch.cat(level) for level in zip(*(p.frames for p in parts), strict=True)]
        x = torch.cat([part.x for part in parts])
        return _Batch(x, torch.cat([part.probability for part in parts]), frames)

    def _chunk(self, seeds: Sequence[int], attempt: int, done: int, n_chunks: int) -> _Batch:
        size = self.composed.size
        own = [(seed + attempt * ATTEMPT_STRIDE) % N_SEEDS for seed in seeds]
        noise = SeededNoise(own, (3, size, size))
        x = self._start(noise)
        chain = annealed_chain(
            self.composed.energy,
            x,
            self.sigmas,
            noise,
            n_corrector=self.n_corrector,
            corrector_from=CORRECT_FROM,
        )
        frames, last = [], x
        for state in chain:
            last = state.x
            if self.request.keep_frames:
                frames.append(state.denoised.cpu())
            if attempt == 0 and self.request.keep_frames:
                self._note(state)
            if self.progress:
                self.progress(done + state.level + 1, n_chunks * len(self.sigmas))
        return _Batch(last.cpu(), self._probability(last), frames)

    def _start(self, noise: SeededNoise) -> Tensor:
        """States at the highest level: samples of the Gaussian base, or a picture with noise."""
        fresh = noise.draw().to(self.device)
        if self.request.start_image is None:
            return self.composed.gaussian.noised_sample(fresh, self.sigmas[0])
        picture = torch.from_numpy(read_image(self.request.start_image, self.composed.size))
        return to_intensity(picture[None]).to(self.device) + self.sigmas[0] * fresh

    def _probability(self, x: Tensor) -> Tensor:
        """P(f | x) of finished pictures, under a little noise as the concepts know it."""
        level = torch.full((len(x),), READ_SIGMA, device=x.device)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(x.shape[1:], generator=generator).to(x.device)
        return self.composed.log_probability(x + READ_SIGMA * noise, level).exp().cpu()

    def _note(self, state: ChainState) -> None:
        """Remember energy and log P of the denoised pictures of one batch at one level."""
        level = torch.full((len(state.denoised),), READ_SIGMA, device=state.denoised.device)
        log_p = self.composed.log_probability(state.denoised, level)
        self._notes.setdefault(state.sigma, []).append((state.energy, log_p))

    def trace(self) -> list[dict[str, Any]]:
        """Mean energy and mean log P of all pictures, one row per noise level."""
        rows = []
        for sigma, notes in self._notes.items():
            energy, log_p = (torch.cat(column).mean() for column in zip(*notes, strict=True))
            rows.append({"sigma": sigma, "energy": float(energy), "log_p": float(log_p)})
        return rows


def _chunks(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]
