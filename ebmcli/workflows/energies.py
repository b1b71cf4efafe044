"""One energy over images from a formula and the trained parts it needs."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.composition import Posterior, exact_energy, log_probability
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.energy import NoisyEnergy
from ebmcli.core.expression import And, Expression, Literal, concept_names
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.logic import Formula
from ebmcli.core.rules import RULES, Parts
from ebmcli.core.targets import cell_weights, label_tensor
from ebmcli.core.union import Base
from ebmcli.errors import UnknownNameError, UsageError
from ebmcli.registry import Registry
from ebmcli.workflows.loading import Concept, load_base, load_concept

LOGICS = ("exact", *RULES)
WITHOUT_STRENGTH = ("paper",)  # rules that know no weight of guidance
BASE = ""  # among the networks of a batch; concepts have names


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The energy of a formula and what it is made of."""

    energy: NoisyEnergy  # E_f(x, sigma), nats
    base: NoisyEnergy  # E0(x, sigma), of the space
    log_probability: NoisyEnergy  # log P(f | x, sigma), nats, (B,)
    gaussian: GaussianEnergy  # of the space; chains start from it
    concepts: dict[str, Concept]
    posteriors: Mapping[str, Posterior]  # the same, each evaluated once per batch
    size: int  # pixels per side
    digests: dict[str, str]  # "base scenes-64" or "concept color" -> sha256
    mended: BaseEnergy | None = None  # the base, if it has a residual


