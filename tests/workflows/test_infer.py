"""Reading values from images, with concepts whose answers are known."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from ebmcli.core.factors import Factor, Value
from ebmcli.core.networks import TrunkConfig
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter
from ebmcli.datasets.stored_labels import encode_labels
from ebmcli.errors import (
    ConfigError,
    EbmError,
    FileFormatError,
    OutputExistsError,
    UnknownNameError,
    UsageError,
)
from ebmcli.registry import Record, Registry
from ebmcli.workflows.infer import (
    InferPlan,
    Item,
    Reading,
    Skipped,
    answers,
    infer,
    plan_inference,
    together,
)
from ebmcli.workflows.readings import Score, csv_line

COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))
LIGHT = Factor(name="light", kind="scalar", low=-1.0, high=1.0)
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)


class FakeConcept:
    """Reads a factor off the mean colour of an image: red and green are x and y of a place."""

    def __init__(self, factor: Factor, size: int = 8) -> None:
        self.factor = factor
        self.log_prior = torch.full((factor.n_cells,), -math.log(factor.n_cells))
        self.config = TrunkConfig(size=size, widths=(8,), depths=(1,))
        self.batches: list[int] = []

    def log_posterior(self, x: Tensor, sigma: Tensor) -> Tensor:
        assert x.shape[1:] == (3, self.config.size, self.config.size)
        self.batches.append(len(x))
        mean = x.flatten(2).mean(2)
        if self.factor.kind == "categorical":
            return torch.log_softmax(6 * mean, dim=1)
        nodes = torch.tensor(self.factor.nodes)
        axes = [
            torch.log_softmax(-0.5 * ((mean[:, i, None] - nodes) / 0.1) ** 2, 1) for i in (0, 1)
        ]
        if self.factor.kind == "scalar":
            return axes[0]
        return (axes[0][:, :, None] + axes[1][:, None, :]).flatten(1)


@pytest.fixture
def concepts() -> dict[str, FakeConcept]:
    return {"color": FakeConcept(COLOR), "position": FakeConcept(PLACE)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red image, a green one, and a file that is none; the place of (255, 0, 0) is (1, -1)."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (20, 12), (255, 0, 0)).save(folder / "a.png")
    Image.new("RGB", (9, 9), (0, 255, 0)).save(folder / "sub" / "a.png")
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    return folder


def plan_of(*files: Path, datasets: tuple[DatasetInfo, ...] = ()) -> InferPlan:
    return InferPlan(space="toy-8", concepts=("color",), files=files, datasets=datasets)


def dataset(path: Path, n_images: int = 6) -> DatasetInfo:
    """Images of one colour each; labels say so, except that the last one lies about its colour."""
    cells = np.arange(n_images) % 3
    images = np.zeros((n_images, 8, 8, 3), np.uint8)
    images[np.arange(n_images), :, :, cells] = 255
    colors: list[Value] = [COLOR.names[cell] for cell in cells]
    places: list[Value] = [(1.0 if c == 0 else -1.0, 1.0 if c == 1 else -1.0) for c in cells]
    colors[-1] = "red"
    info = DatasetInfo(
        path=path, recipe="toy", size=8, n_images=n_images, seed=0, digest="", versions={},
        factors={"color": COLOR, "position": PLACE},
    )  # fmt: skip
    with DatasetWriter(info) as writer:
        labels = {
            "color": encode_labels(COLOR, colors),
            "position": encode_labels(PLACE, places),
        }
        writer.write(images, labels)
        return writer.finish()


def record(name: str, space: str, factor: Factor) -> Record:
    return Record(
        kind="concept", name=name, space=space, file=f"{name}.safetensors", sha256="sha256:0",
        factor=factor, method="posterior",
    )  # fmt: skip


def registry(*records: Record) -> Registry:
    found = {item.name: item for item in records}
    return Registry(Path("registry.yaml"), bases={}, concepts=found, judges={})


# --- reading


def test_every_image_gets_its_values_and_a_damaged_one_is_skipped(
    folder: Path, concepts: dict[str, FakeConcept]
) -> None:
    files = (folder / "a.png", folder / "b.jpg", folder / "sub" / "a.png")
    found = list(answers(plan_of(*files), concepts, batch_size=2))
    skipped = [outcome for outcome in found if isinstance(outcome, Skipped)]
    readings = [outcome for outcome in found if isinstance(outcome, Reading)]
    assert [outcome.file for outcome in skipped] == [str(folder / "b.jpg")]
    assert [reading.item.file for reading in readings] == [str(files[0]), str(files[2])]
    assert [reading.estimates["color"].value for reading in readings] == ["red", "green"]
    assert readings[0].estimates["position"].value == pytest.approx((1.0, -1.0), abs=0.05)
    assert all(0.9 < reading.estimates["position"].probability <= 1 for reading in readings)


def test_batches_bound_the_memory_and_leave_the_answers_alone(
    concepts: dict[str, FakeConcept],
) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    taken = 0

    def source() -> object:
        nonlocal taken
        for index, picture in enumerate(pictures):
            taken += 1
            yield Item(file=str(index), stem=str(index), picture=picture)

    first = next(iter(infer(source(), concepts, batch_size=3)))  # type: ignore[arg-type]
    assert isinstance(first, Reading)
    assert taken == 3
    small = [csv_line(r) for r in infer(source(), concepts, batch_size=2)]  # type: ignore
    large = [csv_line(r) for r in infer(source(), concepts, batch_size=64)]  # type: ignore
    assert small == large
    assert max(concepts["color"].batches) == 7


def test_a_batch_has_at_least_one_image(concepts: dict[str, FakeConcept]) -> None:
    with pytest.raises(ConfigError, match="--batch-size"):
        list(infer([], concepts, batch_size=0))


def test_views_taken_together_are_surer_than_each(concepts: dict[str, FakeConcept]) -> None:
    pictures = [np.full((8, 8, 3), (150, 140, 100), np.uint8) for _ in range(5)]
    items = [Item(file=str(i), stem=str(i), picture=p) for i, p in enumerate(pictures)]
    single = [outcome for outcome in infer(items, concepts) if isinstance(outcome, Reading)]
    fused = together(single, concepts)
    alone = single[0].estimates["color"]
    assert fused.estimates["color"].value == alone.value == "red"
    odds = alone.probability / (1 - alone.probability)
    assert fused.estimates["color"].probability > 1 - 1 / odds**2
    assert fused.item.file == "5 images together"


def test_together_gives_one_row_and_none_without_images(
    folder: Path, concepts: dict[str, FakeConcept]
) -> None:
    plan = plan_of(folder / "a.png", folder / "b.jpg", folder / "a.png")
    found = list(answers(plan, concepts, as_one=True))
    assert [type(outcome) for outcome in found] == [Skipped, Reading]
    assert list(answers(plan_of(folder / "b.jpg"), concepts, as_one=True))[1:] == []


# --- datasets and scores


def test_a_dataset_is_read_and_compared_with_its_labels(
    tmp_path: Path, concepts: dict[str, FakeConcept]
) -> None:
    info = dataset(tmp_path / "toy.h5")
    score = Score(concepts)
    readings = [r for r in answers(plan_of(datasets=(info,)), concepts) if isinstance(r, Reading)]
    for reading in readings:
        score.add(reading)
    assert [reading.item.stem for reading in readings] == [f"toy-{i}" for i in range(6)]
    assert score.lines()[0] == "color: accuracy 83.3 % on 6 images"  # one label lies
    name, error = score.lines()[1].split(" error ")
    assert name == "position: mean absolute"
    assert float(error.split()[0]) < 0.05


def test_images_without_labels_have_no_score(
    folder: Path, concepts: dict[str, FakeConcept]
) -> None:
    score = Score(concepts)
    for reading in answers(plan_of(folder / "a.png"), concepts):
        assert isinstance(reading, Reading)
        score.add(reading)
    assert score.lines() == []


# --- which concepts

TWO_SPACES = registry(
    record("color", "scenes-64", COLOR),
    record("position", "scenes-64", PLACE),
    record("light", "faces-64", LIGHT),
)
ONE_SPACE = registry(record("color", "scenes-64", COLOR), record("position", "scenes-64", PLACE))


def test_all_concepts_of_the_only_space_are_asked_by_default(folder: Path) -> None:
    plan = plan_inference([folder], ONE_SPACE)
    assert (plan.space, plan.concepts) == ("scenes-64", ("color", "position"))
    assert plan.n_images == 3


def test_the_space_follows_from_the_concepts_or_is_said(folder: Path) -> None:
    assert plan_inference([folder], TWO_SPACES, concepts=["light"]).space == "faces-64"
    assert plan_inference([folder], TWO_SPACES, space="faces-64").concepts == ("light",)


def test_the_space_follows_from_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    dataset(path)
    two = registry(record("color", "toy-8", COLOR), record("light", "faces-64", LIGHT))
    plan = plan_inference([path], two)
    assert (plan.space, plan.n_images, plan.files) == ("toy-8", 6, ())
    assert plan_inference([path, path], two) == plan


def test_a_dataset_of_another_space_is_refused_unless_the_space_is_said(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    dataset(path)
    known = registry(record("color", "toy-8", COLOR), record("light", "faces-64", LIGHT))
    with pytest.raises(UsageError) as caught:
        plan_inference([path], known, concepts=["light"])
    assert f"{path} holds images of toy-8" in caught.value.problem
    assert "concepts asked are of faces-64" in caught.value.problem
    assert "concepts of toy-8: color" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="images of toy-8"):
        plan_inference([path], ONE_SPACE)  # not quietly by the only space there is
    assert plan_inference([path], known, concepts=["light"], space="faces-64").n_images == 6


def test_a_dataset_of_another_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    dataset(path)
    known = registry(record("color", "toy-64", COLOR))
    assert plan_inference([path], known, concepts=["color"]).n_images == 6


@pytest.mark.parametrize(
    ("known", "options", "error", "message"),
    [
        (TWO_SPACES, {}, UsageError, "several spaces of images: faces-64, scenes-64"),
        (TWO_SPACES, {"concepts": ["color", "light"]}, UsageError, "several spaces"),
        (TWO_SPACES, {"concepts": ["color"], "space": "faces-64"}, UsageError, "not of faces-64"),
        (TWO_SPACES, {"space": "cats-64"}, UsageError, "no concept of a space 'cats-64'"),
        (TWO_SPACES, {"concepts": ["colour"]}, UnknownNameError, "unknown concept 'colour'"),
        (registry(), {}, UsageError, "holds no concepts"),
    ],
)
def test_what_is_not_settled_is_refused(
    folder: Path, known: Registry, options: dict[str, object], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        plan_inference([folder], known, **options)  # type: ignore[arg-type]


def test_missing_paths_and_foreign_datasets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError):
        plan_inference([tmp_path / "none"], ONE_SPACE)
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(FileFormatError):
        plan_inference([tmp_path / "x.h5"], ONE_SPACE)


# --- the command


@pytest.fixture
def command(
    concepts: dict[str, FakeConcept], monkeypatch: pytest.MonkeyPatch
) -> tuple[CliRunner, typer.Typer]:
    """``ebm infer`` alone, on a registry of fake concepts."""
    import ebmcli.registry
    import ebmcli.workflows.loading
    from ebmcli.cli.infer import infer as function

    known = registry(record("color", "toy-8", COLOR), record("position", "toy-8", PLACE))
    monkeypatch.setattr(ebmcli.registry, "find_registry", lambda _: Path("registry.yaml"))
    monkeypatch.setattr(ebmcli.registry, "read_registry", lambda _: known)
    monkeypatch.setattr(
        ebmcli.workflows.loading,
        "load_concepts",
        lambda _, names, device: {name: concepts[name] for name in names},
    )
    app = typer.Typer()
    app.command()(function)
    return CliRunner(), app


def test_the_command_prints_rows_and_ends_with_1_after_a_damaged_file(
    folder: Path, command: tuple[CliRunner, typer.Typer]
) -> None:
    runner, app = command
    done = runner.invoke(app, ["--images", str(folder), "--format", "csv"])
    assert done.exit_code == 1
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["color"] for row in rows] == ["red", "green"]
    assert "b.jpg: is" in done.stderr
    assert "1 of 3 images could not be read" in done.stderr
    assert "1 of 2 images not square: their middle squares were read" in done.stderr
    assert "enlarged" not in done.stderr


def test_images_may_be_given_without_the_option_but_not_left_out(
    folder: Path, command: tuple[CliRunner, typer.Typer]
) -> None:
    runner, app = command
    done = runner.invoke(app, [str(folder / "a.png"), "--format", "csv"])
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 2
    without = runner.invoke(app, ["--format", "csv"])
    assert isinstance(without.exception, UsageError)


@pytest.mark.parametrize("name", ["out.csv", "out.txt"])
def test_nothing_is_written_where_no_image_can_be_read(
    folder: Path, tmp_path: Path, command: tuple[CliRunner, typer.Typer], name: str
) -> None:
    runner, app = command
    arguments = ["--images", str(folder / "b.jpg"), "-o", str(tmp_path / name)]
    done = runner.invoke(app, arguments)
    assert isinstance(done.exception, EbmError)
    assert "none of 1 images could be read" in str(done.exception)
    assert not [path for path in tmp_path.iterdir() if name in path.name]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.txt"])
def test_the_command_writes_files_and_maps_and_takes_what_the_shell_expands(
    folder: Path, tmp_path: Path, command: tuple[CliRunner, typer.Typer], name: str
) -> None:
    runner, app = command
    files = [str(folder / "a.png"), str(folder / "sub/a.png")]
    arguments = ["--images", *files, "-o", str(tmp_path / name), "--maps", str(tmp_path / "maps")]
    done = runner.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / name)
    lines = (tmp_path / name).read_text().splitlines()
    assert len(lines) == (2 if name.endswith("jsonl") else 3)
    assert len(list((tmp_path / "maps").iterdir())) == 2
    again = runner.invoke(app, arguments)
    assert isinstance(again.exception, OutputExistsError)


def test_the_command_scores_a_dataset(
    tmp_path: Path, command: tuple[CliRunner, typer.Typer]
) -> None:
    runner, app = command
    dataset(tmp_path / "toy.h5")
    done = runner.invoke(app, ["--images", str(tmp_path / "toy.h5"), "--concepts", "color"])
    assert done.exit_code == 0, done.output
    assert "color: accuracy 83.3 % on 6 images" in done.stderr
    assert len(done.stdout.splitlines()) == 7


def test_the_command_fuses_views(folder: Path, command: tuple[CliRunner, typer.Typer]) -> None:
    runner, app = command
    path = str(folder / "a.png")
    arguments = ["--images", path, "--together", "--format", "jsonl"]
    done = runner.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["color"]["value"] == "red"
    assert "1 of 1 images not square" in done.stderr
