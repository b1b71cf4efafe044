"""ebm bench logic with random networks, a random judge and pictures made by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from several_requests import each
from squares import COLOR, FACTORS, SIZE, SPACE, put_concept, random_registry, squares_file

from ebmcli.core.expression import parse
from ebmcli.errors import (
    ConfigError,
    ExpressionError,
    FileFormatError,
    InterruptedRun,
    OutputError,
    OutputExistsError,
    UsageError,
)
from ebmcli.registry import Registry, read_registry
from ebmcli.workflows.bench_logic import bench_logic, readable_concepts
from ebmcli.workflows.bench_pictures import drawn_groups, kept
from ebmcli.workflows.bench_plan import BenchRequest
from ebmcli.workflows.bench_sheet import shown_groups
from ebmcli.workflows.generate import GenerateRequest, draw_together
from ebmcli.workflows.judge import JudgeRequest, train_judge
from ebmcli.workflows.judging import load_judge

Drawer = Callable[[GenerateRequest], "Made"]


def quiet(*_: object) -> None:
    return None


@dataclass
class Made:
    images: NDArray[np.uint8]
    attempts: list[int]
    n_energy_calls: int = 63
    seconds: float = 0.5
    digests: dict[str, str] = field(default_factory=dict)


def draw(request: GenerateRequest) -> Made:
    """Noise; twice as many attempts as one where several are allowed."""
    source = np.random.default_rng(request.seed)
    images = source.integers(256, size=(request.n, SIZE, SIZE, 3), dtype=np.uint8)
    return Made(images=images, attempts=[min(2, request.attempts)] * request.n)


def refusing(request: GenerateRequest) -> Made:
    """As the paper's rules: no density for a formula that begins with a negation."""
    if request.logic == "paper" and request.expression.startswith("~"):
        raise ExpressionError("by the paper's rules this is no density", request.expression, 0)
    return draw(request)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with four concepts, a second one of color, and a judge of four updates."""
    folder = tmp_path_factory.mktemp("home")
    path = random_registry(folder)
    put_concept(path, COLOR, name="hue")
    request = JudgeRequest(
        name="judge-squares", data=squares_file(folder / "judge.h5", seed=1), registry=path,
        held=squares_file(folder / "held.h5", seed=2), steps=4,
    )  # fmt: skip
    train_judge(request, report=quiet)
    return folder


@pytest.fixture
def registry(home: Path) -> Registry:
    return read_registry(home / "registry.yaml")


def ask(home: Path, folder: Path, **changes: Any) -> BenchRequest:
    sampling = GenerateRequest(expression="", device="cpu", steps=3, corrector_steps=1)
    settings: dict[str, Any] = {
        "space": SPACE, "n": 6, "seeds": 2, "rules": ("exact", "paper"), "folder": folder,
        "data": home / "held.h5", "rows": ("not", "or-values"), "command": "ebm bench logic",
    }  # fmt: skip
    return BenchRequest(**{"sampling": sampling, **settings, **changes})


def test_every_line_has_its_numbers_and_a_refusal_is_one(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    found = bench_logic(ask(home, tmp_path), registry, draw=each(refusing), report=quiet)
    rows = {(row["row"], row["rule"], row["attempts"]): row for row in found["rows"]}
    assert set(rows) == {
        (row, rule, n) for row in ("not", "or-values") for rule, n in
        (("exact", 1), ("exact", 3), ("paper", 1))
    }  # fmt: skip
    exact, paper = rows["not", "exact", 1], rows["not", "paper", 1]
    assert exact["n"] == 12
    assert exact["energy_calls"] == 63
    assert rows["not", "exact", 3]["energy_calls"] == 126
    assert exact["strength"] == 4.0
    assert paper["strength"] == 1.0
    assert exact["refused"] == {"formulas": 0, "of": 4, "share": 0.0, "reasons": {}}
    refused = [g for g in paper["groups"] if "refused" in g]
    assert refused == [g for g in paper["groups"] if g["formula"].startswith("~")]
    assert refused
    assert paper["refused"]["share"] == len(refused) / 4
    assert paper["refused"]["reasons"] == {"by the paper's rules this is no density": len(refused)}
    assert paper["n"] == 12 - sum(group["n"] for group in refused)
    assert exact["unwanted"]["n"] == 12
    assert 0 <= exact["ceiling"] <= 1
    either = rows["or-values", "exact", 1]["branches"]
    assert {one["formula"] for one in either["shares"]} <= {
        group["formula"] for group in rows["or-values", "exact", 1]["groups"]
    }
    assert json.loads((tmp_path / "logic.json").read_text()) == found
    assert "## Aims" in (tmp_path / "logic.md").read_text()
    assert (tmp_path / "logic.png").exists()


def test_all_rules_draw_the_same_formulas_from_the_same_seeds(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    asked: dict[str, list[tuple[str, int, int]]] = {}

    def noting(request: GenerateRequest) -> Made:
        if request.attempts == 1 and request.sampler == "auto" and request.branches != "prior":
            what = (request.expression, request.seed, request.n)
            asked.setdefault(request.logic, []).append(what)
        return draw(request)

    bench_logic(ask(home, tmp_path, rows=("nested-2",)), registry, draw=each(noting), report=quiet)
    assert asked["exact"] == asked["paper"]
    assert len(set(asked["exact"])) == len(asked["exact"])


def test_a_rule_that_refuses_everything_has_a_line_without_numbers(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    def never(request: GenerateRequest) -> Made:
        if request.logic == "paper":
            raise ExpressionError("no", request.expression, 0)
        return draw(request)

    request = ask(home, tmp_path, rows=("and-2", "or-values"))
    found = bench_logic(request, registry, draw=each(never), report=quiet)
    for row in found["rows"]:
        if row["rule"] == "paper":
            assert row["refused"]["share"] == 1
            assert row["accuracy"] is row["energy_calls"] is row["fid"]["value"] is None
    assert "all refused" in (tmp_path / "logic.md").read_text()


def test_our_own_rule_refuses_nothing(home: Path, registry: Registry, tmp_path: Path) -> None:
    def broken(request: GenerateRequest) -> Made:
        raise ExpressionError("no", request.expression, 0)

    with pytest.raises(ExpressionError):
        bench_logic(ask(home, tmp_path), registry, draw=each(broken), report=quiet)


def test_a_resumed_benchmark_draws_only_what_is_missing(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    drawn: list[str] = []

    def interrupted(request: GenerateRequest) -> Made:
        if request.logic == "paper":
            raise KeyboardInterrupt
        return draw(request)

    def noting(request: GenerateRequest) -> Made:
        drawn.append(f"{request.logic} {request.attempts} {request.n}")
        return draw(request)

    request = ask(home, tmp_path, rows=("and-2",))
    with pytest.raises(InterruptedRun, match="1 finished lines"):
        bench_logic(request, registry, draw=each(interrupted), report=quiet)
    with pytest.raises(OutputExistsError):
        bench_logic(request, registry, draw=each(noting), report=quiet)
    again = ask(home, tmp_path, rows=("and-2",), resume=True)
    found = bench_logic(again, registry, draw=each(noting), report=quiet)
    assert {text.rpartition(" ")[0] for text in drawn} == {"paper 1", "exact 3"}
    assert len(found["rows"]) == 3
    drawn.clear()
    sheet = (tmp_path / "logic.png").read_bytes()
    assert bench_logic(again, registry, draw=each(noting), report=quiet) == found
    assert drawn == []
    assert (tmp_path / "logic.png").read_bytes() == sheet
    more = ask(home, tmp_path, rows=("implies",), rules=("exact",), resume=True)
    assert len(bench_logic(more, registry, draw=each(draw), report=quiet)["rows"]) == 6
    with pytest.raises(ConfigError, match="another n: 6"):
        bench_logic(ask(home, tmp_path, resume=True, n=7), registry, draw=each(draw), report=quiet)
    one = ask(home, tmp_path, rows=("and-2",), overwrite=True, rules=("paper",))
    assert len(bench_logic(one, registry, draw=each(draw), report=quiet)["rows"]) == 1


def test_every_picture_stays_with_its_formula(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    """Pictures of one gray value each, by their seed: in files, on the sheet, in the FID."""

    def gray(seed: int) -> int:
        return seed * 37 % 251

    def painted(request: GenerateRequest) -> Made:
        if request.logic == "paper" and request.expression.startswith("~"):
            raise ExpressionError("no", request.expression, 0)
        images = np.full((request.n, SIZE, SIZE, 3), gray(request.seed), dtype=np.uint8)
        return Made(images=images, attempts=[1] * request.n)

    request = ask(home, tmp_path, n=75, rows=("not",), data=None)
    request = replace(request, data=squares_file(tmp_path / "many.h5", n=900, seed=3))
    found = bench_logic(request, registry, draw=each(painted), report=quiet)
    for row in found["rows"]:
        images = kept(tmp_path, row)
        assert images is not None
        groups = drawn_groups(row)
        expected = [gray(g["first_picture_seed"]) for g in groups for _ in range(g["n"])]
        assert images[:, 0, 0, 0].tolist() == expected
        assert len(set(expected)) > 10
    with Image.open(tmp_path / "logic.png") as image:
        sheet = set(np.asarray(image.convert("RGB")).reshape(-1, 3)[:, 0].tolist())
    shown = shown_groups(found["rows"][0])
    assert {gray(group["first_picture_seed"]) for group in shown} <= sheet
    fid = {(row["rule"], row["attempts"]): row for row in found["fid"]}
    ours, paper, default = (fid[key] for key in (("exact", 1), ("paper", 1), ("exact", 3)))
    assert (ours["n"], default["n"]) == (150, 150)
    assert ours["value"] == default["value"] == default["ours"] > 10 * ours["floor"]
    assert paper["n"] < 150
    assert "| exact | 1 attempt |" in (tmp_path / "logic.md").read_text()


def test_pictures_of_other_results_are_neither_replaced_nor_left(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    def never(request: GenerateRequest) -> Made:
        raise AssertionError(request)

    rows = ("and-2",)
    bench_logic(ask(home, tmp_path, rows=rows), registry, draw=each(draw), report=quiet)
    own = tmp_path / "pictures" / "holiday.png"
    Image.new("RGB", (4, 4)).save(own)
    for path in tmp_path.glob("logic.*"):
        path.unlink()
    with pytest.raises(OutputExistsError, match="pictures"):
        bench_logic(ask(home, tmp_path, rows=rows), registry, draw=each(never), report=quiet)
    fewer = ask(home, tmp_path, rows=rows, rules=("exact",), overwrite=True)
    found = bench_logic(fewer, registry, draw=each(draw), report=quiet)
    files = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert files == {
        "holiday.png", "and-2-exact-1-steps-1-attempt.png",
        "and-2-exact-1-steps-by-branch-3-attempts.png",
    }  # fmt: skip
    notes: list[str] = []
    for row in found["rows"]:
        (tmp_path / row["pictures"]["file"]).unlink()
    again = ask(home, tmp_path, rows=rows, rules=("exact",), resume=True)
    bench_logic(again, registry, draw=each(draw), report=quiet, announce=notes.append)
    assert "the pictures of 2 finished lines are not in" in notes[0]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pictures").write_text("a file")
    with pytest.raises(OutputError, match="it is a file"):
        bench_logic(ask(home, tmp_path / "other"), registry, draw=each(never), report=quiet)


def test_new_weights_and_new_formulas_are_measured_again(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    request = ask(home, tmp_path, rows=("and-2",), rules=("paper",))
    bench_logic(request, registry, draw=each(draw), report=quiet)
    path = tmp_path / "logic.json"
    calls: list[str] = []

    def noting(request: GenerateRequest) -> Made:
        calls.append(request.expression)
        return draw(request)

    def measured_again(change: Callable[[dict[str, Any]], None]) -> bool:
        document = json.loads(path.read_text())
        change(document["rows"][0])
        path.write_text(json.dumps(document))
        calls.clear()
        again = ask(home, tmp_path, rows=("and-2",), rules=("paper",), resume=True)
        found = bench_logic(again, registry, draw=each(noting), report=quiet)
        return len(calls) > 0 and len(found["rows"]) == 1 and len(set(calls)) == 4

    assert not measured_again(lambda row: None)
    assert measured_again(lambda row: row["digests"].update({"judge judge-squares": "sha256:0"}))
    assert measured_again(lambda row: row["groups"][0].update({"formula": "tall"}))


def test_mistakes_are_found_before_anything_is_drawn(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    def never(request: GenerateRequest) -> Made:
        raise AssertionError(request)

    with pytest.raises(UsageError, match="no concepts of the space 'moons-64'"):
        bench_logic(ask(home, tmp_path, space="moons-64"), registry, draw=each(never), report=quiet)
    (tmp_path / "logic.md").write_text("a page of somebody else")
    with pytest.raises(OutputExistsError, match=r"logic\.md"):
        bench_logic(ask(home, tmp_path), registry, draw=each(never), report=quiet)
    (tmp_path / "logic.json").write_text("{}")
    with pytest.raises(FileFormatError, match="holds no results of ebm bench logic"):
        bench_logic(ask(home, tmp_path, resume=True), registry, draw=each(never), report=quiet)


def test_pictures_that_something_was_trained_on_are_refused(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    """As by ebm eval: the judge's own file, and a longer one that begins with its pictures."""
    longer = squares_file(tmp_path / "longer.h5", seed=1, n=140)
    known = {
        home / "judge.h5": r"judge\.h5 has trained the judge judge-squares; others tell more",
        longer: r"longer\.h5 begins with the pictures, rendered with seed 1, that have trained",
    }
    for data, message in known.items():
        with pytest.raises(UsageError, match=message) as caught:
            bench_logic(
                ask(home, tmp_path / "out", data=data), registry, draw=each(draw), report=quiet
            )
        assert (caught.value.hint or "").startswith(f"import other pictures of {SPACE}")
        assert not (tmp_path / "out").exists()


