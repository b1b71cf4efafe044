"""Changes to a registry: one lock, one fresh look at the file, one rename."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ebmcli.checkpoint import write_bytes
from ebmcli.errors import OutputError, OutputExistsError, UsageError
from ebmcli.registry.lock import locked
from ebmcli.registry.records import (
    SECTION,
    Kind,
    Record,
    Registry,
    parse_document,
    read_document,
)
from ebmcli.registry.schema import check_file, check_name, twin_names

if TYPE_CHECKING:
    from ebmcli.registry.document import Document


class Editor:
    """Changes to a registry inside :func:`edit_registry`; ``registry`` is the state so far."""

    def __init__(self, registry: Registry, document: "Document") -> None:
        self.registry = registry
        self._document = document
        self._dropped: list[Path] = []
        self.changed = False

    def put(self, record: Record, *, overwrite: bool = False) -> None:
        """Add a record, or replace the one of its name.

        The concepts under a base that is replaced keep the digest of the one they were used with,
        where they have none yet: so that it can be told afterwards.

        Raises:
            UsageError: The name or the path is not allowed, or the file belongs to another record.
            OutputExistsError: The name is taken and was not to be overwritten.
        """
        check_name(record.name)
        check_file(record.file)
        known = self.registry.section(record.kind)
        if record.name in known and not overwrite:
            hint = f"--overwrite replaces it; ebm rename {record.name} NEW keeps it"
            raise OutputExistsError(f"{record.kind} {record.name!r}", hint=hint)
        twins = twin_names([*(name for name in known if name != record.name), record.name])
        if twins:
            problem = f"{record.kind}s {twins[0]} and {twins[1]} would differ by - and _ only"
            raise UsageError(problem, hint="choose a name that is easier to tell apart")
        for other in self.registry.records():
            same = (other.kind, other.name) == (record.kind, record.name)
            if other.file == record.file and not same:
                raise UsageError(f"{record.file} belongs to the {other.kind} {other.name} already")
        old = known.get(record.name)
        self._document.put(SECTION[record.kind], record.name, record.to_dict())
        if record.kind == "base" and old is not None and old.sha256 != record.sha256:
            for concept in self.registry.resting_on(record.name):
                provenance = {"base": old.before_mending or old.sha256} | concept.provenance
                entry = replace(concept, provenance=provenance).to_dict()
                self._document.put(SECTION["concept"], concept.name, entry)
        self._update()

    def remove(self, kind: Kind, name: str) -> Record:
        """Take a record out; its file stays.

        Raises:
            UnknownNameError: There is none.
            UsageError: It is a base that concepts use.
        """
        record = self.registry.get(kind, name)
        users = [c.name for c in self.registry.concepts.values() if c.base == name]
        if kind == "base" and users:
            raise UsageError(
                f"base {name} is used by {', '.join(users)}", hint=f"ebm rm {' '.join(users)} first"
            )
        self._document.remove(SECTION[kind], name)
        self._update()
        return record

    def rename(self, kind: Kind, old: str, new: str) -> None:
        """Give a record another name; concepts follow when their base is renamed.

        Raises:
            UnknownNameError: There is none of the old name.
            OutputExistsError: The new name is taken.
            UsageError: The new name is not allowed.
        """
        record = self.registry.get(kind, old)
        others = [name for name in self.registry.section(kind) if name != old]
        if new in others or new == old:
            raise OutputExistsError(f"{kind} {new!r}", hint="choose another name")
        check_name(new)
        if twins := twin_names([*others, new]):
            raise UsageError(f"{kind}s {twins[0]} and {twins[1]} would differ by - and _ only")
        self._document.rename(SECTION[kind], record.name, new)
        for concept in self.registry.concepts.values():
            if kind == "base" and concept.base == old:
                entry = replace(concept, base=new).to_dict()
                self._document.put(SECTION["concept"], concept.name, entry)
        self._update()

    def drop(self, file: Path) -> None:
        """Have a file removed once registry.yaml is written, unless a record names it then."""
        self._dropped.append(file)

    def text(self) -> str:
        """The file as it is to be."""
        return self._document.text()

    def remove_dropped(self) -> None:
        """Remove what :meth:`drop` was told of.

        Raises:
            OutputError: No permission; the registry no longer names the file.
        """
        named = {self.registry.file(record) for record in self.registry.records()}
        for file in set(self._dropped) - named:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                problem = f"{self.registry.path} no longer names {file}, but the file stays"
                reason = (error.strerror or str(error)).lower()
                raise OutputError(f"{problem}: {reason}", hint="delete it yourself") from error

    def _update(self) -> None:
        """Validate and take over what the document says now."""
        self.registry, self._document = parse_document(self._document.text(), self.registry.path)
        self.changed = True


def rehearse_edits(path: Path) -> Editor:
    """An editor whose changes are never written: what it refuses is refused before any copy.

    Raises:
        RegistryError: As :func:`ebmcli.registry.read_registry`.
    """
    return Editor(*read_document(path))


@contextmanager
def edit_registry(path: Path) -> Iterator[Editor]:
    """Change a registry: lock, read again, let the caller edit, write the whole file or nothing.

    Keep the body short: other commands wait for it. An exception in the body writes nothing. Files
    that were dropped are removed before the lock is given back: afterwards another command may
    have put new weights in their place.

    Raises:
        RegistryError: The lock is held by another command for too long, or cannot be made.
        OutputError: The file cannot be written, or a dropped one not removed.
    """
    with locked(path):
        editor = Editor(*read_document(path))
        yield editor
        if editor.changed:
            write_bytes(path, editor.text().encode())
        editor.remove_dropped()
