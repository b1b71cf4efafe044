"""Statements about several objects, against enumeration and against exact fractions.

The oracle of enumeration knows nothing of sets and unions: it lists what every cell that may hold
an object holds, and given that the statements are independent events.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random

import pytest
import torch
from references import cell_of, cell_place

from ebmcli.core.composition import event_log_probs
from ebmcli.core.expression import Expression, Literal, parse
from ebmcli.core.factors import N_FIELD_CELLS, Factor
from ebmcli.core.fields import (
    FieldTable,
    cell_nodes,
    chance,
    field_table,
    outcomes,
    place_membership,
)
from ebmcli.core.logic import compile_formula, event_table
from ebmcli.core.statements import resolve
from ebmcli.errors import ExpressionError

OBJECT = Factor(
    name="object",
    kind="objects",
    most=4,
    parts=(
        Factor(name="shape", kind="categorical", names=("cube", "sphere")),
        Factor(name="color", kind="categorical", names=("red", "green", "blue")),
        Factor(name="position", kind="position", low=-1.0, high=1.0),
        Factor(name="size", kind="scalar", low=0.2, high=0.4),
    ),
)
G, K = N_FIELD_CELLS**2, 7
FACTORS = {"object": OBJECT}


def thing(**parts: object) -> Literal:
    """``object(...)``, checked."""
    literal = resolve(Literal("object", parts=tuple(parts.items())), FACTORS)
    assert isinstance(literal, Literal)
    return literal


def table_of(*literals: Literal) -> FieldTable:
    return field_table("object", literals, factor=OBJECT)


RED, CUBE, GREEN = thing(color="red"), thing(shape="cube"), thing(color="green", shape="sphere")
HERE, THERE = (0.0, 0.1), (0.2, 0.1)  # cells apart, memberships that overlap
RED_HERE, BLUE_THERE = thing(color="red", position=HERE), thing(color="blue", position=THERE)
GROUPS = [
    (RED,), (RED, CUBE), (RED, GREEN), (RED_HERE, BLUE_THERE), (RED_HERE, RED, CUBE),
    (RED_HERE, thing(position=THERE), thing(), BLUE_THERE),
]  # fmt: skip


def draw_field(rng: Random, active: Sequence[int]) -> list[list[float]]:
    """A distribution for each active cell; all others are empty for certain."""
    cells = [[1.0] + [0.0] * (K - 1) for _ in range(G)]
    for cell in active:
        weights = [rng.random() ** 3 for _ in range(K)]
        cells[cell] = [weight / math.fsum(weights) for weight in weights]
    return cells


def enumerated(table: FieldTable, cells: list[list[float]], active: Sequence[int]) -> list[float]:
    """P(t) by listing all that the active cells can hold."""
    total = dict.fromkeys(table.truths, 0.0)
    for held in itertools.product(range(K), repeat=len(active)):
        weight = math.prod(cells[cell][k] for cell, k in zip(active, held, strict=True))
        true = [
            1 - math.prod(1 - met(x, cell, k) for cell, k in zip(active, held, strict=True))
            for x in table.literals
        ]
        for truth in total:
            parts = (p if holds else 1 - p for p, holds in zip(true, truth, strict=True))
            total[truth] += weight * math.prod(parts)
    return list(total.values())


def met(literal: Literal, cell: int, outcome: int) -> float:
    """How far what a cell holds is what a literal asks for."""
    if outcome == 0:
        return 0.0
    asked = dict(literal.parts)
    look = {"shape": ("cube", "sphere")[(outcome - 1) // 3],
            "color": ("red", "green", "blue")[(outcome - 1) % 3]}  # fmt: skip
    if any(asked.get(name, value) != value for name, value in look.items()):
        return 0.0
    return place_membership(OBJECT, asked["position"])[cell] if "position" in asked else 1.0


def test_cells_cover_the_floor_and_outcomes_all_looks() -> None:
    assert OBJECT.n_outcomes == K == 1 + len(outcomes(OBJECT))
    assert OBJECT.n_cells == G * K
    assert outcomes(OBJECT)[0] == {"shape": "cube", "color": "red"}
    assert outcomes(OBJECT)[4] == {"shape": "sphere", "color": "green"}
    for cell in range(G):
        assert cell_of(OBJECT, cell_place(OBJECT, cell)) == cell
    assert cell_of(OBJECT, (-1.0, 1.0)) == N_FIELD_CELLS - 1
    assert cell_nodes(OBJECT)[0] == pytest.approx(-1 + 1 / N_FIELD_CELLS)


def test_a_place_fades_over_its_neighbours() -> None:
    """Cells are 1/6 wide: a neighbour of the middle is exp(-(1)^2 / (2 0.5^2)) = exp(-2)."""
    middle = cell_of(OBJECT, (0.1, 0.1))
    members = place_membership(OBJECT, cell_place(OBJECT, middle))
    assert members[middle] == 1
    assert members[middle + 1] == pytest.approx(math.exp(-2))
    assert members[middle - N_FIELD_CELLS] == pytest.approx(math.exp(-2))
    assert members[middle + N_FIELD_CELLS + 1] == pytest.approx(math.exp(-4))
    assert members[middle + 2] == 0
    between = place_membership(OBJECT, (0.0, cell_place(OBJECT, middle)[1]))
    assert between[middle] == pytest.approx(1, abs=1e-12)
    assert between[middle - N_FIELD_CELLS] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("literals", GROUPS)
@pytest.mark.parametrize("seed", range(3))
def test_tables_agree_with_enumeration(literals: tuple[Literal, ...], seed: int) -> None:
    """Float64 with 144 products: errors are some hundred times 1e-16."""
    rng = Random(seed)
    here, there = cell_of(OBJECT, HERE), cell_of(OBJECT, THERE)
    active = [here, there, here + 1, rng.randrange(here)]
    cells = draw_field(rng, active)
    table = table_of(*literals)
    flat = [q for cell in cells for q in cell]
    expected = enumerated(table, cells, active)
    assert math.fsum(expected) == pytest.approx(1, abs=1e-12)  # no row is missing
    assert table.probabilities(flat) == pytest.approx(expected, abs=1e-12)
    log_q = torch.tensor([flat, flat], dtype=torch.float64).log()
    found = event_log_probs(table, log_q, torch.zeros(G * K, dtype=torch.float64))
    assert found.shape == (2, table.n_rows)
    assert found.exp().tolist()[1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scale", [0.5, 1e-9])
def test_small_probabilities_keep_their_digits(scale: float) -> None:
    """Inclusion and exclusion in exact fractions, all 144 cells; relative to 1e-11."""
    rng = Random(1)
    cells = [[scale * rng.random() / K for _ in range(K - 1)] for _ in range(G)]
    flat = [q for cell in cells for q in (1 - math.fsum(cell), *cell)]
    reds = [Fraction(flat[g * K + 1]) + Fraction(flat[g * K + 4]) for g in range(G)]
    greens = [Fraction(flat[g * K + 5]) for g in range(G)]
    alls = [sum(map(Fraction, flat[g * K : g * K + K])) for g in range(G)]

    def none(parts: list[list[Fraction]]) -> Fraction:
        return math.prod(
            all_ - sum(cell) for all_, cell in zip(alls, zip(*parts, strict=True), strict=True)
        )

    total = math.prod(alls)
    both = total - none([reds]) - none([greens]) + none([reds, greens])
    only_red = none([greens]) - none([reds, greens])
    table = table_of(RED, GREEN)
    log_q = torch.tensor([flat], dtype=torch.float64).log()
    found = event_log_probs(table, log_q, torch.zeros(G * K)).exp()[0].tolist()
    rows = dict(zip(table.truths, found, strict=True))
    plain = dict(zip(table.truths, table.probabilities(flat), strict=True))
    for each in (rows, plain):
        assert each[True, True] == pytest.approx(float(both), rel=1e-11)
        assert each[True, False] == pytest.approx(float(only_red), rel=1e-11)


def test_in_float32_what_hardly_exists_has_a_probability_and_a_gradient() -> None:
    """q = 1e-30 in each of 144 cells: P(a red object) = 288e-30, since two looks are red."""
    log_q = torch.full((1, G, K), math.log(1e-30))
    log_q[:, :, 0] = 0.0
    log_q = log_q.flatten(1).requires_grad_()
    table = table_of(RED)
    log_p = event_log_probs(table, log_q, torch.zeros(G * K))[0, table.truths.index((True,))]
    assert log_p.item() == pytest.approx(math.log(288e-30), abs=1e-4)
    log_p.backward()
    assert log_q.grad is not None
    gradient = log_q.grad.view(G, K)
    assert gradient[:, [1, 4]].flatten().tolist() == pytest.approx([1 / 288] * 288, rel=1e-3)
    assert gradient[:, [2, 3, 5, 6]].abs().max() < 1e-20


def test_certain_and_impossible_cells_stay_finite() -> None:
    log_q = torch.full((1, G, K), -math.inf)
    log_q[:, :, 0] = 0.0
    log_q[:, 5, 0], log_q[:, 5, 1] = -math.inf, 0.0
    log_q = log_q.flatten(1).requires_grad_()
    for literals in GROUPS:
        log_p = event_log_probs(table_of(*literals), log_q, torch.zeros(G * K))
        assert log_p.isfinite().all()
        (gradient,) = torch.autograd.grad(log_p.sum(), log_q)
        assert gradient.isfinite().all()
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_weights_temper_every_cell() -> None:
    """Two cells, q(red cube) = 0.2 and 0.4, prior 0.1: q' = 0.1 (q / 0.1)^2 / normaliser."""
    prior = [0.9, 0.1] + [0.0] * (K - 2)
    cells = [prior] * G
    cells[3], cells[7] = ([1 - q, q, *[0.0] * (K - 2)] for q in (0.2, 0.4))
    flat = [q for cell in cells for q in cell]
    table = table_of(Literal("object", parts=(("color", "red"),), weight=2))

    def tempered(q: float) -> float:
        yes, no = 0.1 * (q / 0.1) ** 2, 0.9 * ((1 - q) / 0.9) ** 2
        return yes / (yes + no)

    none = math.prod(1 - tempered(q) for q in (0.2, 0.4)) * 0.9 ** (G - 2)
    expected = [none, 1 - none]
    assert table.probabilities(flat, prior * G) == pytest.approx(expected, abs=1e-12)
    log_q, log_prior = (torch.tensor(v, dtype=torch.float64).log() for v in (flat, prior * G))
    found = event_log_probs(table, log_q[None], log_prior).exp()[0]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="needs a prior"):
        table.probabilities(flat)


