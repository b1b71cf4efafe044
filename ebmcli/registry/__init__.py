"""The registry: registry.yaml names what is trained and where its weights are.

Reading needs neither torch nor a lock. Every change holds a lock, reads the file again and
replaces it by a rename, so that parallel commands lose nothing. Paths in the file are relative to
its folder.
"""

from ebmcli.registry.editing import Editor, edit_registry, rehearse_edits
from ebmcli.registry.places import (
    checkpoint_file,
    create_registry,
    find_registry,
    locate_registry,
    writable_registry,
)
from ebmcli.registry.records import Kind, Record, Registry, read_registry, registry_from_dict
from ebmcli.registry.schema import check_name

__all__ = [
    "Editor",
    "Kind",
    "Record",
    "Registry",
    "check_name",
    "checkpoint_file",
    "create_registry",
    "edit_registry",
    "find_registry",
    "locate_registry",
    "read_registry",
    "registry_from_dict",
    "rehearse_edits",
    "writable_registry",
]
