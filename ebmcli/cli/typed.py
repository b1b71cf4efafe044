"""The command as it was typed, for the records of what it makes."""

import shlex
import sys


def typed_command() -> str:
    """``ebm`` and its arguments, quoted so that a POSIX shell reads them back."""
    return shlex.join(["ebm", *sys.argv[1:]])
