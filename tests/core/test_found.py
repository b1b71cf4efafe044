"""From a field to its objects: cells, borders, looks, and what counts as found."""

import pytest
import torch
from references import cell_place
from several import OBJECT

from ebmcli.core.factors import N_FIELD_CELLS
from ebmcli.core.found import found_objects, n_matched
from ebmcli.core.inference import map_estimate

G, K = N_FIELD_CELLS**2, OBJECT.n_outcomes
RED, TALL_GREEN = 1, 5  # outcomes: low red, green, blue, then tall red, green, blue


def field(*occupied: tuple[int, int, float]) -> torch.Tensor:
    """log q of an empty floor but for (cell, outcome, probability)."""
    q = torch.zeros(G, K)
    q[:, 0] = 1
    for cell, outcome, probability in occupied:
        q[cell, outcome] += probability
        q[cell, 0] -= probability
    return q.clamp_min(1e-12).log().flatten()


def test_an_empty_floor_has_no_objects() -> None:
    assert found_objects(field(), OBJECT) == []


def test_certain_cells_are_found_where_they_are() -> None:
    """Two cells three apart are two objects; the order is that of the probability."""
    first, second = 5 * N_FIELD_CELLS + 4, 5 * N_FIELD_CELLS + 7
    found = found_objects(field((first, RED, 0.8), (second, TALL_GREEN, 0.95)), OBJECT)
    assert [(each["height"], each["color"]) for each in found] == [
        ("tall", "green"),
        ("low", "red"),
    ]
    assert [each["probability"] for each in found] == pytest.approx([0.95, 0.8], abs=1e-6)
    for each, cell in zip(found, (second, first), strict=True):
        assert each["position"] == pytest.approx(cell_place(OBJECT, cell), abs=1e-6)


def test_an_object_on_a_border_is_one_object_between_the_cells() -> None:
    cell = 60
    (found,) = found_objects(field((cell, RED, 0.5), (cell + 1, RED, 0.45)), OBJECT)
    (x, y), (_, above) = cell_place(OBJECT, cell), cell_place(OBJECT, cell + 1)
    assert found["probability"] == pytest.approx(0.95, abs=1e-6)
    between = (0.5 * y + 0.45 * above) / 0.95
    assert found["position"] == pytest.approx((x, between), abs=1e-6)


@pytest.mark.parametrize(
    "occupied",
    [
        ((60, RED, 0.4),),
        ((60, RED, 0.25), (60, TALL_GREEN, 0.2)),
        ((60, RED, 0.3), (63, RED, 0.3)),
    ],
)
def test_what_is_doubtful_is_not_found(occupied: tuple[tuple[int, int, float], ...]) -> None:
    assert found_objects(field(*occupied), OBJECT) == []


def test_an_object_of_doubtful_look_is_found_with_the_probability_of_its_look() -> None:
    """Surely there, 0.5 to 0.4 red: whoever asks only whether something is there must find it."""
    (found,) = found_objects(field((60, RED, 0.5), (60, TALL_GREEN, 0.4)), OBJECT)
    assert (found["height"], found["color"]) == ("low", "red")
    assert found["probability"] == pytest.approx(0.5, abs=1e-6)


def test_who_must_not_guess_says_only_the_parts_that_are_sure() -> None:
    """Low for certain (0.9), red or green with 0.5 and 0.4: red has not more than one half."""
    low_green = RED + 1
    (found,) = found_objects(field((60, RED, 0.5), (60, low_green, 0.4)), OBJECT, sure=True)
    assert found["height"] == "low"
    assert "color" not in found
    (found,) = found_objects(field((60, RED, 0.6), (60, low_green, 0.3)), OBJECT, sure=True)
    assert found["color"] == "red"


def test_many_faint_cells_are_no_object() -> None:
    """Nine cells of 0.06 sum up to 0.54; that one of them is occupied has 0.43."""
    nine = [(60 + dx * N_FIELD_CELLS + dy, RED, 0.06) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    assert found_objects(field(*nine), OBJECT) == []
    brighter = [(cell, RED, 0.2 if cell == 60 else 0.1) for cell, _, _ in nine]
    assert len(found_objects(field(*brighter), OBJECT)) == 1


def test_corners_are_found_too() -> None:
    cells = (0, N_FIELD_CELLS - 1, G - N_FIELD_CELLS, G - 1)
    found = found_objects(field(*((cell, RED, 0.9) for cell in cells)), OBJECT)
    places = {tuple(round(part, 4) for part in each["position"]) for each in found}
    assert places == {tuple(round(p, 4) for p in cell_place(OBJECT, cell)) for cell in cells}


def test_several_views_are_fused_cell_by_cell() -> None:
    """Two views at q = 0.6 with prior 0.5 each: 0.36 / (0.36 + 0.16)."""
    prior = torch.full((G, K), 1e-9)
    prior[:, 0] = prior[:, RED] = 0.5
    views = torch.stack([field((60, RED, 0.6))] * 2)
    estimate = map_estimate(views, prior.log().flatten(), OBJECT)
    assert isinstance(estimate.value, list)
    assert estimate.value[0]["probability"] == pytest.approx(0.36 / 0.52, abs=1e-4)
    assert estimate.probability == pytest.approx(0.36 / 0.52, abs=1e-4)


def thing(color: str, x: float) -> dict[str, object]:
    return {"height": "low", "color": color, "position": (x, 0.0)}


def test_objects_match_by_look_and_place_once_each() -> None:
    truth = [thing("red", 0.0), thing("red", 0.1), thing("blue", 0.5)]
    assert n_matched(truth, truth, OBJECT) == 3
    assert n_matched([thing("red", 0.05)], truth, OBJECT) == 1
    assert n_matched([thing("red", 0.5)], truth, OBJECT) == 0
    assert n_matched([], truth, OBJECT) == 0
