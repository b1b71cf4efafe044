"""Batches of pictures by annealed chains: which are good enough, and what the chains told."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ebmcli.core.concepts import ConditionalConcept, refuse_nan
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.images import to_intensity
from ebmcli.core.replay import replayed
from ebmcli.core.samplers import SeededNoise, noise_levels, reject
from ebmcli.errors import DivergedError
from ebmcli.imaging import read_image
from ebmcli.workflows.chains import Batch, choose, energy_calls, run_chains, shown
from ebmcli.workflows.finished import READ_SIGMAS, mean_reading
from ebmcli.workflows.generate_request import CORRECT_FROM, N_SEEDS, SIGMA_MAX, SIGMA_MIN
from ebmcli.workflows.jobs import Mixture
from ebmcli.workflows.tracing import Trace

ATTEMPT_STRIDE = 0x9E3779B1  # odd, chosen: seeds of later attempts lie far from first ones

Progress = Callable[[int, int], None]  # levels done, levels in all


class Work:
    """Requests in progress: draws batches, counts levels of pictures for the progress bar.

    Args:
        mixture: What is drawn. But for formula, number and seeds its requests are alike.
        device: Where.
        progress: Told how many levels of pictures are done, and how many there are so far.
    """

    def __init__(
        self, mixture: Mixture, device: torch.device, *, progress: Progress | None
    ) -> None:
        self.mixture, self.device, self.progress = mixture, device, progress
        request = self.request = mixture.jobs[0].request
        self.composed = replace(
            mixture.composed, energy=mixture.energy, base=replayed(mixture.composed.base)
        )
        self.done, self.total = 0, 0
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
        accept = self.mixture.settle(seeds, n_chains=self.request.n_chains, device=self.device)
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
        targets = self._targets(seeds)
        frames, last = [], x
        for state in chain:
            last = state.x
            if self.request.keep_frames:
                frames.append(shown(state).cpu())
            if attempt == 0:
                self.trace.note(state, targets)
            self.done += len(seeds)
            if self.progress:
                self.progress(self.done, self.total)
        if not bool(last.isfinite().all()):
            raise self._diverged(x)
        probability = self._probability(self.mixture.log_probability, last)
        merit = probability.log()
        if self.mixture.branched:
            merit = self._probability(self.mixture.log_kept, last).log()
        if bool((probability + merit).isnan().any()):
            raise self._diverged(last)
        if self.request.sampler == "rejection":
            kept = reject(merit, power=self.request.power, uniform=noise.uniform())
        else:
            log_real, real = self._realism(last)
            enough = merit.exp() >= accept.repeat_interleave(len(last) // len(seeds))
            merit, kept = merit + log_real, enough & real
        return choose(
            last.cpu(), probability, merit=merit, kept=kept, frames=frames, n_pictures=len(seeds)
        )

    def _targets(self, seeds: Sequence[int]) -> list[str]:
        """A name for the energy of every chain; with rejection that of the base."""
        if self.request.sampler == "rejection":
            return [""] * len(seeds) * self.request.n_chains
        named = self.mixture.targets(seeds)
        return [name for name in named for _ in range(self.request.n_chains)]

    @torch.no_grad()
    def _diverged(self, x: Tensor) -> DivergedError:
        """The error of a draw that ended in no numbers; names a concept that gives none of x."""
        for job in self.mixture.jobs:
            for name, concept in job.composed.concepts.items():
                for sigma in (*self.sigmas, *READ_SIGMAS):
                    log_q = concept.log_posterior(x, x.new_full((len(x),), sigma))
                    refuse_nan(log_q, name, sigma=sigma)
        hint = "lower --strength or the weights in the formula; ebm verify checks the files"
        return DivergedError("drawing ended in numbers that are not finite", hint=hint)

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
        slow = any(isinstance(c, ConditionalConcept) for c in self.mixture.concepts)
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
        return self.mixture.log_probability(denoised, level)


def _chunks(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]
