import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ebmcli.core.expression import parse
from ebmcli.datasets.hdf5 import DatasetWriter, read_images, read_info, read_labels
from ebmcli.datasets.partial_file import partial_path
from ebmcli.errors import (
    ConfigError,
    EbmError,
    InterruptedRun,
    OutputExistsError,
    UnknownNameError,
)
from ebmcli.workflows import render
from ebmcli.workflows.render import RenderSettings, plan_dataset, rehearse_dataset, render_dataset
from ebmcli.workflows.spawned import spawned_map

pytestmark = pytest.mark.render

RUNNER = """
import sys
from pathlib import Path
from ebmcli.workflows.render import RenderSettings, render_dataset

if __name__ == "__main__":
    settings = RenderSettings(recipe="scenes", n_images=620, size=16, seed=4)
    for done in render_dataset(settings, Path(sys.argv[1]), workers=int(sys.argv[2])):
        print(done, flush=True)
"""


def settings(**changes):
    return RenderSettings(**{"recipe": "scenes", "n_images": 620, "size": 16, "seed": 4, **changes})


def rendered(wanted, path, **options):
    return list(render_dataset(wanted, path, **options))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "scenes.h5"
    assert rendered(settings(), path) == [0, 500, 620]
    return path


def test_the_file_says_how_it_was_made(whole):
    info = read_info(whole)
    assert (info.recipe, info.size, info.n_images, info.seed) == ("scenes", 16, 620, 4)
    assert set(info.versions) == {"ebm", "mujoco", "numpy"}
    assert list(info.factors) == ["shape", "color", "position", "size"]


