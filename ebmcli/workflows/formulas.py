"""From the text of a formula to its exact meaning, with the concepts of a registry, torch-free."""

from collections.abc import Iterable

from ebmcli.core.expression import concept_names, parse
from ebmcli.core.logic import Formula, compile_formula
from ebmcli.core.statements import resolve
from ebmcli.errors import UsageError
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
    resolve(expression, factors)  # names first: an unknown one has no space
    space = space_of(registry, concept_names(expression))
    return compile_formula(expression, factors), space


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
