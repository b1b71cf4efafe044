"""ebm eval with a random judge, hand-made pictures and a drawing that is written out."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from several_requests import each

from ebmcli.checkpoint import write_checkpoint
from ebmcli.cli import evaluate as command
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.factors import Factor
from ebmcli.core.networks import TrunkConfig
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter, read_info
from ebmcli.errors import (
    ConfigError,
    InterruptedRun,
    OutputExistsError,
    UnknownNameError,
    UsageError,
)
from ebmcli.registry import Record, Registry, create_registry, edit_registry, read_registry
from ebmcli.workflows.evaluate import EvalRequest, evaluate, list_cases
from ebmcli.workflows.generate import GenerateRequest
from ebmcli.workflows.judge import JudgeRequest, check_judge, planned_judge, train_judge
from ebmcli.workflows.judging import load_judge

COLOR = Factor(name="color", kind="categorical", names=("red", "blue"))
PLACE = Factor(name="position", kind="position", low=-1.0, high=1.0)
FACTORS = {"color": COLOR, "position": PLACE}
SIZE = 16
Say = Callable[[int, int, str], None]


def quiet(*_: object) -> None:
    return None


@dataclass
class Drawn:
    images: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    seconds: float
    digests: dict[str, str] = field(default_factory=dict)


def dataset(path: Path, *, seed: int, n: int = 80, factors: dict[str, Factor] = FACTORS) -> Path:
    """Pictures of one colour each, with labels."""
    info = DatasetInfo(
        path=path, recipe="toys", size=SIZE, n_images=n, seed=seed, factors=factors,
        digest="", versions={},
    )  # fmt: skip
    source = np.random.default_rng(seed)
    color = source.integers(2, size=n)
    place = source.uniform(-1, 1, size=(n, 2)).astype(np.float32)
    images = source.integers(40, size=(n, SIZE, SIZE, 3), dtype=np.uint8)
    images[np.arange(n), :, :, 2 * color] += 200
    with DatasetWriter(info) as writer:
        labels = {"color": color, "position": place}
        writer.write(images, {name: labels[name] for name in factors})
        writer.finish()
    return path


def put_concept(registry: Path, factor: Factor) -> None:
    """A posterior concept with random weights."""
    config = TrunkConfig(size=SIZE, widths=(8, 8), depths=(1, 1), unshuffle=2, embedding=8, head=8)
    torch.manual_seed(0)
    log_prior = torch.full((factor.n_cells,), 1 / factor.n_cells).log()
    concept = PosteriorConcept(factor, config, log_prior)
    path = registry.parent / "checkpoints" / f"{factor.name}.safetensors"
    header = {
        "kind": "concept", "space": "toys-16", "name": factor.name, "factor": factor.to_dict(),
        "method": "posterior", "config": config.to_dict(), "base": None,
    }  # fmt: skip
    digest = write_checkpoint(path, concept.state_dict(), header)
    file = path.relative_to(registry.parent).as_posix()
    record = Record(
        kind="concept", name=factor.name, space="toys-16", file=file, sha256=digest,
        factor=factor, method="posterior",
    )  # fmt: skip
    with edit_registry(registry) as editor:
        editor.put(record)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two concepts and a judge that has seen four batches."""
    folder = tmp_path_factory.mktemp("home")
    registry = create_registry(folder)
    for factor in FACTORS.values():
        put_concept(registry, factor)
    request = JudgeRequest(
        name="judge-toys", data=dataset(folder / "judge.h5", seed=1), registry=registry,
        held=dataset(folder / "held.h5", seed=2), steps=4,
    )  # fmt: skip
    train_judge(request, report=quiet)
    return folder


@pytest.fixture
def registry(home: Path) -> Registry:
    return read_registry(home / "registry.yaml")


def draw(request: GenerateRequest) -> Drawn:
    source = np.random.default_rng(request.seed)
    images = source.integers(256, size=(request.n, SIZE, SIZE, 3), dtype=np.uint8)
    return Drawn(images=images, probabilities=np.full(request.n, 0.5), seconds=0.1 * request.n)


def ask(home: Path, *targets: str, **changes: Any) -> EvalRequest:
    sampling = GenerateRequest(expression="", device="cpu")
    settings: dict[str, Any] = {"n": 8, "seeds": 2, "data": home / "held.h5"}
    return EvalRequest(targets=targets, sampling=sampling, **settings | changes)


