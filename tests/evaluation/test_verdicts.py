"""What the judge says of pictures, from made-up readings and by hand."""

import pytest
import torch

from ebmcli.core.expression import parse, spell
from ebmcli.core.factors import Factor
from ebmcli.evaluation.judge import Readings
from ebmcli.evaluation.metrics import frechet_distance, weighted_frechet_distance
from ebmcli.evaluation.verdicts import by_concept, ceiling, equal_weights, negated_part, verdict

COLOR = Factor(name="color", kind="categorical", names=("red", "green", "blue"))
OLD = Factor(name="old", kind="binary", names=("no", "yes"))
FACTORS = {"color": COLOR, "old": OLD}


def readings(color: list[int], old: list[int], present: list[float]) -> Readings:
    values = {"color": torch.tensor(color), "old": torch.tensor(old)}
    return Readings(factors=FACTORS, values=values, probabilities={}, present=torch.tensor(present))


SEEN = readings([0, 0, 1, 2], [1, 0, 1, 1], [1.0, 1.0, 1.0, 0.1])


def test_right_needs_the_formula_and_an_object() -> None:
    found = verdict("and-2", parse("~color=red & old"), SEEN)
    assert found.right.tolist() == [False, False, True, False]
    assert found.absent.tolist() == [False, False, False, True]
    assert found.unwanted is None
    assert found.alternatives == {}


def test_the_unwanted_value_is_counted_where_an_object_is() -> None:
    found = verdict("not", parse("color=red & ~old"), SEEN)
    assert found.unwanted is not None
    assert found.unwanted.tolist() == [True, False, True, False]
    assert found.right.tolist() == [False, True, False, False]


def test_branches_are_told_apart() -> None:
    found = verdict("or-concepts", parse("color=red | old"), SEEN)
    assert {name: truth.tolist() for name, truth in found.alternatives.items()} == {
        "color=red": [True, True, False, False],
        "old": [True, False, True, False],
    }


@pytest.mark.parametrize(
    ("source", "negated"),
    [("~old", "old"), ("color=red & ~old", "old"), ("color=red & old", None), ("old", None)],
)
def test_what_a_formula_negates(source: str, negated: str | None) -> None:
    found = negated_part(parse(source))
    assert (found and spell(found)) == negated


def test_concepts_may_have_names_of_their_own() -> None:
    named = by_concept(SEEN, {"hue": COLOR})
    assert verdict("and-2", parse("hue=red"), named).right.tolist() == [True, True, False, False]
    with pytest.raises(KeyError):
        verdict("and-2", parse("old"), named)


def test_the_ceiling_is_the_judge_on_real_pictures_that_are_right() -> None:
    labels = readings([0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [1.0] * 5)
    read = readings([0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1.0, 1.0, 1.0, 0.2, 1.0])
    assert ceiling(parse("color=red & old"), labels, read) == 0.5
    assert ceiling(parse("color=blue"), labels, read) is None


def test_every_formula_weighs_alike_among_real_pictures() -> None:
    masks = [torch.tensor([True, True, False, False]), torch.tensor([False, True, False, False])]
    assert equal_weights(masks).tolist() == [0.25, 0.75, 0.0, 0.0]


def test_equal_weights_give_the_plain_distance_and_no_weight_leaves_a_row_out() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 3, generator=generator) for n in (30, 40))
    plain = frechet_distance(left, right)
    assert weighted_frechet_distance(left, right, torch.full((40,), 0.3)) == pytest.approx(plain)
    half = torch.cat([torch.ones(20), torch.zeros(20)])
    part = frechet_distance(left, right[:20])
    assert weighted_frechet_distance(left, right, half) == pytest.approx(part)
    with pytest.raises(ValueError, match="two pictures"):
        weighted_frechet_distance(left, right, torch.eye(40)[0])
