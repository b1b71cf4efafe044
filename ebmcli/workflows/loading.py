"""From the registry to networks in memory, digests checked on the way."""

from collections.abc import Iterable
from typing import Any

import torch

from ebmcli.checkpoint import read_checkpoint
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept, build_concept
from ebmcli.core.factors import Factor
from ebmcli.core.gaussian import GaussianEnergy
from ebmcli.core.networks import TrunkConfig
from ebmcli.core.union import Base, UnionEnergy
from ebmcli.errors import FileFormatError
from ebmcli.registry import Record, Registry

Concept = PosteriorConcept | ConditionalConcept | BothConcept


def load_base(registry: Registry, name: str, *, device: str | torch.device = "cpu") -> Base:
    """The base energy of this name, frozen: one network, or the union of two bases."""
    record = registry.get("base", name)
    tensors, header = _read(registry, record)
    base = blank_base(header)
    _fill(base, tensors, record)
    _freeze(base)
    return base.to(device)


def load_concept(registry: Registry, name: str, *, device: str | torch.device = "cpu") -> Concept:
    """The concept of this name, frozen, with the temperatures of its record."""
    record = registry.get("concept", name)
    tensors, header = _read(registry, record)
    concept = blank_concept(header)
    _fill(concept, tensors, record)
    concept.set_temperatures(record.temperatures)
    _freeze(concept)
    return concept.to(device)


def load_concepts(
    registry: Registry, names: Iterable[str], *, device: str | torch.device = "cpu"
) -> dict[str, Concept]:
    """Concepts by name, frozen."""
    return {name: load_concept(registry, name, device=device) for name in names}


def blank_base(header: dict[str, Any]) -> Base:
    """A base of the shape a header describes, to be filled; of a union with its log ratios."""
    config = TrunkConfig.from_dict(header["config"])
    if "parts" in header:
        left, right = (blank_base(part) for part in header["parts"])
        gaussian = GaussianEnergy.blank(3 * config.size**2, header["n_components"])
        ratios = {float(sigma): float(value) for sigma, value in header["log_ratios"].items()}
        return UnionEnergy(left, right, gaussian, weights=header["weights"], log_ratios=ratios)
    gaussian = GaussianEnergy.blank(3 * config.size**2, header["n_components"])
    return BaseEnergy(gaussian, config, mended=header.get("mended", False))


def blank_concept(header: dict[str, Any]) -> Concept:
    """A concept of the shape a header describes, to be filled."""
    factor = Factor.from_dict(header["factor"])
    return build_concept(
        header["method"],
        factor,
        TrunkConfig.from_dict(header["config"]),
        log_prior=torch.zeros(factor.n_cells),
        n_components=header.get("n_components", 0),
    )


def _read(registry: Registry, record: Record) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    path = registry.file(record)
    if not path.exists():
        hint = f"train it again, import it, or take it out: ebm rm {record.name}"
        problem = f"no such file, the weights of the {record.kind} {record.name}"
        raise FileFormatError(path, problem, hint=hint)
    return read_checkpoint(path, kind=record.kind, sha256=record.sha256)


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor], record: Record) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        hint = f"train {record.name} again, or import it from its source"
        raise FileFormatError(record.file, "does not fit its own settings", hint=hint) from error


def _freeze(module: torch.nn.Module) -> None:
    module.requires_grad_(False).eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's gap
