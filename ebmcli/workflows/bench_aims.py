"""What the benchmark of logic aims at: chosen beforehand, not fitted to what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ebmcli.evaluation.formulas import NESTED, OR_ROWS
from ebmcli.evaluation.metrics import share_error
from ebmcli.workflows.bench_compare import COMPARED, Way, best_other, measured_rows, rows_of
from ebmcli.workflows.bench_plan import OURS

RIGHT = {  # share of right pictures, at least
    "and-2": 0.97,
    "and-3": 0.95,
    "or-values": 0.98,
    "or-concepts": 0.98,
    "implies": 0.97,
    **dict.fromkeys(NESTED, 0.95),
}
BRANCH_GAP = 0.10  # distance of an alternative's share from the prior's, at most
UNWANTED = 0.02  # share of pictures that show what was negated, at most
LEAD = 0.05  # of exact before the best other rule on nested formulas, at least


@dataclass(frozen=True, kw_only=True)
class Aim:
    """One aim and what came of it; shares in [0, 1]."""

    text: str
    limit: float
    at_least: bool
    value: float | None
    error: float | None

    @property
    def verdict(self) -> str:
        """Met or missed, by the mean; nothing is rounded in our favour."""
        if self.value is None:
            return "not measured"
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if met else "missed"


def aims(document: dict[str, Any], *, way: Way = COMPARED) -> Iterator[Aim]:
    """Every aim of the rows that were measured, for our rule drawn in one way.

    The lead before other rules is taken as they are compared only: else energy calls differ.
    """
    for row in measured_rows(document, (*RIGHT, "not")):
        found = rows_of(document, row, way=way).get(OURS, {})
        if row in RIGHT:
            mean, error = mean_and_error(found.get("accuracy"))
            yield Aim(
                text=f"`{row}`: right", limit=RIGHT[row], at_least=True, value=mean, error=error
            )
        if row in OR_ROWS:
            branches = found.get("branches") or {}
            yield Aim(
                text=f"`{row}`: largest distance of an alternative from its share",
                limit=BRANCH_GAP,
                at_least=False,
                value=branches.get("largest_gap"),
                error=branches.get("noise"),
            )
        if row == "not":
            mean, error = mean_and_error(found.get("unwanted"))
            text = "`not`: the unwanted value is there"
            yield Aim(text=text, limit=UNWANTED, at_least=False, value=mean, error=error)
    nested = measured_rows(document, NESTED)
    if way == COMPARED and nested:
        best = best_other(document, nested)
        rival = f" ({best.rule})" if best else ""
        yield Aim(
            text=f"nested formulas: lead of {OURS} before the best other rule{rival}",
            limit=LEAD,
            at_least=True,
            value=best.mean if best else None,
            error=best.error if best else None,
        )


def mean_and_error(estimate: dict[str, Any] | None) -> tuple[float | None, float | None]:
    """A share and its standard error, see ``metrics.share_error``."""
    if estimate is None:
        return None, None
    return estimate["mean"], share_error(estimate)
