"""Every failure a user can cause.

EbmError                      exit 1   something is wrong with a file, a machine or a run
├── UsageError                exit 2   the command cannot mean anything
│   ├── UnknownNameError               no such concept, factor, value, recipe or key
│   ├── ExpressionError                the text is not in the grammar; a caret marks the place
│   └── ConfigError                    a setting is out of range or misspelt
├── FileFormatError           exit 1   a file is missing, truncated, foreign or too new
├── DigestError               exit 1   a file is not the one that was recorded
├── OutputExistsError         exit 1   the output is there already
├── OutputError               exit 1   the output cannot be written (permission, disk full)
├── RegistryError             exit 1   registry.yaml cannot be read, locked or written
├── RenderError               exit 1   no OpenGL for MuJoCo
├── DeviceError               exit 1   the device asked for is absent
├── DivergedError             exit 1   training produced NaN or infinite numbers
└── InterruptedRun            exit 130 Ctrl-C; the work so far is safe
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class EbmError(Exception):
    """A failure the user can mend: what is wrong, and in ``hint`` what to type next."""

    exit_code = 1

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class UsageError(EbmError):
    """The command as typed cannot mean anything."""

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` most likely meant, or None; case, - and _ are ignored."""

    def plain(text: str) -> str:
        return text.lower().replace("-", "").replace("_", "")

    by_plain = {plain(item): item for item in known}
    matches = get_close_matches(plain(name), by_plain, n=1, cutoff=0.6)
    return by_plain[matches[0]] if matches else None


_MAKERS = {"concept": "ebm train", "base": "ebm train-base", "judge": "ebm train-judge"}


class UnknownNameError(UsageError):
    """A name that nothing answers to; it is never guessed."""

    def __init__(
        self, kind: str, name: str, known: Sequence[str], *, where: str = "", hint: str = ""
    ) -> None:
        suggestion = nearest(name, known)
        listing = f"known: {', '.join(known) if known else 'none'}"
        if not known and kind in _MAKERS:
            listing = f"this registry has no {kind}: {_MAKERS[kind]} makes one; or choose another"
        meant = f"did you mean {suggestion!r}? " if suggestion else ""
        super().__init__(f"unknown {kind} {name!r}{where}", hint=hint or f"{meant}{listing}")
        self.kind, self.name, self.known, self.suggestion = kind, name, list(known), suggestion


def caret(source: str, column: int) -> str:
    """Two lines to append to a message: the text, and a caret under one column of it."""
    if not source.strip():
        return ""
    start = max(0, column - 60)
    shown = ("..." if start else "") + source[start : column + 60]
    return f"\n  {shown}\n  {' ' * (column - start + (3 if start else 0))}^"


class ExpressionError(UsageError):
    """The expression is wrong at one place; ``column`` counts from 0."""

    def __init__(self, problem: str, source: str, column: int, *, hint: str | None = None) -> None:
        super().__init__(problem + caret(source, column), hint=hint)
        self.source, self.column = source, column


class ConfigError(UsageError):
    """A setting is misspelt or out of its range."""


class FileFormatError(EbmError):
    """A file is missing, truncated, of another kind, or written by a newer version."""

    def __init__(self, path: Path | str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {problem}", hint=hint)
        self.path = Path(path)


class DigestError(FileFormatError):
    """The bytes of a file are not those that were recorded."""


class OutputExistsError(EbmError):
    """The output exists and was not to be overwritten."""

    def __init__(self, path: Path | str, *, hint: str | None = None) -> None:
        super().__init__(f"{path} exists", hint=hint or "add --overwrite, or choose another path")


class OutputError(EbmError):
    """The output cannot be written."""


class RegistryError(EbmError):
    """registry.yaml cannot be read, locked or written."""


class RenderError(EbmError):
    """MuJoCo finds no OpenGL."""


class DeviceError(EbmError):
    """The device asked for is absent."""


class DivergedError(EbmError):
    """Training or drawing produced numbers that are not finite."""


class DeadError(DivergedError):
    """Training has left a network that no update changes."""


class InterruptedRun(EbmError):
    """The user pressed Ctrl-C; what was done is safe and ``hint`` resumes it."""

    exit_code = 130
