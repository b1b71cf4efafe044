"""Which branch of its formula every picture is given, and the energy of a batch of them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ebmcli.core.branches import Branch, Branches, tally
from ebmcli.core.composition import Posterior, branch_energy
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.logic import Formula
from ebmcli.core.replay import replayed
from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.registry import Registry
from ebmcli.workflows.energies import Composed

BRANCHES = ("prior", "free")
WITH_BRANCHES = ("auto", "heun", "langevin", "mala", "hmc")  # smc and rejection weigh all branches
BITS = 53  # of a float


def check_branches(asked: str | None, *, without: str | None) -> None:
    """Refuse a way of giving branches that is unknown, or that means nothing here.

    Args:
        asked: One of BRANCHES, or None.
        without: The option that leaves no branches to give, as typed, or None.

    Raises:
        UnknownNameError: It is not in BRANCHES.
        ConfigError: There are none to give.
    """
    if asked not in (None, *BRANCHES):
        raise UnknownNameError("way of giving branches", str(asked), BRANCHES)
    if asked is not None and without is not None:
        raise ConfigError(f"--branches has no meaning with {without}", hint="leave it out")


def uniforms(seed: int, n: int) -> list[float]:
    """n numbers in [0, 1) of a seed, evenly spread over seeds that follow each other.

    Of any run of seeds every branch so has its share but for about one picture if n is 1; if
    several concepts decide the branch, it may be off by as much as chance would be.

    Source: Kronecker sequences, with the generalised golden ratios of Roberts (2018).
    """
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (n + 1))
    steps = [round(2**BITS / ratio ** (i + 1)) for i in range(n)]
    return [(seed * step + 2 ** (BITS - 1)) % 2**BITS / 2**BITS for step in steps]


class Branching:
    """The branches of one formula, given to pictures by their seeds.

    A picture keeps its branch when it is drawn again: else branches that are drawn poorly would
    lose their share.

    Args:
        formula: With more than one branch.
        branches: Its branches.
        composed: Its base and concepts.
        strength: Power of P(b | x).
    """

    def __init__(
        self, formula: Formula, branches: Branches, composed: Composed, *, strength: float
    ) -> None:
        self.formula, self.branches, self.strength = formula, branches, strength
        self._base = composed.base
        self._concepts: Mapping[str, Posterior] = composed.posteriors
        self._masks: dict[int, dict[str, Tensor]] = {}  # by number of chains, at fixed places
        self.energy = replayed(self._energy)

    def branch(self, seed: int) -> Branch:
        """The branch of the picture of a seed."""
        return self.branches.draw(uniforms(seed, len(self.formula.concepts)))

    def settle(self, seeds: Sequence[int], *, n_chains: int, device: torch.device) -> None:
        """Make ``energy`` that of the branches of these pictures, ``n_chains`` rows each."""
        masks = self.branches.masks([self.branch(seed) for seed in seeds])
        rows = {
            name: mask.repeat_interleave(n_chains, dim=0).to(device) for name, mask in masks.items()
        }
        kept = self._masks.setdefault(len(seeds) * n_chains, rows)
        for name, mask in rows.items():
            kept[name].copy_(mask)  # in place: a graph reads it where it was when captured

    def log_probability(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log P(b | x, sigma) of the branches settled on, nats, (B,)."""
        with torch.no_grad():
            return -self._composed(x, sigma, strength=1.0, base=_nothing)

    def texts(self, seeds: Sequence[int]) -> list[str]:
        """The branch of every picture, as a conjunction of statements."""
        return [self.branches.text(self.branch(seed)) for seed in seeds]

    def note(self, seeds: Sequence[int]) -> str:
        """How often which branch was given, for people."""
        return f"pictures were given a branch each, by their prior: {tally(self.texts(seeds))}"

    def _energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._composed(x, sigma, strength=self.strength, base=self._base)

    def _composed(self, x: Tensor, sigma: Tensor, *, strength: float, base: NoisyEnergy) -> Tensor:
        masks = self._masks[len(x)]
        of_branches = branch_energy(base, self.formula, self._concepts, masks, strength=strength)
        return of_branches(x, sigma)


def branching_of(
    registry: Registry,
    formula: Formula,
    composed: Composed,
    *,
    asked: str | None,
    strength: float,
) -> tuple[Branching | None, list[str]]:
    """The branches of a formula if pictures are to be given one, and notes for people.

    Without being asked for they are given where there is a choice, where the strength is not 1,
    at which the energy of the whole formula is Bayes' rule, and where concepts do not go together
    in the pictures that they have learned from: then their priors say nothing of both.

    Args:
        registry: Where the concepts are.
        formula: The formula.
        composed: Its base and concepts.
        asked: One of BRANCHES, or None.
        strength: Power of P(f | x).
    """
    if asked == "free" or (asked is None and strength == 1):
        return None, []
    log_priors = {name: composed.concepts[name].log_prior.tolist() for name in formula.concepts}
    branches = Branches(formula, log_priors)
    if branches.n_branches < 2:
        return None, []
    pairs = [] if asked else list(together(registry, formula))
    if pairs:
        named = ", ".join(f"{one} and {other}" for one, other in pairs)
        hint = "each picture is left to find its branch; --branches prior gives them by chance"
        return None, [f"{named} go together in the pictures they were trained on: {hint}"]
    return Branching(formula, branches, composed, strength=strength), []


def together(registry: Registry, formula: Formula) -> Iterator[tuple[str, str]]:
    """Pairs of concepts of a formula of which training found that their factors go together."""
    for one, other in itertools.combinations(formula.concepts, 2):
        records = [registry.get("concept", name) for name in (one, other)]
        factors = [record.factor.name if record.factor else "" for record in records]
        found = [record.measured.get("goes_with", {}) for record in records]
        if factors[1] in found[0] or factors[0] in found[1]:
            yield one, other


def _nothing(x: Tensor, _: Tensor) -> Tensor:
    """An energy of 0."""
    return x.new_zeros(len(x))
