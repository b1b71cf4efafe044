"""New weights into a registry: at every moment the registry names files that are whole.

Weights that replace others go to a file of another name; the old file is removed once the registry
names the new one. A command that is killed in between leaves a file that nothing names, never a
record whose weights are gone.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebmcli.checkpoint import bytes_digest, checkpoint_bytes, write_bytes
from ebmcli.errors import OutputExistsError
from ebmcli.registry import Editor, Record, checkpoint_file, edit_registry

if TYPE_CHECKING:
    from torch import Tensor


def keep_trained(
    path: Path,
    record: Record,
    tensors: Mapping[str, "Tensor"],
    header: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Record:
    """Write the weights of a finished training and register them.

    Args:
        path: The registry.yaml.
        record: Its ``file`` and ``sha256`` are filled in here.
        tensors: The weights; floats are stored as float16.
        header: See ``checkpoint.write_checkpoint``.
        overwrite: Replace the entry of this kind and name.

    Raises:
        OutputExistsError: The name is taken and was not to be replaced; its files are as they were.
        OutputError: No permission or no room; registry and files are as they were.
    """
    data = checkpoint_bytes(tensors, header, half=True)
    with edit_registry(path) as editor:
        old = editor.registry.section(record.kind).get(record.name)
        if old is not None and not overwrite:
            raise OutputExistsError(f"{record.kind} {record.name!r}", hint="add --overwrite")
        kept = place(editor, replace(record, sha256=bytes_digest(data)))
        file = editor.registry.file(kept)
        before = {editor.registry.file(other) for other in editor.registry.records()}
        write_bytes(file, data)
        try:
            editor.put(kept, overwrite=overwrite)
        except BaseException:
            if file not in before:
                file.unlink(missing_ok=True)
            raise
        after = {editor.registry.file(other) for other in editor.registry.records()}
    for unnamed in before - after:
        unnamed.unlink(missing_ok=True)
    return kept


def place(editor: Editor, record: Record) -> Record:
    """The record with a file of its own: the usual name, or one that ends in the digest.

    A file that holds these very weights for this record already is taken again.
    """
    old = editor.registry.section(record.kind).get(record.name)
    if old is not None and old.sha256 == record.sha256:
        return replace(record, file=old.file)
    usual = replace(record, file=checkpoint_file(record.name, kind=record.kind))
    if not editor.registry.file(usual).exists():
        return usual
    name = f"{record.name}-{record.sha256.removeprefix('sha256:')[:8]}"
    return replace(record, file=checkpoint_file(name, kind=record.kind))
