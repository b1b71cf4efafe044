"""The demo, on a tiny space with random weights: what it writes, checks and leaves alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import FACTORS, SIZE, SPACE, random_registry, squares_file
from typer.testing import CliRunner

from ebmcli.checkpoint import write_checkpoint
from ebmcli.cli.app import app
from ebmcli.errors import ConfigError, EbmError, InterruptedRun, OutputExistsError, RenderError
from ebmcli.evaluation.judge import Judge, JudgeConfig
from ebmcli.registry import Record, edit_registry, read_registry
from ebmcli.report import Check
from ebmcli.workflows import add_concept, demo_steps
from ebmcli.workflows import demo as subject
from ebmcli.workflows.demo import Demo, DemoRequest, prepare, run_demo
from ebmcli.workflows.demo_steps import Drawing

FORMULAS = (("faces", "tall & ~(color=red)"), ("either", "color=red | color=blue"))


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.said: list[str] = []
        self.shares: dict[int, list[float]] = {}  # of every step that were done

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[Any]:
        self.steps.append(number)
        shares = self.shares.setdefault(number, [])
        yield lambda done, total, note="": shares.append(done / total)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is bundled: a base, four concepts and a judge, all of random weights."""
    path = random_registry(tmp_path / "bundled")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = JudgeConfig(size=SIZE, widths=(4, 4, 8, 8), n_features=8)
        judge = Judge(FACTORS, config)
    file = "checkpoints/judge-squares.safetensors"
    header = {
        "kind": "judge",
        "space": SPACE,
        "config": config.to_dict(),
        "factors": [factor.to_dict() for factor in FACTORS.values()],
    }
    digest = write_checkpoint(path.parent / file, judge.state_dict(), header)
    with edit_registry(path) as editor:
        record = Record(kind="judge", name="judge-squares", space=SPACE, file=file, sha256=digest)
        editor.put(record)
    return path


