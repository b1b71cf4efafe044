"""When a result was made, with what, and whether weights know some pictures: for records."""

import platform
from datetime import datetime, timezone
from typing import Any

import torch

import ebmcli
from ebmcli.datasets.hdf5 import DatasetInfo
from ebmcli.registry import Record


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

    ``data`` is its digest; of renders there are ``data_seed`` and, where something was fixed or
    held out, ``data_settings``. Files of one recipe, size, seed and settings begin with the same
    pictures, however many they have.
    """
    origin: dict[str, Any] = {"data": info.digest}
    if info.seed is not None:
        origin["data_seed"] = info.seed
        origin |= {"data_settings": info.settings} if info.settings else {}
    return origin


def has_seen(record: Record, info: DatasetInfo) -> str:
    """How the weights of a record know pictures of its space; empty where they do not.

    A file counts as known when it has the digest of one that was used in training, or begins with
    the same renders.
    """
    if info.digest in record.training_data:
        return f"{info.path} has trained the {record.kind} {record.name}"
    renders = record.training_renders if record.space == info.space else ()
    if (info.seed, info.settings) in renders:
        same = f"begins with the pictures, rendered with seed {info.seed}, that have trained"
        return f"{info.path} {same} the {record.kind} {record.name}"
    return ""


def same_pictures(one: DatasetInfo, other: DatasetInfo) -> bool:
    """Have two files all or their first pictures in common?"""
    begin = [(info.space, info.seed, info.settings) for info in (one, other)]
    return one.digest == other.digest or (one.seed is not None and begin[0] == begin[1])
