"""What training asks of other factors: hues a label allows, a concept to be independent of."""

import torch

from ebmcli.core.factors import Factor
from ebmcli.core.hues import COLOR_NAMES
from ebmcli.datasets.hdf5 import DatasetInfo, read_labels
from ebmcli.errors import ConfigError, UsageError
from ebmcli.registry import Record, Registry
from ebmcli.training.independent import Partner
from ebmcli.workflows.loading import load_concept
from ebmcli.workflows.settings import Settings


def check_hues(factor: Factor | None, method: str, settings: Settings) -> None:
    """Refuse other colours for labels that they would make wrong.

    A posterior of the names of colors may have them: of other colours it learns to say its prior.

    Raises:
        ConfigError: The factor, or a part of it, is named like a colour, and nothing else can be
            said of images in other colours.
    """
    if factor is None or settings.objective.hue_share == 0:
        return
    if factor.kind == "categorical" and method == "posterior":
        return
    names = [factor.name, *(part.name for part in factor.parts)]
    found = [name for name in names if name in COLOR_NAMES]
    if found:
        problem = f"other hues make labels of {found[0]} wrong"
        raise ConfigError(problem, hint="leave --set hue_share out")


def check_blanks(method: str, partner: str | None, settings: Settings) -> None:
    """Refuse blanks where nothing learns a posterior from the labels alone.

    Raises:
        ConfigError: It is a base or a conditional energy, or to be independent of another concept.
    """
    if settings.objective.blank_share == 0:
        return
    if method not in ("posterior", "both") or partner is not None:
        what = "a base" if method == "base" else f"--method {method}"
        what = "--independent-of" if partner is not None else what
        problem = f"blank_share teaches a posterior to read nothing, {what} has no use for it"
        raise ConfigError(problem, hint="leave --set blank_share out")


def check_partner(
    registry: Registry, name: str, *, info: DatasetInfo, factor: Factor, settings: Settings
) -> Record:
    """The record of a concept of which a new posterior of ``factor`` can be made independent.

    Raises:
        UnknownNameError: No such concept.
        UsageError: It is of another space or of the same factor, the data lack its labels, or one
            of both factors has no names.
        ConfigError: Hues are changed as well.
    """
    record = registry.get("concept", name)
    assert record.factor is not None
    other = record.factor
    if record.space != info.space:
        problem = f"{name} is of {record.space}, the data of {info.space}"
        raise UsageError(problem, hint=f"ebm list --space {info.space} shows what fits")
    if other.name == factor.name:
        problem = f"{factor.name} cannot be independent of itself"
        raise UsageError(problem, hint="name a concept of another factor")
    if info.factors.get(other.name) != other:
        problem = f"{info.path} has no labels of {other.name} as {name} has learned it"
        raise UsageError(problem, hint=f"its factors: {', '.join(info.factors)}")
    for one in (factor, other):
        if not one.names:
            problem = f"--independent-of is for factors with names, {one.name} has none"
            raise UsageError(problem, hint="leave --independent-of out")
    if settings.objective.hue_share > 0:
        problem = "--independent-of needs the colors as labelled, hue_share changes them"
        raise ConfigError(problem, hint="leave one of them out")
    return record


def load_partner(
    registry: Registry, name: str, info: DatasetInfo, *, n: int, device: torch.device
) -> Partner:
    """The frozen concept and its labels of the first n images."""
    concept = load_concept(registry, name, device=device)
    labels = torch.from_numpy(read_labels(info.path, concept.factor.name, 0, n))
    return Partner(concept, labels)