def test_a_judge_is_registered_with_numbers_for_every_factor(registry: Registry) -> None:
    record = registry.judges["judge-toys"]
    assert record.space == "toys-16"
    assert set(record.measured) == {"n", "color", "position", "present"}
    assert set(record.measured["position"]) == {"mae", "within_0.2"}
    assert record.provenance["data"] != record.provenance["held"]
    assert load_judge(registry, "toys-16").factors == FACTORS


def test_a_judge_never_learns_from_the_data_of_an_energy(home: Path, tmp_path: Path) -> None:
    registry = create_registry(tmp_path)
    data = home / "judge.h5"
    request = JudgeRequest(name="twice", data=data, held=data, registry=registry, steps=1)
    with pytest.raises(UsageError, match="holds the training data"):
        train_judge(request, report=quiet)
    known = read_registry(home / "registry.yaml").judges["judge-toys"]
    base = Record(
        kind="base", name="toys-16", space="toys-16", file="b.safetensors", sha256=known.sha256,
        provenance={"data": known.provenance["data"]},
    )  # fmt: skip
    with edit_registry(registry) as editor:
        editor.put(base)
    request = JudgeRequest(name="same", data=data, registry=registry, steps=1)
    with pytest.raises(UsageError, match="needs other data"):
        train_judge(request, report=quiet)


def test_a_judge_that_could_not_be_trained_or_registered_is_refused_at_once(
    home: Path, tmp_path: Path
) -> None:
    registry, data = home / "registry.yaml", dataset(tmp_path / "more.h5", seed=3, n=95)
    request = JudgeRequest(name="new", data=data, registry=registry)
    with pytest.raises(UsageError, match="95 images are too few, 96 at least"):
        check_judge(request)
    held = home / "held.h5"
    assert check_judge(replace(request, held=held))[0].n_images == 95
    plan = planned_judge(replace(request, held=held, minutes=2.0))
    assert (plan["n_training"], plan["n_held"]) == (95, read_info(held).n_images)
    assert (plan["minutes"], plan["settings"]["n_steps"]) == (2.0, None)
    with pytest.raises(ConfigError, match="--minutes must be positive, got nan"):
        check_judge(replace(request, held=held, minutes=float("nan")))
    with pytest.raises(UsageError, match="judge-toys and judge_toys differ by - and _ only"):
        check_judge(replace(request, name="judge_toys", held=held))


def test_every_row_has_its_numbers_and_errors(home: Path, registry: Registry) -> None:
    request = ask(home, "single", "conjunction", "inference", "color=red | position=(0,0)")
    document = evaluate(request, registry, draw=each(draw), report=quiet)
    rows = {(row["suite"], row["template"]): row for row in document["rows"]}
    assert len(rows) == len(document["rows"]) == 6
    pair = rows["conjunction", "color=? & position=?"]
    assert pair["n"] == 16
    assert set(pair["parts"]) == {"color", "position"}
    assert pair["accuracy"]["mean"] <= pair["accuracy_at_0.4"]["mean"]
    assert pair["accuracy"]["mean"] <= min(p["mean"] for p in pair["parts"].values())
    assert pair["seconds_per_picture"] == pytest.approx(0.1)
    assert sum(group["n"] for group in pair["groups"]) == 16
    assert "accuracy_at_0.4" not in rows["single", "color=?"]
    assert "mae" in rows["inference", "position"]
    assert rows["inference", "color"]["accuracy"]["n"] == 16
    fid = rows["single", "color=?"]["fid"]  # 16 pictures are fewer than the 128 features
    assert (fid["value"], fid["floor"], fid["n_reference"]) == (None, None, 40)
    json.dumps(document, allow_nan=False)


def test_seeds_of_pictures_never_meet(home: Path, registry: Registry) -> None:
    used: list[int] = []

    def noting(request: GenerateRequest) -> Drawn:
        used.extend(range(request.seed, request.seed + request.n))
        return draw(request)

    evaluate(ask(home, "single", n=24, fid=False), registry, draw=each(noting), report=quiet)
    per_row = 2 * 24
    assert len(set(used[:per_row])) == per_row


