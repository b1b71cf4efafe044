"""registry.yaml for those who only read it: the same plain tree as ``document``, ten times sooner.

ruamel keeps comments and lines, which ``ebm list`` does not need, and takes most of its time. Here
the events of libyaml are put together instead. Only what cannot be misread is: about ``012``,
``1_000`` or ``2026-11-26`` two libraries and two versions of YAML disagree, so for whatever is not
plainly a word or a number, for tags, anchors and errors, the answer is None, and ``document``
decides. Words are words, ``no`` and ``on`` too, as in YAML 1.2.
The only file that knows PyYAML.
"""

import re
from typing import Any

import yaml

INT = re.compile(r"0|-?[1-9][0-9]*")
FLOAT = re.compile(r"(?!-0\.0+$)-?(0|[1-9][0-9]*)\.[0-9]+(e[-+][0-9]+)?")
WORD = re.compile(r"[A-Za-z][^\n]*|[0-9]+\.[0-9]+\.[0-9]+[^\n]*")  # such as a version, 0.1.0
DISPUTED = re.compile("[\t\x85\u2028\u2029\ufeff]|[\"']:\\S")  # what ends a line or a key
CONSTANTS = {"true": True, "false": False, "null": None, "": None}


class _DoubtfulError(Exception):
    """Something that is left to the slow reader."""


def plain_tree(text: str) -> Any | None:
    """The mapping of a YAML text with text keys; None where only ``document`` can say.

    Raises:
        Nothing: a text that is not YAML is None too.
    """
    if not yaml.__with_libyaml__ or DISPUTED.search(text):
        return None
    try:
        return _tree(text)
    except (_DoubtfulError, yaml.YAMLError, RecursionError, ValueError):
        return None


def _tree(text: str) -> dict[str, Any]:
    """Put the events of one document together, without recursion."""
    root: list[Any] = []
    open_: list[dict[str, Any] | list[Any]] = [root]
    keys: list[str | None] = [None]  # of every open mapping the key that waits for its value

    def place(value: Any) -> None:
        holder = open_[-1]
        if isinstance(holder, list):
            holder.append(value)
        elif keys[-1] is None:
            if not isinstance(value, (str, int, float)) or isinstance(value, bool):
                raise _DoubtfulError
            keys[-1] = str(value)
            if keys[-1] in holder:
                raise _DoubtfulError  # a duplicate
        else:
            holder[keys[-1]] = value
            keys[-1] = None

    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        match event:
            case yaml.DocumentStartEvent():
                if event.version or event.tags or root:
                    raise _DoubtfulError
            case yaml.ScalarEvent():
                place(_scalar(event))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if event.anchor or event.tag:
                    raise _DoubtfulError
                value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                place(value)
                open_.append(value)
                keys.append(None)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                open_.pop()
                keys.pop()
            case yaml.AliasEvent():
                raise _DoubtfulError
    if len(root) != 1 or not isinstance(root[0], dict):
        raise _DoubtfulError
    return root[0]


def _scalar(event: yaml.ScalarEvent) -> Any:
    """The value of a scalar, or :class:`_DoubtfulError`."""
    text: str = event.value
    if event.anchor or event.tag:
        raise _DoubtfulError
    if event.style:  # quoted, or a block
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INT.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if WORD.fullmatch(text) and text.lower() not in CONSTANTS:  # True, NULL
        return text
    raise _DoubtfulError
