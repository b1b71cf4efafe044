"""What registry.yaml may hold, and how its mistakes are reported: file, line, nearest key.

Three sections, ``bases``, ``concepts`` and ``judges``, each a mapping from names to entries.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ebmcli.core.expression import KEYWORDS, NAME
from ebmcli.errors import RegistryError, UsageError, nearest

SCHEMA = 1
SECTIONS = ("bases", "concepts", "judges")


def check_name(name: str) -> str:
    """The name itself, where a formula can contain it.

    Raises:
        UsageError: It cannot.
    """
    try:
        return _valid_name(name)
    except ValueError as error:
        raise UsageError(str(error), hint="choose a name such as hair-color") from error


def check_file(text: str) -> str:
    """The path itself, where it is relative, POSIX and stays below its folder.

    Raises:
        UsageError: It does not.
    """
    try:
        return _valid_file(text)
    except ValueError as error:
        raise UsageError(str(error), hint="keep weights in the folder of registry.yaml") from error


def _valid_name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{name!r} is no name: lower-case letters, digits, _ and between them single -, "
            "a letter first"
        )
    if name in KEYWORDS:
        raise ValueError(f"{name!r} is a word of the formula language")
    return name


def _valid_file(text: str) -> str:
    path = PurePosixPath(text)
    escapes = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", text)
    if escapes or "\\" in text or path.name in ("", "."):
        raise ValueError(f"{text!r} must be a relative path with / below the registry's folder")
    return text


def _valid_calibration(entry: dict[str, Any]) -> dict[str, Any]:
    """Free, but for ``temperatures``: positive numbers by positive noise levels."""
    levels = entry.get("temperatures", {})
    if not isinstance(levels, dict):
        raise ValueError("temperatures is a mapping from noise levels to numbers")
    for sigma, temperature in levels.items():
        if not (_positive(sigma) and _positive(temperature)):
            raise ValueError(
                f"a temperature is a positive number at a positive noise level, "
                f"not {temperature!r} at {sigma!r}"
            )
    if len({float(sigma) for sigma in levels}) < len(levels):
        raise ValueError("a noise level has two temperatures")
    return entry


def _positive(number: Any) -> bool:
    try:
        return not isinstance(number, bool) and 0 < float(number) < math.inf
    except (TypeError, ValueError):
        return False


def _valid_value(name: str) -> str:
    return name if re.fullmatch("[0-9]+", name) else _valid_name(name)


Name = Annotated[str, AfterValidator(_valid_name)]
ValueName = Annotated[str, AfterValidator(_valid_value)]  # count=3 too
Free = dict[str, Any]  # measured numbers and the like: no fixed keys
Calibration = Annotated[Free, AfterValidator(_valid_calibration)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FactorEntry(_Strict):
    """A factor as :meth:`ebmcli.core.factors.Factor.to_dict` writes it."""

    name: Name
    kind: Literal["categorical", "binary", "scalar", "position", "objects"]
    names: list[ValueName] = []
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    parts: list["FactorEntry"] = []
    most: int = 0
    fewest: int = 0

    @model_validator(mode="after")
    def _has_parts(self) -> "FactorEntry":
        if self.kind != "objects":
            if self.parts or self.most or self.fewest:
                raise ValueError(f"a {self.kind} factor has no parts")
            return self
        kinds = [part.kind for part in self.parts]
        if self.names or kinds.count("position") != 1 or "objects" in kinds:
            raise ValueError("objects have parts, one of them a position, and no names")
        if not any(part.names for part in self.parts) or self.most < 1:
            raise ValueError("objects have a part with names, and most is 1 or more")
        if not 0 <= self.fewest <= self.most:
            raise ValueError("fewest is between 0 and most")
        return self

    @model_validator(mode="after")
    def _has_values(self) -> "FactorEntry":
        if self.kind == "binary" and self.names != ["no", "yes"]:
            raise ValueError("a binary factor has the names [no, yes]")
        if self.kind == "categorical" and (
            len(self.names) < 2 or len(set(self.names)) < len(self.names)
        ):
            raise ValueError("a categorical factor has two or more different names")
        if self.kind in ("scalar", "position"):
            if self.names:
                raise ValueError(f"a {self.kind} factor has low and high instead of names")
            if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
                raise ValueError("low must be below high")
        return self


class Entry(_Strict):
    """A base or a judge."""

    space: Name
    file: Annotated[str, AfterValidator(_valid_file)]
    sha256: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    factor: FactorEntry | None = None
    method: Name | None = None
    base: Name | None = None
    calibration: Calibration = {}
    measured: Free = {}
    provenance: Free = {}


class ConceptEntry(Entry):
    """A concept: its factor and method are known."""

    factor: FactorEntry
    method: Name


class Sections(_Strict):
    """A whole registry.yaml."""

    schema_: Annotated[int, Field(alias="schema")]
    bases: dict[Name, Entry] = {}
    concepts: dict[Name, ConceptEntry] = {}
    judges: dict[Name, Entry] = {}


def validate(plain: Any, *, path: Path, line_of: Callable[[Sequence[Any]], int]) -> Sections:
    """Check the plain content of a registry.yaml.

    Args:
        plain: Dicts, lists and scalars.
        path: For messages.
        line_of: The line, from 1, of the place a sequence of keys leads to.

    Raises:
        RegistryError: With the file, the line and the nearest valid key.
    """
    if not isinstance(plain, dict):
        raise RegistryError(f"{path}:1: expected keys: schema, {', '.join(SECTIONS)}", hint=_INIT)
    version = plain.get("schema")
    if isinstance(version, int) and version > SCHEMA:
        raise RegistryError(
            f"{path}:{line_of(['schema'])}: schema {version} is newer than this ebm, "
            f"which knows schema {SCHEMA}",
            hint="upgrade ebm: pip install --upgrade ebmcli",
        )
    plain = {k: {} if v is None and k in SECTIONS else v for k, v in plain.items()}
    try:
        sections = Sections.model_validate(plain)
    except ValidationError as error:
        raise _explained(error, path=path, line_of=line_of) from error
    if sections.schema_ != SCHEMA:
        raise RegistryError(f"{path}:{line_of(['schema'])}: schema must be {SCHEMA}", hint=_INIT)
    for section in SECTIONS:
        twins = twin_names(list(plain.get(section, {})))
        if twins:
            raise RegistryError(
                f"{path}:{line_of([section, twins[1]])}: {section} {twins[0]} and {twins[1]} "
                "differ by - and _ only",
                hint="rename one of them",
            )
    return sections


def twin_names(names: Sequence[str]) -> tuple[str, str] | None:
    """The first two names that are the same but for case, - and _."""
    seen: dict[str, str] = {}
    for name in names:
        plain = name.lower().replace("-", "_")
        if plain in seen:
            return seen[plain], name
        seen[plain] = name
    return None


_INIT = "ebm registry init FOLDER writes a valid one to compare with"


def _explained(
    error: ValidationError, *, path: Path, line_of: Callable[[Sequence[Any]], int]
) -> RegistryError:
    """The first mistake of a file, located and put into words."""
    mistakes = error.errors(include_url=False)
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")  # it explains the rest
    first = mistakes[0]
    keys = [key for key in first["loc"] if key != "[key]"]
    where = ".".join(str(key) for key in keys[:-1])
    last, inside = str(keys[-1]) if keys else "", f" in {where}" if where else ""
    hint = "mend the line in an editor; docs/registry.md describes the file"
    if first["type"] == "extra_forbidden":
        known = _known_keys(keys)
        near = nearest(last, known)
        problem = f"unknown key {last!r}{inside}"
        hint = (f"did you mean {near!r}? " if near else "") + f"known: {', '.join(known)}"
    elif first["type"] == "missing":
        problem = f"key {last!r} is missing{inside}"
    elif first["type"] == "string_pattern_mismatch":
        problem = f"{last}{inside} must look like sha256: and 64 hexadecimal digits"
    else:
        problem = f"{last}{inside}: {first['msg'].removeprefix('Value error, ')}"
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return RegistryError(f"{path}:{line_of(keys)}: {problem}{more}", hint=hint)


def _known_keys(keys: Sequence[Any]) -> list[str]:
    """The keys that are valid where a sequence of keys ends."""
    if len(keys) == 1:
        return ["schema", *SECTIONS]
    return list(FactorEntry.model_fields if "factor" in keys[2:-1] else Entry.model_fields)
