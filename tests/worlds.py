"""Finite worlds for tests: every joint value of every factor listed, every formula decided by hand.

A world has rows, one per joint value: the two of `old` and `male`, the three of `shape`, and of
`size` every piece into which BOUNDS cut its 17 cells. "About this number" is a soft statement: each
of two such numbers is one more coin per row, which falls with the membership of the row's cell. A
formula is then a column of booleans. Nothing here knows event tables, diagrams or log-probabilities
of events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

from ebmcli.core.expression import And, Expression, Implies, Literal, Not, Or
from ebmcli.core.factors import Factor, point_membership

FACTORS = {
    factor.name: factor
    for factor in (
        Factor(name="old", kind="binary", names=("no", "yes")),
        Factor(name="male", kind="binary", names=("no", "yes")),
        Factor(name="shape", kind="categorical", names=("cube", "sphere", "cylinder")),
        Factor(name="size", kind="scalar", low=0.2, high=0.6),
    )
}
BOUNDS = (0.21, 0.3, 0.37, 0.4, 0.5)  # inside cells, on nodes, on an edge between cells
ABOUT = (0.3, 0.41)  # numbers of soft statements
AXES = ("old", "male", "shape", "piece", "first", "second")
SIZES = {"old": 2, "male": 2, "shape": 3}


def pieces() -> tuple[Tensor, Tensor, Tensor]:
    """Cell (long), share of the cell and middle of every piece of `size`: (P,) each."""
    factor = FACTORS["size"]
    edges = [factor.low + (i + 0.5) * 0.025 for i in range(16)]
    cuts = sorted({factor.low, factor.high, *edges, *BOUNDS})
    cuts = [cut for i, cut in enumerate(cuts) if i == 0 or cut - cuts[i - 1] > 1e-9]
    low, high = torch.tensor([cuts[:-1], cuts[1:]], dtype=torch.float64)
    middle = (low + high) / 2
    cell = torch.floor((middle - factor.low) / 0.025 + 0.5).long()
    width = torch.zeros(17, dtype=torch.float64).index_add(0, cell, high - low)
    return cell, (high - low) / width[cell], middle


CELL, SHARE, MIDDLE = pieces()
SHAPE = (2, 2, 3, len(CELL), 2, 2)  # of AXES
MEMBERSHIPS = [point_membership(FACTORS["size"], value) for value in ABOUT]
SOFT = torch.tensor(MEMBERSHIPS, dtype=torch.float64)[:, CELL]


def along(values: Tensor, axis: str) -> Tensor:
    """Numbers of one axis, spread over all rows."""
    view = [1] * len(AXES)
    view[AXES.index(axis)] = -1
    return values.view(view).expand(SHAPE)


def coins() -> Tensor:
    """Probability of the two soft statements' truths in every row."""
    whole = torch.ones(SHAPE, dtype=torch.float64)
    for axis, soft in zip(("first", "second"), SOFT, strict=True):
        falls = along(soft, "piece")
        whole = whole * torch.where(along(torch.tensor([False, True]), axis), falls, 1 - falls)
    return whole


COINS = coins()


def truth(tree: Expression) -> Tensor:
    """In which rows a formula is true: (2, 2, 3, P, 2, 2) bool."""
    match tree:
        case Not(term):
            return ~truth(term)
        case And(left, right):
            return truth(left) & truth(right)
        case Or(left, right):
            return truth(left) | truth(right)
        case Implies(left, right):
            return ~truth(left) | truth(right)
        case Literal("size", "=", value):
            return along(torch.tensor([False, True]), ("first", "second")[ABOUT.index(value)])
        case Literal("size", comparison, bound):
            above = along(MIDDLE.gt(bound), "piece")
            return above if ">" in str(comparison) else ~above
        case Literal(name, _, value):
            wanted = "yes" if value is None else value
            return along(torch.tensor([name == wanted for name in FACTORS[name].names]), name)
    raise TypeError(tree)


def weigh(cells: Mapping[str, Tensor]) -> Tensor:
    """Probability of every row from those of the cells of every concept: (2, 2, 3, P, 2, 2)."""
    whole = COINS * along(cells["size"][CELL] * SHARE, "piece")
    for name in SIZES:
        whole = whole * along(cells[name], name)
    return whole


def tempered(posterior: Tensor, prior: Tensor, weight: float) -> Tensor:
    """pi (q / pi)^w, normalised."""
    power = prior * (posterior / prior) ** weight
    return power / power.sum()


