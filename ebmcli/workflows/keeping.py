"""New weights into a registry: at every moment the registry names files that are whole.

Weights that replace others go to a file of another name; the old file is removed once the registry
names the new one. A command that is killed in between leaves a file that nothing names, never a
record whose weights are gone.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebmcli.checkpoint import bytes_digest, checkpoint_bytes, write_bytes
from ebmcli.errors import DigestError, OutputExistsError, RegistryError
from ebmcli.registry import (
    Editor,
    Record,
    Registry,
    checkpoint_file,
    edit_registry,
    read_registry,
)

if TYPE_CHECKING:
    from torch import Tensor


def keep_trained(
    path: Path,
    record: Record,
    tensors: Mapping[str, "Tensor"],
    header: Mapping[str, Any],
    *,
    overwrite: bool,
    expected_sha256: str | None = None,
) -> Record:
    """Write the weights of a finished training and register them.

    Args:
        path: The registry.yaml.
        record: Its ``file`` and ``sha256`` are filled in here.
        tensors: The weights; floats are stored as float16.
        header: See ``checkpoint.write_checkpoint``.
        overwrite: Replace the entry of this kind and name.
        expected_sha256: The weights that the new ones were made from; only they are replaced.

    Raises:
        UnknownNameError: The entry that is to have the expected weights is gone.
        DigestError: It has other weights by now.
        RegistryError: The base of a concept was renamed or removed meanwhile.
        OutputExistsError: The name is taken and was not to be replaced; its files are as they were.
        OutputError: No permission or no room; registry and files are as they were.
    """
    data = checkpoint_bytes(tensors, header, half=True)
    new: list[Record] = []
    try:
        with edit_registry(path) as editor:
            if expected_sha256 is not None:
                refuse_other_weights(editor.registry, record, expected_sha256)
            refuse_missing_base(editor.registry, record)
            old = editor.registry.section(record.kind).get(record.name)
            if old is not None and not overwrite:
                raise OutputExistsError(f"{record.kind} {record.name!r}", hint="add --overwrite")
            kept = place(editor, replace(record, sha256=bytes_digest(data)))
            file = editor.registry.file(kept)
            editor.put(kept, overwrite=overwrite)  # first: what is refused writes nothing
            if not file.exists():
                new.append(kept)
            write_bytes(file, data)
            if old is not None:
                editor.drop(editor.registry.file(old))
    except BaseException:  # Ctrl-C too; and registry.yaml is written at the end of the block
        discard(path, new)
        raise
    return kept


def refuse_other_weights(registry: Registry, record: Record, expected: str) -> None:
    """Refuse to replace weights that are not those the new ones were made from.

    Raises:
        UnknownNameError: There is no such entry any more.
        DigestError: It has other weights.
    """
    if registry.get(record.kind, record.name).sha256 != expected:
        hint = "another command replaced them meanwhile, and they stay; type yours again"
        raise DigestError(registry.path, f"{record.name} has other weights by now", hint=hint)


def refuse_missing_base(registry: Registry, record: Record) -> None:
    """Refuse a concept whose base was renamed or removed while it was trained.

    Raises:
        RegistryError: It was; the folder of the run still has what was trained.
    """
    if record.base is None or record.base in registry.bases:
        return
    problem = f"{registry.path} has no base {record.base} any more, so {record.name} is not in it"
    digest, bases = record.trained_base, registry.bases.values()
    now = [b.name for b in bases if digest and digest in (b.sha256, b.before_mending)]
    first = f"ebm rename {now[0]} {record.base} --kind base" if now else "ebm import FILE.zip"
    hint = f"{first} brings it back; then your command again, with --resume: the run is kept"
    raise RegistryError(problem, hint=hint)


def place(editor: Editor, record: Record) -> Record:
    """The record with a file of its own: the usual name, or one that ends in the digest.

    A file that holds these very weights for this record already is taken again.
    """
    old = editor.registry.section(record.kind).get(record.name)
    if old is not None and old.sha256 == record.sha256:
        return replace(record, file=old.file)
    usual = replace(record, file=checkpoint_file(record.name, kind=record.kind))
    others = [
        r for r in editor.registry.records() if (r.kind, r.name) != (record.kind, record.name)
    ]
    taken = editor.registry.file(usual).exists() or usual.file in [r.file for r in others]
    if not taken:
        return usual
    name = f"{record.name}-{record.sha256.removeprefix('sha256:')[:8]}"
    return replace(record, file=checkpoint_file(name, kind=record.kind))


def discard(path: Path, new: Iterable[Record]) -> None:
    """Remove the files that a change of a registry wrote before it failed.

    Ctrl-C can come after registry.yaml was replaced: weights that it names after all stay, and all
    do where it cannot be read.

    Args:
        path: The registry.yaml.
        new: Records whose files were not there before.
    """
    with suppress(RegistryError, OSError):  # the failure itself is what is reported
        registry = read_registry(path)
        named = {(record.file, record.sha256) for record in registry.records()}
        for record in new:
            if (record.file, record.sha256) not in named:
                registry.file(record).unlink(missing_ok=True)