@pytest.mark.parametrize(
    ("formula", "of"),
    [
        (RED & ~GREEN, lambda r, g: r and not g),
        (RED & GREEN, lambda r, g: r and g),
        (~(RED | GREEN), lambda r, g: not (r or g)),
        (RED.implies(GREEN), lambda r, g: not r or g),
        (RED & (RED | GREEN), lambda r, g: r),
    ],
    ids=["and-not", "and", "neither", "implies", "absorbed"],
)
def test_formulas_about_objects_are_sums_over_rows(formula: Expression, of: object) -> None:
    rng = Random(3)
    active = [1, 50, 100]
    cells = draw_field(rng, active)
    table = table_of(RED, GREEN)
    rows = zip(table.truths, enumerated(table, cells, active), strict=True)
    expected = math.fsum(p for truth, p in rows if of(*truth))
    flat = [q for cell in cells for q in cell]
    compiled = compile_formula(formula, FACTORS)
    assert compiled.probability({"object": flat}) == pytest.approx(expected, abs=1e-12)
    log_q = torch.tensor([flat], dtype=torch.float64).log()
    tables = {
        name: event_log_probs(each, log_q, torch.zeros(G * K))
        for name, each in compiled.tables.items()
    }
    assert compiled.log_probability(tables).exp().item() == pytest.approx(expected, abs=1e-12)


