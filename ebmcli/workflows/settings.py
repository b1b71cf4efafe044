"""Settings of a training run: defaults per method, changed by ``--set key=value``."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ebmcli.core.networks import TrunkConfig
from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.training.loop import TrainingConfig
from ebmcli.training.objectives import ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """The Gaussian a base starts from."""

    n_components: int = 224  # principal components
    floor: float = 0.15**2  # smallest variance, intensity^2

    def __post_init__(self) -> None:
        if self.n_components < 1 or self.floor <= 0:
            raise ConfigError("n_components and floor must be positive")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that shapes a run, in four parts with distinct keys."""

    training: TrainingConfig
    trunk: TrunkConfig
    objective: ObjectiveConfig
    gaussian: GaussianConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain types, one flat table."""
        flat: dict[str, Any] = {}
        for part in (self.training, self.trunk, self.objective, self.gaussian):
            flat |= asdict(part)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}

    @classmethod
    def from_dict(cls, flat: dict[str, Any]) -> "Settings":
        """The inverse of :meth:`to_dict`."""
        parts = {}
        for name, kind in PARTS.items():
            known = {field.name for field in fields(kind)}
            chosen = {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}
            parts[name] = kind(**{k: v for k, v in chosen.items() if k in known})
        return cls(**parts)


PARTS: dict[str, Any] = {
    "training": TrainingConfig,
    "trunk": TrunkConfig,
    "objective": ObjectiveConfig,
    "gaussian": GaussianConfig,
}
BASE_TRUNK = {"widths": (32, 64, 128, 160), "depths": (1, 2, 2, 2)}
POSTERIOR_TRUNK = {"widths": (16, 32, 64, 96), "depths": (1, 1, 1, 2), "embedding": 64, "head": 96}
DEFAULTS: dict[str, dict[str, Any]] = {  # by "base" and by method of a concept
    "base": BASE_TRUNK,
    "posterior": {
        **POSTERIOR_TRUNK,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "score_weight": 0.0,  # half of the updates go into that term, see docs/decisions/0012
    },
    "conditional": {},
    "both": {},
}

ON_GPU: dict[str, dict[str, Any]] = {  # where small batches leave it idle; as bundled scenes
    "base": {"batch_size": 256, "n_warmup": 500},
    "posterior": {
        "batch_size": 256,
        "score_batch": 64,
        "learning_rate": 1.5e-3,
        "score_weight": 0.3,
    },
    "conditional": {},
    "both": {},
}


GAUSSIAN = ("n_components", "floor")  # a concept on a base has the Gaussian of that
IDLE: dict[str, tuple[str, ...]] = {  # keys that a base or a method does not read
    "base": ("score_weight", "score_batch", "label_dropout", "ratio_weight"),
    "posterior": ("label_dropout", "ratio_weight"),
    "conditional": ("score_weight", "score_batch", "ratio_weight"),
    "both": ("score_weight", "score_batch"),
}


def idle_keys(method: str, assignments: Sequence[str], *, on_base: bool) -> list[str]:
    """The keys among ``key=value`` texts that change nothing, for a base or a concept on one."""
    given = dict.fromkeys(text.partition("=")[0].strip() for text in assignments)
    idle = (*IDLE[method], *(GAUSSIAN if on_base else ()))
    return [key for key in given if key in idle]


def default_settings(method: str, *, size: int, on_gpu: bool = False) -> Settings:
    """The settings of a base or of a method, for images of a size; batches are larger on a GPU."""
    beside = ON_GPU[method] if on_gpu else {}
    return Settings.from_dict({**DEFAULTS[method], **beside, "size": size})


def changed(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Settings after ``key=value`` texts.

    Raises:
        UnknownNameError: No such key; the nearest is named.
        ConfigError: The text is no assignment or the value does not fit.
    """
    values: dict[str, dict[str, Any]] = {}  # all of a part at once: some only fit together
    for text in assignments:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            hint = "write --set learning_rate=0.001"
            raise ConfigError(f"not a setting: {text!r}", hint=hint)
        name = _part_of(key)
        values.setdefault(name, {})[key] = _read(key, value, getattr(getattr(settings, name), key))
    parts = {name: replace(getattr(settings, name), **new) for name, new in values.items()}
    return replace(settings, **parts)


def _part_of(key: str) -> str:
    """The part of the settings that has this key."""
    if key == "size":
        hint = "render or import them in another size"
        raise ConfigError("size is that of the images", hint=hint)
    for name, kind in PARTS.items():
        if key in {field.name for field in fields(kind)}:
            return name
    known = {field.name for kind in PARTS.values() for field in fields(kind)} - {"size"}
    raise UnknownNameError("setting", key, sorted(known))


def _read(key: str, text: str, current: Any) -> Any:
    """A value of the same type as the current one."""
    try:
        if isinstance(current, tuple):
            return tuple(int(part) for part in text.split(","))
        value = type(current)(text)
        if not math.isfinite(value):
            raise ValueError(text)
        return value
    except ValueError as error:
        shown = ",".join(map(str, current)) if isinstance(current, tuple) else current
        hint = f"now {key}={shown}"
        raise ConfigError(f"{key} cannot be {text!r}", hint=hint) from error
