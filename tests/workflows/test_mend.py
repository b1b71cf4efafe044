"""Mending a base: samples of its own chains, the residual, what is kept and what is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, SPACE, random_registry, squares_file
from typer.testing import CliRunner, Result

from ebmcli.checkpoint import file_digest
from ebmcli.cli.app import app
from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.expression import parse
from ebmcli.core.logic import compile_formula
from ebmcli.datasets.hdf5 import read_info
from ebmcli.errors import (
    ConfigError,
    DigestError,
    InterruptedRun,
    OutputError,
    UnknownNameError,
    UsageError,
)
from ebmcli.evaluation.residual import ResidualQuality
from ebmcli.registry import Record, edit_registry, read_registry
from ebmcli.registry.lock import locked_run
from ebmcli.workflows import mend as mending
from ebmcli.workflows import own_samples as sampling
from ebmcli.workflows.generate import GenerateRequest, draw_pictures
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.loading import load_base
from ebmcli.workflows.mend import Mended, MendRequest, draw_samples, header, mend, plan_mend, undo
from ebmcli.workflows.own_samples import CHUNK, SampleRequest, concepts_on, own_samples
from ebmcli.workflows.registry import rename

N = 64  # samples; the fewest that are allowed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "squares.h5")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return random_registry(tmp_path / "trained", [COLOR])


@pytest.fixture
def ask(data: Path, registry: Path) -> Any:
    def request(**changes: Any) -> MendRequest:
        options = {"name": SPACE, "data": data, "registry": registry, "samples": N, "steps": 3}
        return MendRequest(**options | {"device": "cpu", "command": "ebm mend-base"} | changes)

    return request


def go(request: MendRequest) -> Mended:
    plan = plan_mend(request)
    pictures = draw_samples(plan, progress=lambda *_: None)
    return mend(plan, pictures, report=lambda _: None)


def go_with_noise(
    request: MendRequest, *, report: Callable[[Any], None] = lambda _: None
) -> Mended:
    """Without the wait for samples, where it does not matter what they show."""
    plan = plan_mend(request)
    source = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (N, 16, 16, 3), dtype=torch.uint8, generator=source)
    plan.folder.mkdir(parents=True, exist_ok=True)
    return mend(plan, noise, report=report)


def sampled(data: Path, **changes: Any) -> SampleRequest:
    options = {"base": SPACE, "data": read_info(data), "n": 2 * CHUNK, "seed": 3}
    return SampleRequest(**options | {"device": torch.device("cpu")} | changes)


def test_a_residual_is_learned_kept_and_used(ask: Any, registry: Path) -> None:
    """The chains of random weights draw what no picture of the data looks like."""
    before = read_registry(registry).get("base", SPACE)
    plain = load_base(read_registry(registry), SPACE)
    mended = go(ask(steps=300))
    record = read_registry(registry).get("base", SPACE)
    assert record == mended.record
    clean = mended.quality[0]  # at the lowest noise
    assert clean.accuracy > 0.8  # 8 of each: by chance 1 in 90
    assert clean.log_loss < 0.8 * math.log(2)
    base = load_base(read_registry(registry), SPACE)
    assert base.residual is not None
    assert record.sha256 == file_digest(registry.parent / record.file) != before.sha256
    x, sigma = torch.rand(3, 3, 16, 16) * 2 - 1, torch.tensor([0.05, 0.5, 2.0])
    ratio = base.log_ratio(x, sigma)
    torch.testing.assert_close(base.energy(x, sigma), plain.energy(x, sigma) - ratio)
    assert float(ratio.abs().min()) > 0
    assert set(record.measured["residual"]) == {"0.05", "0.2", "0.5", "1", "2", "4"}
    assert not list((registry.parent / "runs" / f"mend-{SPACE}").iterdir())


def test_undo_gives_the_very_file_back(ask: Any, registry: Path) -> None:
    before = read_registry(registry).get("base", SPACE)
    go(ask())
    assert undo(registry, SPACE).sha256 == before.sha256
    after = read_registry(registry).get("base", SPACE)
    assert replace(after, file="") == replace(before, file="")
    with pytest.raises(UsageError, match="not been mended"):
        undo(registry, SPACE)


def test_undo_on_the_command_line_asks_first(
    ask: Any, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned took minutes to hours, and its file goes."""
    before = read_registry(registry).get("base", SPACE)
    mended = go_with_noise(ask()).record

    def undone(*words: str, answer: str = "") -> Result:
        command = ["mend-base", SPACE, "--undo", *words, "--registry", str(registry)]
        return CliRunner().invoke(app, command, input=answer)

    refused = undone()
    assert refused.exit_code == 2
    assert refused.stderr == (
        f"error: would take the residual of base {SPACE} away\nhint: add --yes\n"
    )
    monkeypatch.setattr("ebmcli.cli.console.can_ask", lambda: True)
    declined = undone(answer="n\n")
    assert declined.exit_code == 0
    assert "nothing was changed" in declined.stderr
    assert read_registry(registry).get("base", SPACE) == mended
    assert undone(answer="y\n").exit_code == 0
    assert read_registry(registry).get("base", SPACE).sha256 == before.sha256
    go_with_noise(ask())
    monkeypatch.undo()
    assert undone("--yes").exit_code == 0
    assert read_registry(registry).get("base", SPACE).sha256 == before.sha256
    data = CliRunner().invoke(app, ["mend-base", SPACE, "--yes", "--registry", str(registry)])
    assert data.exit_code == 2
    assert "--yes goes with --undo" in data.stderr


