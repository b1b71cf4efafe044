"""One energy over images from a formula and the trained parts it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.composition import exact_energy, log_probability
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
from ebmcli.workflows.loading import Concept, load_base, load_concepts

LOGICS = ("exact", *RULES)
WITHOUT_STRENGTH = ("paper",)  # rules that know no weight of guidance


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The energy of a formula and what it is made of."""

    energy: NoisyEnergy  # E_f(x, sigma), nats
    base: NoisyEnergy  # E0(x, sigma), of the space
    log_probability: NoisyEnergy  # log P(f | x, sigma), nats, (B,)
    gaussian: GaussianEnergy  # of the space; chains start from it
    concepts: dict[str, Concept]
    size: int  # pixels per side
    digests: dict[str, str]  # "base scenes-64" or "concept color" -> sha256
    mended: BaseEnergy | None = None  # the base, if it has a residual


def compose(
    registry: Registry,
    formula: Formula,
    *,
    logic: str = "exact",
    strength: float = 1.0,
    device: torch.device,
) -> Composed:
    """Load what a formula needs and compose it.

    Args:
        registry: Where the concepts are.
        formula: A compiled formula; its concepts are of one space.
        logic: One of LOGICS.
        strength: Weight of guidance: the power of P(f | x) with exact logic, of P(l | x) / P(l) of
            every statement l with the other rules; 1 for those WITHOUT_STRENGTH.
        device: Where the networks go.

    Raises:
        UnknownNameError: ``logic`` is not in LOGICS.
        ExpressionError: The rule has no meaning for this formula.
    """
    if logic not in LOGICS:
        raise UnknownNameError("logic", logic, LOGICS)
    names = formula.concepts  # those that decide it; the other rules count every statement
    if logic != "exact":
        names = concept_names(formula.expression)
    concepts = load_concepts(registry, names, device=device)
    base, gaussian, digests, mended = _base(registry, concepts, device)
    digests |= {f"concept {name}": registry.get("concept", name).fingerprint for name in concepts}
    remembered = {name: Remembered(concept) for name, concept in concepts.items()}
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
            return log_probability(formula, concepts, x, sigma)

    first = next(iter(concepts.values()))
    return Composed(
        energy=energy,
        base=base,
        log_probability=probability,
        gaussian=gaussian,
        concepts=concepts,
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
        size=loaded.config.size,
        digests={f"base {name}": record.sha256},
        mended=if_mended(loaded),
    )
    return composed, record.space


def if_mended(base: Base) -> BaseEnergy | None:
    """The base if it has a residual, which a union has not."""
    return base if isinstance(base, BaseEnergy) and base.residual is not None else None


class Remembered:
    """A concept whose posterior is computed once per input, however often a formula asks."""

    def __init__(self, concept: Concept) -> None:
        self.log_prior = concept.log_prior
        self.log_posterior = once_per_input(concept.log_posterior)


def once_per_input(function: NoisyEnergy) -> NoisyEnergy:
    """The same function, remembering its last result; inputs are compared by identity."""
    last: list[tuple[Tensor, Tensor, Tensor]] = []

    def remembering(x: Tensor, sigma: Tensor) -> Tensor:
        if not last or last[0][0] is not x or last[0][1] is not sigma:
            last[:] = [(x, sigma, function(x, sigma))]
        return last[0][2]

    return remembering


def _base(
    registry: Registry, concepts: Mapping[str, Concept], device: torch.device
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
    loaded = load_base(registry, names[0], device=device)
    digest = registry.get("base", names[0]).sha256
    digests = {f"base {names[0]}": digest}
    return once_per_input(loaded.energy), loaded.gaussian, digests, if_mended(loaded)


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
