"""What a registry holds: records by kind and name, and where their files are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ebmcli.checkpoint import check_digest, file_digest
from ebmcli.core.factors import Factor
from ebmcli.errors import RegistryError, UnknownNameError, UsageError
from ebmcli.registry.reading import plain_tree
from ebmcli.registry.schema import Entry, Sections, validate

if TYPE_CHECKING:
    from ebmcli.registry.document import Document

Kind = Literal["base", "concept", "judge"]
SECTION: dict[Kind, str] = {"base": "bases", "concept": "concepts", "judge": "judges"}
CHOOSE = "--registry PATH or EBM_REGISTRY chooses another; ebm registry init FOLDER makes one"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry of a registry.

    ``file`` is relative to the registry's folder, with /; ``sha256`` is "sha256:<hex>" of its
    bytes. ``calibration`` holds the temperatures of a posterior, by noise level, and how they were
    fitted; ``measured`` are numbers on held-out images (accuracy, ...), as trained; ``provenance``
    says how to make it again: command, data, seed, versions, seconds, created.
    """

    kind: Kind
    name: str
    space: str
    file: str
    sha256: str
    factor: Factor | None = None
    method: str | None = None
    base: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def training_data(self) -> tuple[str, ...]:
        """Digests of the datasets that the weights, and those they came from, were trained on."""
        return tuple(part["data"] for part in trainings(self.provenance) if "data" in part)

    @property
    def trained_base(self) -> str | None:
        """The digest of the base a concept was trained against; None where it is not recorded."""
        digest = self.provenance.get("base")
        return digest if isinstance(digest, str) else None

    @property
    def before_mending(self) -> str | None:
        """The digest that a mended base had before: its posteriors were trained against that."""
        mended = self.provenance.get("mended")
        before = mended.get("before") if isinstance(mended, dict) else None
        digest = before.get("sha256") if isinstance(before, dict) else None
        return digest if isinstance(digest, str) else None

    @property
    def temperatures(self) -> dict[float, float]:
        """T by sigma, of a concept that was calibrated; else empty."""
        levels = self.calibration.get("temperatures", {})
        return {float(sigma): float(levels[sigma]) for sigma in sorted(levels, key=float)}

    @property
    def fingerprint(self) -> str:
        """What all the numbers of this entry depend on: the digest of its weights and, where it
        was calibrated, "+" and twelve digits of the digest of its temperatures.
        """
        if not self.temperatures:
            return self.sha256
        text = json.dumps(list(self.temperatures.items()))
        return f"{self.sha256}+{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """The entry in plain types, without its kind and name and without what is empty."""
        plain = asdict(self) | {"factor": self.factor.to_dict() if self.factor else None}
        return {k: v for k, v in plain.items() if k not in ("kind", "name") and v not in (None, {})}


@dataclass(frozen=True)
class Registry:
    """The content of one registry.yaml."""

    path: Path
    bases: Mapping[str, Record]
    concepts: Mapping[str, Record]
    judges: Mapping[str, Record]

    def section(self, kind: Kind) -> Mapping[str, Record]:
        """All records of a kind by name."""
        return {"base": self.bases, "concept": self.concepts, "judge": self.judges}[kind]

    def records(self) -> list[Record]:
        """Everything: concepts, bases, judges, each in the order of the file."""
        return [*self.concepts.values(), *self.bases.values(), *self.judges.values()]

    def get(self, kind: Kind, name: str) -> Record:
        """One record.

        Raises:
            UnknownNameError: There is none.
        """
        known = self.section(kind)
        if name not in known:
            raise UnknownNameError(kind, name, sorted(known), where=f" in {self.path}")
        return known[name]

    def find(self, name: str, kind: Kind | None = None) -> Record:
        """One record of any kind.

        Raises:
            UnknownNameError: There is none.
            UsageError: A base and a judge, say, share the name and no kind is given.
        """
        if kind is not None:
            return self.get(kind, name)
        found = [record for record in self.records() if record.name == name]
        if not found:
            known = sorted({record.name for record in self.records()})
            raise UnknownNameError("name", name, known, where=f" in {self.path}")
        if len(found) > 1:
            kinds = " and a ".join(record.kind for record in found)
            hint = f"add --kind {found[0].kind} or --kind {found[1].kind}"
            raise UsageError(f"{name} is both a {kinds}", hint=hint)
        return found[0]

    def resting_on(self, base: str) -> list[Record]:
        """The concepts that name a base."""
        return [concept for concept in self.concepts.values() if concept.base == base]

    def has_other_base(self, concept: Record) -> bool:
        """Was a concept trained against another base than the one that has its name now?

        Its measured numbers and the pictures drawn with it are then those of another energy. False
        where it is not known, as for records of older versions, and where the base was mended
        since, which is for every concept on it.
        """
        base = self.bases.get(concept.base or "")
        if base is None or concept.trained_base is None:
            return False
        return concept.trained_base not in (base.sha256, base.before_mending)

    def file(self, record: Record) -> Path:
        """Where the weights of a record are, absolute."""
        return self.path.parent.absolute() / record.file

    def checked_file(self, record: Record) -> Path:
        """As :meth:`file`, after hashing it; an unchanged file is hashed once per process.

        Raises:
            FileFormatError: The file is missing.
            DigestError: Its bytes are not those that were recorded.
        """
        path = self.file(record)
        check_digest(path, _digest_once(path), record.sha256)
        return path

    def factors(self, space: str | None = None) -> dict[str, Factor]:
        """The factor of every concept, of one space where given, by the concept's name."""
        return {
            name: record.factor
            for name, record in self.concepts.items()
            if record.factor is not None and space in (None, record.space)
        }


