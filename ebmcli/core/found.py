"""From a field to a list of objects: where an object stands, how it looks, how probable it is."""

import torch
from torch import Tensor

from ebmcli.core.factors import N_FIELD_CELLS, Factor, Label, Things
from ebmcli.core.fields import appearance_of, cell_nodes, floor_of, outcomes

ENOUGH = 0.5  # probability, of being there, above which an object counts as found
TOLERANCE = 0.2  # per coordinate, in the unit of places: found within it of where it is


def found_objects(log_posterior: Tensor, factor: Factor) -> Things:
    """The objects that a field shows, the most visible first.

    Each is a cell that is more likely to be occupied than its neighbours, taken together with
    these: an object near the edge of its cell has its probability spread over both. It counts when
    these 3 by 3 cells hold one, of whatever look, with more than ENOUGH. Its look is the most
    probable one of these cells; its place is their mean, weighted by how likely they are occupied;
    its probability that of an object of that look in one of them, which is less than ENOUGH where
    the look is doubtful.

    Args:
        log_posterior: log q of one image, (G K,), every cell normalised.
        factor: Of kind ``objects``.

    Returns:
        Of every object the values of the parts, and ``probability``.
    """
    side = N_FIELD_CELLS
    nodes = torch.tensor(cell_nodes(factor), dtype=torch.float64)
    left = log_posterior.detach().cpu().double().exp().view(side, side, -1)[:, :, 1:]
    left = left.clone(memory_format=torch.contiguous_format)
    looks, found = outcomes(factor), Things()
    while True:
        occupied = left.sum(2)
        best = int(occupied.argmax())
        if 9 * occupied.view(-1)[best] <= ENOUGH:
            return found
        x, y = (slice(max(0, i - 1), i + 2) for i in divmod(best, side))
        mass, by_look = occupied[x, y], left[x, y].sum((0, 1))
        if float(mass.sum()) <= ENOUGH:
            left.view(side * side, -1)[best] = 0
            continue
        place = (
            float(mass.sum(1) @ nodes[x] / mass.sum()),
            float(mass.sum(0) @ nodes[y] / mass.sum()),
        )
        look, probability = looks[int(by_look.argmax())], min(1.0, float(by_look.max()))
        found.append({**look, floor_of(factor).name: place, "probability": probability})
        left[x, y] = 0


def n_matched(found: Label, truth: Label, factor: Factor) -> int:
    """How many true objects were found: same look, within TOLERANCE, one found object for each."""
    assert isinstance(found, list)
    assert isinstance(truth, list)
    names = [part.name for part in appearance_of(factor)]
    place, remaining, count = floor_of(factor).name, list(found), 0
    for thing in truth:
        for other in remaining:
            here, there = thing[place], other[place]
            assert isinstance(here, tuple)
            assert isinstance(there, tuple)
            near = max(abs(a - b) for a, b in zip(here, there, strict=True)) <= TOLERANCE
            if near and all(thing[name] == other[name] for name in names):
                remaining.remove(other)
                count += 1
                break
    return count
