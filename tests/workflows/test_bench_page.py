"""Comparisons, aims and the page of ebm bench logic, from made-up documents."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from bench_documents import document, estimate, line

from ebmcli.pictures import read_png_metadata
from ebmcli.workflows.bench_aims import Aim, aims
from ebmcli.workflows.bench_compare import (
    COMPARED,
    Way,
    best_other,
    lead,
    leads,
    line_of,
    metropolis_rows,
    rows_of,
    way_of,
    ways_of,
)
from ebmcli.workflows.bench_page import aim_rows, line_rows, logic_page
from ebmcli.workflows.bench_plan import Line
from ebmcli.workflows.bench_sheet import Sample, logic_sheet, shown_groups, shown_lines

EXACT = line("nested-2", "exact", [10, 8, 9, 9])


DEFAULT = Way(attempts=3, by_branch=True)


def verdicts(found: dict[str, Any], *, way: Way = COMPARED) -> dict[str, str]:
    return {aim.text: aim.verdict for aim in aims(found, way=way)}


def test_a_lead_is_the_mean_difference_of_the_seeds() -> None:
    """Seed 0: 18 against 12 of 20, seed 1: 18 against 16: 30 and 10 points."""
    found = lead([EXACT], [line("nested-2", "paper", [7, 5, 8, 8])])
    assert found is not None
    assert found.mean == pytest.approx(0.2)
    assert found.error == pytest.approx(0.1)  # |0.3 - 0.1| / 2
    assert found.drawn == 1


def test_a_lead_of_nothing_has_the_error_of_counting() -> None:
    found = lead([EXACT], [line("nested-2", "hmc", [10, 8, 9, 9])])
    assert found is not None
    assert (found.mean, found.error) == (0, pytest.approx(1 / 42))  # 40 pictures alike


def test_refused_formulas_are_left_out_on_both_sides() -> None:
    """The first formula counts alone: 10 and 9 of 10, against 7 and 8."""
    found = lead([EXACT], [line("nested-2", "paper", [7, None, 8, None])])
    assert found is not None
    assert found.mean == pytest.approx((0.3 + 0.1) / 2)
    assert found.drawn == 0.5
    assert lead([EXACT], [line("nested-2", "paper", [None] * 4)]) is None
    assert lead([EXACT], [line("nested-3", "paper", [7, 5, 8, 8])]) is None


def test_the_best_other_rule_has_drawn_at_least_half() -> None:
    found = document(
        EXACT,
        line("nested-2", "paper", [None, None, 10, None]),  # ahead, but on a quarter
        line("nested-2", "dng", [9, 7, 8, 8]),
        line("nested-2", "logdiff", [5, 7, 8, 8]),
    )
    assert [one.rule for one in leads(found, ["nested-2"])] == ["dng", "logdiff", "paper"]
    best = best_other(found, ["nested-2"])
    assert best is not None
    assert (best.rule, best.mean) == ("dng", pytest.approx(0.1))
    assert best_other(document(EXACT), ["nested-2"]) is None


def test_aims_are_judged_by_the_mean_and_nothing_is_rounded_up() -> None:
    found = document(
        line("and-2", "exact", [10] * 4, accuracy=estimate(0.97)),
        line("and-3", "exact", [9] * 4, accuracy=estimate(0.9499)),
        line(
            "or-values", "exact", [10] * 4, accuracy=estimate(0.98),
            branches={"largest_gap": 0.1001, "noise": 0.05, "shares": []},
        ),
        line("not", "exact", [10] * 4, unwanted=estimate(0.02)),
        EXACT,
        line("nested-2", "paper", [9, 8, 8, 8]),
    )  # fmt: skip
    assert verdicts(found) == {
        "`and-2`: right": "met",
        "`and-3`: right": "missed",
        "`or-values`: right": "met",
        "`or-values`: largest distance of an alternative from its share": "missed",
        "`nested-2`: right": "missed",
        "`not`: the unwanted value is there": "met",
        "nested formulas: lead of exact before the best other rule (paper)": "met",
    }
    at_three = verdicts(found, way=DEFAULT)
    assert set(at_three.values()) == {"not measured"}
    assert not any("lead" in text for text in at_three)


def test_without_another_rule_there_is_no_lead() -> None:
    assert (
        verdicts(document(EXACT))["nested formulas: lead of exact before the best other rule"]
        == "not measured"
    )
    only = Aim(text="a", limit=0.1, at_least=False, value=0.1, error=None)
    assert only.verdict == "met"


def test_the_page_shows_every_line_its_refusals_and_its_aims() -> None:
    three = line("not", "exact", [10] * 4, attempts=3, by_branch=True, unwanted=estimate(0.0))
    found = document(
        line("not", "exact", [10, 10, 9, 9], unwanted=estimate(0.05)),
        three,
        line("not", "paper", [3, None, 4, None], strength=1.0, unwanted=estimate(0.5)),
        line("not", "dng", [None] * 4),
        EXACT,
        line("nested-2", "paper", [7, None, 8, None]),
    )
    page = logic_page(found)
    assert "| `not`: the unwanted value is there | at most 2 % | 5.0 ± 1.0 % | missed |" in page
    assert "| 0.0 ± 1.0 % | met |" in page
    row = "| `not` | 95.0 ± 1.0 % | 35.0 ± 1.0 % (50 % refused) | all refused | 99.5 % |"
    assert row in page
    assert "| exact | by branch, 3 attempts | 4 | 40 | 100.0 ± 1.0 % | 0.0 ± 1.0 % | 0 % |" in page
    assert "| dng | 1 attempt | 4 | 0 |  |  | 100 % |  |" in page
    assert "paper refused 2 of 4: no density." in page
    assert "exact is 20.0 ± 10.0 points ahead of paper, on the 50 % of the formulas" in page
    assert "Not measured yet; with mala and hmc" in page
    assert "None" not in page
    assert "nan" not in page


def test_rows_of_versions_without_branches_are_told_from_those_by_branch() -> None:
    """A formula with one branch was drawn then as it is now; one with several was not."""
    rows = [line(kind, "exact", [10] * 4, attempts=3) for kind in ("and-2", "implies")]
    for row in rows:
        del row["by_branch"]
    rows.append(line("implies", "exact", [9] * 4, attempts=3, by_branch=True))
    assert [way_of(row) for row in rows] == [DEFAULT, Way(attempts=3), DEFAULT]
    found = document(*rows)
    assert ways_of(found) == [COMPARED, Way(attempts=3), DEFAULT]
    assert rows_of(found, "implies", way=DEFAULT)["exact"] is rows[2]
    assert "| exact, 3 attempts | | exact, by branch, 3 attempts |" in logic_page(found)


def test_the_page_shows_the_share_of_branches_and_what_was_left_out() -> None:
    branches = {"largest_gap": 0.125, "noise": 0.05, "shares": []}
    found = document(line("or-concepts", "exact", [10] * 4, branches=branches))
    found["left_out"] = {"or-values": "needs a concept with more values than yes and no"}
    page = logic_page(found)
    assert "| 12.5 ± 5.0 points |" in page
    assert "| `or-concepts` | 100.0 ± 1.0 %, gap 12 | 99.5 % |" in page
    assert "| at most 10 points | 12.5 ± 5.0 points | missed |" in page
    assert "Left out: `or-values` needs a concept with more values than yes and no." in page


def test_a_document_without_lines_says_so() -> None:
    assert "Nothing is measured yet." in logic_page(document())


def test_the_gain_of_a_metropolis_test_is_taken_at_equal_moves_and_at_equal_calls() -> None:
    def tested(sampler: str, steps: int, right: list[int | None], calls: float) -> dict[str, Any]:
        more = {"sampler": sampler, "corrector_steps": steps, "energy_calls": calls}
        return line("nested-3", "exact", right, part="metropolis", **more)

    found = document(
        tested("mala", 10, [10, 10, 9, 9], 400),
        tested("langevin", 10, [8, 8, 9, 9], 283),
        tested("langevin", 5, [5, 5, 5, 5], 173),
        tested("mala", 5, [6, 6, 6, 6], 327),
        tested("hmc", 5, [7, 7, 7, 7], 100),
    )
    assert list(metropolis_rows(found)) == [
        ("langevin", 5), ("mala", 5), ("hmc", 5), ("mala", 10), ("langevin", 10),
    ]  # fmt: skip
    page = logic_page(found)
    ten = "10.0 ± 10.0 points"
    assert f"| mala | 10 | 95.0 ± 1.0 % | {ten} | {ten} (of 10) | 400 | 1.25 |" in page
    loss = "-25.0 ± 7.0 points (of 10)"
    assert f"| mala | 5 | 60.0 ± 1.0 % | 10.0 ± 5.1 points | {loss} | 327 | 1.25 |" in page
    assert "| hmc | 5 | 70.0 ± 1.0 % | 20.0 ± 6.5 points |  | 100 | 1.25 |" in page
    assert "| langevin | 5 | 50.0 ± 1.0 % |  |  | 173 | 1.25 |" in page


def test_a_terminal_gets_plain_letters() -> None:
    found = document(EXACT, line("nested-2", "paper", [None] * 4))
    cells = [cell for row in [*line_rows(found), *aim_rows(found)] for cell in row]
    assert "90.0 +- 1.0 %" in cells
    assert all(cell.isascii() for cell in cells)


def test_the_sheet_has_a_strip_for_exact_and_for_the_best_other_rule(tmp_path: Any) -> None:
    found = document(
        EXACT,
        line("nested-2", "paper", [7, None, 8, None]),
        line("nested-2", "dng", [1, 1, 1, 1]),
        line("and-2", "exact", [10] * 4),
    )
    strips = shown_lines(found)
    assert [title for title, _ in strips] == [
        "and-2, exact", "nested-2, exact", "nested-2, paper",
    ]  # fmt: skip
    assert strips[1][1] == Line(part="rules", row="nested-2", rule="exact")
    assert asdict(line_of(EXACT)).items() <= EXACT.items()
    refused = line("nested-2", "paper", [None, 5, None, 6])
    assert [group["seed"] for group in shown_groups(refused)] == [0]
    sample = Sample(formula="color=red & " * 20, image=np.zeros((16, 16, 3), dtype=np.uint8))
    path = tmp_path / "logic.png"
    logic_sheet([("and-2, exact", [sample] * 3), ("not, paper", [sample])], path, found)
    assert read_png_metadata(path)["ebm:command"] == "ebm bench logic -n 20"
    logic_sheet([("not, paper", [])], tmp_path / "none.png", found)
    assert not (tmp_path / "none.png").exists()


def test_reasons_that_differ_in_the_formula_are_told_once() -> None:
    refused = line("nested-2", "dng", [None] * 4)
    reasons = {"dng has no rule for a | b": 1, "dng has no rule for ~a | b": 2, "no density": 1}
    refused["refused"] = refused["refused"] | {"reasons": reasons}
    page = logic_page(document(EXACT, refused))
    assert "dng refused 3 of 4: no rule for formulas such as `a | b`." in page
    assert "dng refused 1 of 4: no density." in page
    assert "~a | b" not in page
