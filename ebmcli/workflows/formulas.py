"""From the text of a formula to its exact meaning, with the concepts of a registry, torch-free."""

from collections.abc import Iterable

from ebmcli.core.expression import concept_names, parse
from ebmcli.core.logic import Formula, compile_formula
from ebmcli.core.statements import resolve
from ebmcli.errors import UnknownNameError, UsageError
from ebmcli.registry import Registry


def formula_of(registry: Registry, source: str) -> tuple[Formula, str]:
    """A compiled formula and the space of its concepts.

    Raises:
        ExpressionError: Not in the grammar, or a statement does not fit its concept.
        UnknownNameError: No such concept or value.
        UsageError: The concepts are of different spaces.
    """
    expression = parse(source)
    factors = registry.factors()
    try:
        resolve(expression, factors)  # names first: an unknown one has no space
    except UnknownNameError as error:
        if error.kind == "concept" and error.suggestion is None:
            error.hint = _how_to_train(error.name, registry) or error.hint
        raise
    space = space_of(registry, concept_names(expression))
    return compile_formula(expression, factors), space


def _how_to_train(name: str, registry: Registry) -> str:
    """How to get a concept of a factor that is rendered but that nobody has trained yet."""
    from ebmcli.datasets.recipes import RECIPES, find_recipe  # numpy, which others do not wait for

    for recipe in RECIPES:
        if name in find_recipe(recipe).factors:
            spaces = [r.space for r in registry.bases.values() if r.space.startswith(f"{recipe}-")]
            size, file = (spaces or [f"{recipe}-64"])[0].rpartition("-")[2], f"{recipe}.h5"
            commands = [f"ebm render-dataset {file} --recipe {recipe} --size {size}"]
            commands += [] if spaces else [f"ebm train-base {recipe}-{size} --data {file}"]
            commands += [f"ebm train {name} --data {file}"]
            return f"the recipe {recipe} labels {name}: {', then '.join(commands)}"
    return ""


def space_of(registry: Registry, names: Iterable[str]) -> str:
    """The one space that all these concepts speak about.

    Raises:
        UnknownNameError: No such concept.
        UsageError: They are of different spaces, or there are none.
    """
    spaces: dict[str, str] = {}  # space -> its first concept
    for name in names:
        spaces.setdefault(registry.get("concept", name).space, name)
    if not spaces:
        raise UsageError("no concept is named")
    if len(spaces) > 1:
        (space, name), (other_space, other) = list(spaces.items())[:2]
        raise UsageError(
            f"{name} is of the space {space} and {other} of {other_space}: "
            "one picture cannot show both",
            hint=f"ebm list --space {space} shows what goes with {name}",
        )
    return next(iter(spaces))
