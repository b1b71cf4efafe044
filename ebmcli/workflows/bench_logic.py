"""``ebm bench logic``: rules of composition compared on random formulas, at equal energy calls.

Every finished line is written to ``logic.json`` at once, so that a long benchmark can be resumed;
``logic.md`` and the sheet ``logic.png`` are made from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ebmcli.checkpoint import write_bytes
from ebmcli.core.factors import Factor
from ebmcli.datasets.hdf5 import read_info
from ebmcli.errors import InterruptedRun, OutputExistsError, UsageError
from ebmcli.evaluation.formulas import why_not
from ebmcli.evaluation.judge import Judge
from ebmcli.registry import Registry
from ebmcli.workflows.bench_compare import line_of
from ebmcli.workflows.bench_fid import frechet_rows, pictures_of_rules, rows_of_rules
from ebmcli.workflows.bench_page import logic_page
from ebmcli.workflows.bench_pictures import (
    PICTURES,
    check_folder,
    drawn_groups,
    keep,
    kept,
    remove_others,
)
from ebmcli.workflows.bench_plan import (
    BenchRequest,
    Group,
    Line,
    plan_groups,
    plan_lines,
    quick_overrun,
)
from ebmcli.workflows.bench_row import Bench, Draw, Row, same_plan
from ebmcli.workflows.bench_sheet import Sample, logic_sheet, shown_groups, shown_lines
from ebmcli.workflows.calibrate import fresh_data_hint
from ebmcli.workflows.judging import (
    check_reference,
    judge_record,
    load_judge,
    load_reference,
    refuse_unrendered,
)
from ebmcli.workflows.origin import refuse_known
from ebmcli.workflows.results_file import (
    circumstances,
    is_current,
    nothing_left_by_failure,
    open_results,
    write_results,
)

FORMAT, VERSION = "ebm-bench-logic", 1
FILES = ("logic.json", "logic.md", "logic.png")

Document = dict[str, Any]
Report = Callable[[int, int, str], None]  # lines done, lines in all, what is going on


@dataclass(kw_only=True)
class _Work:
    """One benchmark in progress."""

    request: BenchRequest
    registry: Registry
    judge: Judge
    factors: dict[str, Factor]
    lines: list[Line]
    n: int
    draw: Draw
    report: Report
    _groups: dict[str, list[Group]] = field(default_factory=dict)
    _bench: Bench | None = None

    def groups(self, row: str) -> list[Group]:
        """The pictures of a row; the same for every rule."""
        if row not in self._groups:
            seeds = self.request.all_seeds
            self._groups[row] = plan_groups(row, self.factors, n=self.n, seeds=seeds)
        return self._groups[row]

    def bench(self) -> Bench:
        """What measures; real pictures are rendered and read when first asked for."""
        if self._bench is None:
            request = self.request
            self.report(0, len(self.lines), f"{request.space}: reading reference pictures")
            reference = load_reference(
                self.judge, request.space, data=request.data, n_read=0, seed=request.seed
            )
            self._bench = Bench(
                registry=self.registry,
                space=request.space,
                judge=self.judge,
                factors=self.factors,
                reference=reference,
                draw=self.draw,
                sampling=request.sampling,
            )
        return self._bench


def bench_logic(
    request: BenchRequest,
    registry: Registry,
    *,
    draw: Draw,
    report: Report,
    announce: Callable[[str], None] = lambda _: None,
) -> Document:
    """Measure all lines; return the document that is also written to the folder.

    Args:
        request: What to measure.
        registry: Concepts and judges.
        draw: Draws the pictures of several requests, as ``generate.draw_together`` does.
        report: Told how many lines are done, of how many, and what is going on.
        announce: Told if ``quick`` will not be.

    Raises:
        UsageError: No such space, no judge, no formulas over its concepts, or pictures to compare
            with that are of another space or have trained something.
        OutputExistsError: Results are there and neither resumed nor overwritten.
        InterruptedRun: Ctrl-C; finished lines are in the results file.
    """
    work = _planned(request, registry, draw, report)
    path = request.folder / FILES[0]
    document = _opened(work)
    minutes = quick_overrun(work.lines, n=work.n, n_seeds=len(request.all_seeds))
    if request.quick and minutes is not None:
        announce(
            f"note: {len(work.lines)} lines of {work.n} pictures per seed may take "
            f"{minutes:.0f} minutes; fewer --rows or --rules take less"
        )
    try:
        with nothing_left_by_failure(path):
            for done, line in enumerate(work.lines):
                groups = work.groups(line.row)
                if _finished(document, line, groups, registry):
                    continue
                told = partial(report, done, len(work.lines))
                row, images = work.bench().row(line, groups, report=told)
                row["pictures"] = keep(request.folder, line, drawn_groups(row), images)
                document["rows"] = _with(document["rows"], row, line)
                write_results(document, path)
            remove_others(request.folder, document["rows"])
            _compare_with_renders(work, document)
            write_results(document, path)
            _write_pages(work, document)
        if n_gone := sum(_is_gone(row, request.folder) for row in document["rows"]):
            announce(
                f"note: the pictures of {n_gone} finished lines are not in "
                f"{request.folder / PICTURES}: their rules have no new FID; --overwrite draws all"
            )
    except KeyboardInterrupt as error:
        n_rows = len(document["rows"])
        problem = f"interrupted; {n_rows} finished lines are in {path}"
        raise InterruptedRun(problem, hint="the same command with --resume goes on") from error
    return document


def readable_concepts(registry: Registry, space: str, judge: Judge) -> dict[str, Factor]:
    """The concepts of a space that its judge reads, one per factor.

    Two concepts of one factor speak about the same thing: only the first of the registry is taken.
    Lists of objects are left out: random formulas have one value per picture and concept.

    Raises:
        UsageError: There are none.
    """
    found: dict[str, Factor] = {}
    for name, factor in registry.factors(space).items():
        taken = {other.name for other in found.values()}
        if factor.kind == "objects" or factor.name in taken:
            continue
        if judge.factors.get(factor.name) == factor:
            found[name] = factor
    if not found:
        hint = f"it reads {', '.join(judge.factors)}"
        raise UsageError(f"the judge of {space} reads none of its concepts of one value", hint=hint)
    return found


def _planned(request: BenchRequest, registry: Registry, draw: Draw, report: Report) -> _Work:
    """Everything that can be wrong is found here, before anything is drawn."""
    spaces = dict.fromkeys(record.space for record in registry.concepts.values())
    if request.space not in spaces:
        known = f"spaces with concepts: {', '.join(spaces) or 'none'}"
        raise UsageError(f"no concepts of the space {request.space!r}", hint=known)
    judge = load_judge(registry, request.space)
    if request.data is not None:
        info = read_info(request.data)
        check_reference(judge, request.space, info)
        refuse_known(registry, request.space, info, hint=fresh_data_hint(request.space))
    factors = readable_concepts(registry, request.space, judge)
    if request.data is None:
        refuse_unrendered(request.space)
    lines = plan_lines(request, factors)
    n = request.pictures(lines)
    work = _Work(
        request=request, registry=registry, judge=judge, factors=factors,
        lines=lines, n=n, draw=draw, report=report,
    )  # fmt: skip
    work.lines = [line for line in lines if work.groups(line.row)]
    if not work.lines:
        raise UsageError(f"no formula over {', '.join(factors)} is neither rare nor common")
    return work


def _opened(work: _Work) -> Document:
    """A fresh document, or the one to go on with."""
    request, judge = work.request, judge_record(work.registry, work.request.space)
    path = request.folder / FILES[0]
    if not path.exists() and not request.overwrite:
        for name in FILES[1:]:
            if (request.folder / name).exists():
                raise OutputExistsError(request.folder / name)
    check_folder(request.folder, fresh=not path.exists() and not request.overwrite)
    fresh = {
        "format": FORMAT,
        "version": VERSION,
        "command": request.command,
        "settings": request.settings(work.n),
        **circumstances(request.sampling.device),
        "concepts": list(work.factors),
        "rows": [],
    }
    document = open_results(
        fresh, path, by="ebm bench logic", resume=request.resume, overwrite=request.overwrite
    )
    measured = {line.row for line in work.lines}
    left_out = {
        row: why_not(row, work.factors) or "no formula is neither rare nor common"
        for row in request.rows
        if row not in measured
    }
    judges = {judge.name: judge.to_dict()}
    return document | {"concepts": list(work.factors), "judges": judges, "left_out": left_out}


def _finished(document: Document, line: Line, groups: list[Group], registry: Registry) -> bool:
    """Is there a row of this line, of these formulas, with the weights that are registered now?"""
    return any(
        _is_of(row, line) and same_plan(row, groups) and is_current(row["digests"], registry)
        for row in document["rows"]
    )


def _is_gone(row: Row, folder: Path) -> bool:
    """Has a line of the comparison of rules pictures that are no longer there?"""
    return row["part"] == "rules" and row["n"] > 0 and kept(folder, row) is None


def _with(rows: list[Row], row: Row, line: Line) -> list[Row]:
    """The rows with one more, in place of an older one of the same line."""
    return [*(other for other in rows if not _is_of(other, line)), row]


def _is_of(row: Row, line: Line) -> bool:
    return line_of(row) == line


def _compare_with_renders(work: _Work, document: Document) -> None:
    """The FID of every rule on all its pictures, where they are not those of the last time."""
    known = {key: row["pictures"] for key, row in rows_of_rules(document).items()}
    if pictures_of_rules(document) != known:
        n = len(work.lines)
        document["fid"] = frechet_rows(
            document,
            partial(work.bench().features, folder=work.request.folder),
            work.bench().reference,
            work.factors,
            report=partial(work.report, n, n),
        )


def _write_pages(work: _Work, document: Document) -> None:
    """logic.md and logic.png; pictures that are gone are drawn again from their seeds."""
    folder = work.request.folder
    write_bytes(folder / FILES[1], logic_page(document).encode())
    strips = [(title, _samples(work, document, line)) for title, line in shown_lines(document)]
    logic_sheet(strips, folder / FILES[2], document)


def _samples(work: _Work, document: Document, line: Line) -> list[Sample]:
    """The pictures of a strip."""
    row = next(row for row in document["rows"] if _is_of(row, line))
    shown = shown_groups(row)
    images = kept(work.request.folder, row)
    if images is None:
        work.report(len(work.lines), len(work.lines), f"{line.title}: pictures")
        keys = Group.__dataclass_fields__
        groups = [Group(**{key: group[key] for key in keys}) for group in shown]
        first = work.bench().first_pictures(line, groups)
    else:
        drawn = drawn_groups(row)
        starts = [sum(group["n"] for group in drawn[: drawn.index(one)]) for one in shown]
        first = [images[start] for start in starts]
    return [
        Sample(formula=group["formula"], image=image)
        for group, image in zip(shown, first, strict=True)
    ]
