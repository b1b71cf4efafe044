"""Whether pictures are known: imports by their source, renders by their seed, and older records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import import_all, rows_of
from PIL import Image

from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import DatasetInfo
from ebmcli.errors import ConfigError, UsageError
from ebmcli.registry import Kind, Record, create_registry, edit_registry, read_registry
from ebmcli.registry.places import BUNDLED
from ebmcli.workflows.origin import data_origin, has_seen, refuse_known, same_pictures
from ebmcli.workflows.render import RenderSettings


def trained(info: DatasetInfo, *, kind: Kind = "judge", space: str = "") -> Record:
    """A record as training on a file leaves it, read back from a registry."""
    return record_of(data_origin(info), kind=kind, space=space or info.space)


def record_of(provenance: dict[str, Any], *, kind: Kind = "judge", space: str) -> Record:
    return Record(
        kind=kind, name="known", space=space, file="known.safetensors",
        sha256=f"sha256:{64 * '0'}", provenance=provenance,
    )  # fmt: skip


def pets(folder: Path, *, shade: int, n: int = 6) -> Path:
    """A folder of that many pictures with one label; the same names and labels for any shade."""
    folder.mkdir(parents=True)
    rows = ["file,tabby", *(f"{i}.bmp,{'yes' if i % 2 else 'no'}" for i in range(n))]
    (folder / "labels.csv").write_text("\n".join(rows))
    for i in range(n):
        Image.new("RGB", (8, 8), (shade, i, 0)).save(folder / f"{i}.bmp")
    return folder


def celeba(folder: Path) -> Path:
    """Four images with one attribute."""
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(1, 5)]
    rows = ["4", "Male", *(f"{name} {1 - 2 * (i % 2)}" for i, name in enumerate(names))]
    (folder / "list_attr_celeba.txt").write_text("\n".join(rows))
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (40 * i,) * 3).save(folder / "img_align_celeba" / name)
    return folder


@pytest.mark.parametrize("kind", ["folder", "celeba"])
def test_a_part_of_a_source_shares_pictures_with_the_whole(tmp_path: Path, kind: str) -> None:
    source = pets(tmp_path / "pets", shade=1) if kind == "folder" else celeba(tmp_path / "celeba")
    whole = import_all(kind, source, tmp_path / "whole.h5", size=8)
    part = import_all(kind, source, tmp_path / "part.h5", size=8, limit=3)
    other = import_all(kind, source, tmp_path / "other.h5", size=8, limit=2)
    assert len({whole.digest, part.digest, other.digest}) == 3
    for known, new in ((whole, part), (part, whole), (part, other)):
        message = f"{new.path} repeats pictures, imported from the same source, that have trained"
        assert has_seen(trained(known), new) == f"{message} the judge known"
        assert same_pictures(known, new)


@pytest.mark.parametrize("kind", ["folder", "celeba"])
def test_parts_that_do_not_overlap_share_nothing(tmp_path: Path, kind: str) -> None:
    """Together they are the whole, even after the table was sorted otherwise in between."""
    source = pets(tmp_path / "pets", shade=1) if kind == "folder" else celeba(tmp_path / "celeba")
    whole = import_all(kind, source, tmp_path / "whole.h5", size=8)
    first = import_all(kind, source, tmp_path / "first.h5", size=8, limit=2)
    if kind == "folder":
        header, *rows = (source / "labels.csv").read_text().splitlines()
        (source / "labels.csv").write_text("\n".join([header, *reversed(rows)]))
    rest = import_all(kind, source, tmp_path / "rest.h5", size=8, skip=2)
    middle = import_all(kind, source, tmp_path / "middle.h5", size=8, skip=1, limit=2)
    assert np.array_equal(np.concatenate([rows_of(first), rows_of(rest)]), rows_of(whole))
    assert not same_pictures(first, rest)
    assert has_seen(trained(first), rest) == has_seen(trained(rest), first) == ""
    for known, new in ((whole, rest), (first, middle), (middle, rest), (rest, whole)):
        assert same_pictures(known, new)
        assert has_seen(trained(known), new)


def test_a_part_needs_a_picture(tmp_path: Path) -> None:
    source = pets(tmp_path / "pets", shade=1, n=3)
    for skip, problem in ((3, "--skip 3 leaves no image"), (-1, "--skip is at least 0, not -1")):
        with pytest.raises(ConfigError, match=problem):
            import_all("folder", source, tmp_path / "none.h5", size=8, skip=skip)
    assert not (tmp_path / "none.h5").exists()


def test_two_folders_of_one_name_share_nothing(tmp_path: Path) -> None:
    """Not even with the same table, names and sizes of images."""
    one, other = (
        import_all(
            "folder", pets(tmp_path / part / "pets", shade=i), tmp_path / f"{part}.h5", size=8
        )
        for i, part in enumerate(("one", "other"))
    )
    assert (one.space, one.seed) == (other.space, other.seed)
    assert has_seen(trained(one), other) == ""
    assert not same_pictures(one, other)


def test_a_concept_survives_the_registry_with_its_source(tmp_path: Path) -> None:
    """What training records is what is compared, after a round trip through YAML."""
    source = celeba(tmp_path / "celeba")
    whole = import_all("celeba", source, tmp_path / "whole.h5", size=8)
    part = import_all("celeba", source, tmp_path / "part.h5", size=8, limit=2)
    registry = create_registry(tmp_path / "registry")
    with edit_registry(registry) as editor:
        editor.put(trained(whole))
    with pytest.raises(UsageError, match=r"from the same source.*; others tell more") as caught:
        refuse_known(read_registry(registry), part.space, part, hint="take others")
    assert caught.value.hint == "take others"
    refuse_known(read_registry(registry), "celeba-64", part, hint="")


def test_what_weights_began_with_counts_too(tmp_path: Path) -> None:
    source = celeba(tmp_path / "celeba")
    whole, part = (
        import_all("celeba", source, tmp_path / f"{limit}.h5", size=8, limit=limit)
        for limit in (None, 2)
    )
    start = {"sha256": "x", "provenance": data_origin(whole)}
    record = record_of({"data": "sha256:other", "start": start}, space=whole.space)
    assert "same source" in has_seen(record, part)


def rendered(*, seed: int = 3, n_images: int = 9, size: int = 64, **limits: Any) -> DatasetInfo:
    """The header of a render, with a digest of its own."""
    asked = RenderSettings(recipe="scenes", n_images=n_images, size=size, seed=seed, **limits)
    return replace(asked.info(Path("new.h5")), digest=f"sha256:{asked}")


@pytest.mark.parametrize(
    "limits", [{"hold_out": "color=red"}, {"fix": ("color=red",)}, {"grid": ("position=4",)}]
)
def test_a_restricted_render_repeats_the_pictures_of_its_seed(limits: dict[str, Any]) -> None:
    free, restricted = rendered(), rendered(**limits)
    message = "new.h5 may repeat pictures, rendered with seed 3, that have trained the base known"
    for known, new in ((free, restricted), (restricted, free)):
        assert has_seen(trained(known, kind="base"), new) == message
        assert same_pictures(known, new)
    assert has_seen(trained(free), rendered(seed=4, **limits)) == ""
    assert not same_pictures(free, rendered(seed=4, **limits))


def test_a_longer_render_begins_with_the_pictures_of_a_shorter_one() -> None:
    expected = "new.h5 begins with the pictures, rendered with seed 3, that have trained the judge"
    assert has_seen(trained(rendered()), rendered(n_images=20)) == f"{expected} known"


def test_pictures_of_another_size_are_no_matter() -> None:
    assert has_seen(trained(rendered()), rendered(size=32)) == ""
    assert not same_pictures(rendered(), rendered(size=32))


@pytest.mark.parametrize(("space", "seeds"), [("scenes-64", {1, 3}), ("faces-64", {11, 13})])
def test_the_bundled_records_know_their_seeds(space: str, seeds: set[int]) -> None:
    """They were written before sources were recorded."""
    registry, recipe = read_registry(BUNDLED), space.removesuffix("-64")
    known = set()
    for seed in (1, 2, 3, 4, 11, 13, 800_001):
        info = replace(rendered(seed=seed), recipe=recipe, factors={})
        if any(has_seen(record, info) for record in registry.records()):
            known.add(seed)
    assert known == seeds


FACTOR = Factor(name="tabby", kind="binary", names=("no", "yes"))


def older(digest: str = "sha256:new", *, seed: int | None = 0, **settings: Any) -> DatasetInfo:
    """The header of an import; without ``source`` as files were before it was recorded."""
    return DatasetInfo(
        path=Path("new.h5"), recipe="pets", size=8, n_images=6, seed=seed,
        factors={"tabby": FACTOR}, digest=digest, versions={},
        settings={"imported": "folder", **settings},
    )  # fmt: skip


def test_imports_without_a_source_go_by_seed_and_settings() -> None:
    record = trained(older("sha256:old"))
    expected = "new.h5 begins with the pictures, imported in the same way, that have trained"
    for new in (older(), older(source="sha256:a")):
        assert has_seen(record, new) == f"{expected} the judge known"
        assert has_seen(trained(new), older("sha256:old")).endswith("the judge known")
    for new in (older(limit=3), older(limit=3, source="sha256:a"), older(seed=None)):
        assert has_seen(record, new) == ""
        assert not same_pictures(older("sha256:old"), new)
    assert has_seen(record, older("sha256:old", seed=None)) == "new.h5 has trained the judge known"