def test_a_picture_without_an_object_is_never_right(home: Path, registry: Registry) -> None:
    """The same pictures are red, blue or absent: the shares add up to one."""
    request = ask(home, "color=red", "color=blue", n=32, fid=False)
    red, blue = evaluate(request, registry, draw=each(draw), report=quiet)["rows"]
    assert red["absent"] == blue["absent"]
    total = red["accuracy"]["mean"] + blue["accuracy"]["mean"] + red["absent"]["mean"]
    assert total == pytest.approx(1.0)


def test_a_resumed_evaluation_draws_only_what_is_missing(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    calls: list[str] = []

    def interrupted(request: GenerateRequest) -> Drawn:
        if request.expression == "color=blue":
            raise KeyboardInterrupt
        return draw(request)

    def noting(request: GenerateRequest) -> Drawn:
        calls.append(request.expression)
        return draw(request)

    request = ask(home, "color=red", "color=blue", output=out)
    with pytest.raises(InterruptedRun, match="1 finished rows"):
        evaluate(request, registry, draw=each(interrupted), report=quiet)
    with pytest.raises(OutputExistsError):
        evaluate(request, registry, draw=each(noting), report=quiet)
    again = ask(home, "color=red", "color=blue", output=out, resume=True)
    document = evaluate(again, registry, draw=each(noting), report=quiet)
    assert set(calls) == {"color=blue"}
    assert json.loads(out.read_text())["rows"] == document["rows"]
    other = ask(home, "color=red", output=out, resume=True, n=9)
    with pytest.raises(ConfigError, match="another n: 8"):
        evaluate(other, registry, draw=each(noting), report=quiet)


def test_settings_are_those_that_results_in_the_repository_have(home: Path) -> None:
    """Else `scripts/reproduce/results` could not go on with them."""
    results = Path(__file__).resolve().parents[2] / "docs" / "results"
    for name in ("scenes-64", "faces-64", "clutter-32"):
        kept = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))["settings"]
        assert kept["sampling"].keys() == ask(home, "single").settings()["sampling"].keys()


def test_mistakes_are_found_before_anything_is_drawn(home: Path, registry: Registry) -> None:
    def never(request: GenerateRequest) -> Drawn:
        raise AssertionError(request)

    with pytest.raises(UnknownNameError, match="colour"):
        evaluate(ask(home, "colour=red"), registry, draw=each(never), report=quiet)
    with pytest.raises(UnknownNameError, match="suite or concept 'singel'") as caught:
        evaluate(ask(home, "singel"), registry, draw=each(never), report=quiet)
    assert caught.value.suggestion == "single"
    with pytest.raises(UsageError, match="no concepts of the space"):
        list_cases(ask(home, "single", space="moons-64"), registry)
    with pytest.raises(UsageError, match="nothing to evaluate"):
        ask(home)
    with pytest.raises(ConfigError, match="at least 2"):
        ask(home, "single", n=1)


def test_a_judge_is_not_measured_on_a_part_of_what_it_learned_from(home: Path) -> None:
    part = dataset(home / "part.h5", seed=1, n=40)
    request = JudgeRequest(
        name="part", data=home / "judge.h5", held=part, registry=home / "registry.yaml", steps=1
    )
    with pytest.raises(UsageError, match="holds the training data"):
        train_judge(request, report=quiet)


def test_a_formula_of_another_space_than_asked_is_refused(home: Path, registry: Registry) -> None:
    with pytest.raises(UsageError, match="is of toys-16, not of faces-64"):
        list_cases(ask(home, "color=?", space="faces-64"), registry)


def test_wrong_pictures_leave_no_results_behind(home: Path, registry: Registry) -> None:
    path = home / "wrong.json"
    wrong = ask(home, "color=red", data=home / "judge.h5", output=path)
    with pytest.raises(UsageError, match="has trained the judge"):
        evaluate(wrong, registry, draw=each(draw), report=quiet)
    assert not path.exists()