def test_statements_about_objects_are_recognised_as_contradictions_and_tautologies() -> None:
    with pytest.raises(ExpressionError, match="never true"):
        compile_formula(RED & ~RED, FACTORS)
    with pytest.raises(ExpressionError, match="always true"):
        compile_formula(thing(color="red", shape="cube").implies(RED), FACTORS)
    with pytest.raises(ExpressionError, match="never true"):
        compile_formula(thing(color="red", position=HERE) & ~thing(), FACTORS)
    assert compile_formula(RED & GREEN, FACTORS).tables["object"].n_rows == 4


def test_the_same_statement_twice_is_one_statement() -> None:
    twice = compile_formula(RED & Literal("object", parts=(("color", "red"),)), FACTORS)
    assert len(twice.tables["object"].literals) == 1


def test_too_many_statements_are_refused() -> None:
    literals = [thing(color="red", position=(x / 4 - 0.7, 0.0)) for x in range(7)]
    formula: Expression = literals[0]
    for literal in literals[1:]:
        formula = formula & literal
    known = "7 statements about object, at most 6: 7 would take 4 times as long, 16,384 sums"
    with pytest.raises(ExpressionError, match=known):
        event_table("object", formula, OBJECT)


def test_six_statements_at_distant_places_are_independent() -> None:
    """No cell is near two of the places, so that P(all) is the product of the single ones."""
    places = [(x, y) for x in (-0.7, 0.0, 0.7) for y in (-0.5, 0.5)]
    literals = [thing(color="red", position=place) for place in places]
    rng = Random(4)
    flat = [q for cell in draw_field(rng, range(G)) for q in cell]
    log_q = torch.tensor([flat], dtype=torch.float64).log()
    prior = torch.zeros(G * K)
    rows = event_log_probs(table_of(*literals), log_q, prior)[0]
    singles = [event_log_probs(table_of(x), log_q, prior)[0, 1] for x in literals]
    assert rows[-1].item() == pytest.approx(sum(p.item() for p in singles), abs=1e-10)


