"""A function that draws one request, made to one that draws several, for tests of what asks it."""

from collections.abc import Callable, Sequence
from typing import Any

from ebmcli.errors import ExpressionError
from ebmcli.workflows.generate_request import GenerateRequest

Told = Callable[[int, int], None]


def each(
    draw: Callable[[GenerateRequest], Any],
) -> Callable[[Sequence[GenerateRequest], Told], list[Any]]:
    """One after the other; formulas without an energy give their error, as ``draw_together``."""

    def one_by_one(requests: Sequence[GenerateRequest], progress: Told) -> list[Any]:
        found: list[Any] = []
        for done, request in enumerate(requests, start=1):
            try:
                found.append(draw(request))
            except ExpressionError as error:
                found.append(error)
            progress(done, len(requests))
        return found

    return one_by_one
