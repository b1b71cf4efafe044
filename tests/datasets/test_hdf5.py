import hashlib
import subprocess
import sys
from itertools import pairwise

import h5py
import numpy as np
import pytest

from ebmcli.core.factors import Factor
from ebmcli.datasets import hdf5
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter
from ebmcli.datasets.partial_file import partial_path
from ebmcli.datasets.stored_labels import encode_labels
from ebmcli.errors import (
    ConfigError,
    DigestError,
    FileFormatError,
    OutputError,
    OutputExistsError,
)

FACTORS = {
    "color": Factor(name="color", kind="categorical", names=("red", "green")),
    "old": Factor(name="old", kind="binary", names=("no", "yes")),
    "size": Factor(name="size", kind="scalar", low=0.3, high=0.6, unit="world units"),
    "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
}
N, SIZE = 10, 8


def content(start=0, stop=N):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
    labels = {
        "color": rng.integers(0, 2, N),
        "old": rng.integers(0, 2, N),
        "size": rng.uniform(0.3, 0.6, N).astype(np.float32),
        "position": rng.uniform(-1, 1, (N, 2)).astype(np.float32),
    }
    return images[start:stop], {name: values[start:stop] for name, values in labels.items()}


def described(path, **changes):
    fixed = {"recipe": "scenes", "size": SIZE, "n_images": N, "seed": 3, "factors": FACTORS}
    return DatasetInfo(path=path, digest="", versions={}, **{**fixed, **changes})


def written(path, steps=(0, 4, N), **options):
    with DatasetWriter(described(path), **options) as writer:
        for start, stop in pairwise(steps):
            writer.write(*content(start, stop))
        return writer.finish()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.h5"


def test_what_is_written_is_read_back(path):
    info = written(path)
    assert info == hdf5.read_info(path)
    assert (info.recipe, info.size, info.n_images, info.seed) == ("scenes", SIZE, N, 3)
    assert info.space == "scenes-8"
    assert info.factors == FACTORS
    assert list(info.factors) == list(FACTORS)
    images, labels = content()
    assert (hdf5.read_images(path, 2, 7) == images[2:7]).all()
    for name, dtype in (("color", "i8"), ("old", "i8"), ("size", "f4"), ("position", "f4")):
        read = hdf5.read_labels(path, name, 0, N)
        assert read.dtype == np.dtype(dtype)
        assert (read == labels[name]).all()
    assert not partial_path(path).exists()


def test_no_seed_is_none(path):
    with DatasetWriter(described(path, seed=None)) as writer:
        writer.write(*content())
        assert writer.finish().seed is None


def test_the_bytes_do_not_depend_on_how_they_were_written(tmp_path):
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    written(first)
    written(second, steps=(0, 1, 2, 9, N))
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)}
    assert len(digests) == 1


@pytest.mark.parametrize("array", ["images", "factors/color", "factors/position"])
def test_a_changed_number_is_found(path, array):
    written(path)
    assert hdf5.verify_digest(path).n_images == N
    with h5py.File(path, "r+") as file:
        file[array][3] = 1 - file[array][3]
    with pytest.raises(DigestError, match="recorded was"):
        hdf5.verify_digest(path)


def test_an_interrupted_file_is_continued(path, tmp_path):
    with DatasetWriter(described(path)) as writer:
        writer.write(*content(0, 4))
    assert not path.exists()
    with pytest.raises(FileFormatError, match="no such file") as missing:
        hdf5.read_info(path)
    assert "--resume" in missing.value.hint
    with pytest.raises(FileFormatError, match="incomplete: 4 of 10"):
        hdf5.read_info(partial_path(path))
    with DatasetWriter(described(path), resume=True) as writer:
        assert writer.n_written == 4
        writer.write(*content(4, N))
        writer.finish()
    assert path.read_bytes() == written(tmp_path / "whole.h5").path.read_bytes()


