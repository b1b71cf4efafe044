"""Plans: every mistake in a training command is found before anything runs or is written."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import (
    COLOR,
    PLACE,
    SPACE,
    TALL,
    TINY,
    put_base,
    put_concept,
    squares_file,
)

from ebmcli.errors import (
    ConfigError,
    DeviceError,
    EbmError,
    FileFormatError,
    OutputExistsError,
    RegistryError,
    UnknownNameError,
    UsageError,
)
from ebmcli.registry import create_registry
from ebmcli.workflows.plans import (
    Plan,
    TrainRequest,
    plan_base,
    plan_concept,
    resume_command,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "squares.h5")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = create_registry(tmp_path / "trained")
    put_base(path)
    return path


@pytest.fixture
def ask(data: Path, registry: Path) -> Any:
    """A request for the concept color, changed at will."""

    def request(**changes: Any) -> TrainRequest:
        settings: dict[str, Any] = {"name": "color", "data": data, "registry": registry}
        return TrainRequest(**settings | {"assignments": TINY, "device": "cpu"} | changes)

    return request


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_plan_says_what_would_run_and_writes_nothing(ask: Any, registry: Path) -> None:
    before = files(registry.parent)
    plan = plan_concept(ask(steps=7))
    assert (plan.kind, plan.method, plan.base, plan.factor) == (
        "concept",
        "posterior",
        SPACE,
        COLOR,
    )
    assert plan.settings.training.n_steps == 7
    assert plan.weights == registry.parent / "checkpoints" / "color.safetensors"
    shown = plan.to_dict()
    assert shown["settings"]["widths"] == [4, 8]
    assert shown["data_digest"].startswith("sha256:")
    assert files(registry.parent) == before


def test_a_base_has_neither_factor_nor_base(ask: Any, registry: Path) -> None:
    plan = plan_base(ask(name="other", steps=1))
    assert (plan.kind, plan.method, plan.base, plan.factor) == ("base", "base", None, None)
    assert plan.weights == registry.parent / "checkpoints" / "base-other.safetensors"


def test_a_factor_may_have_another_name_than_its_concept(ask: Any) -> None:
    plan = plan_concept(ask(name="hue", factor="color"))
    assert plan.factor == COLOR
    assert plan.request.name == "hue"


@pytest.mark.parametrize(
    ("changes", "kind", "problem", "hint"),
    [
        ({"name": "hue"}, UnknownNameError, "unknown factor 'hue'", "--factor: color, tall"),
        ({"factor": "colour"}, UnknownNameError, "'colour'", "did you mean 'color'?"),
        ({"method": "posteriour"}, UnknownNameError, "method", "did you mean 'posterior'?"),
        ({"base": "scenes"}, UnknownNameError, "unknown base 'scenes'", SPACE),
        ({"assignments": ("batchsize=3",)}, UnknownNameError, "batchsize", "'batch_size'"),
        ({"assignments": ("batch_size",)}, ConfigError, "not a setting", "--set"),
        ({"minutes": 0.0}, ConfigError, "--minutes must be positive, got 0", ""),
        ({"minutes": -3.0}, ConfigError, "--minutes must be positive, got -3", ""),
        ({"minutes": float("nan")}, ConfigError, "--minutes must be positive, got nan", ""),
        ({"minutes": float("inf")}, ConfigError, "--minutes must be positive, got inf", ""),
        ({"steps": 0}, ConfigError, "--steps must be at least 1, got 0", ""),
        ({"steps": -5}, ConfigError, "--steps must be at least 1, got -5", ""),
        ({"steps": 3, "minutes": -1.0}, ConfigError, "--minutes must be positive", ""),
        ({"steps": 3, "minutes": 1.0}, ConfigError, "exclude each other", "one of them"),
        ({"seed": -1}, ConfigError, "--seed is between", ""),
        ({"seed": 2**32}, ConfigError, "--seed is between", ""),
        ({"name": "Color!"}, UsageError, "no name", "hair-color"),
        ({"name": "and", "factor": "color"}, UsageError, "formula language", ""),
        ({"data": Path("absent.h5")}, FileFormatError, "absent.h5: no such file", "spelling"),
        ({"registry": Path("absent.yaml")}, RegistryError, "no such registry", "init"),
        ({"device": "tpu"}, ConfigError, "unknown device", "auto"),
    ],
)
def test_a_mistake_is_explained(
    ask: Any, registry: Path, changes: dict[str, Any], kind: type[EbmError], problem: str, hint: str
) -> None:
    before = files(registry.parent)
    with pytest.raises(kind, match=problem) as caught:
        plan_concept(ask(**changes))
    assert hint in (caught.value.hint or "")
    assert files(registry.parent) == before


def test_an_absent_cuda_is_refused(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="0 CUDA devices found"):
        plan_concept(ask(device="cuda"))


def test_a_foreign_file_is_no_dataset(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.h5"
    path.write_text("not hdf5")
    with pytest.raises(FileFormatError, match="is not a dataset"):
        plan_concept(ask(data=path))


def test_too_few_images_are_refused(ask: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="99 images are too few, 100 at least"):
        plan_concept(ask(data=squares_file(tmp_path / "few.h5", n=99)))


def test_a_base_of_another_space_is_refused(ask: Any, registry: Path) -> None:
    put_base(registry, "moons", space="moons-16")
    with pytest.raises(UsageError, match=f"base moons is of moons-16, the data of {SPACE}"):
        plan_concept(ask(base="moons"))
    assert plan_concept(ask()).base == SPACE


def test_a_posterior_needs_a_base_and_the_hint_trains_one(ask: Any, tmp_path: Path) -> None:
    empty = create_registry(tmp_path / "empty")
    with pytest.raises(UsageError, match=f"no base of {SPACE}") as caught:
        plan_concept(ask(registry=empty))
    assert f"ebm train-base {SPACE} --data" in (caught.value.hint or "")
    assert plan_concept(ask(registry=empty, method="conditional")).base is None


def test_two_bases_must_be_told_apart(ask: Any, registry: Path) -> None:
    put_base(registry, "second")
    with pytest.raises(UsageError, match=f"2 bases of {SPACE}") as caught:
        plan_concept(ask())
    assert caught.value.hint == f"choose one with --base: {SPACE}, second"
    assert plan_concept(ask(base="second")).base == "second"


def test_a_taken_name_is_refused_unless_it_is_to_be_replaced(ask: Any, registry: Path) -> None:
    put_concept(registry, COLOR)
    with pytest.raises(OutputExistsError, match="concept color") as caught:
        plan_concept(ask())
    assert "--overwrite" in (caught.value.hint or "")
    assert plan_concept(ask(overwrite=True)).request.name == "color"
    with pytest.raises(OutputExistsError, match=f"base {SPACE}"):
        plan_base(ask(name=SPACE))


def test_names_that_could_not_be_registered_are_refused_before_training(
    ask: Any, registry: Path
) -> None:
    put_concept(registry, PLACE, name="hair-color")
    with pytest.raises(UsageError, match="hair-color and hair_color differ by - and _ only"):
        plan_concept(ask(name="hair_color", factor="color"))
    with pytest.raises(UsageError, match=f"belongs to the base {SPACE}"):
        plan_concept(ask(name=f"base-{SPACE}", factor="color"))


def resumed_words(plan: Plan) -> list[str]:
    words = shlex.split(resume_command(plan))
    assert words[-1] == "--resume"
    return words


def test_the_resume_command_survives_a_shell(ask: Any, tmp_path: Path) -> None:
    data = squares_file(tmp_path / "my squares; rm -rf *.h5")
    words = resumed_words(plan_concept(ask(data=data, seed=3, name="hue", factor="color")))
    assert words[:3] == ["ebm", "train", "hue"]
    assert words[words.index("--data") + 1] == str(data)
    for option, value in (
        ("--factor", "color"), ("--method", "posterior"), ("--base", SPACE), ("--seed", "3"),
        ("--device", "cpu"),
    ):  # fmt: skip
        assert words[words.index(option) + 1] == value


def test_a_base_resumes_by_its_own_command(ask: Any) -> None:
    words = resumed_words(plan_base(ask(name="other", device="auto")))
    assert words[:3] == ["ebm", "train-base", "other"]
    assert not {"--factor", "--method", "--device"} & set(words)


@pytest.mark.parametrize(
    ("changes", "kind", "problem", "hint"),
    [
        ({"independent_of": "colour"}, UnknownNameError, "'colour'", "did you mean 'color'?"),
        ({"independent_of": "place"}, UsageError, "position has none", "leave --independent-of"),
        ({"independent_of": "twin"}, UsageError, "tall cannot be independent of itself", "another"),
        ({"independent_of": "far"}, UsageError, "far is of faces-64, the data of", "--space"),
        (
            {"independent_of": "color", "method": "both"},
            UsageError,
            "trains a posterior, not --method both",
            "leave one",
        ),
        (
            {"independent_of": "color", "assignments": ("hue_share=0.5",)},
            ConfigError,
            "hue_share changes them",
            "leave one",
        ),
        (
            {"factor": "color", "method": "both", "assignments": ("hue_share=1",)},
            ConfigError,
            "color wrong",
            "out",
        ),
        ({"assignments": ("hue_share=2",)}, ConfigError, r"must be in \[0, 1\]", ""),
        ({"assignments": ("blank_share=1",)}, ConfigError, r"must be in \[0, 1\)", ""),
        (
            {"method": "conditional", "assignments": ("blank_share=0.1",)},
            ConfigError,
            "--method conditional has no use for it",
            "leave --set blank_share out",
        ),
        (
            {"independent_of": "color", "assignments": ("blank_share=0.1",)},
            ConfigError,
            "--independent-of has no use for it",
            "leave --set blank_share out",
        ),
        (
            {"factor": "position", "independent_of": "color"},
            UsageError,
            "position has none",
            "leave",
        ),
    ],
)
def test_company_that_cannot_be_told_apart_is_refused(
    ask: Any, registry: Path, changes: dict[str, Any], kind: type[EbmError], problem: str, hint: str
) -> None:
    put_concept(registry, COLOR)
    put_concept(registry, PLACE, name="place")
    put_concept(registry, TALL, name="twin")
    put_concept(registry, COLOR, name="far", space="faces-64")
    before = files(registry.parent)
    with pytest.raises(kind, match=problem) as caught:
        plan_concept(ask(**{"name": "new", "factor": "tall"} | changes))
    assert hint in (caught.value.hint or "")
    assert files(registry.parent) == before


def test_an_independent_concept_resumes_as_one(ask: Any, registry: Path) -> None:
    put_concept(registry, COLOR)
    plan = plan_concept(ask(name="tall", independent_of="color"))
    assert plan.to_dict()["independent_of"] == "color"
    words = resumed_words(plan)
    assert words[words.index("--independent-of") + 1] == "color"


def test_an_added_concept_resumes_as_one(ask: Any) -> None:
    words = resumed_words(plan_concept(ask(to=("tall", "size"))))
    assert words[1] == "add-concept"
    assert words[words.index("--to") + 1] == "tall,size"
