"""When a result was made, with what, and whether weights know some pictures: for records."""

import math
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import torch

import ebmcli
from ebmcli.datasets.hdf5 import DatasetInfo
from ebmcli.errors import UsageError
from ebmcli.registry import Record, Registry
from ebmcli.registry.records import trainings


def created() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    """What a result may depend on beside its settings."""
    return {
        "ebm": ebmcli.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def data_origin(info: DatasetInfo) -> dict[str, Any]:
    """The dataset something was made with, for its record.

    ``data`` is its digest; where there are any, ``data_seed`` is what it was rendered or shuffled
    with and ``data_settings`` its settings: restrictions of a render, the source of an import.
    :func:`in_common` compares them.
    """
    origin: dict[str, Any] = {"data": info.digest}
    origin |= {} if info.seed is None else {"data_seed": info.seed}
    return origin | ({"data_settings": info.settings} if info.settings else {})


def has_seen(record: Record, info: DatasetInfo) -> str:
    """How the weights of a record know pictures of its space; empty where they do not.

    A file counts as known when it has the digest of one that was used in training, or pictures in
    common with one as :func:`in_common` tells.
    """
    whose = f"the {record.kind} {record.name}"
    if info.digest in record.training_data:
        return f"{info.path} has trained {whose}"
    if record.space == info.space:
        for used in trainings(record.provenance):
            if common := in_common(used, data_origin(info)):
                return f"{info.path} {common}, that have trained {whose}"
    return ""


def in_common(known: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How a new file of one space repeats pictures of a known one; empty where it does not.

    Of imports the source decides, unless they are parts of it that do not overlap. Renders of one
    seed count as repeated whatever the restrictions: the same scenes are drawn until one of them is
    refused. Imports made before sources were recorded repeat each other when seed and settings are
    equal.

    Args:
        known: As :func:`data_origin` returns it; keys may be missing.
        new: The same of the other file.

    Returns:
        What can stand between the path of the new file and ", that have trained".
    """
    settings = [origin.get("data_settings", {}) for origin in (known, new)]
    sources = [each.get("source") for each in settings]
    if all(sources):
        apart = sources[0] != sources[1] or _apart(*settings)
        return "" if apart else "repeats pictures, imported from the same source"
    seed = new.get("data_seed")
    if seed is None or seed != known.get("data_seed"):
        return ""
    others = [{k: v for k, v in each.items() if k != "source"} for each in settings]
    imported = any("imported" in each for each in others)
    if others[0] != others[1]:
        return "" if imported else f"may repeat pictures, rendered with seed {seed}"
    if imported:
        return "begins with the pictures, imported in the same way"
    return f"begins with the pictures, rendered with seed {seed}"


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Are these two parts of one source without a common row?"""
    spans = []
    for settings in (one, other):
        first = settings.get("skip", 0)
        spans.append((first, first + settings.get("limit", math.inf)))
    (a, end_a), (b, end_b) = spans
    return bool(end_a <= b or end_b <= a)


def same_pictures(one: DatasetInfo, other: DatasetInfo) -> bool:
    """Have two files pictures in common, as far as their origins tell?"""
    if one.digest == other.digest:
        return True
    return one.space == other.space and in_common(data_origin(one), data_origin(other)) != ""


def refuse_known(registry: Registry, space: str, info: DatasetInfo, *, hint: str) -> None:
    """Refuse to measure with pictures that something of their space was trained on.

    Args:
        registry: Its bases, concepts and judges are asked.
        space: Records of other spaces are not.
        info: The dataset.
        hint: How to get other pictures.

    Raises:
        UsageError: One of them has seen the pictures.
    """
    for record in registry.records():
        if record.space == space and (known := has_seen(record, info)):
            raise UsageError(f"{known}; others tell more", hint=hint)