def read_registry(path: Path) -> Registry:
    """Read and validate a registry.yaml.

    Raises:
        RegistryError: Missing, not YAML, invalid (with its line) or of a newer schema.
    """
    text = _text_of(path)
    tree = plain_tree(text)
    if tree is not None:
        try:
            return registry_from_dict(tree, path=path)
        except RegistryError:
            pass  # the slow reader says on which line
    return parse_document(text, path)[0]


def read_document(path: Path) -> tuple[Registry, "Document"]:
    """A registry and the text it was read from; see :func:`read_registry`."""
    return parse_document(_text_of(path), path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RegistryError(f"{path}: no such registry", hint=CHOOSE) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RegistryError(f"{path}: cannot be read: {reason}", hint=CHOOSE) from error


def parse_document(text: str, path: Path) -> tuple[Registry, "Document"]:
    """Check a text and build the registry it describes.

    Raises:
        RegistryError: Not YAML, invalid (with its line) or of a newer schema.
    """
    from ebmcli.registry.document import Document  # ruamel is slow to load, and seldom needed

    document = Document(text, path=path)
    sections = validate(document.plain, path=path, line_of=document.line_of)
    return _registry(sections, path), document


def registry_from_dict(plain: Any, *, path: Path) -> Registry:
    """A registry from plain types, checked as a file is; ``path`` is for messages.

    Raises:
        RegistryError: Invalid or of a newer schema.
    """
    return _registry(validate(plain, path=path, line_of=lambda _: 1), path)


def _registry(sections: Sections, path: Path) -> Registry:
    def records(kind: Kind, entries: Mapping[str, Entry]) -> dict[str, Record]:
        return {name: _record(kind, name, entry) for name, entry in entries.items()}

    return Registry(
        path,
        bases=records("base", sections.bases),
        concepts=records("concept", sections.concepts),
        judges=records("judge", sections.judges),
    )


def trainings(provenance: Any) -> list[dict[str, Any]]:
    """A training, its mending, the one it began with, and the parts of a union: what they used.

    Each has ``data``, a digest, ``data_seed`` and ``data_settings``, where they are recorded.
    """
    if not isinstance(provenance, dict):
        return []
    kinds = {"data": str, "data_seed": int, "data_settings": dict}
    own = [
        {key: part[key] for key, kind in kinds.items() if isinstance(part.get(key), kind)}
        for part in (provenance, provenance.get("mended"))
        if isinstance(part, dict)
    ]
    parts = provenance.get("parts")
    sources = [provenance.get("start"), *(parts if isinstance(parts, list) else [])]
    found = [s.get("provenance") for s in sources if isinstance(s, dict)]
    return own + [training for source in found for training in trainings(source)]


def _record(kind: Kind, name: str, entry: Entry) -> Record:
    factor = Factor.from_dict(entry.factor.model_dump()) if entry.factor else None
    return Record(kind=kind, name=name, factor=factor, **entry.model_dump(exclude={"factor"}))


_digests: dict[tuple[Path, int, int], str] = {}  # (path, modified in ns, size) -> digest


def _digest_once(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return file_digest(path)  # which explains what is wrong
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in _digests:
        _digests[key] = file_digest(path)
    return _digests[key]
