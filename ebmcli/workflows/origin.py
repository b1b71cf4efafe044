"""When a result was made, and with what: for records and results."""

import platform
from datetime import datetime, timezone

import torch

import ebmcli


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
