"""registry.yaml as text: edits that keep every comment; the only file that knows ruamel.

ruamel hangs the comment lines between two entries on the last line of the first one, though they
speak about the second. Here they are cut off (:func:`_cut_tail`) before an entry is added, replaced
or removed, and hung on whatever precedes the same lines afterwards (:func:`_hang_tail`).
"""

import io
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import CommentToken

from ebmcli.errors import RegistryError


class Document:
    """The tree of one registry.yaml with its comments.

    Raises:
        RegistryError: The text is not YAML; file and line are named.
    """

    def __init__(self, text: str, *, path: Path) -> None:
        try:
            self.tree = _yaml().load(text)
            self.plain = _plain(self.tree)
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            problem = f"{path}:{line}: not YAML: {error.problem or error.context}"
            raise RegistryError(problem, hint="mend the line in an editor") from error
        except (YAMLError, RecursionError, ValueError) as error:
            raise RegistryError(f"{path}: not YAML: {error}", hint="restore a copy") from error

    def line_of(self, keys: Sequence[Any]) -> int:
        """The line, from 1, of the last place on the way along ``keys`` that is in the text."""
        node, line = self.tree, 1
        for key in keys:
            try:
                place = node.lc.key(key) if isinstance(node, CommentedMap) else node.lc.item(key)
                line, node = place[0] + 1, node[key]
            except (AttributeError, KeyError, IndexError, TypeError):
                break
        return line

    def put(self, section: str, name: str, entry: Mapping[str, Any]) -> None:
        """Add or replace one entry; in a replaced one only the keys that differ are touched."""
        entries = self._section(section)
        if name in entries:
            tail = _cut_tail(entries, name)
            if _shared(entries[name]):
                entries[name] = _node(entry)
            else:
                _update(entries[name], entry)
            _hang_tail(entries, name, tail)
            return
        holder, last = (entries, list(entries)[-1]) if entries else (self.tree, section)
        tail = _cut_tail(holder, last)
        if entries:
            own, tail = _split_indented(tail, column=entries.lc.key(last)[1])
            _hang_tail(holder, last, own)
        entries[name] = _node(entry)
        _hang_tail(entries, name, tail)

    def remove(self, section: str, name: str) -> None:
        """Remove one entry; the comments around it stay."""
        entries = self.tree[section]
        names = list(entries)
        tail = _cut_tail(entries, name)
        del entries[name]
        entries.ca.items.pop(name, None)
        position = names.index(name)
        if position:
            _hang_tail(entries, names[position - 1], tail)
        elif entries:
            _hang_before(entries, names[1], tail)
        else:
            above = self.tree.ca.items.get(section, [None] * 4)[3] or []
            self.tree[section] = CommentedMap()
            self.tree[section].fa.set_flow_style()
            self.tree.ca.items.pop(section, None)
            kept = "".join(" " * token.start_mark.column + token.value for token in above)
            _hang_tail(self.tree, section, kept + tail)

    def rename(self, section: str, old: str, new: str) -> None:
        """Give an entry another name, in its place and with its comments."""
        entries = self.tree[section]
        position = list(entries).index(old)
        comment = entries.ca.items.pop(old, None)
        entries.insert(position, new, entries.pop(old))
        if comment:
            entries.ca.items[new] = comment

    def text(self) -> str:
        """The whole file."""
        stream = io.StringIO()
        _yaml().dump(self.tree, stream)
        return stream.getvalue()

    def _section(self, section: str) -> CommentedMap:
        """A section to add to: written as a block, made where it is missing or empty."""
        entries = self.tree.get(section)
        if not entries:
            tail = _cut_tail(self.tree, section) if section in self.tree else ""
            if section not in self.tree and self.tree:
                tail = _cut_tail(self.tree, list(self.tree)[-1])
            entries = self.tree[section] = CommentedMap()
            _hang_tail(self.tree, section, tail)
        assert isinstance(entries, CommentedMap)
        return entries


def _yaml() -> YAML:
    """A new reader and writer: one that is shared loses its state among threads."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100
    return yaml


def _plain(node: Any) -> Any:
    """Dicts, lists and scalars without ruamel's classes."""
    if isinstance(node, dict):
        return {str(_plain(key)): _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    if isinstance(node, date):
        return node.isoformat()
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _node(value: Any) -> Any:
    """Plain types as a tree: mappings as blocks, lists on one line."""
    if isinstance(value, Mapping):
        return CommentedMap({key: _node(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        row = CommentedSeq(_node(item) for item in value)
        row.fa.set_flow_style()
        return row
    return _plain(value)


def _update(node: CommentedMap, entry: Mapping[str, Any]) -> None:
    """Make a mapping equal to ``entry``, keeping order and comments where it can."""
    for key in [key for key in node if key not in entry]:
        tail = _cut_tail(node, key)
        before = list(node).index(key)
        del node[key]
        if before:
            _hang_tail(node, list(node)[before - 1], tail)
    for key, value in entry.items():
        if key in node and _plain(node[key]) == value:
            continue
        old = node.get(key)
        block = isinstance(old, CommentedMap) and old and not _shared(old)
        if block and isinstance(value, Mapping):
            _update(old, value)
            continue
        tail = _cut_tail(node, key) if key in node else ""
        node[key] = _node(value)
        _hang_tail(node, key, tail)


def _shared(node: Any) -> bool:
    """Do other places mean this block, or parts of it, by ``*name``? They keep what they have."""
    return isinstance(node, CommentedMap) and (node.yaml_anchor() is not None or bool(node.merge))


def _last_leaf(node: Any, key: Any) -> tuple[Any, Any]:
    """Where ruamel keeps the comment that follows ``node[key]``: a block and its last key."""
    value = node[key]
    while isinstance(value, CommentedMap) and value and not value.fa.flow_style():
        node, key = value, list(value)[-1]
        value = node[key]
    return node, key


def _cut_tail(node: Any, key: Any) -> str:
    """Take off, and return, the lines that follow ``node[key]`` before the next key."""
    holder, last = _last_leaf(node, key)
    token = (holder.ca.items.get(last) or [None] * 3)[2]
    if token is None:
        return ""
    same_line, _, rest = str(token.value).partition("\n")
    if same_line.strip():
        token.value = same_line + "\n"
    else:
        holder.ca.items[last][2] = None
    return rest


def _split_indented(lines: str, *, column: int) -> tuple[str, str]:
    """The leading comment lines that stand deeper than ``column``, and all others."""
    rows = lines.splitlines(keepends=True)
    deeper = [bool(row.strip()) and len(row) - len(row.lstrip()) > column for row in rows]
    count = deeper.index(False) if False in deeper else len(rows)
    return "".join(rows[:count]), "".join(rows[count:])


def _hang_tail(node: Any, key: Any, lines: str) -> None:
    """Put back lines that :func:`_cut_tail` took, after ``node[key]``."""
    if not lines:
        return
    holder, last = _last_leaf(node, key)
    slots = holder.ca.items.setdefault(last, [None, None, None, None])
    if slots[2] is None:
        slots[2] = CommentToken("\n" + lines, CommentMark(0), None)
    else:
        slots[2].value += lines


def _hang_before(node: CommentedMap, key: str, lines: str) -> None:
    """Put lines before the first key of a block."""
    slots = node.ca.items.setdefault(key, [None, None, None, None])
    slots[1] = [
        CommentToken(line.lstrip() + "\n", CommentMark(len(line) - len(line.lstrip())), None)
        for line in lines.splitlines()
    ] + list(slots[1] or [])