@pytest.mark.parametrize("made", ["nothing", "attributes", "images"])
def test_a_file_whose_making_was_interrupted_is_begun_afresh(path, tmp_path, made):
    """Killed before every array was there: --resume has nothing to go on with, and begins."""
    with h5py.File(partial_path(path), "w") as file:
        if made != "nothing":
            file.attrs["factor_order"] = np.bytes_('["color", "old", "size", "position"]')
        if made == "images":
            file.create_dataset("images", (N, 8, 8, 3), np.uint8)
    with DatasetWriter(described(path), resume=True) as writer:
        assert writer.n_written == 0
        writer.write(*content())
        writer.finish()
    assert path.read_bytes() == written(tmp_path / "whole.h5").path.read_bytes()


def test_rows_behind_the_counter_are_written_again(path):
    """A writer killed between data and counter leaves rows that do not count."""
    with DatasetWriter(described(path)) as writer:
        writer.write(*content(0, 4))
    with h5py.File(partial_path(path), "r+") as file:
        file["images"][4:6] = 77
    with DatasetWriter(described(path), resume=True) as writer:
        writer.write(*content(4, N))
        writer.finish()
    assert (hdf5.read_images(path, 0, N) == content()[0]).all()


@pytest.mark.parametrize("change", [{"seed": 4}, {"recipe": "faces"}, {"n_images": 12}])
def test_another_run_is_not_continued(path, change):
    with DatasetWriter(described(path)) as writer:
        writer.write(*content(0, 4))
    with pytest.raises(ConfigError, match="was begun with"):
        DatasetWriter(described(path, **change), resume=True)
    assert partial_path(path).exists()


def test_nothing_is_left_when_nothing_was_written(path):
    with pytest.raises(RuntimeError), DatasetWriter(described(path)):
        raise RuntimeError
    assert list(path.parent.iterdir()) == []


def test_outputs_are_not_replaced_unasked(path):
    written(path)
    with pytest.raises(OutputExistsError):
        written(path)
    written(path, overwrite=True)
    partial_path(path).write_bytes(b"rest")
    path.unlink()
    with pytest.raises(OutputExistsError, match=r"partial exists"):
        written(path)
    with pytest.raises(FileFormatError, match="cannot be continued"):
        written(path, resume=True)
    assert written(path, overwrite=True).n_images == N


def test_two_processes_do_not_write_one_file(path):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter\n"
        "from ebmcli.errors import OutputError\n"
        "info = DatasetInfo(path=Path(sys.argv[1]), recipe='scenes', size=8, n_images=10, seed=3,\n"
        "    factors={}, digest='', versions={})\n"
        "for options in ({}, {'resume': True}, {'overwrite': True}):\n"
        "    for begin in (DatasetWriter.check, DatasetWriter):\n"
        "        try:\n            begin(info, **options)\n"
        "        except OutputError as error:\n            print(error.problem)\n"
    )
    with DatasetWriter(described(path)) as writer:
        writer.write(*content(0, 4))
        before = partial_path(path).read_bytes()
        other = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(other, capture_output=True, text=True, check=True)
        assert partial_path(path).read_bytes() == before
        writer.write(*content(4, N))
        writer.finish()
    assert done.stdout.splitlines() == 6 * [f"{partial_path(path)} is being written"]


def test_a_partial_file_that_was_replaced_does_not_get_the_name(path, tmp_path):
    with DatasetWriter(described(tmp_path / "other.h5")) as other:
        other.write(*content(0, 4))
    with DatasetWriter(described(tmp_path / "complete.h5")) as another:
        images, labels = content()
        another.write(images[::-1], labels)
        complete = another.finish()
    for replacement, error in (
        (partial_path(tmp_path / "other.h5"), FileFormatError),
        (complete.path, OutputError),
    ):
        with DatasetWriter(described(path), overwrite=True) as writer:
            writer.write(*content())
            replacement.replace(partial_path(path))
            with pytest.raises(error):
                writer.finish()
        assert not path.exists()