@pytest.mark.parametrize("renamed", ["before", "between"])
def test_undo_gives_the_very_file_back_under_another_name(
    ask: Any, registry: Path, renamed: str
) -> None:
    """The header inside the file has the first name; concepts rest on the base as before."""
    before, name = read_registry(registry).get("base", SPACE), SPACE
    if renamed == "before":
        name = rename(registry, name, "plain").name
    mended = go_with_noise(ask(name=name)).record
    if renamed == "between":
        name = rename(registry, name, "plain").name
    assert mended.sha256 != before.sha256
    after = undo(registry, name)
    assert after.sha256 == before.sha256
    assert replace(after, name=SPACE, file="") == replace(before, file="")
    known = read_registry(registry)
    concepts = known.resting_on(name)
    assert concepts
    assert not [concept.name for concept in concepts if known.has_other_base(concept)]


def test_a_base_that_was_trained_anew_meanwhile_stays(
    ask: Any, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record was read at the start, of a mending and of taking the residual away."""

    def anew(*_: object) -> None:
        base = load_base(read_registry(registry), SPACE)
        assert isinstance(base, BaseEnergy)
        with torch.no_grad():
            next(base.parameters()).add_(1)
        composed_with(base, registry)

    def state() -> tuple[bytes, list[str]]:
        return registry.read_bytes(), sorted(map(str, registry.parent.glob("checkpoints/*")))

    with pytest.raises(DigestError, match="has other weights by now"):
        go_with_noise(ask(), report=anew)
    known = read_registry(registry)
    assert known.checked_file(known.get("base", SPACE)).is_file()
    assert "mended" not in known.get("base", SPACE).provenance

    go_with_noise(ask())
    checked, before = mending.check_undo(registry, SPACE), state()
    anew()
    after = state()
    assert after != before
    monkeypatch.setattr(mending, "check_undo", lambda *_: checked)
    with pytest.raises(DigestError, match="has other weights by now"):
        undo(registry, SPACE)
    assert state() == after


def test_a_base_that_an_older_version_mended_is_given_back(ask: Any, registry: Path) -> None:
    """Its record has no header; the file of the mended base has one, with the name of then."""
    before = read_registry(registry).get("base", SPACE)
    mended = go_with_noise(ask()).record
    provenance = {**mended.provenance, "mended": {**mended.provenance["mended"]}}
    provenance["mended"]["before"] = {"sha256": before.sha256, "measured": before.measured}
    with edit_registry(registry) as editor:
        editor.put(replace(mended, provenance=provenance), overwrite=True)
    after = undo(registry, rename(registry, SPACE, "plain").name)
    assert after.sha256 == before.sha256
    assert replace(after, name=SPACE, file="") == replace(before, file="")


def test_leftovers_of_a_killed_command_do_not_fail_a_mending(ask: Any, registry: Path) -> None:
    plan = plan_mend(ask())
    other = plan.folder.with_name("other")
    for folder in (plan.folder, other):
        folder.mkdir(parents=True)
        (folder / ".00000.npy.1a2b3c4d.partial").write_bytes(b"half")
    mended = go_with_noise(ask())
    assert read_registry(registry).get("base", SPACE) == mended.record
    assert not plan.folder.exists()
    assert [file.name for file in other.iterdir()] == [".00000.npy.1a2b3c4d.partial"]


def test_concepts_rest_on_the_same_base_after_mending_and_after_undoing(
    ask: Any, registry: Path
) -> None:
    """Also those of which it is not recorded: what they rested on is recorded then, unmended."""
    for step in (lambda: go(ask()), lambda: undo(registry, SPACE)):
        step()
        known = read_registry(registry)
        concepts = known.resting_on(SPACE)
        assert concepts
        assert not [c.name for c in concepts if known.has_other_base(c)]


def test_a_base_is_mended_once(ask: Any) -> None:
    go(ask())
    with pytest.raises(UsageError, match="already") as caught:
        plan_mend(ask())
    assert "--undo" in str(caught.value.hint)


def test_what_mends_a_base_counts_as_its_training_data(ask: Any, data: Path) -> None:
    assert read_info(data).digest in go(ask()).record.training_data


def test_ctrl_c_keeps_the_samples_and_the_registry(ask: Any, registry: Path) -> None:
    before = read_registry(registry).get("base", SPACE)
    plan = plan_mend(ask())

    def press_ctrl_c(done: int, _: int) -> None:
        if done >= 2 * CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRun) as caught:
        draw_samples(plan, progress=press_ctrl_c)
    assert caught.value.exit_code == 130
    kept = {path: path.stat().st_mtime_ns for path in plan.folder.iterdir()}
    assert len(kept) == 2
    assert read_registry(registry).get("base", SPACE) == before
    draw_samples(plan_mend(ask()), progress=lambda *_: None)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert len(list(plan.folder.iterdir())) == N // CHUNK


def test_one_command_at_a_time_mends_a_base(ask: Any) -> None:
    plan = plan_mend(ask())
    with locked_run(plan.folder.parent), pytest.raises(OutputError, match="by process"):
        draw_samples(plan, progress=lambda *_: None)
    assert not plan.folder.exists()


def test_samples_of_other_weights_lie_elsewhere(ask: Any, registry: Path) -> None:
    first = plan_mend(ask()).folder
    assert plan_mend(ask()).folder == first
    assert plan_mend(ask(seed=1)).folder != first
    with edit_registry(registry) as editor:
        record = editor.registry.get("concept", "color")
        editor.put(replace(record, calibration={"temperatures": {"1": 2.0}}), overwrite=True)
    assert plan_mend(ask()).folder != first


def test_samples_depend_on_their_seed_alone(data: Path, registry: Path, tmp_path: Path) -> None:
    known = read_registry(registry)

    def drawn(folder: str, **changes: Any) -> torch.Tensor:
        request = sampled(data, **changes)
        return own_samples(request, known, tmp_path / folder, progress=lambda *_: None)

    first = drawn("a")
    assert first.shape == (2 * CHUNK, 16, 16, 3)
    assert torch.equal(first, drawn("b"))
    assert torch.equal(first[:20], drawn("a", n=20))
    assert not torch.equal(first, drawn("c", seed=4))


def test_formulas_are_true_of_pictures_of_the_data(
    data: Path, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = sampling.draw_pictures

    def noting(request: Any, known: Any) -> Any:
        if request.base is None:
            asked.append(request.expression)
        assert request.attempts == 1
        return real(request, known)

    monkeypatch.setattr(sampling, "draw_pictures", noting)
    request = sampled(data, n=6 * CHUNK)
    own_samples(request, read_registry(registry), tmp_path / "a", progress=lambda *_: None)
    assert 0 < len(asked) < 6  # some chunks ask for nothing
    for expression in asked:
        compile_formula(parse(expression), {"color": COLOR})


def test_only_concepts_on_this_base_take_part(data: Path, registry: Path) -> None:
    known = read_registry(registry)
    assert set(concepts_on(known, SPACE, read_info(data))) == {"color"}
    assert concepts_on(known, "other", read_info(data)) == {}


def test_what_cannot_be_mended(ask: Any, registry: Path, data: Path, tmp_path: Path) -> None:
    other = squares_file(tmp_path / "other.h5", recipe="circles")
    with pytest.raises(UsageError, match=r"circles-16.*squares-16"):
        plan_mend(ask(data=other))
    with pytest.raises(UnknownNameError):
        plan_mend(ask(name="squares-61"))
    with pytest.raises(ConfigError, match="--samples"):
        ask(samples=10)
    with pytest.raises(ConfigError, match="--steps"):
        ask(steps=0)
    judge = Record(
        kind="judge", name="strict", space=SPACE, file="strict.safetensors",
        sha256=f"sha256:{'0' * 64}", provenance={"data": read_info(data).digest},
    )  # fmt: skip
    with edit_registry(registry) as editor:
        editor.put(judge)
    with pytest.raises(UsageError, match="judge"):
        plan_mend(ask())


def test_pictures_that_look_less_real_than_real_ones_are_drawn_again(
    ask: Any, registry: Path
) -> None:
    """The limit is what 19 of 20 real pictures exceed; here it is moved to both ends."""
    go(ask())
    known = read_registry(registry)
    base = load_base(known, SPACE)
    assert base.residual is not None
    assert bool(base.residual.least.isfinite())
    drawing = GenerateRequest(expression="~color=red", n=4, attempts=2, steps=4, corrector_steps=0)
    attempts = []
    for least in (-math.inf, math.inf):
        base.residual.least.fill_(least)
        composed_with(base, registry)
        attempts.append(draw_pictures(drawing, read_registry(registry)).attempts)
    assert attempts[1] == [2, 2, 2, 2]
    assert sum(attempts[0]) < 8


def composed_with(base: BaseEnergy, registry: Path) -> None:
    """The registry's base replaced by this one."""
    record = read_registry(registry).get("base", SPACE)
    keep_trained(registry, record, base.state_dict(), header(record, base), overwrite=True)


@pytest.mark.parametrize(("log_loss", "by_heart"), [(0.6, False), (0.8, True)])
def test_a_residual_that_is_worse_than_none_is_told(log_loss: float, by_heart: bool) -> None:
    row = ResidualQuality(sigma=0.1, log_loss=log_loss, accuracy=0.5, data=0.0, samples=0.0)
    record = Record(kind="base", name="b", space="s-16", file="b.safetensors", sha256="sha256:0")
    mended = Mended(record=record, quality=[row, replace(row, log_loss=0.69)], before={})
    assert mended.learned_by_heart is by_heart
