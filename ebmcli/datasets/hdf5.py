"""The dataset format: images and labels in one HDF5 file. Described in docs/datasets.md.

    images                 uint8 (N, H, W, 3), the top row first
    factors/<name>         int64 (N,) index of a name | float32 (N,) | float32 (N, 2)
                           | float32 (N, most, columns) for lists of objects

A file is written as OUT.h5.partial and renamed when it is complete. Every array is allocated in
full at once and uncompressed, so that a killed writer leaves a readable file: only numbers change
after the first flush, no structure. ``n_written`` counts the rows that are safe.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from ebmcli import __version__
from ebmcli.core.factors import Factor, Kind
from ebmcli.datasets.partial_file import WAIT, allocate, is_allocated, partial_path, refuse_locked
from ebmcli.datasets.stored_labels import check_labels, row_shape
from ebmcli.errors import ConfigError, DigestError, FileFormatError, OutputError, OutputExistsError

FORMAT, VERSION = "ebm-dataset", 2
FIRST_VERSION = 1  # of files without lists of objects, which older programs read too
READ_ROWS = 1000  # images per read while a digest is computed; chosen
NO_DIGEST = "sha256:" + 64 * "0"
LIBRARIES = ("mujoco", "numpy")  # whose versions may change a picture
# what h5py, JSON and conversions raise where bytes of a header are wrong
WRONG = (OSError, LookupError, ArithmeticError, ValueError, TypeError, AttributeError, RuntimeError)
AGAIN = "write it again with ebm render-dataset or ebm import-dataset"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a dataset file says about itself.

    ``settings`` holds what restricted the drawing of labels, as typed: fix, hold_out, grid.
    """

    path: Path
    recipe: str
    size: int
    n_images: int
    seed: int | None
    factors: dict[str, Factor]
    digest: str
    versions: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def space(self) -> str:
        """The name that energies and datasets of the same pictures share: ``scenes-64``."""
        return f"{self.recipe}-{self.size}"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)} | {"space": self.space}
        factors = [factor.to_dict() for factor in self.factors.values()]
        return plain | {"path": str(self.path), "factors": factors}


def read_info(path: Path) -> DatasetInfo:
    """Read and check the header of a dataset, and that all rows are there.

    Raises:
        FileFormatError: The file is missing, truncated, foreign, too new or incomplete.
    """
    with _opened(path) as file:
        return _info(path, file)


def read_images(path: Path, start: int, stop: int) -> NDArray[np.uint8]:
    """Images of the rows from ``start`` to before ``stop``: uint8 (n, H, W, 3)."""
    with _opened(path) as file:
        _info(path, file)
        images: NDArray[np.uint8] = file["images"][start:stop]
    return images


def read_labels(path: Path, factor: str, start: int, stop: int) -> NDArray[Any]:
    """Labels of one factor: int64 (n,) cells of names, float32 (n,), (n, 2) or lists of objects.

    Raises:
        FileFormatError: The file is damaged, has no such factor, or labels that are none of it.
    """
    with _opened(path) as file:
        known = _info(path, file).factors
        if factor not in known:
            hint = f"its factors: {', '.join(known)}"
            raise FileFormatError(path, f"the dataset has no factor {factor!r}", hint=hint)
        labels: NDArray[Any] = file["factors"][factor][start:stop]
    check_labels(path, known[factor], labels, start=start)
    return labels


def verify_digest(path: Path) -> DatasetInfo:
    """Compute the digest again and compare it with the recorded one.

    Raises:
        DigestError: Images or labels are not those that were written.
    """
    with _opened(path) as file:
        info = _info(path, file)
        found = content_digest(file)
    if found != info.digest:
        hint = "render or import the dataset again; what was trained on it is not affected"
        problem = f"the content is {found[:19]}..., recorded was {info.digest[:19]}..."
        raise DigestError(path, problem, hint=hint)
    return info


def content_digest(file: Any) -> str:
    """sha256 of the factors, the images and the labels, whatever the layout on disk."""
    hasher = hashlib.sha256()
    names = list(json.loads(_text(file.attrs["factor_order"])))
    for array in (file["images"], *(file["factors"][name] for name in names)):
        hasher.update(f"{array.name} {array.dtype.str} {array.shape}\n".encode())
        for start in range(0, len(array), READ_ROWS):
            hasher.update(np.ascontiguousarray(array[start : start + READ_ROWS]).data)
    return f"sha256:{hasher.hexdigest()}"


