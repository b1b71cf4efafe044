"""Comparing the lines of a benchmark, from its document alone.

A rule may refuse formulas. Where two lines are compared, only formulas that both have drawn count:
the seeds of their pictures are the same, so that each formula is compared with itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ebmcli.evaluation.metrics import paired_error, standard_error
from ebmcli.workflows.bench_plan import BRANCHING, OURS, Line

Row = dict[str, Any]
Document = dict[str, Any]

LEAST_DRAWN = 0.5  # of the formulas, chosen: a rule that refuses more is no rival


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How far one line is ahead of another on the formulas both have drawn."""

    rule: str  # of the other
    mean: float  # difference of shares, mean over seeds, in [-1, 1]
    error: float  # standard error over seeds, over formulas or of counting, the largest
    drawn: float  # share of the formulas that count


def line_of(row: Row) -> Line:
    """The line a row was made of."""
    keys = [key for key in Line.__dataclass_fields__ if key != "by_branch"]
    return Line(**{key: row[key] for key in keys}, by_branch=way_of(row).by_branch)


@dataclass(frozen=True, kw_only=True, order=True)
class Way:
    """How a line of the comparison of rules was drawn."""

    attempts: int = 1
    by_branch: bool = False

    @property
    def title(self) -> str:
        """A few words."""
        times = f"{self.attempts} attempt{'s' * (self.attempts > 1)}"
        return f"by branch, {times}" if self.by_branch else times


COMPARED = Way()  # the same number of energy calls and one energy for the whole formula


def way_of(row: Row) -> Way:
    """How a row was drawn.

    Older ones do not say: what was drawn several times was our default, in which a formula with one
    branch is drawn as it is now.
    """
    older = row["attempts"] > 1 and row["row"] not in BRANCHING
    return Way(attempts=row["attempts"], by_branch=row.get("by_branch", older))


def ways_of(document: Document) -> list[Way]:
    """The ways in which our rule was drawn, that of the comparison first."""
    rows = [row for row in document["rows"] if (row["part"], row["rule"]) == ("rules", OURS)]
    return sorted({way_of(row) for row in rows} | {COMPARED})


def rows_of(document: Document, row: str, *, way: Way = COMPARED) -> dict[str, Row]:
    """The rows of one kind of formulas by rule, of the comparison of rules."""
    return {
        found["rule"]: found
        for found in document["rows"]
        if (found["part"], found["row"]) == ("rules", row) and way_of(found) == way
    }


def measured_rows(document: Document, known: Sequence[str]) -> list[str]:
    """The kinds of formulas there are lines of, in the order of ``known``."""
    found = {row["row"] for row in document["rows"] if row["part"] == "rules"}
    return [row for row in known if row in found]


def rules_of(document: Document) -> list[str]:
    """All rules there are lines of, ours first."""
    found = dict.fromkeys(row["rule"] for row in document["rows"] if row["part"] == "rules")
    return sorted(found, key=lambda rule: rule != OURS)


def lead(ours: Iterable[Row], others: Iterable[Row]) -> Lead | None:
    """How far rows are ahead of rows of the same formulas; None where nothing is in common.

    Each seed's difference is that of the shares of right pictures, all its formulas together. Rules
    differ by formula more than by seed, so that the error over formulas often is the largest. Where
    all pictures come out alike, as with few of them they may, that of counting is left.
    """
    theirs = list(others)
    known = {_key(row, group): group for row in ours for group in row["groups"]}
    asked = [(group, known.get(_key(row, group))) for row in theirs for group in row["groups"]]
    pairs = [
        (mine, group)
        for group, mine in asked
        if mine is not None and "right" in mine and "right" in group
    ]
    if not pairs:
        return None
    differences = []
    for seed in sorted({group["seed"] for _, group in pairs}):
        mine, other = zip(*(pair for pair in pairs if pair[1]["seed"] == seed), strict=True)
        differences.append(_right(mine) - _right(other))
    by_formula = [_right([mine]) - _right([other]) for mine, other in pairs]
    errors = [e for e in map(standard_error, (differences, by_formula)) if e is not None]
    counts = [mine["right"] - other["right"] for mine, other in pairs]
    errors.append(paired_error(counts, sum(other["n"] for _, other in pairs)))
    return Lead(
        rule=theirs[0]["rule"],
        mean=sum(differences) / len(differences),
        error=max(errors),
        drawn=len(pairs) / len(asked),
    )


def _key(row: Row, group: Row) -> tuple[str, str, int]:
    return row["row"], group["formula"], group["seed"]


def _right(groups: Sequence[Row]) -> float:
    return float(sum(group["right"] for group in groups) / sum(group["n"] for group in groups))


def leads(document: Document, rows: Sequence[str]) -> list[Lead]:
    """Our lead over every other rule on some kinds of formulas, the smallest first.

    Rules that have not drawn LEAST_DRAWN of the formulas come last.
    """
    by_rule: dict[str, list[Row]] = {}
    for row in rows:
        for rule, one in rows_of(document, row).items():
            by_rule.setdefault(rule, []).append(one)
    ours = by_rule.pop(OURS, [])
    found = [lead(ours, theirs) for theirs in by_rule.values()]
    known = [one for one in found if one is not None]
    return sorted(known, key=lambda one: (one.drawn < LEAST_DRAWN, one.mean))


def best_other(document: Document, rows: Sequence[str]) -> Lead | None:
    """Our lead over the strongest other rule that has drawn LEAST_DRAWN of the formulas."""
    found = [one for one in leads(document, rows) if one.drawn >= LEAST_DRAWN]
    return found[0] if found else None


def metropolis_rows(document: Document) -> dict[tuple[str, int], dict[str, Row]]:
    """Rows of the Metropolis tests: (sampler, steps) -> kind of formulas -> row."""
    table: dict[tuple[str, int], dict[str, Row]] = {}
    for row in document["rows"]:
        if row["part"] == "metropolis":
            key = (row["sampler"], row["corrector_steps"])
            table.setdefault(key, {})[row["row"]] = row
    return dict(sorted(table.items(), key=lambda item: item[0][1]))
