"""Adding a concept: frozen files stay as they are, and a table shows that nothing was lost."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import (
    COLOR,
    PLACE,
    SIZE,
    SPACE,
    TALL,
    TINY,
    WIDTH,
    put_base,
    put_concept,
    random_registry,
    squares,
    squares_file,
)

from ebmcli.checkpoint import file_digest
from ebmcli.core.concepts import METHODS
from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor
from ebmcli.core.statements import resolve
from ebmcli.core.targets import cell_weights
from ebmcli.errors import DigestError, EbmError, InterruptedRun, UnknownNameError, UsageError
from ebmcli.evaluation.judge import Judge, JudgeConfig
from ebmcli.registry import Record, read_registry
from ebmcli.training.loop import StepReport
from ebmcli.workflows import add_concept
from ebmcli.workflows.add_concept import Added, Kept, add, literal, read_share
from ebmcli.workflows.generate import GenerateRequest
from ebmcli.workflows.keeping import keep_trained
from ebmcli.workflows.plans import TrainRequest
from ebmcli.workflows.train import Trained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_file(tmp_path_factory.mktemp("data") / "squares.h5")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Color and position are there; pictures of the table are drawn in few steps."""
    real = GenerateRequest

    def quick(**settings: Any) -> GenerateRequest:
        return real(**settings | {"n": 4, "steps": 3, "corrector_steps": 0})

    monkeypatch.setattr(add_concept, "GenerateRequest", quick)
    monkeypatch.setattr(add_concept, "N_COMPOSED", 4)
    return random_registry(tmp_path / "trained", [COLOR, PLACE])


@pytest.fixture
def ask(data: Path, registry: Path) -> Any:
    def request(**changes: Any) -> TrainRequest:
        settings: dict[str, Any] = {"name": "size", "data": data, "registry": registry}
        settings |= {"assignments": TINY, "device": "cpu", "precision": "fp32", "steps": 2}
        return TrainRequest(**settings | changes)

    return request


def quiet(_: StepReport) -> None:
    return None


def digests(registry: Path) -> dict[str, str]:
    known = read_registry(registry)
    return {record.file: file_digest(known.file(record)) for record in known.records()}


@pytest.mark.parametrize("method", METHODS)
def test_frozen_files_are_the_same_before_and_after(ask: Any, registry: Path, method: str) -> None:
    before = digests(registry)
    added = add(ask(method=method), others=["color", "position"], report=quiet)
    after = digests(registry)
    assert {file: after[file] for file in before} == before
    assert set(after) - set(before) == {"checkpoints/size.safetensors"}
    assert added.trained.record.factor == WIDTH
    assert [kept.name for kept in added.kept] == ["color", "position"]
    for kept in added.kept:
        assert kept.before == kept.after
        assert kept.digest == before[f"checkpoints/{kept.name}.safetensors"]
        assert 0 <= kept.composed <= 1
        assert kept.reader == "itself"  # this space has no judge


def test_a_judge_reads_what_old_and_new_draw_together(ask: Any, registry: Path) -> None:
    """A judge that answers "green" whatever it sees: it is what color is asked for."""
    judge = Judge({"color": COLOR}, JudgeConfig(size=SIZE, widths=(4, 4, 4, 4), n_features=4))
    with torch.no_grad():
        judge.heads.weight.zero_()
        judge.heads.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0]))
    header = {
        "kind": "judge", "space": SPACE, "name": "fixed", "config": judge.config.to_dict(),
        "factors": [COLOR.to_dict()],
    }  # fmt: skip
    record = Record(kind="judge", name="fixed", space=SPACE, file="", sha256="")
    keep_trained(registry, record, judge.state_dict(), header, overwrite=False)
    color, position = add(ask(), others=["color", "position"], report=quiet).kept
    assert (color.reader, color.composed) == ("fixed", 1.0)
    assert position.reader == "itself"  # the judge does not read places


def test_the_table_shows_shares_and_digests() -> None:
    kept = Kept(
        name="color", digest="sha256:0123456789abcdef", before=0.987, after=0.987, composed=0.5,
        reader="itself",
    )  # fmt: skip
    record = {"kind": "concept"}

    class Finished:
        def to_dict(self) -> dict[str, str]:
            return record

    trained = Trained(record=Finished(), weights=Path("w"), seconds=1.0)  # type: ignore[arg-type]
    added = Added(trained=trained, kept=(kept,))
    headers, rows = added.table()
    assert headers == ["concept", "before", "after", "with the new one", "read by", "file"]
    assert rows == [["color", "98.7 %", "98.7 %", "50.0 %", "itself", "unchanged 0123456789ab"]]
    assert added.to_dict() == {"added": record, "kept": [vars(kept)]}