def test_a_failure_before_the_first_row_leaves_no_results_behind(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    """They would block the corrected command; a run that is going on is not disturbed."""
    path = tmp_path / "results.json"

    def fails(request: GenerateRequest) -> Drawn:
        raise ConfigError("no such device")

    asked = ask(home, "color=red", output=path)
    with pytest.raises(ConfigError):
        evaluate(asked, registry, draw=each(fails), report=quiet)
    assert not path.exists()

    def second(request: GenerateRequest) -> Drawn:
        """While the first row of one command is drawn, another one comes."""
        with pytest.raises(OutputExistsError):
            evaluate(ask(home, "color=red", output=path), registry, draw=each(draw), report=quiet)
        return draw(request)

    other = ask(home, "color=red", output=path, n=6)
    assert evaluate(other, registry, draw=each(second), report=quiet)["rows"][0]["n"] == 12
    with pytest.raises(OutputExistsError):
        evaluate(asked, registry, draw=each(draw), report=quiet)
    path.write_text("{}")
    with pytest.raises(OutputExistsError):
        evaluate(asked, registry, draw=each(draw), report=quiet)
    assert path.read_text() == "{}"


@pytest.mark.parametrize("target", ["color=red", "inference"])
def test_pictures_that_something_was_trained_on_are_refused(
    home: Path, registry: Registry, target: str
) -> None:
    with pytest.raises(UsageError, match="has trained the judge judge-toys") as caught:
        evaluate(ask(home, target, data=home / "judge.h5"), registry, draw=each(draw), report=quiet)
    hint = "import other pictures of toys-16, with --like FILE: see docs/import.md"
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("color=red", "give labelled ones that nothing was trained on: --data FILE; or --no-fid"),
        ("inference", "give labelled ones that nothing was trained on: --data FILE"),
        ("calibration color", "give labelled ones that nothing was trained on: --data FILE"),
    ],
)
def test_pictures_that_no_recipe_makes_are_asked_for_before_anything_is_drawn(
    home: Path, registry: Registry, target: str, hint: str
) -> None:
    request = ask(home, *target.split(), data=None, fid=target == "color=red")
    with pytest.raises(UsageError, match="pictures of toys-16 cannot be rendered") as caught:
        evaluate(request, registry, draw=each(draw), report=quiet)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (
            {"color": COLOR, "position": replace(PLACE, high=2.0)},
            r"another position than the judge of toys-16: it is from -1 to 2, not -1 to 1",
        ),
        ({"color": COLOR}, "has no labels of position, which is judged"),
        (
            {"color": replace(COLOR, names=("blue", "red")), "position": PLACE},
            "it is one of blue, red, not of red, blue",
        ),
    ],
)
def test_pictures_with_other_factors_are_told_in_what_they_differ(
    home: Path, registry: Registry, factors: dict[str, Factor], message: str, tmp_path: Path
) -> None:
    other = dataset(tmp_path / "other.h5", seed=9, factors=factors)
    with pytest.raises(UsageError, match=message) as caught:
        evaluate(ask(home, "color=red", data=other), registry, draw=each(draw), report=quiet)
    hint = "its factors: color" if len(factors) == 1 else "import it with --like FILE"
    assert (caught.value.hint or "").startswith(hint)


def test_fid_of_real_pictures_is_near_its_floor(home: Path, registry: Registry) -> None:
    """Pictures of the reference file itself against noise: ten times nearer, as is the floor."""
    data = dataset(home / "many.h5", seed=5, n=640)
    with h5py.File(data) as file:
        real = np.asarray(file["images"])

    def copy(request: GenerateRequest) -> Drawn:
        chosen = np.random.default_rng(request.seed).choice(len(real), request.n)
        drawn = draw(request)
        return replace(drawn, images=real[chosen])

    request = ask(home, "color=?", n=160, seeds=1, data=data)
    fid = evaluate(request, registry, draw=each(copy), report=quiet)["rows"][0]["fid"]
    noise = evaluate(request, registry, draw=each(draw), report=quiet)["rows"][0]["fid"]
    assert max(fid["value"], fid["floor"]) < noise["value"] / 10


def test_the_table_shows_errors_and_leaves_out_what_does_not_apply(
    home: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    request = ask(home, "color=red", "inference", fid=False)
    command.show(evaluate(request, registry, draw=each(draw), report=quiet))
    shown = capsys.readouterr()
    assert "color=red" in shown.out
    assert "+-" in shown.out
    assert "None" not in shown.out
    assert "judge-toys itself, on clean held-out pictures: color" in shown.err