def test_by_chance_there_are_half_as_many_objects_as_fit() -> None:
    q = chance(OBJECT)
    assert len(q) == OBJECT.n_cells
    assert math.fsum(q) == pytest.approx(G, abs=1e-9)
    empty = math.fsum(q[cell * K] for cell in range(G))
    assert G - empty == pytest.approx((OBJECT.most + 1) / 2, abs=1e-9)
    assert chance(OBJECT.part("color")) == [1 / 3] * 3


ALWAYS = {"object": replace(OBJECT, fewest=1)}  # learned from pictures that all show an object


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("~object(color=red)", "object & ~object(color=red)"),
        (
            "2*object(color=red) -> 2*object(shape=cube)",
            "2*object & (~2*object(color=red) | 2*object(shape=cube))",
        ),
        ("object(color=red)", "object(color=red)"),
        ("object(color=red) & ~object(shape=cube)", "object(color=red) & ~object(shape=cube)"),
        ("object & ~object(color=red)", "object & ~object(color=red)"),
    ],
)  # fmt: skip
def test_no_formula_means_an_empty_floor_that_no_picture_shows(asked: str, meant: str) -> None:
    formula = compile_formula(parse(asked), ALWAYS)
    assert formula.expression == compile_formula(parse(asked), FACTORS).expression
    prior = {"object": chance(OBJECT)}
    expected = compile_formula(parse(meant), FACTORS)
    for seed in range(3):
        q = {"object": random_posterior(seed)}
        assert formula.probability(q, prior) == pytest.approx(expected.probability(q, prior))
    empty = {"object": [1.0, *[0.0] * (K - 1)] * G}
    assert formula.probability(empty, prior) == pytest.approx(0.0)


def test_what_was_learned_of_empty_floors_too_may_be_empty() -> None:
    empty = {"object": [1.0, *[0.0] * (K - 1)] * G}
    formula = compile_formula(parse("~object(color=red)"), FACTORS)
    assert formula.understood == ()
    assert formula.probability(empty, {"object": chance(OBJECT)}) == 1.0


def test_no_object_at_all_is_refused_where_every_picture_shows_one() -> None:
    with pytest.raises(ExpressionError, match="never true: every picture of object shows one"):
        compile_formula(parse("~object"), ALWAYS)
    assert compile_formula(parse("~object"), FACTORS).understood == ()


def test_the_limit_of_statements_is_not_lowered() -> None:
    colors, shapes = ("red", "green", "blue"), ("cube", "sphere")
    six = " & ".join(f"~object(color={c}, shape={s})" for c in colors for s in shapes[:2])
    assert compile_formula(parse(six), ALWAYS).understood == ()


def random_posterior(seed: int) -> list[float]:
    """Cells that mostly are empty."""
    source = Random(seed)
    cells = []
    for _ in range(G):
        weights = [200.0, *(source.random() for _ in range(K - 1))]
        cells += [weight / sum(weights) for weight in weights]
    return cells