def test_a_space_without_a_judge_is_refused(tmp_path: Path) -> None:
    registry = read_registry(random_registry(tmp_path / "registry", [COLOR]))
    with pytest.raises(UsageError, match="no judge of squares-16"):
        bench_logic(ask(tmp_path, tmp_path / "out"), registry, draw=each(draw), report=quiet)


def test_two_concepts_of_one_factor_are_never_asked_together(registry: Registry) -> None:
    judge = load_judge(registry, SPACE)
    assert list(readable_concepts(registry, SPACE, judge)) == list(FACTORS)
    judge.factors = {}
    with pytest.raises(UsageError, match="reads none of its concepts"):
        readable_concepts(registry, SPACE, judge)


def test_the_whole_way_with_chains_of_random_networks(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    """The paper's rules refuse by themselves what they have no density for."""
    request = ask(home, tmp_path, n=2, seeds=2, rows=("not", "or-concepts"))
    found = bench_logic(
        request, registry, draw=partial(draw_together, registry=registry), report=quiet
    )
    assert len(found["rows"]) == 7
    compared = [row for row in found["rows"] if row["attempts"] == 1]
    calls = {row["energy_calls"] for row in compared if row["n"]}
    assert calls == {2 * 3 - 1 + 2}  # Heun on three levels, a step on the two at 0.3 and above
    for row in found["rows"]:
        digests = dict(row["digests"])
        assert digests.pop("judge judge-squares") == registry.judges["judge-squares"].sha256
        for name, digest in digests.items():
            kind, _, own = name.partition(" ")
            assert registry.get(kind, own).sha256 == digest
        for group in row["groups"]:
            parse(group["formula"])
    assert (tmp_path / "logic.png").exists()