@pytest.mark.parametrize("kind", ["concept", "base"])
def test_a_frozen_file_that_changes_meanwhile_is_noticed(
    ask: Any, registry: Path, kind: Any
) -> None:
    known = read_registry(registry)
    path = known.file(known.get(kind, "color" if kind == "concept" else SPACE))

    def tamper(_: StepReport) -> None:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    with pytest.raises(DigestError, match="a frozen file changed") as caught:
        add(ask(steps=1), others=["color"], report=tamper)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("others", "changes", "kind", "problem"),
    [
        ([], {}, UsageError, "no concept to add to"),
        (["colour"], {}, UnknownNameError, "unknown concept 'colour'"),
        (["color", "size"], {}, UsageError, "size cannot be added to itself"),
        (["moon"], {}, UsageError, "moon is of moons-16"),
        (["other"], {}, UsageError, "share one base"),
        (["hue"], {}, UsageError, "another color than hue has learned"),
        (["weight"], {}, UsageError, "has no labels of weight"),
        (["color"], {"steps": -1}, UsageError, "--steps"),
    ],
)
def test_mistakes_are_found_before_training(
    ask: Any,
    registry: Path,
    others: list[str],
    changes: dict[str, Any],
    kind: type[EbmError],
    problem: str,
) -> None:
    put_concept(registry, TALL, name="moon", space="moons-16", base=None)
    if "other" in others:
        put_base(registry, "second")
        put_concept(registry, TALL, name="other", base="second")
        changes = {"base": SPACE}
    put_concept(registry, Factor(name="color", kind="categorical", names=("a", "b")), name="hue")
    put_concept(registry, Factor(name="weight", kind="scalar"), name="weight")

    def never(_: StepReport) -> None:
        raise AssertionError("training has begun")

    with pytest.raises(kind, match=problem):
        add(ask(**changes), others=others, report=never)
    assert "size" not in read_registry(registry).concepts


def test_a_name_given_twice_counts_once(ask: Any) -> None:
    assert len(add(ask(), others=["color", "color"], report=quiet).kept) == 1


def test_a_base_may_have_the_name_of_a_concept(ask: Any, registry: Path) -> None:
    put_base(registry, "color")
    put_concept(registry, COLOR, base="color")
    added = add(ask(base="color"), others=["color"], report=quiet)
    assert [kept.name for kept in added.kept] == ["color"]


def test_the_resume_command_adds_again(ask: Any) -> None:
    def press(_: StepReport) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun) as caught:
        add(ask(), others=["color", "position"], report=press)
    assert "ebm add-concept size --data" in (caught.value.hint or "")
    assert "--to color,position" in (caught.value.hint or "")
    resumed = add(ask(resume=True), others=["color", "position"], report=quiet)
    assert len(resumed.kept) == 2


class Told:
    """A concept that knows the labels."""

    def __init__(self, factor: Factor, weights: torch.Tensor) -> None:
        self.factor, self.weights, self.next = factor, weights, 0

    def log_posterior(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.next += len(x)
        return self.weights[self.next - len(x) : self.next]


@pytest.mark.parametrize("factor", [COLOR, PLACE, WIDTH], ids=lambda factor: factor.name)
def test_a_share_counts_right_values(factor: Factor) -> None:
    held = squares(factor, n=100)
    assert held.labels is not None
    weights = cell_weights(factor, held.labels)
    assert read_share(Told(factor, weights), held) == 1  # type: ignore[arg-type]
    shifted = weights.clone()
    shifted[:25] = 0
    shifted[:25, 0] = 1
    share = read_share(Told(factor, shifted), held)  # type: ignore[arg-type]
    assert 0.75 <= share < 0.95


@pytest.mark.parametrize(
    ("factor", "text"),
    [(TALL, "tall"), (COLOR, "color=green"), (WIDTH, "size=0.425"), (PLACE, "position=(0.5,0.5)")],
)
def test_statements_of_the_table_are_formulas(factor: Factor, text: str) -> None:
    statement = literal(factor.name, factor, 1)
    assert str(statement) == text
    assert resolve(parse(text), {factor.name: factor})
