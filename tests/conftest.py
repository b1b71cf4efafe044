"""What every test stands on: a home of its own, an empty working directory, a seeded source."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ebmcli.core.factors import Factor
from ebmcli.registry import Record, checkpoint_file, create_registry, edit_registry

if TYPE_CHECKING:
    from torch import Generator

COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))
SIZE = Factor(name="size", kind="scalar", low=0.1, high=0.5)
OLD = Factor(name="old", kind="binary", names=("no", "yes"))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home and working directory; no registry but the bundled one is in sight."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    for name, part in (("DATA", ".local/share"), ("CONFIG", ".config"), ("CACHE", ".cache")):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(folder / part))
    for name in ("EBM_REGISTRY", "EBM_LOCK", "EBM_LOCK_TIMEOUT", "EBM_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    work = folder / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heeded here, and by what is started: a shell has it ignored in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def generator() -> "Generator":
    """A random source with seed 0."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def registry_path(tmp_path: Path) -> Path:
    """An empty registry.yaml."""
    return create_registry(tmp_path / "trained")


@pytest.fixture
def register(registry_path: Path) -> Callable[..., Record]:
    """A function that writes small weights and registers them under a kind and a name."""

    def add(kind: Any, name: str, *, space: str = "scenes-64", **fields: Any) -> Record:
        import torch

        from ebmcli.checkpoint import write_checkpoint

        header: dict[str, Any] = {"kind": kind, "space": space, "name": name}
        if kind == "concept":
            fields.setdefault("method", "posterior")
            header |= {"factor": fields["factor"].to_dict(), "method": fields["method"]}
        weights = {"weights": torch.full((2, 3), float(len(name)))}
        file = checkpoint_file(name, kind=kind)
        digest = write_checkpoint(registry_path.parent / file, weights, header, half=True)
        record = Record(kind=kind, name=name, space=space, file=file, sha256=digest, **fields)
        with edit_registry(registry_path) as editor:
            editor.put(record)
        return record

    return add


@pytest.fixture
def filled(registry_path: Path, register: Callable[..., Record]) -> Path:
    """A registry with a base, a judge, two concepts of scenes and one of faces."""
    register("base", "scenes-64")
    register("judge", "scenes-64")
    levels = {"held_out": {"0.5": {"accuracy": 0.7}, "0.02": {"accuracy": 0.987}}}
    register("concept", "color", factor=COLOR, base="scenes-64", measured=levels)
    register("concept", "size", factor=SIZE, base="scenes-64")
    register("concept", "old", space="faces-64", factor=OLD)
    return registry_path
