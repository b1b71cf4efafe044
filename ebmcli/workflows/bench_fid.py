"""FID of every rule of the benchmark: all its pictures together, against renders of their formulas.

One line has too few pictures for it on a CPU: fewer than the features whose covariance is asked
for. A rule that refuses formulas is compared with ours on those it has drawn, picture by picture.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebmcli.checkpoint import bytes_digest
from ebmcli.core.expression import concept_names, parse
from ebmcli.core.factors import Factor
from ebmcli.evaluation.metrics import weighted_frechet_distance
from ebmcli.evaluation.truth import holds
from ebmcli.evaluation.verdicts import by_concept
from ebmcli.workflows.bench_compare import COMPARED, Way, rules_of, way_of
from ebmcli.workflows.bench_pictures import drawn_groups
from ebmcli.workflows.bench_plan import OURS
from ebmcli.workflows.judging import Reference

Row = dict[str, Any]
Key = tuple[str, str, int]  # kind of formulas, formula, seed: the same pictures of every rule


@dataclass(frozen=True, kw_only=True)
class _Renders:
    """Real pictures and which formulas they satisfy: some to compare with, others for the floor."""

    features: Tensor  # (N, F)
    others: Tensor  # (N', F)
    satisfy: dict[str, Tensor]  # formula -> (N,) bool, some of them
    others_satisfy: dict[str, Tensor]
    digest: str  # of all of them

    def distance(self, drawn: Mapping[Key, Tensor]) -> float:
        """FID of drawn features against renders, in which formulas count by their pictures."""
        counts = [len(found) for found in drawn.values()]
        weights = _mixed([self.satisfy[formula] for _, formula, _ in drawn], counts)
        return weighted_frechet_distance(torch.cat(list(drawn.values())), self.features, weights)

    def fitting(self, drawn: Mapping[Key, Tensor]) -> int:
        """Renders that satisfy one of the formulas, of the half that has fewer."""
        formulas = list(dict.fromkeys(formula for _, formula, _ in drawn))
        halves = [[of[one] for one in formulas] for of in (self.satisfy, self.others_satisfy)]
        return min(int(torch.stack(masks).any(0).sum()) if masks else 0 for masks in halves)

    def floor(self, drawn: Mapping[Key, Tensor]) -> float:
        """FID of other renders, as many of each formula as were drawn: far from 0 for few."""
        generator = torch.Generator().manual_seed(0)
        chosen = {}
        for key, found in drawn.items():
            fitting = self.others_satisfy[key[1]].double()
            few = len(found) > int(fitting.sum())  # then some are taken twice
            rows = torch.multinomial(fitting, len(found), replacement=few, generator=generator)
            chosen[key] = self.others[rows]
        return self.distance(chosen)


def pictures_of_rules(document: Row) -> dict[tuple[str, Way], str]:
    """For each rule and way of drawing a digest of all that its row is made of, but the renders.

    That is its own pictures, ours, with which it is compared, and the judge. A rule is left out
    where pictures of one of its lines were not kept.
    """
    found = {}
    ours = _lines(document, OURS, COMPARED)
    judges = {name: judge["sha256"] for name, judge in document["judges"].items()}
    for rule in rules_of(document):
        for way in dict.fromkeys(map(way_of, _lines(document, rule))):
            rows = _lines(document, rule, way)
            if all(row.get("pictures") for row in rows):
                files = sorted(
                    row["pictures"]["sha256"] for row in [*rows, *ours] if row.get("pictures")
                )
                found[rule, way] = bytes_digest(json.dumps([files, judges]).encode())
    return found


def rows_of_rules(document: Row) -> dict[tuple[str, Way], Row]:
    """The rows there are."""
    return {
        (row["rule"], Way(attempts=row["attempts"], by_branch=row["by_branch"])): row
        for row in document.get("fid", [])
    }


def frechet_rows(
    document: Row,
    features: Callable[[Row], Tensor | None],
    reference: Reference,
    factors: Mapping[str, Factor],
    *,
    report: Callable[[str], None],
) -> list[Row]:
    """A row for each rule and way of drawing: FID, that of ours on the same formulas, the floor.

    Args:
        document: The results. Rows of the same pictures, judge and renders are kept.
        features: The judge's features (N, F) of the pictures of a line, in the order of its groups;
            None where the pictures are gone.
        reference: Real pictures.
        factors: Of the concepts.
        report: Told what is going on.

    Returns:
        ``value`` is the FID, None where there are fewer pictures or renders than features; ``ours``
        that of COMPARED lines of our rule on the same formulas; ``error`` the standard error of
        their difference, by leaving out one formula after the other; ``floor`` that of real
        pictures. Pictures of formulas that no render satisfies are not among the ``n``, but
        ``without_renders``. A rule of which pictures are gone has no row.
    """
    renders = _renders(document, reference, factors)
    older, rows = rows_of_rules(document), []
    ours = _drawn(_lines(document, OURS, COMPARED), features)
    for (rule, way), digest in pictures_of_rules(document).items():
        report(f"FID of {rule}")
        known = older.get((rule, way), {})
        if known.get("pictures") == digest and known["data"] == reference.digest:
            rows.append(known)
            continue
        is_ours = (rule, way) == (OURS, COMPARED)
        drawn = ours if is_ours else _drawn(_lines(document, rule, way), features)
        if drawn is not None:
            same = {} if is_ours or ours is None else ours
            row = {"rule": rule, "attempts": way.attempts, "by_branch": way.by_branch}
            row |= _estimates(renders, drawn, same)
            rows.append(row | {"pictures": "" if ours is None else digest})  # "": not for good
    return rows


def _estimates(renders: _Renders, drawn: Mapping[Key, Tensor], others: Mapping[Key, Tensor]) -> Row:
    """FID of drawn pictures, that of others of the same formulas, and that of renders."""
    n_drawn = sum(map(len, drawn.values()))
    drawn = {key: found for key, found in drawn.items() if key[1] in renders.satisfy}
    same = {key: others[key] for key in drawn if key in others}
    n = sum(map(len, drawn.values()))
    n_features = renders.features.shape[1]
    row: Row = {"n": n, "formulas": len({key[:2] for key in drawn}), "data": renders.digest}
    row |= {"without_renders": n_drawn - n, "n_features": n_features}
    row |= dict.fromkeys(("value", "floor", "ours", "error"))
    if min(n, renders.fitting(drawn)) >= n_features:
        row |= {"value": renders.distance(drawn), "floor": renders.floor(drawn)}
        if len(same) == len(drawn):
            error = _jackknife_error(renders, drawn, same)
            row |= {"ours": renders.distance(same), "error": error}
    return row


def _lines(document: Row, rule: str, way: Way | None = None) -> list[Row]:
    """The lines of a rule that have pictures."""
    return [
        row
        for row in document["rows"]
        if (row["part"], row["rule"]) == ("rules", rule) and row["n"] and way in (None, way_of(row))
    ]


def _drawn(
    rows: Sequence[Row], features: Callable[[Row], Tensor | None]
) -> dict[Key, Tensor] | None:
    """Features by formula and seed; None where pictures are gone."""
    found: dict[Key, Tensor] = {}
    for row in rows:
        part = features(row)
        if part is None:
            return None
        start = 0
        for group in drawn_groups(row):
            stop = start + group["n"]
            found[row["row"], group["formula"], group["seed"]] = part[start:stop]
            start = stop
    return found


def _renders(document: Row, reference: Reference, factors: Mapping[str, Factor]) -> _Renders:
    """Half of the real pictures to compare with, half for the floor.

    Formulas that none of a half satisfies are left out, and those with a concept that is no longer
    there, as in lines of an older registry.
    """
    rules = [row for row in document["rows"] if row["part"] == "rules"]
    asked = dict.fromkeys(group["formula"] for row in rules for group in row["groups"])
    formulas = [one for one in asked if factors.keys() >= set(concept_names(parse(one)))]
    truth = by_concept(reference.truth, factors)
    half = len(reference.features) // 2
    masks = {formula: holds(parse(formula), truth) for formula in formulas}
    known = {f: m for f, m in masks.items() if bool(m[:half].any()) and bool(m[half:].any())}
    return _Renders(
        features=reference.features[half:],
        others=reference.features[:half],
        satisfy={formula: mask[half:] for formula, mask in known.items()},
        others_satisfy={formula: mask[:half] for formula, mask in known.items()},
        digest=reference.digest,
    )


def _mixed(masks: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Weights (N,) of N real pictures in which formulas count by their pictures, summing to 1."""
    rows = torch.stack(list(masks)).double()
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    return shares @ (rows / rows.sum(1, keepdim=True))


def _jackknife_error(
    renders: _Renders, theirs: Mapping[Key, Tensor], ours: Mapping[Key, Tensor]
) -> float | None:
    """Standard error of the difference of two FIDs of the same formulas, left out one by one.

        sqrt((k - 1) / k sum_i (d_i - mean d)^2),  d_i without formula i of k

    Source: Efron and Stein (1981), The jackknife estimate of variance
    """
    formulas = list(dict.fromkeys(key[:2] for key in theirs))
    k = len(formulas)
    if k < 2:
        return None
    differences = torch.tensor(
        [
            renders.distance({key: f for key, f in theirs.items() if key[:2] != left})
            - renders.distance({key: f for key, f in ours.items() if key[:2] != left})
            for left in formulas
        ],
        dtype=torch.float64,
    )
    spread = (differences - differences.mean()).square().sum()
    return math.sqrt(float(spread) * (k - 1) / k)
