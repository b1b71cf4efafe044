"""Weights and settings on disk: safetensors whose one metadata key, ``ebm``, holds sorted JSON.

Nothing is ever unpickled, so that a file from a stranger cannot run code. One key only: with two
or more safetensors writes them in a random order, and the digest of equal content would differ.
The JSON, here the header, always has ``format``, ``version``, ``kind`` (base, concept, judge or
run) and ``space``; the rest is what the kind needs to be built again.
"""

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ebmcli.errors import DigestError, FileFormatError, OutputError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "ebm-checkpoint"
VERSION = 1
KINDS = ("base", "concept", "judge", "run")
MAX_HEADER = 10_000_000  # bytes, chosen: ours stay below 100 kB
_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
_BYTES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}


def write_checkpoint(
    path: Path, tensors: Mapping[str, "Tensor"], header: Mapping[str, Any], *, half: bool = False
) -> str:
    """Write tensors and their header atomically; equal content gives equal bytes.

    Args:
        path: The file; an existing one is replaced, a missing folder is made.
        tensors: By name, any shape and device.
        header: Plain types; needs ``kind`` and ``space``. ``format`` and ``version`` are added.
        half: Store floats as float16, except tensors with values beyond its range. Integers and
            truth values always keep their type.

    Returns:
        The digest of the file, "sha256:<hex>".

    Raises:
        OutputError: No permission, no room, or the folder cannot be made.
        ValueError: The header has no such kind or is not plain JSON.
    """
    data = checkpoint_bytes(tensors, header, half=half)
    write_bytes(path, data)
    return bytes_digest(data)