def test_a_rehearsal_refuses_what_the_run_refuses_and_writes_nothing(tmp_path):
    path, begun = tmp_path / "new" / "scenes.h5", tmp_path / "begun.h5"
    rehearse_dataset(settings(), path)
    assert not path.parent.exists()
    with DatasetWriter(settings().info(begun)) as writer:
        images = np.zeros((1, 16, 16, 3), np.uint8)
        writer.write(images, {"shape": [0], "color": [0], "position": [[0, 0]], "size": [0.4]})
    (tmp_path / "there.h5").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    cases = [
        ({}, tmp_path / "there.h5", {}),
        ({}, tmp_path, {"overwrite": True}),
        ({}, tmp_path / "file" / "scenes.h5", {}),
        ({}, begun, {}),
        ({"seed": 9}, begun, {"resume": True}),
        ({"n_images": 7}, begun, {"resume": True}),
        ({"n_images": 10_000_000, "size": 512}, path, {}),
        ({}, path, {"workers": 0}),
    ]
    for changes, out, options in cases:
        with pytest.raises(EbmError) as dry:
            rehearse_dataset(settings(**changes), out, **options)
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
        with pytest.raises(EbmError) as real:
            rendered(settings(**changes), out, **options)
        assert (dry.value.problem, dry.value.hint) == (real.value.problem, real.value.hint)
        if path.parent.exists():
            path.parent.rmdir()
    rehearse_dataset(settings(), begun, resume=True)
    rehearse_dataset(settings(), begun, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_any_number_of_workers_writes_the_same_bytes(whole, tmp_path):
    rendered(settings(), tmp_path / "two.h5", workers=2)
    assert sha256(tmp_path / "two.h5") == sha256(whole)


def test_another_seed_shows_other_images(whole, tmp_path):
    rendered(settings(seed=5, n_images=20), tmp_path / "other.h5")
    assert (
        (read_images(tmp_path / "other.h5", 0, 20) != read_images(whole, 0, 20))
        .any((1, 2, 3))
        .all()
    )


def test_fewer_images_are_the_first_of_more(whole, tmp_path):
    rendered(settings(n_images=20), tmp_path / "few.h5")
    assert (read_images(tmp_path / "few.h5", 0, 20) == read_images(whole, 0, 20)).all()


def test_labels_belong_to_their_images(whole):
    """Red solids are redder than green and blue ones; x of the bright part follows the label."""
    images = read_images(whole, 0, 620).astype(float)
    colors = read_labels(whole, "color", 0, 620)
    names = read_info(whole).factors["color"].names
    excess = (images - images.mean(3, keepdims=True)).clip(0).mean((1, 2))
    for channel, name in enumerate(("red", "green", "blue")):
        mean = excess[colors == names.index(name)].mean(0)
        assert mean.argmax() == channel
    hued = colors != names.index("white")
    weight = np.ptp(images[hued], axis=3) ** 2
    places = read_labels(whole, "position", 0, 620)[hued]
    columns = (weight * np.arange(16)).sum((1, 2)) / weight.sum((1, 2))
    rows = (weight * np.arange(16)[:, None]).sum((1, 2)) / weight.sum((1, 2))
    assert np.corrcoef(columns, places[:, 0])[0, 1] > 0.95
    assert np.corrcoef(rows, places[:, 1])[0, 1] < -0.9


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_is_resumed_to_the_same_bytes(whole, tmp_path):
    path = tmp_path / "killed.h5"
    (tmp_path / "runner.py").write_text(RUNNER)
    command = [sys.executable, str(tmp_path / "runner.py"), str(path), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "0\n"
        assert process.stdout.readline() == "500\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    with pytest.raises(OutputExistsError, match="partial"):
        rendered(settings(), path)
    done = rendered(settings(), path, resume=True)
    assert done[0] in (500, 620)
    assert sha256(path) == sha256(whole)
    assert not partial_path(path).exists()


def test_a_run_killed_before_its_file_had_its_name_is_finished(whole, tmp_path):
    path = tmp_path / "late.h5"
    with DatasetWriter(settings().info(path), resume=False, overwrite=False) as writer:
        for index in range(2):
            writer.write(*render.render_chunk((settings(), index)))
    assert partial_path(path).exists()
    assert rendered(settings(), path, resume=True) == [620]
    assert sha256(path) == sha256(whole)


def test_ctrl_c_keeps_what_was_drawn_and_says_how_to_go_on(whole, tmp_path, monkeypatch):
    path = tmp_path / "stopped.h5"
    drawn = render.render_chunk

    def interrupted(job):
        if job[1] == 1:
            raise KeyboardInterrupt
        return drawn(job)

    monkeypatch.setattr(render, "render_chunk", interrupted)
    with pytest.raises(InterruptedRun) as stopped:
        rendered(settings(), path)
    monkeypatch.undo()
    assert stopped.value.exit_code == 130
    expected = f"ebm render-dataset {path} --recipe scenes --n 620 --size 16 --seed 4 --workers 1"
    assert stopped.value.hint == f"to go on: {expected} --resume"
    assert rendered(settings(), path, resume=True)[0] == 500
    assert sha256(path) == sha256(whole)


def test_restrictions_reach_the_file_and_the_resume_command(tmp_path):
    wanted = settings(
        n_images=40,
        fix=("color=red,blue",),
        grid=("position=2",),
        hold_out="shape=cube & color=red",
    )
    path = tmp_path / "few.h5"
    rendered(wanted, path)
    info = read_info(path)
    assert info.settings == {
        "fix": ["color=red,blue"],
        "grid": ["position=2"],
        "hold_out": "shape=cube & color=red",
    }
    assert set(read_labels(path, "color", 0, 40)) == {0, 2}
    assert set(np.abs(read_labels(path, "position", 0, 40)).ravel()) == {1.0}
    command = wanted.command(path, workers=2, resume=True)
    assert "--hold-out 'shape=cube & color=red' --resume" in command
    assert parse(wanted.hold_out)


def test_a_plan_writes_nothing_and_shows_the_first_labels(whole):
    plan = plan_dataset(settings())
    assert plan.n_bytes == 620 * 16 * 16 * 3
    name = plan.example["color"]
    names = read_info(whole).factors["color"].names
    assert names.index(name) == read_labels(whole, "color", 0, 1)[0]
    assert plan.statements()[1] == f"color={name}"


@pytest.mark.parametrize(
    "change",
    [
        {"n_images": 0},
        {"n_images": -3},
        {"size": 0},
        {"size": 7},
        {"size": 4096},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(ConfigError):
        settings(**change)


def test_unknown_recipes_and_impossible_workers_are_refused(tmp_path):
    with pytest.raises(UnknownNameError):
        settings(recipe="scene")
    for workers in (0, 1000):
        with pytest.raises(ConfigError, match="--workers"):
            rendered(settings(), tmp_path / "x.h5", workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_complete_file_of_the_same_settings_is_left_as_it_is(tmp_path):
    path = tmp_path / "x.h5"
    rendered(settings(n_images=4), path)
    before = path.stat().st_mtime_ns
    assert list(render_dataset(settings(n_images=4), path, resume=True)) == [4]
    rehearse_dataset(settings(n_images=4), path, resume=True)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(OutputExistsError):
        list(render_dataset(settings(n_images=5), path, resume=True))
    with pytest.raises(OutputExistsError):
        list(render_dataset(settings(n_images=4), path))


def test_clutter_is_the_same_from_any_number_of_workers_and_after_a_break(tmp_path):
    wanted = settings(recipe="clutter", n_images=510)
    paths = [tmp_path / f"{name}.h5" for name in ("one", "two", "broken")]
    rendered(wanted, paths[0])
    rendered(wanted, paths[1], workers=2)
    with DatasetWriter(wanted.info(paths[2]), resume=False, overwrite=False) as writer:
        writer.write(*render.render_chunk((wanted, 0)))
    assert rendered(wanted, paths[2], resume=True) == [500, 510]
    assert len({sha256(path) for path in paths}) == 1
    objects = read_labels(paths[0], "object", 0, 510)
    assert (objects[..., 0].sum(1) == read_labels(paths[0], "count", 0, 510) + 1).all()


def test_a_count_is_fixed_by_drawing_again(tmp_path):
    rendered(settings(recipe="clutter", n_images=20, fix=("count=2,4",)), tmp_path / "x.h5")
    counts = read_labels(tmp_path / "x.h5", "count", 0, 20) + 1
    assert set(counts) == {2, 4}
    assert (read_labels(tmp_path / "x.h5", "object", 0, 20)[..., 0].sum(1) == counts).all()
    for restriction in ({"fix": ("object=3",)}, {"grid": ("object=3",)}):
        with pytest.raises(ConfigError, match="object"):
            settings(recipe="clutter", **restriction)


def test_a_plan_names_every_object():
    said = plan_dataset(settings(recipe="clutter")).statements()
    assert said[0] == f"count={len(said) - 1}"
    assert said[1].startswith("object(shape=")


def test_large_images_come_in_smaller_chunks():
    assert render.chunk_size(16) == render.chunk_size(128) == 500
    assert render.chunk_size(1024) * 1024**2 * 3 < 30e6


def slow_square(number):
    time.sleep(0.01)
    return number**2


def test_results_come_in_the_order_of_their_jobs():
    jobs = list(range(12))
    assert list(spawned_map(slow_square, jobs, workers=2)) == [n**2 for n in jobs]
    assert list(spawned_map(slow_square, jobs, workers=1)) == [n**2 for n in jobs]
