"""What ``ebm bench logic`` measures: its lines, and the formulas and seeds of their pictures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ebmcli.core.expression import spell
from ebmcli.core.factors import Factor
from ebmcli.errors import ConfigError, UnknownNameError, UsageError
from ebmcli.evaluation.formulas import (
    N_PRIOR,
    NESTED,
    OR_ROWS,
    ROWS,
    random_formulas,
    uniform_readings,
    why_not,
)
from ebmcli.workflows.branching import WITH_BRANCHES
from ebmcli.workflows.chains import N_CORRECTOR, SAMPLERS, energy_calls
from ebmcli.workflows.energies import LOGICS
from ebmcli.workflows.generate_request import GenerateRequest
from ebmcli.workflows.results import MAX_SEED
from ebmcli.workflows.scoring import GROUP_STRIDE, SEED_STRIDE

OURS = "exact"  # the rule that the others are compared with
PLAIN, METROPOLIS = "langevin", ("mala", "hmc")  # samplers without and with a test of their steps
BRANCHING = (*OR_ROWS, "implies", *NESTED)  # rows of formulas that can be true in several ways
METROPOLIS_STEPS = (5, 10, 25)  # corrector steps per noise level
N_PICTURES, N_SEEDS = 100, 3  # per line and seed
QUICK_SEEDS = 2
MAX_FORMULAS, PER_FORMULA = 20, 3  # formulas per seed, and pictures of each at least; chosen
MAX_OR_FORMULAS, PER_OR_FORMULA = 4, 50  # of all seeds together: shares of branches need many

# For --quick: ten minutes, a third of them kept in reserve. Measured on two cores with AVX-512 on a
# slow day: 3.6 s for one of four pictures of a line, which is 195 energy calls.
QUICK_ROWS = ("and-2", "or-values", "not", "implies", "nested-3")  # one of each kind
QUICK_SECONDS = 600 * 2 / 3
QUICK_LIMIT = 660  # by this estimate, of its own rows; they took 535 s there, as some are refused
SECONDS_PER_CALL = 0.0185
LEVELS, CORRECTED = 32, 22  # noise levels, and those of them that are corrected
REPEATS = 1.5  # attempts that a picture takes on average where several are allowed


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: a kind of formulas, drawn in one way."""

    part: str  # rules or metropolis
    row: str  # one of formulas.ROWS
    rule: str
    sampler: str = "auto"
    corrector_steps: int | None = None  # Langevin steps per noise level; None: the sampler's own
    attempts: int = 1
    by_branch: bool = False  # every picture has a branch of its formula, by its prior

    @property
    def title(self) -> str:
        """A few words for the progress bar."""
        extra = ", by branch" if self.by_branch else ""
        extra += f", {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.row}, {self.rule}{extra}" + (
            f", {self.sampler} {self.corrector_steps}" if self.part == "metropolis" else ""
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pictures of one formula and seed."""

    formula: str
    seed: int
    first_picture_seed: int
    n: int


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What ``ebm bench logic`` was asked for."""

    sampling: GenerateRequest  # its expression, n, seed, logic, sampler and attempts are replaced
    space: str = "scenes-64"
    n: int | None = None  # pictures per line and seed; None: N_PICTURES, or what quick allows
    seeds: int | None = None  # None: N_SEEDS, or QUICK_SEEDS
    seed: int = 0  # the first
    rules: tuple[str, ...] = LOGICS
    rows: tuple[str, ...] = ROWS
    quick: bool = False
    data: Path | None = None  # labelled pictures to compare with; None: rendered afresh
    folder: Path = Path("bench-logic")
    resume: bool = False
    overwrite: bool = False
    command: str = ""  # as typed

    def __post_init__(self) -> None:
        for kind, asked, known in (("rule", self.rules, LOGICS), ("row", self.rows, ROWS)):
            if not asked:
                raise UsageError(f"no {kind} to measure", hint=f"known: {', '.join(known)}")
            for name in asked:
                if name not in known:
                    raise UnknownNameError(kind, name, known)
        if self.n is not None and self.n < 2:
            raise ConfigError(f"-n must be at least 2, got {self.n}")
        if self.seeds is not None and self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {self.seeds}")
        if not 0 <= self.seed <= self.seed + len(self.all_seeds) <= MAX_SEED:
            raise ConfigError(f"--seed and --seeds stay below {MAX_SEED}")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds whose spread gives the standard error."""
        n_seeds = self.seeds or (QUICK_SEEDS if self.quick else N_SEEDS)
        return [self.seed + i for i in range(n_seeds)]

    def pictures(self, lines: list[Line]) -> int:
        """Pictures per line and seed."""
        if self.n is not None or not self.quick:
            return self.n or N_PICTURES
        return quick_pictures(lines, n_seeds=len(self.all_seeds))

    def settings(self, n: int) -> dict[str, Any]:
        """What every row of one results file has in common."""
        shared = ("steps", "corrector_steps", "strength", "attempts", "device")
        sampling = {key: asdict(self.sampling)[key] for key in shared}
        data = str(self.data) if self.data else None
        common = {"space": self.space, "n": n, "seeds": self.all_seeds}
        return common | {"sampling": sampling, "data": data}


def plan_lines(request: BenchRequest, factors: Mapping[str, Factor]) -> list[Line]:
    """All lines: every rule for every row, our default beside them, then the Metropolis tests.

    The rules are compared at one attempt, so that all take the same number of energy calls, and as
    energies of whole formulas. In lines of its own every picture is given a branch of its formula,
    where a row has formulas with several: at one attempt, and as by default.

    Raises:
        UsageError: None of the rows can be asked of these concepts.
    """
    rows = [row for row in request.rows if not why_not(row, factors)]
    if not rows:
        reasons = "; ".join(f"{row} {why_not(row, factors)}" for row in request.rows)
        raise UsageError(f"nothing to measure in {request.space}: {reasons}")
    steps, attempts = request.sampling.corrector_steps, request.sampling.attempts
    lines = []
    for row in rows:
        for rule in request.rules:
            lines.append(Line(part="rules", row=row, rule=rule, corrector_steps=steps))
        if OURS in request.rules:
            both = row in BRANCHING and not request.quick
            for n in sorted({1, attempts} if both else {attempts} - {1}):
                ours = Line(
                    part="rules", row=row, rule=OURS, corrector_steps=steps, attempts=n,
                    by_branch=True,
                )  # fmt: skip
                lines.append(ours)
    return lines + _metropolis_lines(request, [row for row in rows if row in NESTED])


def _metropolis_lines(request: BenchRequest, nested: list[str]) -> list[Line]:
    """Langevin steps with and without a Metropolis test, where this version has such samplers.

    HMC, which takes by far the most energy calls, comes last in each row, and not where there is
    little time.
    """
    tested = [sampler for sampler in METROPOLIS if sampler in SAMPLERS]
    tested = [sampler for sampler in tested if not (request.quick and sampler == "hmc")]
    if not tested or OURS not in request.rules:
        return []
    if request.quick:
        nested = [row for row in nested if row == "nested-3"] or nested[:1]
    return [
        Line(part="metropolis", row=row, rule=OURS, sampler=sampler, corrector_steps=steps)
        for row in nested
        for sampler in (PLAIN, *tested)
        for steps in METROPOLIS_STEPS[: 1 if request.quick else None]
    ]


def quick_pictures(lines: list[Line], *, n_seeds: int) -> int:
    """Pictures per line and seed that fit QUICK_SECONDS, at least 2."""
    seconds = sum(picture_seconds(line) for line in lines)
    return max(2, min(N_PICTURES, int(QUICK_SECONDS / (seconds * n_seeds))))


def quick_overrun(lines: list[Line], *, n: int, n_seeds: int) -> float | None:
    """Estimated minutes of lines that ten cannot be enough for, as with more rows; else None.

    Lines whose rule refuses their formulas count in full, so that it is an upper bound.
    """
    seconds = n * n_seeds * sum(picture_seconds(line) for line in lines)
    return seconds / 60 if seconds > QUICK_LIMIT else None


def picture_seconds(line: Line) -> float:
    """Estimated seconds for a picture of 64 x 64."""
    steps = line.corrector_steps
    calls = energy_calls(
        line.sampler,
        n_levels=LEVELS,
        n_corrected=CORRECTED,
        n_corrector=N_CORRECTOR[line.sampler] if steps is None else steps,
        n_chains=1,
    )
    return calls * SECONDS_PER_CALL * (REPEATS if line.attempts > 1 else 1)


def sampling_of(line: Line, sampling: GenerateRequest) -> GenerateRequest:
    """How the pictures of a line are drawn; expression, n and seed are still to be filled in.

    A rule that knows no strength gets none.
    """
    strength = sampling.strength if takes_strength(line.rule) else None
    has_branches = line.rule == OURS and line.sampler in WITH_BRANCHES
    return replace(
        sampling,
        strength=strength,
        logic=line.rule,
        sampler=line.sampler,
        corrector_steps=line.corrector_steps,
        attempts=line.attempts,
        branches=("prior" if line.by_branch else "free") if has_branches else None,
    )


def strength_of(line: Line, sampling: GenerateRequest) -> float:
    """The power or weight of guidance of a line; 1 for a rule that knows none."""
    return sampling_of(line, sampling).power if takes_strength(line.rule) else 1.0


def takes_strength(rule: str) -> bool:
    """Does a rule have a strength, by which it is guided?"""
    try:
        GenerateRequest(expression="", logic=rule, strength=1.0)
    except ConfigError:
        return False
    return True


def plan_groups(
    row: str, factors: Mapping[str, Factor], *, n: int, seeds: list[int]
) -> list[Group]:
    """The pictures of a row, n per seed: the same formulas and seeds for every rule.

    Every seed has formulas of its own, except in rows of "or": there all seeds share a few, so that
    the share of each branch is counted in many pictures.
    """
    is_or = row in OR_ROWS
    if is_or:
        per_seed = max(1, min(MAX_OR_FORMULAS, n * len(seeds) // PER_OR_FORMULA))
    else:
        per_seed = max(1, min(MAX_FORMULAS, n // PER_FORMULA))
    wanted = per_seed if is_or else per_seed * len(seeds)
    labels = uniform_readings(factors, N_PRIOR, seed=0)
    found = random_formulas(row, factors, n=wanted, seed=seeds[0], labels=labels)
    groups = []
    for position, seed in enumerate(seeds):
        start = 0 if is_or else position * per_seed
        mine = [found[(start + i) % len(found)] for i in range(min(per_seed, len(found), n))]
        for i, expression in enumerate(mine):
            groups.append(
                Group(
                    formula=spell(expression),
                    seed=seed,
                    first_picture_seed=seed * SEED_STRIDE + i * GROUP_STRIDE,
                    n=n // len(mine) + (i < n % len(mine)),
                )
            )
    return groups