def compose(
    registry: Registry,
    formula: Formula,
    *,
    logic: str = "exact",
    strength: float = 1.0,
    networks: "Networks",
) -> Composed:
    """Compose what a formula needs.

    Args:
        registry: Where the concepts are.
        formula: A compiled formula; its concepts are of one space.
        logic: One of LOGICS.
        strength: Weight of guidance: the power of P(f | x) with exact logic, of P(l | x) / P(l) of
            every statement l with the other rules; 1 for those WITHOUT_STRENGTH.
        networks: Of this registry; formulas that share them can be asked of one batch.

    Raises:
        UnknownNameError: ``logic`` is not in LOGICS.
        ExpressionError: The rule has no meaning for this formula.
    """
    if logic not in LOGICS:
        raise UnknownNameError("logic", logic, LOGICS)
    names = formula.concepts  # those that decide it; the other rules count every statement
    if logic != "exact":
        names = concept_names(formula.expression)
    concepts = networks.concepts(names)
    base, gaussian, digests, mended = _base(registry, concepts, networks)
    digests |= {f"concept {name}": registry.get("concept", name).fingerprint for name in concepts}
    remembered = {name: networks.remembered(name) for name in concepts}
    readers = {name: networks.remembered(name, use="reading") for name in concepts}
    if logic != "exact":
        factors = {name: concept.factor for name, concept in concepts.items()}
        parts = Parts(base=base, concepts=remembered, factors=factors)
        energy = RULES[logic](formula.expression, parts, strength=strength)
    else:
        energy = exact_energy(base, formula, remembered, strength=strength)
        ratio = _conjunction_ratio(formula, concepts)
        if ratio is not None:
            energy = _guided(base, ratio, strength)

    def probability(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.no_grad():
            return log_probability(formula, readers, x, sigma)

    first = next(iter(concepts.values()))
    return Composed(
        energy=energy,
        base=base,
        log_probability=probability,
        gaussian=gaussian,
        concepts=concepts,
        posteriors=remembered,
        size=first.config.size,
        digests=digests,
        mended=mended,
    )


def base_alone(registry: Registry, name: str, *, device: torch.device) -> tuple[Composed, str]:
    """A base that is asked for nothing, P(f | x) = 1, and its space.

    Raises:
        UnknownNameError: There is no such base.
    """
    record = registry.get("base", name)
    loaded = load_base(registry, name, device=device)
    composed = Composed(
        energy=loaded.energy,
        base=loaded.energy,
        log_probability=lambda x, _: x.new_zeros(len(x)),
        gaussian=loaded.gaussian,
        concepts={},
        posteriors={},
        size=loaded.config.size,
        digests={f"base {name}": record.sha256},
        mended=if_mended(loaded),
    )
    return composed, record.space


def if_mended(base: Base) -> BaseEnergy | None:
    """The base if it has a residual, which a union has not."""
    return base if isinstance(base, BaseEnergy) and base.residual is not None else None


class Whole:
    """Noisy images of which parts are asked about different things.

    A network sees all parts that ask for it at once, in order.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Container[str]]] = []
        self._seen: dict[str, tuple[Tensor, Tensor]] = {}  # by network

    def split(
        self, x: Tensor, sigma: Tensor, sizes: Sequence[int], asking: Sequence[Container[str]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Images (B, 3, S, S) and levels (B,) in parts of these sizes, which add up to B.

        ``asking`` has the concepts that each part asks for; all ask for the base.
        """
        images, levels = torch.split(x, list(sizes)), torch.split(sigma, list(sizes))
        parts = list(zip(images, levels, strict=True))
        self._parts = [(*part, names) for part, names in zip(parts, asking, strict=True)]
        self._seen = {BASE: (x, sigma)}
        return parts

    def seen_by(self, network: str, x: Tensor) -> tuple[Tensor, Tensor, slice] | None:
        """What a network sees, and where in it a part is; None of images that are no part."""
        start, rows = 0, None
        asking = [part for part in self._parts if network == BASE or network in part[2]]
        for part, *_ in asking:
            if part is x:
                rows = slice(start, start + len(x))
            start += len(part)
        if rows is None:
            return None
        if len(asking) == len(self._parts):
            return *self._seen[BASE], rows
        if network not in self._seen:
            images, levels = [part for part, *_ in asking], [level for _, level, _ in asking]
            self._seen[network] = torch.cat(images), torch.cat(levels)
        return *self._seen[network], rows


class Remembered:
    """A concept whose posterior is computed once per input, however often a formula asks."""

    def __init__(self, concept: Concept, *, name: str = "", whole: Whole | None = None) -> None:
        self.log_prior = concept.log_prior
        self.log_posterior = once_per_input(concept.log_posterior, name=name, whole=whole)


def once_per_input(
    function: NoisyEnergy, *, name: str = BASE, whole: Whole | None = None
) -> NoisyEnergy:
    """The same function, remembering its last result; inputs are compared by identity.

    Of a part of ``whole`` it is asked for all that the network of this name sees.
    """
    last: list[tuple[Tensor, Tensor, Tensor]] = []

    def remembering(x: Tensor, sigma: Tensor) -> Tensor:
        rows = None
        if whole and (found := whole.seen_by(name, x)):
            x, sigma, rows = found
        if not last or last[0][0] is not x or last[0][1] is not sigma:
            last[:] = [(x, sigma, function(x, sigma))]
        return last[0][2] if rows is None else last[0][2][rows]

    return remembering


class Networks:
    """The bases and concepts of a registry in memory: each loaded once.

    Args:
        registry: Where they are.
        device: Where they go.
    """

    def __init__(self, registry: Registry, device: torch.device) -> None:
        self.registry, self.device, self.whole = registry, device, Whole()
        self._concepts: dict[str, Concept] = {}
        self._bases: dict[str, tuple[Base, NoisyEnergy]] = {}
        self._remembered: dict[tuple[str, str], Remembered] = {}

    def concepts(self, names: Iterable[str]) -> dict[str, Concept]:
        """Concepts by name, frozen."""
        for name in names:
            if name not in self._concepts:
                self._concepts[name] = load_concept(self.registry, name, device=self.device)
        return {name: self._concepts[name] for name in names}

    def base(self, name: str) -> tuple[Base, NoisyEnergy]:
        """A base, frozen, and its energy, computed once per input."""
        if name not in self._bases:
            loaded = load_base(self.registry, name, device=self.device)
            self._bases[name] = loaded, once_per_input(loaded.energy, whole=self.whole)
        return self._bases[name]

    def remembered(self, name: str, *, use: str = "drawing") -> Remembered:
        """A concept that is evaluated once per input and use: one follows gradients, one not."""
        key = (name, use)
        if key not in self._remembered:
            self._remembered[key] = Remembered(self._concepts[name], name=name, whole=self.whole)
        return self._remembered[key]


def _base(
    registry: Registry, concepts: Mapping[str, Concept], networks: Networks
) -> tuple[NoisyEnergy, GaussianEnergy, dict[str, str], BaseEnergy | None]:
    """E0 of a formula, its Gaussian, digests, and the base if it is mended.

    They are the concepts' own, or those of the base that they share.

    Of several own ones the mean is taken: a plain sum of conditional energies would count the
    energy of the space once per concept.
    """
    own = [c for c in concepts.values() if not isinstance(c, PosteriorConcept)]
    if len(own) == len(concepts):
        mean = _mean([c.unconditional for c in own])
        return once_per_input(mean), own[0].own_gaussian, {}, None
    records = [registry.get("concept", name) for name in concepts]
    names = sorted({record.base for record in records if record.base})
    if len(names) != 1:
        found = ", ".join(names) or "none"
        hint = "train them on one base: ebm train NAME --base BASE"
        raise UsageError(f"the concepts of a formula share one base, found {found}", hint=hint)
    loaded, energy = networks.base(names[0])
    digest = registry.get("base", names[0]).sha256
    digests = {f"base {names[0]}": digest}
    return energy, loaded.gaussian, digests, if_mended(loaded)


def _mean(energies: list[Callable[[Tensor, Tensor], Tensor]]) -> NoisyEnergy:
    return lambda x, sigma: torch.stack([e(x, sigma) for e in energies]).mean(0)


def _conjunction_ratio(formula: Formula, concepts: Mapping[str, Concept]) -> NoisyEnergy | None:
    """sum of log p(c | x) - log p(c) for a plain AND of conditional concepts, one pass each."""
    parts = _positive_literals(formula.expression)
    if parts is None or any(isinstance(concepts[p.name], PosteriorConcept) for p in parts):
        return None
    if len({part.name for part in parts}) < len(parts):
        return None
    targets = []
    for part in parts:
        concept = concepts[part.name]
        labels = label_tensor(concept.factor, "yes" if part.value is None else part.value)
        weights = cell_weights(concept.factor, labels)[0].to(concept.log_prior.device)
        targets.append((concept, weights, part.weight))  # weights as in training

    def ratio(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.stack(
            [w * c.log_ratio(x, sigma, t.expand(len(x), -1)) for c, t, w in targets]
        ).sum(0)

    return ratio


def _positive_literals(expression: Expression) -> list[Literal] | None:
    """The statements of a plain conjunction; None for any other formula."""
    match expression:
        case Literal(comparison=None | "="):
            return [expression]
        case And(left, right):
            first, second = _positive_literals(left), _positive_literals(right)
            return None if first is None or second is None else first + second
    return None


def _guided(base: NoisyEnergy, ratio: NoisyEnergy, strength: float) -> NoisyEnergy:
    return lambda x, sigma: base(x, sigma) - strength * ratio(x, sigma)
