"""Data of a training: are they what was written, and what goes together in them?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from squares import COLOR, TINY, draw_squares, put_base, squares_file

from ebmcli.datasets.hdf5 import DatasetWriter, read_info
from ebmcli.errors import DigestError, RegistryError
from ebmcli.registry import create_registry, read_registry
from ebmcli.training.loop import StepReport
from ebmcli.workflows.calibrate import labelled_images
from ebmcli.workflows.judge import JudgeRequest, check_judge
from ebmcli.workflows.judging import load_labelled
from ebmcli.workflows.mend import MendRequest, plan_mend
from ebmcli.workflows.plans import TrainRequest, plan_concept
from ebmcli.workflows.registry import rename
from ebmcli.workflows.train import Trained, train


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = create_registry(tmp_path / "trained")
    put_base(path)
    return path


def ask(registry: Path, data: Path, **changes: Any) -> TrainRequest:
    settings: dict[str, Any] = {"assignments": TINY, "device": "cpu", "precision": "fp32"}
    settings |= {"name": "color", "data": data, "registry": registry, "steps": 3}
    return TrainRequest(**settings | changes)


def go(request: TrainRequest) -> Trained:
    return train(plan_concept(request), report=lambda _: None)


def test_labels_edited_by_hand_train_nothing_and_count_for_nothing(
    registry: Path, tmp_path: Path
) -> None:
    """The record names data by their digest; a judge's pictures are told from others by it."""
    edited = squares_file(tmp_path / "edited.h5")
    with h5py.File(edited, "r+") as file:
        labels = file["factors"]["color"]
        labels[0] = (labels[0] + 1) % len(COLOR.names)
    request = ask(registry, edited)
    with pytest.raises(DigestError, match="the content is"):
        go(request)
    assert "color" not in read_registry(registry).concepts
    assert not plan_concept(request).folder.exists()
    info = read_info(edited)
    with pytest.raises(DigestError):
        load_labelled(info)
    with pytest.raises(DigestError):
        labelled_images(info, COLOR, 10, device=torch.device("cpu"))
    with pytest.raises(DigestError):
        check_judge(JudgeRequest(name="judge", data=edited, registry=registry))
    with pytest.raises(DigestError):
        plan_mend(MendRequest(name="squares-16", data=edited, registry=registry))


def test_a_run_whose_base_was_renamed_is_kept_until_it_has_its_name_back(
    registry: Path, tmp_path: Path
) -> None:
    """A concept on a base that does not exist could not be used."""
    request = ask(registry, squares_file(tmp_path / "squares.h5"))
    plan = plan_concept(request)
    name = str(plan.base)

    def meanwhile(update: StepReport) -> None:
        if update.step == 1:
            rename(registry, name, "plain")

    with pytest.raises(RegistryError, match=f"no base {name} any more") as caught:
        train(plan, report=meanwhile)
    assert f"ebm rename plain {name} --kind base" in str(caught.value.hint)
    assert "color" not in read_registry(registry).concepts
    rename(registry, "plain", name)
    assert go(replace(request, resume=True)).record.base == name


def test_factors_that_go_together_are_noted(registry: Path, tmp_path: Path) -> None:
    apart = squares_file(tmp_path / "apart.h5")
    assert "goes_with" not in go(ask(registry, apart)).record.measured
    images, labels = draw_squares(130, seed=5)
    labels["tall"] = (labels["color"] == 0).astype(labels["tall"].dtype)
    info = replace(read_info(apart), path=tmp_path / "tied.h5", seed=5)
    with DatasetWriter(info) as writer:
        writer.write(images, labels)
        writer.finish()
    record = go(ask(registry, info.path, overwrite=True)).record
    assert record.measured["goes_with"] == {"tall": pytest.approx(1, abs=0.02)}