def test_impossible_outputs_are_refused_before_any_work(path, monkeypatch):
    with pytest.raises(OutputError, match="is a folder"):
        DatasetWriter(described(path.parent))
    path.write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        DatasetWriter(described(path / "below" / "data.h5"))
    full = type("Usage", (), {"free": 100})
    monkeypatch.setattr(hdf5.shutil, "disk_usage", lambda _: full)
    with pytest.raises(OutputError, match="the disk has 0 MB"):
        DatasetWriter(described(path.parent / "other.h5"))


def test_a_full_disk_while_writing_is_told(path, monkeypatch):
    with DatasetWriter(described(path)) as writer:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(writer._file, "flush", full, raising=False)
        with pytest.raises(OutputError, match="No space left"):
            writer.write(*content())


def test_other_files_are_named_for_what_they_are(path):
    with pytest.raises(FileFormatError, match="no such file"):
        hdf5.read_info(path)
    with pytest.raises(FileFormatError, match="is a folder"):
        hdf5.read_info(path.parent)
    for junk in (b"", b"PNG and so on" * 1000):
        path.write_bytes(junk)
        with pytest.raises(FileFormatError, match="is not a dataset"):
            hdf5.read_info(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(FileFormatError, match="not an ebm dataset"):
        hdf5.read_info(path)


def test_a_truncated_file_is_told(path):
    written(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileFormatError, match="truncated"):
        hdf5.read_info(path)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("/", "settings", b"{"),
        ("/", "settings", b"[]"),
        ("/", "versions", b'{"ebm": "\xff"}'),
        ("/", "recipe", b"sc\xffnes"),
        ("/", "factor_order", b"7"),
        ("/", "version", b"one"),
        ("/", "size", 9),
        ("factors/color", "factor", b'{"name": "color", "kind": "categorical", "names": 3}'),
        ("factors/color", "factor", b'{"name": "color", "kind": "categorjcal"}'),
        ("factors/color", "factor", b'{"name": "colour", "kind": "binary"}'),
        ("factors/color", "factor", b"[1]"),
    ],
)
def test_a_damaged_header_is_told(path, where, name, value):
    written(path)
    with h5py.File(path, "r+") as file:
        file[where].attrs[name] = np.bytes_(value) if isinstance(value, bytes) else value
    for read in (hdf5.read_info, hdf5.verify_digest):
        with pytest.raises(FileFormatError, match="damaged"):
            read(path)


def test_errors_of_the_file_library_are_told(path, monkeypatch):
    def broken(*_):
        raise RuntimeError("unable to get the link")

    written(path)
    monkeypatch.setattr(hdf5, "_info", broken)
    with pytest.raises(FileFormatError, match="unable to get the link"):
        hdf5.read_info(path)


def test_a_newer_version_asks_for_an_update(path):
    written(path)
    with h5py.File(path, "r+") as file:
        assert file.attrs["version"] == 1  # older programs read files without lists of objects
        file.attrs["version"] = 3
    with pytest.raises(FileFormatError, match="version 3") as error:
        hdf5.read_images(path, 0, 1)
    assert "update" in error.value.hint


def test_missing_parts_are_told(path):
    written(path)
    with pytest.raises(FileFormatError, match="no factor 'colour'") as error:
        hdf5.read_labels(path, "colour", 0, 1)
    assert "color" in error.value.hint
    with h5py.File(path, "r+") as file:
        del file["factors/color"]
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        hdf5.read_info(path)


def test_labels_are_stored_as_cells_and_numbers():
    assert encode_labels(FACTORS["color"], ["green", "red"]).tolist() == [1, 0]
    assert encode_labels(FACTORS["old"], ["yes"]).tolist() == [1]
    assert encode_labels(FACTORS["position"], [(0.5, -0.5)]).shape == (1, 2)
    assert encode_labels(FACTORS["size"], [0.5]).dtype == np.float32
