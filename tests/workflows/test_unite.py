"""Two bases as one: constants that are known, files that stand by themselves, what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from squares import SPACE, TINY, noisy_squares, put_base, random_base, squares_file
from typer.testing import CliRunner, Result

from ebmcli.cli.app import app
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.gaussian import input_scale
from ebmcli.core.union import UnionEnergy
from ebmcli.errors import ConfigError, EbmError, OutputExistsError, UnknownNameError, UsageError
from ebmcli.registry import create_registry, read_registry
from ebmcli.workflows.archives import export, import_archive
from ebmcli.workflows.generate import GenerateRequest, draw_pictures
from ebmcli.workflows.loading import load_base
from ebmcli.workflows.registry import verify
from ebmcli.workflows.union import UnionRequest, _Gaps, _summed, check_union, unite

LIFT = 3.0  # added to the network of the second base: a constant at every level


def lifted() -> BaseEnergy:
    """The random base plus LIFT in its network: the same density, another constant."""
    base = random_base()
    with torch.no_grad():
        base.network.linear.bias.add_(LIFT)
    return base


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Bases `one` and `same` of equal density, `other` of another one."""
    path = create_registry(tmp_path / "trained")
    put_base(path, "one", provenance={"data": "sha256:1"})
    put_base(path, "same", network=lifted(), provenance={"data": "sha256:2"})
    put_base(path, "other", network=random_base(seed=1))
    put_base(path, "faces", space="faces-16")
    return path


def ask(*parts: str, **changes: Any) -> UnionRequest:
    known: dict[str, Any] = {"name": "all", "n": 4, "steps": 5, "device": "cpu"}
    return UnionRequest(parts=(parts[0], parts[1]), **known | changes)


def test_a_constant_added_to_the_network_is_found_at_every_level(registry: Path) -> None:
    """E_b = E_a + c r sqrt(v) / sigma^2, so log Z_a / Z_b is just that, from any sample.

    Both draw the same pictures from the same noise, so that all other errors cancel. Energies of
    some thousand nats in float32 leave 1e-6 of their size.
    """
    united = unite(ask("one", "same"), registry)
    known = read_registry(registry)
    one, same = (load_base(known, name) for name in ("one", "same"))
    assert isinstance(one, BaseEnergy)
    assert isinstance(same, BaseEnergy)
    lift = float(same.network.linear.bias - one.network.linear.bias)  # stored in half precision
    for sigma, ratio in united.levels.items():
        level = torch.tensor([sigma])
        scale = one.gaussian.posterior_scale(level) * input_scale(level) / sigma**2
        expected = pytest.approx(lift * float(scale), rel=1e-3, abs=0.05)
        assert ratio.log_ratio == expected
        assert ratio.direct == expected
        assert ratio.overlap == pytest.approx(1, abs=1e-3)
    x, sigma_x = noisy_squares(4)
    union = load_base(known, "all")
    torch.testing.assert_close(union.denoise(x, sigma_x), one.denoise(x, sigma_x))


def test_the_file_of_a_union_stands_by_itself(registry: Path, tmp_path: Path) -> None:
    """It is a base like any other: verified, exported, imported where its parts are unknown."""
    unite(ask("one", "other", weights=(1.0, 3.0)), registry)
    known = read_registry(registry)
    record = known.get("base", "all")
    assert [check.problem for check in verify(known, [record])] == [None]
    assert record.training_data == ("sha256:1",)
    union = load_base(known, "all")
    assert isinstance(union, UnionEnergy)
    assert union.weights == (0.25, 0.75)
    x, sigma = noisy_squares(3)
    for part, name in ((union.left, "one"), (union.right, "other")):
        expected = load_base(known, name).energy(x, sigma)
        torch.testing.assert_close(part.energy(x, sigma), expected)
    known_levels = record.measured["union"]
    assert len(known_levels) == 5
    found = union.log_ratio_at(torch.tensor([row["sigma"] for row in known_levels.values()]))
    said = torch.tensor([row["log_ratio"] for row in known_levels.values()])
    torch.testing.assert_close(found, said, rtol=1e-3, atol=1e-3)
    export(known, [record], tmp_path / "all.zip", overwrite=False)
    elsewhere = create_registry(tmp_path / "elsewhere")
    import_archive(elsewhere, tmp_path / "all.zip")
    again = load_base(read_registry(elsewhere), "all")
    torch.testing.assert_close(again.energy(x, sigma), union.energy(x, sigma))


def test_a_union_can_be_a_part(registry: Path) -> None:
    unite(ask("one", "same"), registry)
    unite(ask("all", "other", name="more", weights=(2.0, 1.0)), registry)
    more = load_base(read_registry(registry), "more")
    assert isinstance(more, UnionEnergy)
    assert isinstance(more.left, UnionEnergy)
    assert read_registry(registry).get("base", "more").training_data == ("sha256:1", "sha256:2")


def test_the_same_seed_gives_the_same_file(registry: Path) -> None:
    first = unite(ask("one", "other", seed=3), registry).record.sha256
    again = unite(ask("one", "other", seed=3, overwrite=True), registry).record.sha256
    another = unite(ask("one", "other", seed=4, overwrite=True), registry).record.sha256
    assert first == again != another


def test_a_name_that_could_not_be_registered_is_refused_at_once(registry: Path) -> None:
    put_base(registry, "all-two")
    known = read_registry(registry)
    with pytest.raises(UsageError, match="all-two and all_two differ by - and _ only"):
        check_union(ask("one", "other", name="all_two"), known)


