"""The part of a judge that reads lists of objects: hand-made lists, and a short training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from several import OBJECT, SIZE, draw_several, several
from torch import Generator, Tensor

from ebmcli.core.expression import parse
from ebmcli.core.factors import Factor, Things
from ebmcli.core.images import to_intensity
from ebmcli.core.statements import resolve
from ebmcli.core.targets import field_weights
from ebmcli.datasets.object_lists import encode_things
from ebmcli.evaluation import negatives
from ebmcli.evaluation.judge import Judge, JudgeConfig, Readings, judge_losses
from ebmcli.evaluation.object_counts import objects_read
from ebmcli.evaluation.object_reader import rows_of
from ebmcli.evaluation.truth import holds, places_of, spoken_of, tolerances

FACTORS = {
    "count": Factor(name="count", kind="categorical", names=("1", "2", "3")),
    "object": OBJECT,
}
N_UPDATES = 60


def thing(height: str, color: str, x: float, y: float) -> dict[str, Any]:
    return {"height": height, "color": color, "position": (x, y)}


RED, BLUE = thing("low", "red", -0.5, 0.5), thing("tall", "blue", 0.5, -0.5)


def rows(*lists: Things) -> Tensor:
    return torch.from_numpy(encode_things(OBJECT, lists))


def readings(*lists: Things) -> Readings:
    return Readings(
        factors={"object": OBJECT},
        values={"object": rows(*lists)},
        probabilities={},
        present=torch.ones(len(lists)),
    )


def small_judge() -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Judge(FACTORS, JudgeConfig(size=SIZE, widths=(8, 8, 8, 8), n_features=8))


def test_rows_are_those_of_a_label() -> None:
    (own,) = rows([RED, BLUE])
    read = rows_of([RED, BLUE], OBJECT)
    assert read.shape == (2 * OBJECT.most, len(OBJECT.columns))
    assert torch.equal(read[: OBJECT.most], own)
    assert not read[OBJECT.most :].any()
    sized = Factor(
        name="object", kind="objects", most=1,
        parts=(*OBJECT.parts, Factor(name="size", kind="scalar", low=0.2, high=0.4)),
    )  # fmt: skip
    kept = rows_of([RED, BLUE, RED], sized)  # no more than fit, and the size is not read
    assert kept.isnan().tolist() == [[name == "size" for name in sized.columns]] * 2


@pytest.mark.parametrize(
    ("formula", "truth"),
    [
        ("object", [True, True, False]),
        ("object(color=red)", [True, True, False]),
        ("object(color=blue)", [True, False, False]),
        ("object(color=red, height=tall)", [False, False, False]),  # one object has both, or none
        ("object(color=red) & object(height=tall)", [True, False, False]),
        ("object(color=red) & object(height=low)", [True, True, False]),  # the same one
        ("object(position=(-0.35,0.5))", [True, True, False]),
        ("object(position=(-0.2,0.5))", [False, False, False]),
        ("object(color=blue, position=(-0.5,0.5))", [False, False, False]),
        ("~object(color=blue)", [False, True, True]),
    ],
)
def test_a_statement_is_true_when_one_object_has_all_its_parts(
    formula: str, truth: list[bool]
) -> None:
    expression = resolve(parse(formula), {"object": OBJECT})
    assert holds(expression, readings([RED, BLUE], [RED], [])).tolist() == truth


def test_places_of_objects_have_a_tolerance_and_a_wider_one() -> None:
    expression = resolve(parse("object(color=red, position=(-0.2,0.5))"), {"object": OBJECT})
    read = readings([RED])
    assert not holds(expression, read).item()
    assert holds(expression, read, wide=True).item()
    assert [f.name for f in spoken_of(expression, read.factors)] == ["color", "position"]
    assert tolerances(spoken_of(expression, read.factors)) == {"position": 0.2}
    assert [f.name for f in places_of(expression, read.factors)] == ["position"]
    assert places_of(parse("object"), read.factors) == []


def test_what_was_not_read_says_nothing() -> None:
    read = readings([RED])
    read.values["object"][..., OBJECT.columns.index("x")] = torch.nan
    expression = resolve(parse("object(position=(-0.5,0.5))"), {"object": OBJECT})
    assert not holds(expression, read).item()


def test_objects_are_counted_as_found_missed_and_invented() -> None:
    moved = {**RED, "position": (-0.4, 0.4)}
    counts = objects_read(
        rows([moved, BLUE], [{**RED, "color": "green"}], [RED, RED]),
        rows([RED, BLUE], [RED], [RED]),
        OBJECT,
    )
    assert counts.true.tolist() == [2, 1, 1]
    assert counts.found.tolist() == [2, 1, 2]
    assert counts.both.tolist() == [2, 0, 1]
    assert counts.all_right.tolist() == [True, False, False]
    assert counts.shares() == {"found": 0.75, "invented": 0.4, "all_right": 0.3333}


def test_what_is_invented_beside_a_full_list_counts() -> None:
    """As many true objects as there can be, all found, and one more."""
    places = [-0.75, -0.25, 0.25, 0.75, 0.0]
    true = [thing("low", "red", x, 0.5) for x in places[: OBJECT.most]]
    read = rows_of([*true, thing("low", "blue", 0.0, -0.5)], OBJECT)[None]
    counts = objects_read(read, rows(true), OBJECT)
    assert (counts.true.item(), counts.both.item()) == (OBJECT.most, OBJECT.most)
    assert counts.found.item() == OBJECT.most + 1
    assert not counts.all_right.item()


def test_a_name_that_is_doubtful_is_none_but_its_object_is_there() -> None:
    """Surely something at a place, red or green, low: only statements on its color are open."""
    reader, both = small_judge().object_reader("object"), []
    for color in ("red", "green"):
        both.append(field_weights(OBJECT, rows([{**RED, "color": color}])))
    read = reader.rows((0.5 * both[0] + 0.5 * both[1]).clamp_min(1e-12).log())
    seen = replace(readings([RED]), values={"object": read})
    for formula, truth in (
        ("object(position=(-0.5,0.5))", True), ("object(height=low)", True),
        ("object(color=red)", False), ("object(color=green)", False), ("~object(color=red)", True),
    ):  # fmt: skip
        expression = resolve(parse(formula), {"object": OBJECT})
        assert holds(expression, seen).tolist() == [truth], formula
    counts = objects_read(read, rows([RED]), OBJECT)
    assert (counts.found.item(), counts.both.item()) == (1, 0)


def test_certain_cells_are_read_back_as_their_labels_and_leave_no_loss() -> None:
    reader = small_judge().object_reader("object")
    labels = rows([RED, BLUE], [BLUE], [])
    log_q = field_weights(OBJECT, labels).clamp_min(1e-12).log()
    assert objects_read(reader.rows(log_q), labels, OBJECT).all_right.all()
    assert reader.loss(log_q, labels).item() == 0


def test_negatives_of_several_objects_are_emptied_and_faded_too() -> None:
    images, lists = draw_several(12)
    pictures = to_intensity(torch.from_numpy(images))
    labels = {"count": torch.zeros(12).long(), "object": rows(*lists)}
    assert negatives.differ_much(labels, FACTORS).all()
    floors = pictures.median(0, keepdim=True).values
    spoilt = negatives.without_object(
        pictures, labels, FACTORS, floors=floors, generator=Generator().manual_seed(0)
    )
    colourful = (pictures.amax(1) - pictures.amin(1)).amax((1, 2))
    assert (colourful > 1).all()
    left = (spoilt.amax(1) - spoilt.amin(1)).amax((1, 2))
    assert left[4::6].max() < 0.5  # emptied: no colour but that of the floor


def test_a_short_training_reads_objects() -> None:
    """Fast because nothing is noisy: most objects of tiny pictures are found, few are invented."""
    data, held = several(600), several(60, seed=9)
    assert data.labels is not None
    judge, generator = small_judge().train(), Generator().manual_seed(0)
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(N_UPDATES):
        x, label = data.draw(32, generator=generator)
        count = (label[:, :, 0] > 0).sum(1) - 1
        losses = judge_losses(judge, x, x[:0], {"count": count, "object": label})
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    x, truth = held.take(torch.arange(60))
    counts = objects_read(judge.eval().read(x).values["object"], truth, OBJECT)
    assert counts.shares()["found"] > 0.7
    assert counts.shares()["invented"] < 0.3


def test_a_list_does_not_depend_on_the_batch() -> None:
    judge = small_judge().eval()
    bias = judge.object_reader("object").last.bias
    assert bias is not None
    with torch.no_grad():  # as if something stood everywhere
        bias[3] += 8.0
    pictures = to_intensity(torch.from_numpy(draw_several(6)[0]))
    whole = judge.read(pictures).values["object"]
    assert bool((whole[:, :, 0] > 0).any())
    parts = Readings.join([judge.read(pictures[:2]), judge.read(pictures[2:])])
    assert np.allclose(whole.numpy(), parts.values["object"].numpy(), atol=1e-5, equal_nan=True)


def test_a_list_may_be_called_like_an_attribute_of_a_module() -> None:
    named = {"type": replace(OBJECT, name="type")}
    judge = Judge(named, JudgeConfig(size=SIZE, widths=(8, 8, 8, 8), n_features=8)).eval()
    assert judge.read(torch.zeros(1, 3, SIZE, SIZE)).values["type"].shape[:2] == (
        1,
        2 * OBJECT.most,
    )
