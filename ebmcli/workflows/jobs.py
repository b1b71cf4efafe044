"""Several formulas drawn in one batch: networks see all pictures, every formula its own rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ebmcli.core.concepts import ConditionalConcept
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.logic import Formula
from ebmcli.core.replay import replayed
from ebmcli.registry import Registry
from ebmcli.workflows.branching import Branching, branching_of
from ebmcli.workflows.energies import Composed, Networks, base_alone, compose
from ebmcli.workflows.finished import acceptance, known_least
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.generate_request import GenerateRequest

ALONE = ("perp-neg",)  # rules that differentiate on their own: of a whole batch, once per formula


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request: its energy, and when a picture of it is good enough."""

    request: GenerateRequest
    formula: Formula | None  # None of a base alone
    space: str
    composed: Composed
    accept: float  # P(f | x), or of one that was given a branch P(b | x)
    branching: Branching | None
    notes: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """One per picture."""
        return [self.request.seed + i for i in range(self.request.n)]

    def shares_a_seed(self, other: "Job") -> bool:
        """Have two jobs pictures of one seed?"""
        one, two = self.request, other.request
        return one.seed < two.seed + two.n and two.seed < one.seed + one.n

    @property
    def log_kept(self) -> NoisyEnergy:
        """What decides if a picture is drawn again: log P(b | x), or without branches P(f | x)."""
        return self.branching.log_probability if self.branching else self.composed.log_probability

    @property
    def joins(self) -> bool:
        """Can it be drawn in one batch with others?

        On a GPU the energy of a formula is a graph of its own; a conditional concept has a pass
        per cell, which nothing is saved of.
        """
        request, concepts = self.request, self.composed.concepts.values()
        plain = not (request.keep_frames or request.start_image or request.base)
        slow = any(isinstance(concept, ConditionalConcept) for concept in concepts)
        on_cpu = self.composed.gaussian.mean.device.type == "cpu"
        return plain and on_cpu and not slow and request.logic not in ALONE


def job_of(request: GenerateRequest, registry: Registry, networks: Networks) -> Job:
    """Everything that can be wrong with a request is found here, before anything is drawn."""
    if request.base is not None:
        composed, space = base_alone(registry, request.base, device=networks.device)
        return Job(
            request=request, formula=None, space=space, composed=composed, accept=0.0,
            branching=None,
        )  # fmt: skip
    formula, space = formula_of(registry, request.expression)
    composed = compose(
        registry, formula, logic=request.logic, strength=request.power, networks=networks
    )
    branching, notes = None, list[str]()
    if not request.without_branches:
        branching, notes = branching_of(
            registry, formula, composed, asked=request.branches, strength=request.power
        )
    if branching:
        notes = [*notes, branching.note([request.seed + i for i in range(request.n)])]
    return Job(
        request=request, formula=formula, space=space, composed=composed,
        accept=acceptance(formula, known_least(registry, formula)),
        branching=branching, notes=notes,
    )  # fmt: skip


def batches_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that are drawn together: those on one base that can be, in order; others alone.

    A picture is known by its seed, so that jobs with a seed in common are drawn apart.
    """
    alone: list[list[Job]] = []
    joined: dict[str, list[Job]] = {}
    for job in jobs:
        together = joined.setdefault(next(iter(job.composed.digests)), []) if job.joins else None
        if together is None or any(job.shares_a_seed(other) for other in together):
            alone.append([job])
        else:
            together.append(job)
    return [*alone, *joined.values()]


class Mixture:
    """The energies of several jobs on one base, each for the rows of its own pictures.

    Args:
        jobs: One or more, with the same networks; their seeds differ.
        networks: Theirs.
    """

    def __init__(self, jobs: Sequence[Job], networks: Networks) -> None:
        self.jobs, self.networks = jobs, networks
        self.composed = jobs[0].composed
        self._of_seed = {seed: job for job in jobs for seed in job.seeds}
        self._settled: list[tuple[Job, int]] = []  # and its pictures, in order
        self._energies = {
            id(job): job.branching.energy if job.branching else job.composed.energy for job in jobs
        }
        if len(jobs) == 1 and not jobs[0].branching:  # a branching replays its own
            self._energies[id(jobs[0])] = replayed(jobs[0].composed.energy)

    def settle(self, seeds: Sequence[int], *, n_chains: int, device: torch.device) -> Tensor:
        """Make all functions those of these pictures; what each has to reach, (P,).

        Pictures of one job are next to each other.
        """
        runs: list[tuple[Job, list[int]]] = []
        for seed in seeds:
            job = self._of_seed[seed]
            if not runs or runs[-1][0] is not job:
                runs.append((job, []))
            runs[-1][1].append(seed)
        for job, own in runs:
            if job.branching:
                job.branching.settle(own, n_chains=n_chains, device=device)
        self._settled = [(job, len(own)) for job, own in runs]
        return torch.tensor([self._of_seed[seed].accept for seed in seeds])

    def targets(self, seeds: Sequence[int]) -> list[str]:
        """A name for the energy of each picture settled on: its formula's and branch's."""
        names = []
        for seed in seeds:
            job = self._of_seed[seed]
            branch = job.branching.texts([seed])[0] if job.branching else ""
            names.append(f"{id(job)} {branch}")
        return names

    @property
    def branched(self) -> bool:
        """Does any of the pictures settled on have a branch?"""
        return any(job.branching for job, _ in self._settled)

    @property
    def concepts(self) -> list[object]:
        """Of all jobs."""
        return [concept for job in self.jobs for concept in job.composed.concepts.values()]

    def energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E(x, sigma) of every row's own formula, (B,), nats."""
        return self._each(lambda job: self._energies[id(job)], x, sigma)

    def log_probability(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log P(f | x, sigma) of every row's own formula, (B,), nats."""
        return self._each(lambda job: job.composed.log_probability, x, sigma)

    def log_kept(self, x: Tensor, sigma: Tensor) -> Tensor:
        """:attr:`Job.log_kept` of every row, (B,), nats."""
        return self._each(lambda job: job.log_kept, x, sigma)

    def _each(self, function: Callable[[Job], NoisyEnergy], x: Tensor, sigma: Tensor) -> Tensor:
        if len(self._settled) == 1:
            return function(self._settled[0][0])(x, sigma)
        n_chains = len(x) // sum(n for _, n in self._settled)  # particles end as one per picture
        sizes = [n * n_chains for _, n in self._settled]
        asking = [job.composed.posteriors for job, _ in self._settled]
        parts = self.networks.whole.split(x, sigma, sizes, asking)
        values = [function(job)(*part) for (job, _), part in zip(self._settled, parts, strict=True)]
        return torch.cat(values)
