"""Checkpoints: what goes in comes out, equal content is equal bytes, damage is named."""

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ebmcli import checkpoint
from ebmcli.checkpoint import (
    file_digest,
    read_checkpoint,
    read_header,
    write_bytes,
    write_checkpoint,
)
from ebmcli.errors import DigestError, FileFormatError, OutputError

HEADER = {"kind": "concept", "space": "scenes-64", "config": {"width": 8, "b": [1, 2]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "color.safetensors"
    write_checkpoint(path, {"a": torch.arange(6.0).view(2, 3)}, HEADER)
    return path


def rewritten(path: Path, change: object) -> Path:
    """The file with another JSON header, well-formed otherwise."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + length])
    text = json.dumps(change(outer)).encode()  # type: ignore[operator]
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return path


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "count": torch.tensor([2**40]),
        "flags": torch.tensor([True, False]),
        "state": torch.get_rng_state(),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "strided": torch.arange(12.0).view(3, 4).T,
    }
    path = tmp_path / "run.safetensors"
    digest = write_checkpoint(path, tensors, {"kind": "run", "space": "scenes-64", "step": 3})
    read, header = read_checkpoint(path, kind="run", sha256=digest)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert header == {
        "format": "ebm-checkpoint", "version": 1, "kind": "run", "space": "scenes-64", "step": 3,
    }  # fmt: skip


def test_half_rounds_floats_only_and_keeps_what_half_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "w": torch.tensor([1 / 3, float("-inf")]),
        "large": torch.tensor([1e5]),
        "n": torch.tensor([70_000]),
    }
    write_checkpoint(path, tensors, HEADER, half=True)
    read, _ = read_checkpoint(path)
    assert read["w"].dtype == torch.float32
    assert torch.equal(read["w"], tensors["w"].half().float())
    assert torch.equal(read["large"], tensors["large"])
    assert torch.equal(read["n"], tensors["n"])


def test_shared_memory_is_written_twice(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, {"a": shared, "b": shared[1:]}, HEADER)
    assert torch.equal(read_checkpoint(path)[0]["b"], shared[1:])


def test_equal_content_is_equal_bytes_in_every_process(tmp_path: Path) -> None:
    program = (
        "import sys, torch, pathlib\nfrom ebmcli.checkpoint import write_checkpoint\n"
        "t = {'b': torch.ones(3), 'a': torch.arange(4), 'c': torch.zeros(2, 2)}\n"
        "h = {'space': 's', 'z': 1, 'kind': 'base', 'y': {'q': 1, 'p': 2}}\n"
        "print(write_checkpoint(pathlib.Path(sys.argv[1]), t, h))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "1")],
        env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    reordered = {"y": {"p": 2, "q": 1}, "kind": "base", "z": 1, "space": "s"}
    tensors = {"c": torch.zeros(2, 2), "a": torch.arange(4), "b": torch.ones(3)}
    assert write_checkpoint(tmp_path / "2", tensors, reordered) == done.stdout.strip()


def test_the_header_is_read_without_torch(path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom ebmcli.checkpoint import read_header, file_digest\n"
        "assert read_header(pathlib.Path(sys.argv[1]))['kind'] == 'concept'\n"
        "file_digest(pathlib.Path(sys.argv[1]))\n"
        "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in [*range(16), *range(16, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError, match=r"truncated|not a checkpoint") as caught:
            read_checkpoint(path)
        assert str(path) in caught.value.problem
        assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a checkpoint written by ebm"),
        (b"\x80\x04cbuiltins\neval\n", "is not a checkpoint"),
        (b"\xff" * 64, "is not a checkpoint"),
        (struct.pack("<Q", 2**40) + b"{}", "is not a checkpoint"),
        (struct.pack("<Q", 2) + b"{}", "is not a checkpoint"),
        (struct.pack("<Q", 2) + b"[]", "is not a checkpoint"),
        (struct.pack("<Q", 4) + b"\xff\xfe\x00\x00", "is not a checkpoint"),
        (struct.pack("<Q", 60_000) + b"[" * 60_000, "is not a checkpoint"),
    ],
    ids=["empty", "pickle", "noise", "absurd length", "no key", "list", "bytes", "deep"],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=problem):
        read_header(path)


def test_offsets_that_lie_are_refused(path: Path) -> None:
    def shifted(outer: dict) -> dict:
        return outer | {"a": outer["a"] | {"data_offsets": [4, 28]}}

    with pytest.raises(FileFormatError, match="not a checkpoint"):
        read_header(rewritten(path, shifted))


def test_bytes_after_the_end_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(FileFormatError, match="bytes after its end"):
        read_header(path)


def test_a_newer_version_names_itself_and_the_way_out(path: Path) -> None:
    def newer(outer: dict) -> dict:
        header = json.loads(outer["__metadata__"]["ebm"]) | {"version": 7}
        return outer | {"__metadata__": {"ebm": json.dumps(header)}}

    with pytest.raises(FileFormatError, match="is version 7 of the format") as caught:
        read_header(rewritten(path, newer))
    assert "upgrade" in str(caught.value.hint)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(FileFormatError, match="no such file"):
        file_digest(tmp_path / "none.safetensors")
    with pytest.raises(FileFormatError, match="is a directory"):
        read_header(tmp_path)


def test_another_kind_and_another_digest_are_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match="holds a concept, not a base"):
        read_checkpoint(path, kind="base")
    digest = file_digest(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestError, match="has changed since it was recorded") as caught:
        read_checkpoint(path, sha256=digest)
    assert "ebm verify" in str(caught.value.hint)


@pytest.mark.parametrize("header", [{"kind": "concept"}, {"kind": "cat", "space": "s"}])
def test_a_header_without_kind_or_space_is_a_mistake_of_the_caller(
    tmp_path: Path, header: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="kind"):
        write_checkpoint(tmp_path / "a", {}, header)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(OutputError, match=os.strerror(number).lower()):
        write_checkpoint(path, {"b": torch.ones(1)}, HEADER)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_checkpoint(tmp_path / "file" / "a.safetensors", {}, HEADER)


def test_a_link_and_permissions_stay(tmp_path: Path) -> None:
    """Of a registry.yaml among one's dotfiles, or one that others are not to read."""
    for folder in ("kept", "used"):
        (tmp_path / folder).mkdir()
    target, link = tmp_path / "kept" / "real.yaml", tmp_path / "used" / "registry.yaml"
    link.symlink_to(Path("..") / "kept" / "real.yaml")
    write_bytes(link, b"new")  # the target of a link need not be there yet
    target.chmod(0o600)
    write_bytes(link, b"newer")
    assert link.is_symlink()
    assert target.read_bytes() == b"newer"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(target.parent.iterdir()) == [target]


def test_only_files_are_replaced(tmp_path: Path) -> None:
    """Not a folder, and not a device such as /dev/full: here a pipe with a name."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="no regular file"):
        write_bytes(pipe, b"x")
    assert pipe.is_fifo()
    with pytest.raises(OutputError, match="it is a folder"):
        write_bytes(tmp_path, b"x")
