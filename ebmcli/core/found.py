"""From a field to a list of objects: where an object stands, how it looks, how probable it is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ebmcli.core.factors import N_FIELD_CELLS, Factor, Label, Things
from ebmcli.core.fields import appearance_of, cell_nodes, floor_of, outcomes

ENOUGH = 0.5  # probability, of being there, above which an object counts as found
TOLERANCE = 0.2  # per coordinate, in the unit of places: found within it of where it is


def found_objects(log_posterior: Tensor, factor: Factor, *, sure: bool = False) -> Things:
    """The objects that a field shows, the most visible first.

    Each is a cell that is more likely to be occupied than its neighbours, taken together with
    these: an object near the edge of its cell has its probability spread over both. It counts when
    one of these 3 by 3 cells is occupied, by whatever look, with more than ENOUGH,

        1 - prod_g q_g(empty) > ENOUGH.

    Its look is the most probable one of these cells; its place is their mean, weighted by how
    likely they are occupied; its probability that of an object of that look in one of them, which
    is less than ENOUGH where the look is doubtful.

    Args:
        log_posterior: log q of one image, (G K,), every cell normalised.
        factor: Of kind ``objects``.
        sure: Leave out the name of a part unless an object with that name, whatever its other
            parts, is there with more than ENOUGH: for readers who must not guess.

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
        if float(1 - (1 - mass.clamp_max(1)).prod()) <= ENOUGH:
            left.view(side * side, -1)[best] = 0
            continue
        place = (
            float(mass.sum(1) @ nodes[x] / mass.sum()),
            float(mass.sum(0) @ nodes[y] / mass.sum()),
        )
        look, probability = looks[int(by_look.argmax())], min(1.0, float(by_look.max()))
        if sure:
            look = {k: name for k, name in look.items() if _mass(by_look, looks, k, name) > ENOUGH}
        found.append({**look, floor_of(factor).name: place, "probability": probability})
        left[x, y] = 0


def _mass(by_look: Tensor, looks: Sequence[dict[str, str]], part: str, name: str) -> float:
    """Of all looks those that have a name."""
    having = [index for index, look in enumerate(looks) if look[part] == name]
    return float(by_look[having].sum())


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
            if near and all(thing[name] == other.get(name) for name in names):
                remaining.remove(other)
                count += 1
                break
    return count
