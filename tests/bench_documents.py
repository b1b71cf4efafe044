"""Made-up documents of ebm bench logic, for tests of what is made from them."""

from typing import Any

Row = dict[str, Any]
FORMULAS = ("color=red & ~tall", "color=red | tall")  # of every row; seeds 0 and 1


def estimate(mean: float, spread: float | None = 0.01) -> Row:
    """A share as it is written."""
    return {"mean": mean, "seed_error": spread, "binomial_error": 0.02, "n": 40_000, "n_seeds": 2}


def groups(right: list[int | None]) -> list[Row]:
    """Ten pictures of each formula for each seed; None: refused."""
    found = []
    for i, count in enumerate(right):
        group: Row = {"formula": FORMULAS[i % 2], "seed": i // 2, "first_picture_seed": i, "n": 10}
        known = {"refused": "no density"} if count is None else {"right": count, "absent": 0}
        found.append(group | known)
    return found


def line(row: str, rule: str, right: list[int | None], **more: Any) -> Row:
    """One line with its groups and with shares that follow from them."""
    drawn = [count for count in right if count is not None]
    n_refused = len(right) - len(drawn)
    mean = sum(drawn) / (10 * len(drawn)) if drawn else 0.0
    reasons = {"no density": n_refused} if n_refused else {}
    plain: Row = {
        "part": "rules", "row": row, "rule": rule, "sampler": "auto", "corrector_steps": None,
        "attempts": 1, "by_branch": False, "strength": 4.0, "n": 10 * len(drawn),
        "unwanted": None, "prior": 0.25,
        "accuracy": estimate(mean) if drawn else None,
        "absent": estimate(0.0) if drawn else None,
        "refused": {
            "formulas": n_refused, "of": len(right), "share": n_refused / len(right),
            "reasons": reasons,
        },
        "energy_calls": 327.0 if drawn else None,
        "seconds_per_picture": 1.25 if drawn else None,
        "ceiling": 0.995, "fid": {"value": None, "n_reference": 0, "data": "sha256:0"},
        "groups": groups(right), "digests": {}, "seconds": 12.0,
    }  # fmt: skip
    return plain | more


def document(*rows: Row) -> Row:
    """A document with these lines."""
    return {
        "format": "ebm-bench-logic", "version": 1, "command": "ebm bench logic -n 20",
        "settings": {"n": 20, "seeds": [0, 1], "space": "squares-16", "sampling": {}, "data": None},
        "created": "2026-11-25T00:00:00Z", "machine": "x86_64", "device": "cpu", "threads": 1,
        "versions": {"ebm": "1", "torch": "2", "python": "3"},
        "concepts": ["color", "tall"], "judges": {}, "left_out": {}, "rows": list(rows),
    }  # fmt: skip
