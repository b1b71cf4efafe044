"""ebm calibrate: what is fitted, where it is kept, who reads it, and what is refused."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from squares import (
    COLOR,
    FACTORS,
    PLACE,
    SIZE,
    SPACE,
    TALL,
    draw_squares,
    noisy_squares,
    put_concept,
    random_registry,
    squares_file,
)
from typer.testing import CliRunner

from ebmcli.checkpoint import file_digest
from ebmcli.cli.app import app
from ebmcli.core.temperature import Temperatures, tempered_posterior
from ebmcli.datasets.hdf5 import DatasetInfo, DatasetWriter, read_info
from ebmcli.errors import (
    ConfigError,
    DigestError,
    EbmError,
    OutputError,
    UnknownNameError,
    UsageError,
)
from ebmcli.evaluation.calibration import SIGMAS
from ebmcli.registry import Record, edit_registry, read_registry
from ebmcli.workflows.calibrate import (
    FRESH_SEED,
    CalibrateRequest,
    Fitted,
    affordable,
    fit,
    fresh_data_hint,
    save,
)
from ebmcli.workflows.explain import explain
from ebmcli.workflows.loading import load_concept

WRITTEN = {"temperatures": {"0.1": 2.0, "1": 4.0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "fresh.h5", n=130, seed=7)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return random_registry(tmp_path / "trained", (COLOR, TALL))


def go(registry: Path, data: Path, name: str = "color", **changes: Any) -> Fitted:
    request = CalibrateRequest(name=name, data=data, device="cpu", **changes)
    return fit(request, read_registry(registry), report=lambda *_: None)


def edit(registry: Path, name: str = "color", **fields: Any) -> Record:
    record = replace(read_registry(registry).get("concept", name), **fields)
    with edit_registry(registry) as editor:
        editor.put(record, overwrite=True)
    return record


def test_temperatures_go_through_the_registry_to_every_reader(registry: Path, data: Path) -> None:
    before = load_concept(read_registry(registry), "color")
    weights = file_digest(registry.parent / "checkpoints/color.safetensors")
    fitted = go(registry, data, command="ebm calibrate color --data fresh.h5")
    record = save(registry, fitted)
    known = read_registry(registry).get("concept", "color")
    assert known == record
    assert tuple(known.temperatures) == SIGMAS
    assert list(known.temperatures.values()) == [level.temperature for level in fitted.levels]
    assert known.calibration["data"] == read_info(data).digest
    assert known.calibration["n"] == 130
    assert file_digest(registry.parent / known.file) == weights == known.sha256
    x, sigma = noisy_squares()
    temperature = Temperatures(known.temperatures).at(sigma)
    evidence = before.log_posterior(x, sigma) - before.log_prior
    expected = tempered_posterior(evidence, before.log_prior, temperature)
    found = load_concept(read_registry(registry), "color").log_posterior(x, sigma)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_random_weights_are_trusted_less_than_they_ask_for(registry: Path, data: Path) -> None:
    """Evidence that is noise: hotter than 1 wherever there is some, and the log loss falls."""
    levels = go(registry, data).levels
    assert all(level.temperature >= 1 for level in levels)
    worst = max(levels, key=lambda level: level.log_loss_before)
    assert worst.temperature > 1.05
    assert worst.log_loss < worst.log_loss_before


def test_calibrating_again_fits_the_weights_and_not_the_calibrated_posterior(
    registry: Path, data: Path
) -> None:
    first = go(registry, data)
    save(registry, first)
    second = go(registry, data)
    for old, new in zip(first.levels, second.levels, strict=True):
        assert new.temperature == old.temperature
    worst = max(range(len(SIGMAS)), key=lambda i: first.levels[i].log_loss_before)
    assert second.levels[worst].log_loss_before < first.levels[worst].log_loss_before


def test_without_temperatures_nothing_is_different(registry: Path) -> None:
    record = read_registry(registry).get("concept", "color")
    assert record.temperatures == {}
    assert record.fingerprint == record.sha256
    x, sigma = noisy_squares()
    before = load_concept(read_registry(registry), "color").log_posterior(x, sigma)
    edit(registry, calibration={"temperatures": {"0.1": 1.0, "3": 1}})
    after = load_concept(read_registry(registry), "color").log_posterior(x, sigma)
    assert torch.equal(before, after)


def test_digests_tell_calibrated_from_uncalibrated(registry: Path) -> None:
    plain = read_registry(registry).get("concept", "color")
    first = edit(registry, calibration=WRITTEN)
    again = {"temperatures": {"1": 4, "0.1": 2}, "n": 300}
    assert first.fingerprint.startswith(f"{plain.sha256}+")
    assert edit(registry, calibration=again).fingerprint == first.fingerprint
    other = edit(registry, calibration={"temperatures": {"0.1": 2.0, "1": 4.5}})
    assert other.fingerprint not in (first.fingerprint, plain.sha256)
    concerned = explain(read_registry(registry), "color=red").concepts[0]
    assert (concerned.sha256, concerned.fingerprint) == (plain.sha256, other.fingerprint)
    shown = CliRunner().invoke(app, ["explain", "color=red", "--registry", str(registry)])
    assert f"{plain.sha256[:19]}{other.fingerprint[-13:]}, calibrated" in shown.stdout


def test_its_own_training_data_are_refused(registry: Path, data: Path) -> None:
    """Also those of the weights it began with, and under another file name."""
    digest = read_info(data).digest
    older = {"start": {"sha256": "x", "provenance": {"data": digest}}, "data": "sha256:other"}
    for provenance in ({"data": digest}, older):
        record = edit(registry, provenance=provenance)
        assert digest in record.training_data
        before = registry.read_bytes()
        with pytest.raises(UsageError, match=r"fresh\.h5 has trained the concept color") as caught:
            go(registry, data)
        hint = f"import other pictures of {SPACE}, with --like FILE: see docs/import.md"
        assert caught.value.hint == hint
        assert registry.read_bytes() == before
    edit(registry, provenance={"data": "sha256:other"})
    assert go(registry, data).n_images == 130


def test_pictures_that_begin_like_the_training_data_are_refused(registry: Path, data: Path) -> None:
    """Renders of one seed begin alike: the digest of a shorter file tells nothing.

    So do restricted ones, until the first scene that the restriction refuses.
    """
    seed = read_info(data).seed
    edit(registry, provenance={"data": "sha256:longer", "data_seed": seed})
    with pytest.raises(UsageError, match=f"rendered with seed {seed}, that have trained"):
        go(registry, data)
    restricted = {"data_seed": seed, "data_settings": {"hold_out": "color=red"}}
    edit(registry, provenance={"data": "sha256:longer", **restricted})
    with pytest.raises(UsageError, match=f"may repeat pictures, rendered with seed {seed}, that"):
        go(registry, data)
    edit(registry, provenance={"data": "sha256:longer", "data_seed": 1234})
    assert go(registry, data).n_images == 130


def test_the_hint_is_a_command_that_renders_fresh_pictures() -> None:
    hint = fresh_data_hint("scenes-64")
    assert hint == (
        "fresh pictures: ebm render-dataset fresh-scenes-64.h5 --recipe scenes --size 64 "
        f"--n 2000 --seed {FRESH_SEED}"
    )


def written(path: Path, *, without: str = "", changed: Any = None, n: int = 130) -> Path:
    """Squares that lack a factor, or have another one of its name."""
    factors = {name: factor for name, factor in FACTORS.items() if name != without}
    factors |= {changed.name: changed} if changed else {}
    info = DatasetInfo(
        path=path, recipe="squares", size=SIZE, n_images=n, seed=0, factors=factors,
        digest="", versions={},
    )  # fmt: skip
    images, labels = draw_squares(n, seed=0)
    with DatasetWriter(info) as writer:
        writer.write(images, {k: np.minimum(v, 1) if changed else v for k, v in labels.items()
                              if k != without})  # fmt: skip
        writer.finish()
    return path


def test_pictures_that_do_not_fit_are_refused_with_one_clear_error(
    registry: Path, data: Path, tmp_path: Path
) -> None:
    two = replace(COLOR, names=("red", "green"))
    wrong = {
        "color is a concept of squares-16": squares_file(tmp_path / "a.h5", recipe="dots"),
        "has no labels of color": written(tmp_path / "b.h5", without="color"),
        "has another color than": written(tmp_path / "c.h5", changed=two),
        "99 images are too few, 100 at least": written(tmp_path / "d.h5", n=99),
        "no such file": tmp_path / "e.h5",
    }
    before = registry.read_bytes()
    for problem, path in wrong.items():
        with pytest.raises(EbmError, match=problem) as caught:
            go(registry, path)
        assert caught.value.hint
    with pytest.raises(UnknownNameError, match="colour"):
        go(registry, data, "colour")
    with pytest.raises(ConfigError, match="--seed"):
        go(registry, data, seed=-1)
    assert registry.read_bytes() == before


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_the_registry_as_it_was(
    registry: Path, data: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """A full disk, and an end at the worst moment: all bytes written, the name not yet given."""
    fitted = go(registry, data)
    edit(registry, calibration=WRITTEN)
    before = registry.read_bytes()

    def failing(_: int) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            save(registry, fitted)
    assert registry.read_bytes() == before
    assert read_registry(registry).get("concept", "color").temperatures == {0.1: 2.0, 1.0: 4.0}
    assert not list(registry.parent.rglob("*.partial"))
    save(registry, fitted)
    assert read_registry(registry).get("concept", "color").calibration == fitted.calibration


def test_other_weights_meanwhile_are_not_given_these_temperatures(
    registry: Path, data: Path
) -> None:
    fitted = go(registry, data)
    edit(registry, sha256=read_registry(registry).get("concept", "tall").sha256)
    before = registry.read_bytes()
    with pytest.raises(DigestError, match="other weights by now"):
        save(registry, fitted)
    assert registry.read_bytes() == before


def test_comments_and_other_records_survive(registry: Path, data: Path) -> None:
    registry.write_text(registry.read_text().replace("  tall:", "  # mine\n  tall:"))
    others = read_registry(registry).get("concept", "tall")
    save(registry, go(registry, data))
    assert "  # mine\n  tall:" in registry.read_text()
    assert read_registry(registry).get("concept", "tall") == others


def test_a_conditional_concept_reads_fewer_pictures(registry: Path) -> None:
    put_concept(registry, PLACE, name="where", method="conditional")
    known = read_registry(registry)
    assert affordable(load_concept(known, "color"), 4000) == 4000
    assert affordable(load_concept(known, "where"), 4000) == 8 * 4000 // 289
    assert affordable(load_concept(known, "where"), 1000) == 100


@pytest.fixture
def ebm(registry: Path, data: Path) -> Callable[..., Any]:
    def run(*words: str) -> Any:
        options = ["--data", str(data), "--device", "cpu", "--registry", str(registry)]
        return CliRunner().invoke(app, ["calibrate", "tall", *options, *words])

    return run


def test_a_dry_run_shows_the_table_and_writes_nothing(ebm: Any, registry: Path) -> None:
    before = registry.read_bytes()
    result = ebm("--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["sigma", "temperature"]
    assert len(lines) == 1 + len(SIGMAS)
    assert "nothing was written" in result.stderr
    assert registry.read_bytes() == before


def test_json_is_what_was_recorded(ebm: Any, registry: Path) -> None:
    result = ebm("--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    record = read_registry(registry).get("concept", "tall")
    assert document["calibration"] == record.calibration
    assert document["registry"] == str(registry)