@pytest.fixture
def ebm(registry: Path) -> Callable[..., Result]:
    def run(*words: str) -> Result:
        options = ["--registry", str(registry), "--device", "cpu"]
        return CliRunner().invoke(app, [*words, *options])

    return run


def test_a_union_is_made_drawn_from_and_trained_on(
    ebm: Callable[..., Result], registry: Path, tmp_path: Path
) -> None:
    made = ebm("union", "all", "one", "other", "-n", "2", "--steps", "3")
    assert made.exit_code == 0, made.output
    assert [line.split()[0] for line in made.stdout.splitlines()[-3:]] == ["10", "1.11", "0.02"]
    drawn = ebm("generate", "--base", "all", "-n", "2", "--steps", "3", "--json")
    assert drawn.exit_code == 0, drawn.output
    told = json.loads(drawn.stdout)
    assert told["files"] == ["any-picture-of-all-seed0.png"]
    assert list(told["digests"]) == ["base all"]
    data = squares_file(tmp_path / "squares.h5")
    settings = [word for text in TINY for word in ("--set", text)]
    trained = ebm(
        "train", "color", "--data", str(data), "--base", "all", "--steps", "2", *settings,
        "--precision", "fp32",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    asked = ebm("generate", "color=red", "-n", "2", "--steps", "3", "-o", "red.png")
    assert asked.exit_code == 0, asked.output
    assert read_registry(registry).get("concept", "color").base == "all"


def test_pictures_of_a_base_are_those_of_its_chains_and_depend_on_their_seed(
    registry: Path,
) -> None:
    known = read_registry(registry)
    request = GenerateRequest(base="one", n=3, seed=1, steps=4, device="cpu")
    drawn = draw_pictures(request, known)
    assert drawn.space == SPACE
    assert drawn.attempts == [1, 1, 1]
    assert drawn.probabilities.tolist() == [1, 1, 1]
    single = draw_pictures(GenerateRequest(base="one", n=1, seed=2, steps=4, device="cpu"), known)
    difference = np.abs(drawn.images[1].astype(int) - single.images[0].astype(int))
    assert difference.max() <= 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"expression": "color=red"}, "takes no formula"),
        ({"strength": 2.0}, "--strength has no meaning"),
        ({"logic": "paper"}, "--logic has no meaning"),
        ({"sampler": "rejection"}, "--sampler rejection has no meaning"),
    ],
)
def test_a_base_alone_is_asked_for_nothing(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        GenerateRequest(base="one", **options)


@pytest.mark.parametrize(
    ("parts", "changes", "error", "problem"),
    [
        (("one", "ohter"), {}, UnknownNameError, "unknown base 'ohter'"),
        (("one", "faces"), {}, UsageError, "of another space, faces-16"),
        (("one", "other"), {"name": "same"}, OutputExistsError, "base same"),
    ],
)
def test_bases_that_cannot_be_united_are_refused_before_anything_is_drawn(
    registry: Path,
    parts: tuple[str, str],
    changes: dict[str, Any],
    error: type[EbmError],
    problem: str,
) -> None:
    before = registry.read_bytes()
    with pytest.raises(error, match=problem):
        unite(ask(*parts, **changes), registry)
    assert registry.read_bytes() == before


@pytest.mark.parametrize(
    ("parts", "changes", "problem"),
    [
        (("one", "one"), {}, "joins two bases"),
        (("one", "all"), {}, "joins two bases"),
        (("one", "other"), {"weights": (1.0, 0.0)}, "two positive numbers, got 1,0"),
        (("one", "other"), {"n": 1}, "-n is between 2"),
        (("one", "other"), {"steps": 1}, "--steps is between 2"),
        (("one", "other"), {"seed": -1}, "4 from -1 are not"),
        (("one", "other"), {"name": "No"}, "is no name"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    parts: tuple[str, str], changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        ask(*parts, **changes)


def test_weights_as_typed_are_two_numbers(ebm: Callable[..., Result]) -> None:
    refused = ebm("union", "all", "one", "other", "--weights", "0.5")
    assert refused.exit_code == 2
    assert "write --weights 0.3,0.7" in refused.stderr


def gaps(across: list[list[float]], steps: list[float], spread: float) -> list[_Gaps]:
    """Of two bases: the gap across at every level, +- its half, and steps of equal constants."""
    wave = torch.linspace(-spread, spread, 40, dtype=torch.float64)
    return [
        _Gaps(
            torch.stack([value + wave for value in row]),
            torch.stack([sign * step / 2 + wave for step in steps]),
            torch.stack([sign * step / 2 + wave for step in steps]),
        )
        for row, sign in zip(zip(*across, strict=True), (1, -1), strict=True)
    ]


def test_a_constant_is_followed_until_the_parts_no_longer_meet() -> None:
    """Steps of 0.5 down either side, of opposite sign: D falls by 0.5 a level from 2.

    Around D the gap is 0, 6 and 80 nats wide: one level speaks for itself, at the next the steps
    are surer, at the last the middle of the gap is taken.
    """
    left, right = gaps([[2.0, 2.0], [4.0, -2.0], [50.0, -30.0]], [0.5, 0.5], 0.3)
    found = _summed(left, right)
    assert [one.log_ratio for one in found] == pytest.approx([2.0, 1.5, 10.0], abs=1e-6)
    assert [one.direct for one in found] == pytest.approx([2.0, 1.0, 10.0], abs=1e-6)
    assert found[0].error < found[1].error < 0.2
    assert math.isinf(found[2].error)
