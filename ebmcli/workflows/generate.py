"""From expressions to pictures: compose, draw by annealed chains, keep the probable ones."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmcli.core.images import to_bytes
from ebmcli.errors import ExpressionError
from ebmcli.registry import Registry
from ebmcli.workflows.chains import Batch
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.drawing import Progress, Work
from ebmcli.workflows.energies import Networks
from ebmcli.workflows.generate_request import GenerateRequest
from ebmcli.workflows.jobs import Job, Mixture, batches_of, job_of

__all__ = ["Drawn", "GenerateRequest", "draw_pictures", "draw_together"]


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
    that was given a branch P(b | x), is by the model itself below ``finished.acceptance``, or that
    looks less real to the residual of a mended base than 19 of 20 real ones, is drawn again from
    fresh noise, up to ``attempts`` times, and the best draw is kept: that of the highest product of
    both. No judge takes part. With rejection it is drawn again while no draw of the base was
    accepted.
    """
    start = time.monotonic()
    networks = Networks(registry, resolve_device(request.device))
    (drawn,) = _drawn([job_of(request, registry, networks)], networks, progress=progress)
    drawn.seconds = time.monotonic() - start  # with the time to load
    return drawn


def draw_together(
    requests: Sequence[GenerateRequest], progress: Progress | None = None, *, registry: Registry
) -> list[Drawn | ExpressionError]:
    """As :func:`draw_pictures` of each, up to rounding, in batches that may be of several.

    On a CPU a batch of sixteen takes about half the time per picture of a batch of one. The seconds
    of a request are its share of the draws.

    Args:
        requests: Alike but for formula, number and seeds; the seeds of all are different.
        progress: Told how many levels of pictures are done, and how many there are so far.
        registry: Where the concepts are.

    Returns:
        In the order of the requests; in the place of one whose formula the rule has no energy for,
        the error.

    Raises:
        ValueError: The requests differ in more.
    """
    alike = {replace(request, expression="", n=1, seed=0) for request in requests}
    if len(alike) != 1:
        raise ValueError("requests drawn together differ in formula, number and seeds alone")
    networks = Networks(registry, resolve_device(requests[0].device))
    found: dict[int, Drawn | ExpressionError] = {}
    jobs: dict[int, Job] = {}
    for index, request in enumerate(requests):
        try:
            jobs[index] = job_of(request, registry, networks)
        except ExpressionError as error:
            found[index] = error
    index_of = {id(job): index for index, job in jobs.items()}
    batches = batches_of(list(jobs.values()))
    counter = _Counter(progress, [sum(len(job.seeds) for job in batch) for batch in batches])
    for batch in batches:
        drawn = _drawn(batch, networks, progress=counter.batch(batch[0].request.steps))
        found |= {index_of[id(job)]: own for job, own in zip(batch, drawn, strict=True)}
    return [found[index] for index in range(len(requests))]


class _Counter:
    """Progress over several batches: what is done never falls.

    Args:
        progress: Who is told, if anybody.
        n_pictures: Of every batch.
    """

    def __init__(self, progress: Progress | None, n_pictures: Sequence[int]) -> None:
        self.progress, self.ahead = progress, list(n_pictures)
        self.before = self.done = 0

    def batch(self, n_levels: int) -> Progress:
        """Who is told of the next batch."""
        self.ahead.pop(0)
        self.before = self.done
        later = sum(self.ahead) * n_levels

        def told(done: int, total: int) -> None:
            self.done = self.before + done
            if self.progress:
                self.progress(self.done, self.before + total + later)

        return told


def _drawn(jobs: Sequence[Job], networks: Networks, *, progress: Progress | None) -> list[Drawn]:
    """The pictures of jobs that are drawn together."""
    start = time.monotonic()
    request = jobs[0].request
    work = Work(Mixture(jobs, networks), networks.device, progress=progress)
    seeds = [seed for job in jobs for seed in job.seeds]
    best = work.draw(seeds, attempt=0)
    first = best.kept.tolist()
    taken = [1] * len(seeds)
    for attempt in range(1, request.attempts):
        poor = (~best.kept).nonzero()[:, 0].tolist()
        if not poor:
            break
        again = work.draw([seeds[i] for i in poor], attempt=attempt)
        for row, i in enumerate(poor):
            taken[i] += 1
            if again.kept[row] or again.merit[row] > best.merit[i]:
                best.copy_row(i, again, row)
    seconds = (time.monotonic() - start) / sum(taken)
    found, end = [], 0
    for job in jobs:
        rows = slice(end, end + job.request.n)
        end = rows.stop
        own = best.part(rows)
        found.append(
            Drawn(
                images=to_bytes(own.x).numpy(),
                probabilities=own.probability.double().numpy(),
                seeds=job.seeds,
                attempts=taken[rows],
                acceptance=job.accept,
                kept=own.kept.tolist(),
                first_accepted=sum(first[rows]) / job.request.n,
                seconds=seconds * sum(taken[rows]),
                n_energy_calls=work.n_calls,
                space=job.space,
                digests=job.composed.digests,
                frames=[to_bytes(frame).numpy() for frame in own.frames],
                trace=work.trace.rows() if request.keep_frames else [],
                diagnostics=work.trace.summary(),
                branches=job.branching.texts(job.seeds) if job.branching else [],
                notes=job.notes + _unreached(own, job),
            )
        )
    return found


def _unreached(best: Batch, job: Job) -> list[str]:
    """What could not be drawn, how probable it is, and the picture that comes closest.

    One line where rejection left a picture without, or where no picture at all passes; else none.
    """
    request, formula, composed = job.request, job.formula, job.composed
    poor = ~best.kept
    n_poor = int(poor.sum())
    rejecting = request.sampler == "rejection"
    edited = request.start_image is not None  # may have been asked for too little noise
    if formula is None or edited or n_poor < (1 if rejecting else request.n):
        return []
    log_priors = {name: c.log_prior.tolist() for name, c in composed.concepts.items()}
    chance = math.exp(formula.log_prior(log_priors))
    closest = int(best.probability.where(poor, best.probability.new_tensor(-1)).argmax())
    reached = (
        f"seed {job.seeds[closest]} comes closest, P(f | x) = {best.probability[closest]:.2g}; by "
        f"chance P(f) is {chance:.2g}"
    )
    if rejecting:
        n_draws = request.n_chains * request.attempts
        return [
            f"{n_poor} of {request.n} pictures: none of {n_draws} draws of the base was accepted; "
            f"{reached}, so --chains or --attempts would have to grow, or --sampler auto leads "
            "chains there"
        ]
    return [
        f"no picture reaches the formula: {reached}; what hardly any picture shows that the "
        "concepts have learned from is out of reach of every sampler"
    ]
