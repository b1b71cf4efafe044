"""``ebm eval``: draw or read many pictures, let the judge look, count, with standard errors.

The judge has its own data and never saw an energy. A picture counts as right when the formula is
true of what the judge reads *and* the judge sees an object at all. Every finished row is written
to the results file at once, so that a long evaluation can be resumed.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ebmcli.core.expression import KEYWORDS, NAME
from ebmcli.datasets.hdf5 import read_info
from ebmcli.datasets.recipes import RECIPES
from ebmcli.errors import InterruptedRun, UnknownNameError, UsageError, nearest
from ebmcli.registry import Registry
from ebmcli.workflows.calibrate import check_readable, fresh_data_hint
from ebmcli.workflows.calibration_scores import CalibrationScorer, chart_files
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.formulas import formula_of, space_of
from ebmcli.workflows.generate_request import GenerateRequest
from ebmcli.workflows.judging import (
    check_reference,
    judge_record,
    load_judge,
    load_labelled,
    load_reference,
    pictures_of,
    refuse_unrendered,
)
from ebmcli.workflows.origin import refuse_known
from ebmcli.workflows.output import check_free
from ebmcli.workflows.results import EvalRequest, is_done, opened
from ebmcli.workflows.results_file import nothing_left_by_failure, write_results
from ebmcli.workflows.scoring import Draw, Scorer
from ebmcli.workflows.suites import CALIBRATION, SUITES, Case, groups, named, suite_cases

__all__ = ["EvalRequest", "evaluate", "list_cases"]

Row = dict[str, Any]
Report = Callable[[int, int, str], None]  # rows done, rows in all, what is going on


def evaluate(
    request: EvalRequest, registry: Registry, *, draw: Draw, report: Report
) -> dict[str, Any]:
    """Work through all rows; return the document that is also written to the results file.

    Args:
        request: What to evaluate.
        registry: Concepts and judges.
        draw: Draws the pictures of several requests, as ``generate.draw_together`` does.
        report: Told how many rows are done, of how many, and what is going on.

    Raises:
        UsageError: A space has no judge, no space is left, or nothing is drawn and an option says
            how to draw.
        OutputExistsError: The results file is there and neither resumed nor overwritten.
        InterruptedRun: Ctrl-C; finished rows are in the results file.
    """
    _check_sampling(request)
    cases = list_cases(request, registry)
    spaces = dict.fromkeys(case.space for case in cases if case.suite != CALIBRATION)
    judges = [judge_record(registry, space) for space in spaces]  # missing ones are found early
    for space in spaces:
        _check_reference(request, registry, space)
    _check_calibration(request, registry, cases)
    document = opened(request)
    document["judges"] = {record.name: record.to_dict() for record in judges}
    try:
        with nothing_left_by_failure(request.results):
            for row in _rows(request, registry, cases, document, draw=draw, report=report):
                same = ("suite", "space", "template")
                others = [r for r in document["rows"] if any(r[key] != row[key] for key in same)]
                document["rows"] = [*others, row]
                write_results(document, request.results)
    except KeyboardInterrupt as error:
        if request.results is None:
            raise
        n_rows = len(document["rows"])
        problem = f"interrupted; {n_rows} finished rows are in {request.results}"
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
    scorers: dict[tuple[str, bool], Scorer | CalibrationScorer] = {}
    for done, case in enumerate(cases):
        if is_done(document, case, registry):
            continue
        key = (case.space, case.suite == CALIBRATION)
        if key not in scorers:
            report(done, len(cases), f"{case.space}: reading reference pictures")
            make = _calibration_scorer if case.suite == CALIBRATION else partial(_scorer, draw=draw)
            scorers[key] = make(request, registry, case.space)
        yield scorers[key].row(case, report=partial(report, done, len(cases)))


def list_cases(request: EvalRequest, registry: Registry) -> list[Case]:
    """All rows in order: suites for every space in question, formulas for their own.

    Raises:
        UsageError: No space has both concepts and a judge.
        ExpressionError, UnknownNameError: A formula is wrong.
    """
    cases: list[Case] = []
    for target in request.drawn_targets:
        if target not in SUITES:
            _check_word(target, registry)
            space = _space_of_template(target, registry)
            if request.space not in (None, space):
                hint = f"leave --space out, or ask for concepts of {request.space}"
                raise UsageError(f"{target} is of {space}, not of {request.space}", hint=hint)
            cases.append(Case(suite="formula", space=space, template=target))
            continue
        for space in _spaces(request, registry):
            cases += suite_cases(target, space, registry.factors(space))
    if request.calibrated is not None:
        cases += _calibration_cases(request, registry)
    return list(dict.fromkeys(cases))


def _calibration_cases(request: EvalRequest, registry: Registry) -> list[Case]:
    """One row for each concept that was named, or for all of the spaces in question."""
    if request.calibrated:
        records = [registry.get("concept", name) for name in request.calibrated]
        other = [r.name for r in records if request.space not in (None, r.space)]
        if other:
            hint = "leave --space out, or name concepts of that space"
            raise UsageError(f"{other[0]} is no concept of {request.space}", hint=hint)
        return [Case(suite=CALIBRATION, space=r.space, template=r.name) for r in records]
    spaces = _spaces(request, registry, judged=False)
    if request.data is None:
        spaces = [space for space in spaces if space.rpartition("-")[0] in RECIPES]
    if not spaces:
        hint = "give labelled pictures of a space: --data FILE"
        raise UsageError(f"no space in {registry.path} can be rendered", hint=hint)
    return [c for s in spaces for c in suite_cases(CALIBRATION, s, registry.factors(s))]


def _check_sampling(request: EvalRequest) -> None:
    """Refuse options of drawing where no picture is drawn: they would change nothing."""
    if any(target != "inference" for target in request.drawn_targets):
        return
    default = GenerateRequest()
    for name in ("logic", "sampler", "corrector_steps", "chains", "strength", "steps", "attempts"):
        if getattr(request.sampling, name) != getattr(default, name):
            option, words = f"--{name.replace('_', '-')}", " and ".join(request.targets)
            hint = f"leave {option} out, or add what draws pictures, such as single"
            raise UsageError(f"{words} draws no pictures: {option} has no effect", hint=hint)


def _check_calibration(request: EvalRequest, registry: Registry, cases: list[Case]) -> None:
    """Find early what pictures of the user lack, and charts that are there already."""
    for case in cases:
        if case.suite == CALIBRATION:
            record = registry.get("concept", case.template)
            if request.data is None:
                refuse_unrendered(record.space)
            else:
                check_readable(record, read_info(request.data))
            if request.folder is not None and not (request.resume or request.overwrite):
                check_free(chart_files(request.folder, record.name))


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


def _spaces(request: EvalRequest, registry: Registry, *, judged: bool = True) -> list[str]:
    """The spaces that a suite speaks about; those without a judge only where it needs none."""
    trained = list(dict.fromkeys(record.space for record in registry.concepts.values()))
    if request.space is not None:
        if request.space not in trained:
            known = f"spaces with concepts: {', '.join(trained) or 'none'}"
            raise UsageError(f"no concepts of the space {request.space!r}", hint=known)
        return [request.space]
    if request.data is not None:
        trained = [space for space in trained if space == read_info(request.data).space]
    if not judged:
        return trained
    with_judge = {record.space for record in registry.judges.values()}
    found = [space for space in trained if space in with_judge]
    if not found:
        hint = "train one: ebm train-judge NAME --data FILE, with data no energy has seen"
        raise UsageError(f"no space in {registry.path} has concepts and a judge", hint=hint)
    return found


def _calibration_scorer(request: EvalRequest, registry: Registry, space: str) -> CalibrationScorer:
    n = request.n * request.seeds
    with pictures_of(space, data=request.data, n=n, seed=request.seed) as info:
        return CalibrationScorer(
            registry=registry,
            data=load_labelled(info, n),
            info=info,
            n=request.n,
            seeds=request.all_seeds,
            device=resolve_device(request.sampling.device),
            folder=request.folder,
        )


def _check_reference(request: EvalRequest, registry: Registry, space: str) -> None:
    """Refuse early to compare with pictures of another space, or with known ones.

    Known are those that a concept, a base or the judge was trained on.
    """
    inferred = "inference" in request.drawn_targets
    if not (request.fid or inferred):
        return
    if request.data is None:
        refuse_unrendered(space, instead="" if inferred else "; or --no-fid")
        return
    info = read_info(request.data)
    check_reference(load_judge(registry, space), space, info)
    refuse_known(registry, space, info, hint=fresh_data_hint(space))


def _scorer(request: EvalRequest, registry: Registry, space: str, *, draw: Draw) -> Scorer:
    judge = load_judge(registry, space)
    n_read = request.n * request.seeds if "inference" in request.drawn_targets else 0
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
