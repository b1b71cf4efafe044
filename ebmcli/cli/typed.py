"""The command as it was typed: for the records of what it makes, and for the commands hinted at."""

import re
import shlex
import sys
from collections.abc import Iterable

_WITH_REGISTRY = re.compile(  # the commands that take --registry
    r"\bebm (?:add-concept|bench|calibrate|demo|eval|explain|export|generate|import|infer|list|"
    r"mend-base|rename|rm|show|train|train-base|train-judge|union|verify)(?![\w-])"
)


def typed_command() -> str:
    """``ebm`` and its arguments, quoted so that a POSIX shell reads them back."""
    return shlex.join(["ebm", *sys.argv[1:]])


def typed_registry() -> str:
    """``--registry FILE`` as a POSIX shell reads it, where that was typed; else nothing."""
    words = sys.argv[1:]
    for index, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name == "--registry" and (sign or index + 1 < len(words)):
            return shlex.join([name, value if sign else words[index + 1]])
    return ""


def with_registry(hint: str) -> str:
    """A hint that names a command, for the registry that was typed: others know other names."""
    typed = typed_registry()
    if not typed or "--registry" in hint or not _WITH_REGISTRY.search(hint):
        return hint
    return f"{hint} (with {typed})"


def listed(texts: Iterable[str] | None) -> tuple[str, ...]:
    """Names between commas, of an option that may be repeated; each once, as first given."""
    names = (name.strip() for text in texts or () for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))
