"""Decision diagrams: one diagram per truth table, sharing, and a limit."""

import itertools
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcli.core.diagram import FALSE, MAX_EDGES, TRUE, Diagrams
from ebmcli.errors import UsageError

N_ROWS = (2, 3, 2)
WORLDS = list(itertools.product(*(range(n) for n in N_ROWS)))

Recipe = tuple[object, ...]  # ("is", variable, rows) | ("not", r) | ("and", r, s) | ("or", r, s)

atoms = st.sampled_from(
    [
        ("is", v, rows)
        for v, n in enumerate(N_ROWS)
        for rows in itertools.product([FALSE, TRUE], repeat=n)
    ]
)
recipes: st.SearchStrategy[Recipe] = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=10,
)


def build(diagrams: Diagrams, recipe: Recipe) -> int:
    """The diagram a recipe describes."""
    match recipe:
        case ("is", int(variable), tuple(rows)):
            return diagrams.decision(variable, rows)
        case ("not", tuple(term)):
            return diagrams.negation(build(diagrams, term))
        case ("and", tuple(left), tuple(right)):
            return diagrams.conjunction(build(diagrams, left), build(diagrams, right))
        case ("or", tuple(left), tuple(right)):
            return diagrams.disjunction(build(diagrams, left), build(diagrams, right))
    raise AssertionError(recipe)


def holds(recipe: Recipe, world: tuple[int, ...]) -> bool:
    """The truth of a recipe in one world, without diagrams."""
    match recipe:
        case ("is", int(variable), tuple(rows)):
            return bool(rows[world[variable]] == TRUE)
        case ("not", tuple(term)):
            return not holds(term, world)
        case ("and", tuple(left), tuple(right)):
            return holds(left, world) and holds(right, world)
        case ("or", tuple(left), tuple(right)):
            return holds(left, world) or holds(right, world)
    raise AssertionError(recipe)


def walk(diagrams: Diagrams, root: int, world: tuple[int, ...]) -> bool:
    """Follow one world from the root to TRUE or FALSE; variables must grow on the way."""
    last = -1
    while root not in (FALSE, TRUE):
        node = diagrams.nodes[root]
        assert node.variable > last
        last, root = node.variable, node.children[world[node.variable]]
    return root == TRUE


@given(recipes, recipes)
@settings(deadline=None, max_examples=200)
def test_a_diagram_is_its_truth_table_and_equal_tables_are_one_diagram(
    first: Recipe, second: Recipe
) -> None:
    diagrams = Diagrams(N_ROWS)
    roots = [build(diagrams, recipe) for recipe in (first, second)]
    tables = [[holds(recipe, world) for world in WORLDS] for recipe in (first, second)]
    for root, table in zip(roots, tables, strict=True):
        assert [walk(diagrams, root, world) for world in WORLDS] == table
        assert (root == TRUE) == all(table)
        assert (root == FALSE) == (not any(table))
    assert (roots[0] == roots[1]) == (tables[0] == tables[1])


@pytest.mark.parametrize("kind", ["conjunction", "disjunction"])
def test_a_long_chain_has_one_node_per_variable(kind: str) -> None:
    n = 200
    diagrams = Diagrams([2] * n)
    variables = [diagrams.decision(v, [FALSE, TRUE]) for v in range(n)]
    root = reduce(getattr(diagrams, kind), variables)
    assert len(diagrams.reachable(root)) == n


def test_parity_shares_its_halves() -> None:
    """The parity of n variables has two nodes per level but the first, not 2^n paths."""
    n = 100
    diagrams = Diagrams([2] * n)
    root = FALSE
    for v in reversed(range(n)):
        root = diagrams.decision(v, [root, diagrams.negation(root)])
    assert len(diagrams.reachable(root)) == 2 * n - 1
    assert walk(diagrams, root, (1,) * 7 + (0,) * (n - 7))
    assert not walk(diagrams, root, (1,) * 8 + (0,) * (n - 8))


def test_children_come_before_parents_and_the_root_is_last() -> None:
    diagrams = Diagrams(N_ROWS)
    root = build(
        diagrams, ("or", ("is", 0, (0, 1)), ("and", ("is", 1, (0, 1, 0)), ("is", 2, (1, 0))))
    )
    order = diagrams.reachable(root)
    assert order[-1] == root
    for i, index in enumerate(order):
        assert set(diagrams.nodes[index].children) <= {FALSE, TRUE, *order[:i]}


def test_a_formula_too_entangled_for_its_order_is_refused() -> None:
    """(a1 & b1) | ... | (an & bn), all a before all b, needs over 2^n nodes (Bryant 1986)."""
    n = 17
    diagrams = Diagrams([2] * (2 * n))
    variables = [diagrams.decision(v, [FALSE, TRUE]) for v in range(2 * n)]
    edges = (
        rf"more than {MAX_EDGES:,} edges over 34 concepts after \d+\.\d s, and .* 1\.7e\+10 joint"
    )
    with pytest.raises(UsageError, match=edges) as caught:
        reduce(
            diagrams.disjunction,
            (diagrams.conjunction(variables[i], variables[n + i]) for i in range(n)),
        )
    assert "split it" in (caught.value.hint or "")
