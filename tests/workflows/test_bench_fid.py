"""FID of rules on all their pictures, with features that show what a picture shows."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from bench_documents import FORMULAS, document, line
from squares import COLOR, TALL
from torch import Tensor

from ebmcli.core.expression import parse
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.metrics import weighted_frechet_distance
from ebmcli.evaluation.truth import holds
from ebmcli.workflows.bench_compare import COMPARED, Way
from ebmcli.workflows.bench_fid import frechet_rows, pictures_of_rules, rows_of_rules
from ebmcli.workflows.bench_page import fid_lines, logic_page
from ebmcli.workflows.judging import Labelled, Reference

N = 4000
CONCEPTS = {"color": COLOR, "tall": TALL}
Row = dict[str, Any]


def shown(color: Tensor, tall: Tensor, *, seed: int) -> Tensor:
    """Features (N, 4) of pictures with these labels: the color, the height, and noise."""
    noise = torch.randn(len(color), 4, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise + torch.cat([torch.eye(3)[color], tall[:, None].float()], dim=1)


def reference() -> Reference:
    source = torch.Generator().manual_seed(1)
    labels = {
        "color": torch.randint(3, (N,), generator=source),
        "tall": torch.randint(2, (N,), generator=source),
    }
    truth = Readings(factors=CONCEPTS, values=labels, probabilities={}, present=torch.ones(N))
    return Reference(
        data=Labelled(torch.empty(0), labels), truth=truth, readings=truth,
        features=shown(labels["color"], labels["tall"], seed=2), digest="sha256:reference",
    )  # fmt: skip


@dataclass
class Album:
    """Pictures of lines: of what their formula says, or all of them red and tall."""

    right: dict[str, bool]  # rule -> are its pictures as they should be?
    gone: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def __call__(self, row: Row) -> Tensor | None:
        self.asked.append(row["rule"])
        if row["rule"] in self.gone:
            return None
        parts = [self.group(row["rule"], group) for group in row["groups"] if "right" in group]
        return torch.cat(parts)

    def group(self, rule: str, group: Row) -> Tensor:
        source = torch.Generator().manual_seed(group["first_picture_seed"] + 100)
        color = torch.randint(3, (400,), generator=source)
        tall = torch.randint(2, (400,), generator=source)
        if self.right[rule]:
            labels = Readings(
                factors=CONCEPTS, values={"color": color, "tall": tall}, probabilities={},
                present=torch.ones(400),
            )  # fmt: skip
            fitting = holds(parse(group["formula"]), labels)
        else:
            fitting = (color == 0) & (tall == 1)
        n = group["n"]
        return shown(color[fitting][:n], tall[fitting][:n], seed=group["first_picture_seed"])


def kept(row: Row) -> Row:
    digest = "-".join(map(str, (row["row"], row["rule"], row["attempts"], row["n"])))
    return row | {"pictures": {"file": "a.png", "sha256": digest} if row["n"] else None}


def measured(*rows: Row, album: Album, older: list[Row] | None = None) -> list[Row]:
    whole = document(*rows) | {"fid": older or []}
    return frechet_rows(whole, album, reference(), CONCEPTS, report=lambda _: None)


OURS = kept(line("nested-2", "exact", [9, 9, 9, 9]))
WRONG = kept(line("nested-2", "paper", [1, 1, 1, 1]))


def test_pictures_of_the_formulas_are_near_and_others_are_far() -> None:
    ours, theirs = measured(OURS, WRONG, album=Album({"exact": True, "paper": False}))
    assert (ours["n"], ours["formulas"], ours["ours"], ours["error"]) == (40, 2, None, None)
    assert theirs["ours"] == pytest.approx(ours["value"])
    assert ours["value"] < 3 * ours["floor"]
    assert theirs["value"] > 10 * ours["value"]
    assert theirs["value"] - theirs["ours"] > 2 * theirs["error"] > 0


def test_the_value_is_the_distance_from_renders_in_which_formulas_count_by_their_pictures() -> None:
    """Three quarters of the pictures are of the first formula."""
    mine = kept(line("nested-2", "exact", [9, 9, 9, None]))
    album = Album({"exact": True})
    (found,) = measured(mine, album=album)
    real = reference()
    half = N // 2
    masks = [holds(parse(formula), real.truth)[half:].double() for formula in FORMULAS]
    weights = (2 * masks[0] / masks[0].sum() + masks[1] / masks[1].sum()) / 3
    drawn = album(mine)
    assert drawn is not None
    assert len(drawn) == 30
    expected = weighted_frechet_distance(drawn, real.features[half:], weights)
    assert found["value"] == pytest.approx(expected)
    assert found["data"] == "sha256:reference"


def test_a_rule_that_refuses_is_compared_on_what_it_has_drawn() -> None:
    """Its own pictures are ours: no difference, on fewer formulas than ours has."""
    some = kept(line("nested-2", "dng", [9, None, 9, None]))
    ours, theirs = measured(OURS, some, album=Album({"exact": True, "dng": True}))
    assert (theirs["n"], theirs["formulas"]) == (20, 1)
    assert theirs["value"] == pytest.approx(theirs["ours"])
    assert theirs["error"] is None  # of one formula there is none
    assert theirs["value"] != pytest.approx(ours["value"])


def test_the_error_is_that_of_leaving_out_one_formula_after_the_other() -> None:
    """Two formulas: half the difference between what either alone says."""
    album = Album({"exact": True, "paper": False})
    _, both = measured(OURS, WRONG, album=album)

    def only(which: int) -> float:
        right: list[int | None] = [9, None, 9, None] if which == 0 else [None, 9, None, 9]
        rows = [kept(line("nested-2", rule, right)) for rule in ("exact", "paper")]
        found = measured(*rows, album=album)[1]
        return float(found["value"] - found["ours"])

    assert both["error"] == pytest.approx(abs(only(0) - only(1)) / 2)
    assert math.isfinite(both["error"])


def test_too_few_pictures_have_no_distance() -> None:
    few = kept(line("nested-2", "dng", [9, None, None, None]))
    few["groups"][0]["n"] = few["n"] = 3  # of four features
    _, found = measured(OURS, few, album=Album({"exact": True, "dng": True}))
    assert found["n"] == 3
    assert found["value"] is found["ours"] is found["floor"] is found["error"] is None
    both = measured(OURS, few, album=Album({"exact": True, "dng": True}))
    assert "dng has 3 pictures of 4 it takes." in logic_page(document(OURS, few) | {"fid": both})


def test_every_way_of_drawing_has_a_row_and_lines_without_pictures_have_none() -> None:
    ours = {"exact": True}
    thrice = kept(line("and-2", "exact", [9] * 4, attempts=3, by_branch=True))
    tested = kept(line("nested-3", "exact", [9] * 4, part="metropolis", sampler="mala"))
    refused = kept(line("nested-2", "perp-neg", [None] * 4))
    older = line("nested-2", "dng", [9] * 4)  # of a version that kept none
    found = measured(OURS, thrice, tested, refused, older, album=Album(ours))
    assert [(row["rule"], row["attempts"], row["n"]) for row in found] == [
        ("exact", 1, 40), ("exact", 3, 40),
    ]  # fmt: skip
    assert found[1]["ours"] is None  # other formulas than those of the comparison
    assert list(rows_of_rules({"fid": found})) == [
        ("exact", COMPARED), ("exact", Way(attempts=3, by_branch=True)),
    ]  # fmt: skip
    assert measured(OURS, album=Album(ours, gone={"exact"})) == []


def test_too_few_renders_have_no_distance() -> None:
    """Each half needs as many as there are features, of pictures that satisfy the formulas."""
    whole, album = document(OURS), Album({"exact": True})
    masks = [holds(parse(formula), reference().truth) for formula in FORMULAS]
    either = torch.stack(masks).any(0).nonzero()[:, 0]
    for n, known in ((8, True), (6, False)):  # half of them in each half, four features
        few = taken(reference(), torch.cat([either[: n // 2], either[-(n // 2) :]]))
        (found,) = frechet_rows(whole, album, few, CONCEPTS, report=lambda _: None)
        assert (found["value"] is not None) == known
    assert "fewer than 4 renders" in logic_page(whole | {"fid": [found]})


def test_formulas_without_renders_are_counted_and_told() -> None:
    """No render is red and not tall: twenty pictures of forty are left out."""
    real = reference()
    others = ~holds(parse(FORMULAS[0]), real.truth)
    found = frechet_rows(
        document(OURS), Album({"exact": True}), taken(real, others), CONCEPTS, report=lambda _: None
    )
    assert [(row["n"], row["without_renders"], row["formulas"]) for row in found] == [(20, 20, 1)]
    page = logic_page(document(OURS) | {"fid": found})
    assert "Left out: up to 20 pictures of a rule" in page


def test_lines_of_concepts_that_are_gone_are_left_out() -> None:
    """As after a concept was removed or renamed and some lines were drawn again."""
    older = kept(line("and-2", "exact", [9] * 4))
    for group in older["groups"]:
        group["formula"] = group["formula"].replace("color=red", "hat")
    album = Album({"exact": True})

    def features(row: Row) -> Tensor | None:
        return torch.zeros(40, 4) if row["row"] == "and-2" else album(row)

    whole = document(OURS, older)
    (found,) = frechet_rows(whole, features, reference(), CONCEPTS, report=lambda _: None)
    assert (found["n"], found["without_renders"]) == (40, 40)


def taken(real: Reference, rows: Tensor) -> Reference:
    """Some of the real pictures."""
    labels = {name: values[rows] for name, values in real.truth.values.items()}
    n = len(labels["color"])
    truth = Readings(factors=CONCEPTS, values=labels, probabilities={}, present=torch.ones(n))
    return Reference(
        data=Labelled(torch.empty(0), labels), truth=truth, readings=truth,
        features=real.features[rows], digest=real.digest,
    )  # fmt: skip


def test_rows_of_the_same_pictures_judge_and_renders_are_not_made_again() -> None:
    album = Album({"exact": True, "paper": False})
    first = measured(OURS, WRONG, album=album)
    whole = document(OURS, WRONG) | {"fid": first}
    known = {key: row["pictures"] for key, row in rows_of_rules(whole).items()}
    assert pictures_of_rules(whole) == known
    gone = Album({}, gone={"exact", "paper"})
    assert measured(OURS, WRONG, album=gone, older=first) == first
    other = OURS | {"pictures": {"file": "a.png", "sha256": "other"}}
    assert measured(other, WRONG, album=gone, older=first) == []  # ours are in both rows
    album.asked.clear()
    again = measured(other, WRONG, album=album, older=first)
    assert [row["pictures"] for row in again] != [row["pictures"] for row in first]
    assert set(album.asked) == {"exact", "paper"}
    judged = whole | {"judges": {"judge-squares": {"sha256": "sha256:1"}}}
    assert pictures_of_rules(judged).keys() == known.keys()
    assert not set(pictures_of_rules(judged).values()) & set(known.values())
    rendered = [row | {"data": "sha256:other"} for row in first]
    assert measured(OURS, WRONG, album=album, older=rendered) == first


def test_a_row_without_ours_is_made_again_when_they_are_back() -> None:
    right = {"exact": True, "paper": False}
    alone = measured(OURS, WRONG, album=Album(right, gone={"exact"}))
    assert [(row["rule"], row["ours"]) for row in alone] == [("paper", None)]
    both = measured(OURS, WRONG, album=Album(right), older=alone)
    assert both == measured(OURS, WRONG, album=Album(right))


def test_the_page_shows_it() -> None:
    rows = [OURS, WRONG]
    found = measured(*rows, album=Album({"exact": True, "paper": False}))
    page = logic_page(document(*rows) | {"fid": found})
    ours, theirs = found
    assert (
        f"| exact | 1 attempt | 2 | 40 | {ours['value']:.2f} |  |  | {ours['floor']:.2f} |" in page
    )
    more = f"{theirs['value'] - theirs['ours']:.2f} ± {theirs['error']:.2f}"
    assert f"| {theirs['value']:.2f} | {theirs['ours']:.2f} | {more} |" in page
    first, second = fid_lines(document(*rows) | {"fid": found})
    value, floor = (f"{ours[key]:.2f}" for key in ("value", "floor"))
    assert first == ["exact, 1 attempt", "40", value, "", "", floor]
    assert second[0] == "paper, 1 attempt"
    assert second[4] == more.replace("±", "+-")
    nothing = "## FID by rule\n\nNot measured"
    assert nothing in logic_page(document(*rows))
    few = [row | dict.fromkeys(("value", "floor", "ours", "error")) for row in found]
    assert nothing in logic_page(document(*rows) | {"fid": few})


@pytest.mark.parametrize("change", [lambda row: row | {"pictures": None}, lambda row: row])
def test_an_older_line_of_a_rule_takes_its_row_away(change: Callable[[Row], Row]) -> None:
    """A row of all pictures of a rule but those of one line would be of other formulas."""
    second = change(kept(line("and-2", "exact", [9] * 4)))
    found = pictures_of_rules(document(OURS, second))
    assert len(found) == (second["pictures"] is not None)