class DatasetWriter:
    """Writes a dataset batch by batch; a context manager that keeps what was written.

    Leaving the block without :meth:`finish` leaves OUT.h5.partial behind, or nothing when no
    image was written. With ``resume`` such a file is continued at ``n_written``.
    """

    def __init__(self, info: DatasetInfo, *, resume: bool = False, overwrite: bool = False) -> None:
        """Open the file that ``info`` describes; its digest and versions are filled in here.

        Raises:
            OutputExistsError: The dataset, or the rest of an interrupted one, is there.
            OutputError: The folder cannot be written, the disk is too small, or another process
                is writing the file.
            ConfigError: The file to resume was begun with other settings.
        """
        self.info, self._partial = info, partial_path(info.path)
        with self._reporting():
            begun = self._checked(resume=resume, overwrite=overwrite)
            info.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._reopened("r+") if resume and begun else self._created()

    @classmethod
    def check(cls, info: DatasetInfo, *, resume: bool = False, overwrite: bool = False) -> None:
        """Refuse what opening it would be refused for, and write nothing."""
        writer = cls.__new__(cls)
        writer.info, writer._partial = info, partial_path(info.path)
        with writer._reporting():
            if writer._checked(resume=resume, overwrite=overwrite) and resume:
                writer._reopened("r").close()
            else:
                writer._refuse_small_disk()

    def _checked(self, *, resume: bool, overwrite: bool) -> bool:
        """Is there the rest of an interrupted run? Refuses what must not be written over."""
        path = self.info.path
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint="name a file, such as scenes.h5")
        refuse_locked(self._partial)
        if path.exists() and not overwrite:
            raise OutputExistsError(path)
        folder = _nearest_folder(path)
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            hint = "choose a path in a folder of yours"
            raise OutputError(f"cannot write {path}: {folder} cannot be written", hint=hint)
        begun = self._partial.exists() and is_allocated(self._partial)
        if begun and not (resume or overwrite):
            hint = "add --resume to continue it, or --overwrite to start again"
            raise OutputExistsError(self._partial, hint=hint)
        return begun

    def _refuse_small_disk(self) -> None:
        info = self.info
        n_bytes = info.n_images * info.size**2 * 3
        free = shutil.disk_usage(_nearest_folder(info.path)).free
        if free < n_bytes:
            found = f"needs {n_bytes // 10**6 + 1} MB, the disk has {free // 10**6} MB"
            hint = "free some space, or ask for fewer or smaller images"
            raise OutputError(f"{info.path} {found}", hint=hint)

    @property
    def n_written(self) -> int:
        """Rows that are safely in the file."""
        return int(self._file.attrs["n_written"])

    def write(self, images: NDArray[np.uint8], labels: Mapping[str, NDArray[Any]]) -> None:
        """Append images (n, H, W, 3) and the labels of every factor, and flush them."""
        start = self.n_written
        stop = start + len(images)
        with self._reporting():
            self._file["images"][start:stop] = images
            for name in self.info.factors:
                self._file["factors"][name][start:stop] = labels[name]
            self._file.flush()
            self._file.attrs.modify("n_written", np.int64(stop))  # only after its rows
            self._file.flush()

    def finish(self) -> DatasetInfo:
        """Record the digest, give the file its name, and say what is in it.

        Raises:
            OutputError: The partial file is not the one that was written here.
        """
        if self.n_written != self.info.n_images:
            raise ValueError(f"{self.n_written} of {self.info.n_images} images written")
        with self._reporting():
            digest = content_digest(self._file)
            self._file.attrs.modify("digest", np.bytes_(digest))
            self._file.attrs.modify("complete", np.int64(1))
            self._file.close()
            if read_info(self._partial).digest != digest:
                problem = f"{self._partial} was replaced by another command"
                raise OutputError(problem, hint="give every command a path of its own")
            os.replace(self._partial, self.info.path)  # noqa: PTH105 - atomic on every system
        return read_info(self.info.path)

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file:
            empty = self.n_written == 0
            self._file.close()
            if empty:
                self._partial.unlink(missing_ok=True)

    def _created(self) -> Any:
        """A new partial file, every array allocated."""
        info = self.info
        shape = (info.n_images, info.size, info.size, 3)
        self._refuse_small_disk()
        self._partial.unlink(missing_ok=True)  # a file that somebody has open keeps its content
        file = h5py.File(self._partial, "x", libver=("earliest", "v108"), track_order=False)
        for name, value in self._header().items():
            file.attrs.create(name, value)
        allocate(file, "images", shape, np.dtype("u1"))
        for name, factor in info.factors.items():
            dtype = np.dtype("<i8") if factor.names else np.dtype("<f4")
            array = allocate(file, f"factors/{name}", (info.n_images, *row_shape(factor)), dtype)
            array.attrs.create("factor", np.bytes_(json.dumps(factor.to_dict())))
            if factor.kind == "objects":
                array.attrs.create("columns", np.bytes_(json.dumps(factor.columns)))
        file.flush()
        return file

    def _header(self) -> dict[str, Any]:
        """Attributes of the root; fixed-length, so that a change never moves them."""
        info = self.info
        versions = {"ebm": __version__} | {name: version(name) for name in LIBRARIES}
        return {
            "format": np.bytes_(FORMAT),
            "version": np.int64(_version(info)),
            "recipe": np.bytes_(info.recipe),
            "size": np.int64(info.size),
            "seed": np.int64(-1 if info.seed is None else info.seed),
            "versions": np.bytes_(json.dumps(versions, sort_keys=True)),
            "settings": np.bytes_(json.dumps(info.settings, sort_keys=True)),
            "factor_order": np.bytes_(json.dumps(list(info.factors))),
            "digest": np.bytes_(NO_DIGEST),
            "complete": np.int64(0),
            "n_written": np.int64(0),
        }

    def _reopened(self, mode: str) -> Any:
        """The partial file of an interrupted run, if it was begun with the same settings."""
        try:
            file = h5py.File(self._partial, mode, libver=("earliest", "v108"))
        except (BlockingIOError, PermissionError):
            raise
        except OSError as error:
            hint = "add --overwrite instead of --resume to start again"
            raise FileFormatError(self._partial, "cannot be continued", hint=hint) from error
        begun = {name: file.attrs.get(name) for name in self._header()}
        for name, value in self._header().items():
            if name not in ("digest", "n_written", "complete") and begun[name] != value:
                file.close()
                problem = f"{self._partial} was begun with {name} {_text(begun[name])}"
                hint = "repeat the first command exactly and add --resume, or add --overwrite"
                raise ConfigError(f"{problem}, not {_text(value)}", hint=hint)
        if len(file["images"]) != self.info.n_images:
            begun_with = len(file["images"])
            file.close()
            problem = f"{self._partial} was begun with n {begun_with}, not {self.info.n_images}"
            raise ConfigError(problem, hint="repeat the first command exactly and add --resume")
        return file

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what the system refuses into an error for people."""
        try:
            yield
        except (BlockingIOError, FileExistsError) as error:
            raise OutputError(f"{self._partial} is being written", hint=WAIT) from error
        except OSError as error:
            problem = f"cannot write {self.info.path}: {error.strerror or error}"
            hint = "check the folder, its permissions and the space on the disk"
            raise OutputError(problem, hint=hint) from error


def _nearest_folder(path: Path) -> Path:
    """The folder of a file to be, or what there is of the way to it."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def _version(info: DatasetInfo) -> int:
    """The lowest version of the format that a dataset needs."""
    listed = any(factor.kind == "objects" for factor in info.factors.values())
    return VERSION if listed else FIRST_VERSION


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A dataset open for reading; what goes wrong inside is told with the path."""
    if not path.exists():
        hint = "check the spelling; ebm render-dataset and ebm import-dataset write datasets"
        if partial_path(path).exists():
            hint = f"{partial_path(path)} is there: repeat its command and add --resume"
        raise FileFormatError(path, "no such file", hint=hint)
    if path.is_dir():
        raise FileFormatError(path, "is a folder, not a dataset", hint="give the .h5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except WRONG as error:
        if isinstance(error, PermissionError):
            raise FileFormatError(path, "no permission to read it") from error
        if isinstance(error, BlockingIOError):
            raise FileFormatError(path, "is being written by another command") from error
        problem = "is not a dataset" if not h5py.is_hdf5(path) else "is truncated or damaged"
        raise FileFormatError(path, f"{problem} ({error})", hint=AGAIN) from error


def _info(path: Path, file: Any) -> DatasetInfo:
    """The header of an open dataset, checked against its arrays."""
    attrs = file.attrs
    if "format" not in attrs or _text(attrs["format"]) != FORMAT:
        hint = "ebm import-dataset makes a dataset from other files"
        raise FileFormatError(path, "is an HDF5 file, but not an ebm dataset", hint=hint)
    if int(attrs["version"]) > VERSION:
        problem = f"has dataset version {attrs['version']}; this ebm reads up to {VERSION}"
        raise FileFormatError(path, problem, hint="update ebm: pip install -U ebmcli")
    n_images = len(file["images"])
    if not int(attrs["complete"]):
        hint = "repeat the command that began it and add --resume"
        problem = f"is incomplete: {attrs['n_written']} of {n_images} images"
        raise FileFormatError(path, problem, hint=hint)
    factors = {}
    for name in json.loads(_text(attrs["factor_order"])):
        array = file["factors"][name]
        factors[name] = Factor.from_dict(json.loads(_text(array.attrs["factor"])))
        if len(array) != n_images:
            raise FileFormatError(path, f"has {len(array)} labels of {name}, {n_images} images")
    seed = int(attrs["seed"])
    info = DatasetInfo(
        path=path,
        recipe=_text(attrs["recipe"]),
        size=int(attrs["size"]),
        n_images=n_images,
        seed=None if seed < 0 else seed,
        factors=factors,
        digest=_text(attrs["digest"]),
        versions=json.loads(_text(attrs["versions"])),
        settings=json.loads(_text(attrs["settings"])),
    )
    _check_header(info, file["images"].shape)
    return info


def _check_header(info: DatasetInfo, shape: tuple[int, ...]) -> None:
    """Refuse a header that damage has made say other things than its arrays."""
    kinds = get_args(Kind)
    sound = all(each.name == name and each.kind in kinds for name, each in info.factors.items())
    square = shape[1:] == (info.size, info.size, 3)
    if not (sound and square and isinstance(info.settings, dict)):
        raise FileFormatError(info.path, "has a damaged header", hint=AGAIN)


def _text(value: Any) -> str:
    """An attribute as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