def checkpoint_bytes(
    tensors: Mapping[str, "Tensor"], header: Mapping[str, Any], *, half: bool = False
) -> bytes:
    """The content of a checkpoint; arguments and errors as in :func:`write_checkpoint`."""
    from safetensors.torch import save

    if header.get("kind") not in KINDS or not isinstance(header.get("space"), str):
        raise ValueError(f"a header needs a kind among {KINDS} and a space: {dict(header)!r}")
    whole = {**header, "format": FORMAT, "version": VERSION}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    stored = {name: _stored(tensor, half=half) for name, tensor in tensors.items()}
    return save(stored, metadata={"ebm": text})


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it, fsync, rename.

    Through a link its target is written. A file that is replaced keeps its permissions.

    Raises:
        OutputError: No permission, no room, or the folder cannot be made.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise OutputError(f"cannot write {path}: it is {kind}", hint="choose another name")
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            _keep_mode(target, temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "free some room, or choose a folder you can write to"
        raise OutputError(f"cannot write {path}: {reason}", hint=hint) from error
    finally:
        _remove(temporary)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a file, without torch and without reading its tensors.

    Raises:
        FileFormatError: Missing, truncated, foreign, or written by a newer version.
    """
    try:
        with path.open("rb") as file:
            return _parsed(file, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise _unreadable(path, error) from error


def header_of(data: bytes, *, path: Path) -> dict[str, Any]:
    """As :func:`read_header`, for the bytes of a file; ``path`` is for messages."""
    return _parsed(BytesIO(data), len(data), path)


def read_checkpoint(
    path: Path, *, kind: str | None = None, sha256: str | None = None
) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """All tensors, on the CPU, and the header; float16 and bfloat16 are widened to float32.

    Args:
        path: The file.
        kind: What the file must hold, where given.
        sha256: The digest the file must have, "sha256:<hex>", where given; the very bytes that
            were hashed are the ones that are read.

    Raises:
        FileFormatError: As :func:`read_header`, or of another kind.
        DigestError: The bytes are not those that were recorded.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = read_header(path)
    if kind is not None and header["kind"] != kind:
        raise FileFormatError(path, f"holds a {header['kind']}, not a {kind}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if sha256 is not None:
        check_digest(path, bytes_digest(data), sha256)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise FileFormatError(path, f"its tensors cannot be read: {error}") from error
    short = (torch.float16, torch.bfloat16)
    return {name: t.float() if t.dtype in short else t for name, t in tensors.items()}, header


def file_digest(path: Path) -> str:
    """The digest of a file, "sha256:<hex>".

    Raises:
        FileFormatError: The file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.sha256()
            while block := file.read(1 << 20):
                sha256.update(block)
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"sha256:{sha256.hexdigest()}"


def check_digest(path: Path, found: str, recorded: str) -> None:
    """Raise DigestError unless the digest found is the one recorded."""
    if found != recorded:
        raise DigestError(
            path,
            f"has changed since it was recorded (found {found[:19]}, recorded {recorded[:19]})",
            hint="ebm verify checks every file; train it again or import it from its archive",
        )


def bytes_digest(data: bytes) -> str:
    """The digest of the bytes of a file, "sha256:<hex>"."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _stored(tensor: "Tensor", *, half: bool) -> "Tensor":
    """A contiguous copy on the CPU, which shares memory with no other tensor."""
    plain = tensor.detach().cpu()
    if half and plain.is_floating_point():
        import torch

        limit = torch.finfo(torch.float16).max
        finite = plain[plain.isfinite()]
        if not finite.numel() or finite.abs().max() <= limit:
            plain = plain.to(torch.float16)
    return plain.contiguous().clone()


def _parsed(file: BinaryIO, size: int, path: Path) -> dict[str, Any]:
    """Read and check the header of an open file: sizes first, then JSON, then our key."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= MAX_HEADER:
        raise _foreign(path)
    if size < 8 + length:
        raise _truncated(path)
    try:
        outer = json.loads(file.read(length))
        end = _data_end(outer)
        header = json.loads(outer["__metadata__"]["ebm"])
        if header["format"] != FORMAT or header["kind"] not in KINDS:
            raise ValueError("another format")
        version, _ = int(header["version"]), str(header["space"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _foreign(path) from error
    if version > VERSION:
        problem = f"is version {version} of the format; this ebm reads up to {VERSION}"
        raise FileFormatError(path, problem, hint="upgrade ebm: pip install --upgrade ebmcli")
    if size < 8 + length + end:
        raise _truncated(path)
    if size > 8 + length + end:
        raise FileFormatError(path, "has bytes after its end", hint=_AGAIN)
    assert isinstance(header, dict)
    return header


def _data_end(outer: dict[str, Any]) -> int:
    """Where the tensors end, in bytes; raises ValueError where they overlap or leave gaps."""
    spans = []
    for name, entry in outer.items():
        if name == "__metadata__":
            continue
        start, stop = (int(offset) for offset in entry["data_offsets"])
        count = 1
        for dimension in entry["shape"]:
            count *= int(dimension)
        if stop - start != count * _BYTES[entry["dtype"]]:
            raise ValueError(f"the size of {name} is not that of its shape")
        spans.append((start, stop))
    end = 0
    for start, stop in sorted(spans):
        if start != end or stop < start:
            raise ValueError("tensors overlap or leave gaps")
        end = stop
    return end


_AGAIN = "copy or download it again, or train it again"


def _foreign(path: Path) -> FileFormatError:
    hint = "ebm reads only the .safetensors files it wrote itself; convert or train again"
    return FileFormatError(path, "is not a checkpoint written by ebm", hint=hint)


def _truncated(path: Path) -> FileFormatError:
    return FileFormatError(path, "is truncated: its end is missing", hint=_AGAIN)


def _unreadable(path: Path, error: OSError) -> FileFormatError:
    if isinstance(error, FileNotFoundError):
        return FileFormatError(path, "no such file", hint="ebm list shows which files are missing")
    return FileFormatError(path, f"cannot be read: {(error.strerror or str(error)).lower()}")


def _keep_mode(old: Path, new: Path) -> None:
    """Give a new file the permissions of the one it replaces, before anything is in it."""
    if old.exists():
        mode = stat.S_IMODE(old.stat().st_mode)
        if mode != stat.S_IMODE(new.stat().st_mode):  # not every disk lets them be changed
            new.chmod(mode)


def _remove(path: Path) -> None:
    """Remove a temporary file where it still exists."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # its folder is not ours to write: then it was never made
