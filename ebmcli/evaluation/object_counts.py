"""How many objects of pictures were found, missed and invented, from two lists of each picture."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ebmcli.core.factors import Factor
from ebmcli.core.found import n_matched
from ebmcli.evaluation.held_out_fields import labelled


@dataclass(frozen=True)
class ObjectCounts:
    """Numbers of B pictures, each (B,) int64.

    ``both`` are objects that were found as they are: their look, within 0.2 of their place.
    """

    true: Tensor
    found: Tensor
    both: Tensor

    @property
    def all_right(self) -> Tensor:
        """Pictures in which nothing was missed and nothing invented: (B,) bool."""
        return (self.both == self.true) & (self.both == self.found)

    def shares(self) -> dict[str, float]:
        """Of all true objects the share that was found, of all found ones that which is none, and
        of all pictures that in which neither goes wrong; four digits, 0 of nothing.
        """
        n_true, n_found, n_both = (int(part.sum()) for part in (self.true, self.found, self.both))
        return {
            "found": round(n_both / max(1, n_true), 4),
            "invented": round((n_found - n_both) / max(1, n_found), 4),
            "all_right": round(float(self.all_right.double().mean()), 4),
        }


def objects_read(read: Tensor, truth: Tensor, factor: Factor) -> ObjectCounts:
    """Compare rows of objects (B, any, columns), see ``Factor.columns``, picture by picture."""
    counts = []
    for pair in zip(read, truth, strict=True):
        seen, there = (labelled(rows, factor) for rows in pair)
        counts.append((len(there), len(seen), n_matched(seen, there, factor)))
    true, found, both = torch.tensor(counts, dtype=torch.int64).view(-1, 3).unbind(1)
    return ObjectCounts(true, found, both)
