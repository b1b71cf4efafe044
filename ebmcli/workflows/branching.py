"""Which branch of its formula every picture is given, and the energy of a batch of them."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ebmcli.core.branches import Branch, Branches, tally
from ebmcli.core.composition import Posterior, branch_energy
from ebmcli.core.logic import Formula
from ebmcli.core.replay import replayed
from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.workflows.energies import Composed

BRANCHES = ("prior", "free")
WITH_BRANCHES = ("auto", "heun", "langevin", "mala", "hmc")  # smc and rejection weigh all branches
SEED_OFFSET = 0x5851F42D  # chosen: branches have generators of their own, apart from the noise
N_SEEDS = 1 << 32


def check_branches(asked: str | None, *, possible: bool) -> None:
    """Refuse a way of giving branches that is unknown, or means nothing here.

    Raises:
        UnknownNameError: It is not in BRANCHES.
        ConfigError: They are to be given where there are none.
    """
    if asked not in (None, *BRANCHES):
        raise UnknownNameError("way of giving branches", str(asked), BRANCHES)
    if asked == "prior" and not possible:
        problem = "--branches prior goes with --logic exact and chains that start from noise"
        hint = f"leave it out; the samplers with branches are {', '.join(WITH_BRANCHES)}"
        raise ConfigError(problem, hint=hint)


class Branching:
    """The branches of one formula, drawn for pictures by their seeds.

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
        self._concepts: dict[str, Posterior] = dict(composed.concepts)
        self._masks: dict[int, dict[str, Tensor]] = {}  # by number of chains, at fixed places
        self.energy = replayed(self._energy)

    def branch(self, seed: int) -> Branch:
        """The branch of the picture of a seed."""
        generator = Generator().manual_seed((seed + SEED_OFFSET) % N_SEEDS)
        n_concepts = len(self.formula.concepts)
        uniforms = torch.rand(n_concepts, generator=generator, dtype=torch.float64)
        return self.branches.draw(uniforms.tolist())

    def settle(self, seeds: Sequence[int], *, n_chains: int, device: torch.device) -> None:
        """Make ``energy`` that of the branches of these pictures, ``n_chains`` rows each."""
        masks = self.branches.masks([self.branch(seed) for seed in seeds])
        rows = {
            name: mask.repeat_interleave(n_chains, dim=0).to(device) for name, mask in masks.items()
        }
        kept = self._masks.setdefault(len(seeds) * n_chains, rows)
        for name, mask in rows.items():
            kept[name].copy_(mask)  # in place: a graph reads it where it was when captured

    def texts(self, seeds: Sequence[int]) -> list[str]:
        """The branch of every picture, as a conjunction of statements."""
        return [self.branches.text(self.branch(seed)) for seed in seeds]

    def note(self, seeds: Sequence[int]) -> str:
        """How often which branch was given, for people."""
        return f"branches by their prior: {tally(self.texts(seeds))}"

    def _energy(self, x: Tensor, sigma: Tensor) -> Tensor:
        masks = self._masks[len(x)]
        of_branches = branch_energy(
            self._base, self.formula, self._concepts, masks, strength=self.strength
        )
        return of_branches(x, sigma)


def branching_of(
    formula: Formula | None, composed: Composed, *, asked: bool, strength: float
) -> Branching | None:
    """The branches of a formula, if pictures are to be given one and there is a choice."""
    if formula is None or not asked:
        return None
    log_priors = {name: composed.concepts[name].log_prior.tolist() for name in formula.concepts}
    branches = Branches(formula, log_priors)
    if branches.n_branches < 2:
        return None
    return Branching(formula, branches, composed, strength=strength)