def random_shares(rng: Random, n: int, *, zeros: bool = False) -> Tensor:
    """A distribution over n cells; with ``zeros`` only one cell or a few may be possible."""
    values = torch.tensor([rng.random() ** 2 + 1e-4 for _ in range(n)], dtype=torch.float64)
    if zeros:
        kept = rng.sample(range(n), rng.choice([1, 1, rng.randint(1, n)]))
        values = values * torch.tensor([cell in kept for cell in range(n)])
    return values / values.sum()


def random_literal(rng: Random, weights: Mapping[str, float]) -> Literal:
    """A statement about one of the factors."""
    name = rng.choice(list(FACTORS))
    if name == "size":
        comparison = rng.choice(["=", "<", ">", "<=", ">="])
        value = rng.choice(ABOUT if comparison == "=" else BOUNDS)
        return Literal(name, comparison, value, weights[name])
    if name == "shape":
        return Literal(name, "=", rng.choice(FACTORS[name].names), weights[name])
    return rng.choice(
        [Literal(name, weight=weights[name]), Literal(name, "=", "no", weights[name])]
    )


def random_tree(rng: Random, n: int, weights: Mapping[str, float]) -> Expression:
    """A tree over n statements; groups are negated as often as statements."""
    tree: Expression = random_literal(rng, weights)
    if n > 1:
        n_left = rng.randint(1, n - 1)
        kind = rng.choice([And, Or, Implies])
        tree = kind(random_tree(rng, n_left, weights), random_tree(rng, n - n_left, weights))
    return Not(tree) if rng.random() < 0.4 else tree


def random_weights(rng: Random) -> dict[str, float]:
    """A weight per concept, mostly 1."""
    return {name: rng.choice([0.0, 0.5, 1.0, 1.0, 1.0, 2.0, 4.0]) for name in FACTORS}


@dataclass(kw_only=True)
class PointWorld:
    """Images that are points of a finite set: x (B, 1, 1, 1) holds the number of the point.

    p(x) and the posteriors of every point are given: the joint table is p(x) times the product of
    posteriors, so that concepts are independent given the image, as the theory asks.
    """

    log_p: Tensor  # (M,)
    posteriors: Mapping[str, Tensor]  # (M, K)
    priors: Mapping[str, Tensor] = field(init=False)  # (K,), of the joint table

    def __post_init__(self) -> None:
        p = self.log_p.exp()
        self.priors = {name: p @ q / p.sum() for name, q in self.posteriors.items()}

    def base(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E0 = -log p(x)."""
        return -self.log_p[x.flatten().long()]

    def concept(self, name: str) -> "PointConcept":
        """The concept that has learned these posteriors."""
        return PointConcept(self.posteriors[name], self.priors[name])


class PointConcept:
    """A concept whose posterior is looked up."""

    def __init__(self, posterior: Tensor, prior: Tensor) -> None:
        self.posterior, self.log_prior = posterior, prior.log()

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x): (B, K)."""
        return self.posterior[x.flatten().long()].log()


@dataclass(frozen=True, kw_only=True)
class BlobWorld:
    """A mixture of Gaussians, one component per joint value: an axis of x per factor.

    x (B, 1, 1, 4); the component of (old, male, shape, size) is N(m, s^2 + sigma^2), m_c = GAP
    times the number of the value of c, that of `size` divided by 8. s = 0.5.
    """

    priors: Mapping[str, Tensor]

    def log_likelihood(self, x: Tensor, sigma: Tensor, name: str) -> Tensor:
        """log of the density of the coordinate of one factor given its cell: (B, K)."""
        means = self.means(name).to(x)
        variance = (0.25 + sigma.square())[:, None]
        coordinate = x.flatten(1)[:, [list(FACTORS).index(name)]]
        return (
            -(coordinate - means).square() / (2 * variance) - 0.5 * (2 * torch.pi * variance).log()
        )

    def means(self, name: str) -> Tensor:
        """Where the values of a factor lie on its axis: (K,)."""
        return 1.5 * torch.arange(FACTORS[name].n_cells) / (8 if name == "size" else 1)

    def base(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E0 = -log p_sigma(x)."""
        axes = [
            (self.log_likelihood(x, sigma, name) + self.priors[name].to(x).log()).logsumexp(1)
            for name in FACTORS
        ]
        return -torch.stack(axes).sum(0)

    def concept(self, name: str) -> "BlobConcept":
        """The concept that has learned the posterior of one factor."""
        return BlobConcept(self, name)


class BlobConcept:
    """A posterior by Bayes' rule, in closed form."""

    def __init__(self, world: BlobWorld, name: str) -> None:
        self.world, self.name, self.log_prior = world, name, world.priors[name].log()

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(k | x, sigma): (B, K)."""
        joint = self.world.log_likelihood(x, sigma, self.name) + self.log_prior.to(x)
        return joint.log_softmax(1)
