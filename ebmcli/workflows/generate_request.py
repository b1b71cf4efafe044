"""What ``ebm generate`` was asked for, and what of it cannot be."""

from dataclasses import dataclass
from pathlib import Path

from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.workflows.branching import WITH_BRANCHES, check_branches
from ebmcli.workflows.chains import N_CHAINS, N_CORRECTOR, SAMPLERS, check_sampler
from ebmcli.workflows.energies import LOGICS, WITHOUT_STRENGTH

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