@pytest.fixture
def request_(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> DemoRequest:
    """A demo of two pictures a formula and a fraction of a second of training."""

    def render(settings: Any, path: Path, *, workers: int, advance: Any) -> str:
        squares_file(path)
        return f"ebm render-dataset {path}"

    monkeypatch.setattr(subject, "BUNDLED_FORMULAS", FORMULAS)
    monkeypatch.setattr(add_concept, "N_COMPOSED", 2)
    monkeypatch.setattr(demo_steps, "render", render)
    return DemoRequest(out=tmp_path / "out", source=source, minutes=0.002, n=2, levels=3)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_everything_runs_in_order_is_reported_and_leaves_the_source_alone(
    request_: DemoRequest,
) -> None:
    before = tree(request_.source.parent)
    listener = Listener()
    demo = run_demo(request_, listener)
    assert listener.steps == [1, 2, 3, 4, 5, 6, 7]
    together = "drawing pictures of each frozen concept together with the new one"
    assert listener.said == [together]  # that is minutes after the last update
    *shares, last = listener.shares[4]
    assert shares == sorted(shares)
    assert last == 1
    n_calls = len(shares) // 3  # of each formula, whose pictures are drawn three times
    assert shares[2 * n_calls + n_calls // 3 - 1] < 0.95  # not done before what is drawn again
    assert tree(request_.source.parent) == before
    known = read_registry(demo.registry)
    assert {"hue", "where", "color"} <= set(known.concepts)
    assert list(known.judges) == ["judge-squares"]
    assert demo.unchanged == len(demo.frozen) == 5
    assert [len(d.right) for d in demo.drawings] == [2, 2, 2]
    assert demo.drawings[-1].expression == subject.FRESH_FORMULA[1]
    page = demo.report.read_text(encoding="utf-8")
    assert page.count("data:image/png") == 3
    for command in (c for commands in demo.commands.values() for c in commands):
        assert escape(command) in page
    assert "Nothing is forgotten" in page
    document = demo.to_dict()
    assert document["passed"] == all(check["passed"] for check in document["checks"])
    assert len(document["steps"]) == 7


def test_without_opengl_bundled_concepts_are_still_shown(
    request_: DemoRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_opengl(*args: Any, **options: Any) -> str:
        raise RenderError("no OpenGL", hint="install libegl1")

    monkeypatch.setattr(demo_steps, "render", no_opengl)
    listener = Listener()
    demo = run_demo(request_, listener)
    assert listener.steps == [1, 4, 5, 6, 7]
    assert len(listener.said) == 1
    assert "install libegl1" in listener.said[0]
    assert demo.trained is None
    assert [d.title for d in demo.drawings] == ["faces", "either"]
    assert "Left out: steps 1 to 3" in demo.report.read_text(encoding="utf-8")


def test_ctrl_c_says_how_to_start_again(
    request_: DemoRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **options: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_steps, "render", interrupted)
    with pytest.raises(InterruptedRun) as caught:
        run_demo(request_, Listener())
    assert caught.value.hint == f"start again: {request_.command}"
    assert not (request_.out / "report.html").exists()


def test_a_folder_that_no_demo_made_is_never_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "registry.yaml").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError):
            prepare(DemoRequest(out=folder, overwrite=overwrite))
    assert (folder / "registry.yaml").read_text() == "mine"


def test_an_earlier_demo_is_replaced_when_asked_and_other_files_stay(tmp_path: Path) -> None:
    request = DemoRequest(out=tmp_path / "out")
    prepare(request)
    (request.out / "report.html").write_text("old")
    (request.out / "notes.txt").write_text("mine")
    (request.out / "checkpoints").mkdir()
    with pytest.raises(OutputExistsError):
        prepare(request)
    prepare(DemoRequest(out=request.out, overwrite=True))
    assert sorted(p.name for p in request.out.iterdir()) == [subject.MARKER, "notes.txt"]


def drawing(title: str, right: int, agreed: int, n: int = 16) -> Drawing:
    """A formula with so many pictures right, and so many read back."""
    return Drawing(
        title=title, expression=title, command="", folder=Path(), sheet=Path(), seconds=1.0,
        files=(Path(),) * n, probabilities=(1.0,) * n,
        right=tuple(i < right for i in range(n)), agreed=tuple(i < agreed for i in range(n)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("title", "right", "passed"),
    [("faces", 12, True), ("faces", 11, False), ("fresh", 10, True), ("fresh", 9, False)],
)
def test_a_formula_passes_when_enough_of_its_pictures_are_right(
    title: str, right: int, passed: bool
) -> None:
    """75 % of 16 are 12 pictures, 60 % are 9.6."""
    demo = Demo(request=DemoRequest(), drawings=[drawing(title, right, 16)])
    assert subject.checks(demo)[0].passed is passed


def test_a_changed_file_and_unreadable_pictures_fail_the_demo() -> None:
    demo = Demo(
        request=DemoRequest(),
        drawings=[drawing("faces", 16, 14)],
        frozen={"concept color": "sha256:0", "concept old": "sha256:1"},
        unchanged=1,
    )
    verdicts = {check.name: check.passed for check in subject.checks(demo)}
    assert [passed for name, passed in verdicts.items() if "agree" in name] == [False]
    assert [passed for name, passed in verdicts.items() if "unchanged" in name] == [False]


def test_a_failed_check_is_an_error_that_names_it_and_the_page() -> None:
    demo = Demo(request=DemoRequest(out=Path("here")))
    demo.verify()
    demo.checks = [Check("fine", "1", "1", True), Check("pictures", "50 %", "75 %", False)]
    with pytest.raises(EbmError, match=r"1 of 2 checks failed: pictures: 50 %, asked 75 %") as it:
        demo.verify()
    assert it.value.exit_code == 1
    assert "report.html" in str(it.value.hint)


def test_minutes_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="--minutes"):
        DemoRequest(minutes=0)


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_the_command_ends_with_where_to_go_on_and_fails_with_its_checks(
    passed: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(request: DemoRequest, narrator: Any) -> Demo:
        with narrator.step(4, "generate"):
            pass
        return Demo(request=request, checks=[Check("pictures", "9 %", "75 %", passed)])

    monkeypatch.setattr(subject, "run_demo", run)
    done = CliRunner().invoke(app, ["demo", "--out", "here"])
    assert done.exit_code == status, done.output
    last = done.stdout.splitlines()[-3:]
    assert [line.split()[0] for line in last] == ["report:", "next:", "yours:"]
    assert 'ebm generate "old and male and not wavy" -n 16' in last[1]
    assert "[4/7] generate" in done.stderr
    assert ("1 of 1 checks failed" in done.stderr) is not passed


def test_json_is_one_document_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "run_demo", lambda request, narrator: Demo(request=request))
    done = CliRunner().invoke(app, ["demo", "--json"])
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert [step["step"] for step in document["steps"]] == list(subject.TITLES)
