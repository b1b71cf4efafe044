"""``ebm eval``: draw or read many pictures, let the judge look, count, with standard errors.

The judge has its own data and never saw an energy. A picture counts as right when the formula is
true of what the judge reads *and* the judge sees an object at all. Every finished row is written
to the results file at once, so that a long evaluation can be resumed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ebmcli.core.expression import KEYWORDS, NAME
from ebmcli.errors import (
    ConfigError,
    InterruptedRun,
    UnknownNameError,
    UsageError,
    nearest,
)
from ebmcli.registry import Registry
from ebmcli.workflows.formulas import formula_of, space_of
from ebmcli.workflows.generate import GenerateRequest
from ebmcli.workflows.judging import judge_record, load_judge, load_reference
from ebmcli.workflows.results_file import circumstances, is_current, open_results, write_results
from ebmcli.workflows.scoring import Draw, Scorer
from ebmcli.workflows.suites import SUITES, Case, groups, named, suite_cases

FORMAT, VERSION = "ebm-eval", 1
MAX_SEED = 4000  # seeds of pictures stay below 2^32

Row = dict[str, Any]
Report = Callable[[int, int, str], None]  # rows done, rows in all, what is going on


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What ``ebm eval`` was asked for."""

    targets: tuple[str, ...]  # suites or formulas
    sampling: GenerateRequest  # its expression, n and seed are replaced
    n: int = 500  # pictures per row and seed
    seeds: int = 3
    seed: int = 0  # the first
    space: str | None = None  # None: that of the data, or every space with a judge
    data: Path | None = None  # labelled pictures for FID and inference; None: rendered afresh
    fid: bool = True
    output: Path | None = None
    resume: bool = False
    overwrite: bool = False
    command: str = ""  # as typed

    def __post_init__(self) -> None:
        if not self.targets:
            hint = f"name a formula or one of {', '.join(SUITES)}"
            raise UsageError("nothing to evaluate", hint=hint)
        if self.n < 2 or self.seeds < 1:
            raise ConfigError("-n must be at least 2 and --seeds at least 1")
        if not 0 <= self.seed <= self.seed + self.seeds <= MAX_SEED:
            raise ConfigError(f"--seed and --seeds stay below {MAX_SEED}")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds whose spread gives the standard error."""
        return [self.seed + i for i in range(self.seeds)]

    def settings(self) -> dict[str, Any]:
        """What every row of one results file has in common."""
        ignored = ("expression", "n", "seed", "start_image", "keep_frames", "batch_size")
        sampling = {k: v for k, v in asdict(self.sampling).items() if k not in ignored}
        data = str(self.data) if self.data else None
        return {"n": self.n, "seeds": self.all_seeds, "sampling": sampling, "data": data}


def evaluate(
    request: EvalRequest, registry: Registry, *, draw: Draw, report: Report
) -> dict[str, Any]:
    """Work through all rows; return the document that is also written to the results file.

    Args:
        request: What to evaluate.
        registry: Concepts and judges.
        draw: Draws the pictures of one request, as ``generate.draw_pictures`` does.
        report: Told how many rows are done, of how many, and what is going on.

    Raises:
        UsageError: A space has no judge, or no space is left.
        OutputExistsError: The results file is there and neither resumed nor overwritten.
        InterruptedRun: Ctrl-C; finished rows are in the results file.
    """
    cases = list_cases(request, registry)
    spaces = dict.fromkeys(case.space for case in cases)
    judges = [judge_record(registry, space) for space in spaces]  # missing ones are found early
    document = _opened(request)
    document["judges"] = {record.name: record.to_dict() for record in judges}
    try:
        for row in _rows(request, registry, cases, document, draw=draw, report=report):
            same = ("suite", "space", "template")
            others = [r for r in document["rows"] if any(r[key] != row[key] for key in same)]
            document["rows"] = [*others, row]
            write_results(document, request.output)
    except KeyboardInterrupt as error:
        if request.output is None:
            raise
        n_rows = len(document["rows"])
        problem = f"interrupted; {n_rows} finished rows are in {request.output}"
        raise InterruptedRun(problem, hint="the same command with --resume goes on") from error
    return document


def _rows(
    request: EvalRequest,
    registry: Registry,
    cases: list[Case],
    document: dict[str, Any],
    *,
    draw: Draw,
    report: Report,
) -> Iterator[Row]:
    """The rows that the document lacks, one by one."""
    scorers: dict[str, Scorer] = {}
    for done, case in enumerate(cases):
        if _is_done(document, case, registry):
            continue
        if case.space not in scorers:
            report(done, len(cases), f"{case.space}: reading reference pictures")
            scorers[case.space] = _scorer(request, registry, case.space, draw)
        yield scorers[case.space].row(case, report=partial(report, done, len(cases)))


def list_cases(request: EvalRequest, registry: Registry) -> list[Case]:
    """All rows in order: suites for every space in question, formulas for their own.

    Raises:
        UsageError: No space has both concepts and a judge.
        ExpressionError, UnknownNameError: A formula is wrong.
    """
    cases: list[Case] = []
    for target in request.targets:
        if target not in SUITES:
            _check_word(target, registry)
            space = _space_of_template(target, registry)
            cases.append(Case(suite="formula", space=space, template=target))
            continue
        for space in _spaces(request, registry):
            cases += suite_cases(target, space, registry.factors(space))
    return list(dict.fromkeys(cases))


def _space_of_template(target: str, registry: Registry) -> str:
    """The space of a formula; in ``color=?`` any value is tried, to check all the rest.

    Raises:
        ExpressionError, UnknownNameError: The formula is wrong.
    """
    if "=?" not in target:
        return formula_of(registry, target)[1]
    space = space_of(registry, [name for name in named(target) if name not in KEYWORDS])
    first, _ = groups(target, registry.factors(space), n=1, seed=0)[0]
    return formula_of(registry, first)[1]


def _check_word(target: str, registry: Registry) -> None:
    """A single word that is no concept may be a misspelt suite."""
    known = [*SUITES, *registry.concepts]
    if re.fullmatch(NAME, target) and target not in known and nearest(target, SUITES):
        raise UnknownNameError("suite or concept", target, known)


def _spaces(request: EvalRequest, registry: Registry) -> list[str]:
    """The spaces that a suite speaks about."""
    trained = list(dict.fromkeys(record.space for record in registry.concepts.values()))
    if request.space is not None:
        if request.space not in trained:
            known = f"spaces with concepts: {', '.join(trained) or 'none'}"
            raise UsageError(f"no concepts of the space {request.space!r}", hint=known)
        return [request.space]
    if request.data is not None:
        from ebmcli.datasets.hdf5 import read_info

        trained = [space for space in trained if space == read_info(request.data).space]
    judged = {record.space for record in registry.judges.values()}
    found = [space for space in trained if space in judged]
    if not found:
        hint = "train one: ebm train-judge NAME --data FILE, with data no energy has seen"
        raise UsageError(f"no space in {registry.path} has concepts and a judge", hint=hint)
    return found


def _scorer(request: EvalRequest, registry: Registry, space: str, draw: Draw) -> Scorer:
    judge = load_judge(registry, space)
    n_read = request.n * request.seeds if "inference" in request.targets else 0
    reference = None
    if request.fid or n_read:
        reference = load_reference(
            judge, space, data=request.data, n_read=n_read, seed=request.seed
        )
    return Scorer(
        registry=registry,
        judge=judge,
        reference=reference,
        draw=draw,
        sampling=request.sampling,
        n=request.n,
        seeds=request.all_seeds,
        fid=request.fid,
    )


def _opened(request: EvalRequest) -> dict[str, Any]:
    """A fresh document, or the one to go on with."""
    fresh = {
        "format": FORMAT,
        "version": VERSION,
        "command": request.command,
        "settings": request.settings(),
        **circumstances(request.sampling.device),
        "rows": [],
    }
    return open_results(
        fresh,
        request.output,
        by="ebm eval",
        resume=request.resume,
        overwrite=request.overwrite,
    )


def _is_done(document: dict[str, Any], case: Case, registry: Registry) -> bool:
    """Is there a row for this case, made with the weights that are registered now?"""
    wanted = asdict(case).items()
    return any(
        all(row[key] == value for key, value in wanted) and is_current(row["digests"], registry)
        for row in document["rows"]
    )
