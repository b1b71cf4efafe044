"""``logic.md``: the benchmark of logic as a page, from its document alone."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from ebmcli.evaluation.formulas import LEAST_PRIOR, MOST_PRIOR, NESTED, OR_ROWS, ROWS
from ebmcli.workflows.bench_aims import Aim, aims, mean_and_error
from ebmcli.workflows.bench_compare import (
    COMPARED,
    lead,
    leads,
    measured_rows,
    metropolis_rows,
    rows_of,
    rules_of,
    way_of,
    ways_of,
)
from ebmcli.workflows.bench_fid import rows_of_rules
from ebmcli.workflows.bench_plan import METROPOLIS, OURS, PLAIN

Row = dict[str, Any]
Document = dict[str, Any]

MEANING = {
    "and-2": "statements on two concepts, `a & b`",
    "and-3": "statements on three concepts, `a & b & c`",
    "or-values": "two values of one concept",
    "or-concepts": "statements on two concepts, `a | b`",
    "not": "`a & ~b` of two concepts, and `~b` alone",
    "implies": "`a -> b` of two concepts",
    **{row: f"a random tree of {row[-1]} operators out of & \\| ~ ->" for row in NESTED},
}
N_EXAMPLES = 3


def logic_page(document: Document) -> str:
    """The whole page; a document without rows gives a page that says so."""
    parts = [_head(document)]
    if not document["rows"]:
        return "\n".join([*parts, "Nothing is measured yet.", ""])
    parts += [_aims(document), _matrix(document), _fid(document)]
    parts += [_kind(document, row) for row in measured_rows(document, ROWS)]
    parts += [_metropolis(document), _pictures()]
    return "\n".join(parts)


def _head(document: Document) -> str:
    settings, versions = document["settings"], document["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    seeds = ", ".join(map(str, settings["seeds"]))
    left_out = [f"`{row}` {why}." for row, why in document.get("left_out", {}).items()]
    return "\n".join(
        [
            "# Rules of composition compared",
            "",
            "Written by `ebm bench logic` from `logic.json` beside it; do not edit. Random "
            "formulas over "
            f"{_and(document['concepts'])} ({settings['space']}), the same for every rule, and "
            "the same noise. Every formula can be true and false, all its concepts matter, and "
            f"its prior probability is between {LEAST_PRIOR:g} and {MOST_PRIOR:g}.",
            "",
            "*Right*: the formula holds by the readings of a judge that never saw an energy, and "
            "the judge sees an object; mean over seeds ± standard error, of counting or over "
            "seeds, whichever is larger. A place is right within a tenth of its range per "
            "coordinate, 0.2 on [-1, 1]. *Refused*: the rule has no energy for the "
            "formula; *right* counts the others only. *Energy calls* are those of one picture "
            "through all noise levels: at one attempt they are the same for all rules. Lines "
            "*by branch* have no part in the comparison: every picture is given one way for its "
            "formula to be true, by its prior; by default it is also drawn again while the model "
            "itself finds it wrong. *FID* is on the judge's own features against renders of the "
            "same formulas, of as many pictures as it has features or more. The "
            "*ceiling* is the judge's own accuracy on renders. *Largest gap*: of all "
            "alternatives of an `or`, how far the share of right pictures is from that under "
            "the prior of the concepts at strength 1, ± the noise of counting so few pictures.",
            "",
            f"```sh\n{document['command']}\n```",
            "",
            f"{settings['n']} pictures per line and seed, seeds {seeds}; {document['device']}, "
            f"{document['machine']}, {document['threads']} threads; {named}; "
            f"{document['created'][:10]}.",
            "",
            *([" ".join(["Left out:", *left_out]), ""] if left_out else []),
        ]
    )


def _aims(document: Document) -> str:
    """Aims, for our rule: as compared, and as it is by default."""
    ways = ways_of(document)
    found = [list(aims(document, way=way)) for way in ways]
    heads = [f"{OURS}, {way.title}" for way in ways]
    n = document["settings"]["n"] * len(document["settings"]["seeds"])
    text = f"Chosen before anything was measured; judged by the mean of {n} pictures a line."
    lines = ["## Aims", "", text, ""]
    lines += [
        f"| aim | | {' | | '.join(heads)} | |",
        "| --- | ---: |" + " ---: | --- |" * len(heads),
    ]
    for aim in found[0]:
        same = [next((a for a in column if a.text == aim.text), None) for column in found]
        cells = [f"{_aim_value(a)} | {a.verdict}" if a else " | " for a in same]
        lines.append(f"| {aim.text} | {_asked(aim)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _matrix(document: Document) -> str:
    """Right pictures by kind of formula and rule."""
    rules = rules_of(document)
    lines = ["## Right pictures by rule, one attempt each", ""]
    if any(_off(row) for row in document["rows"]):
        lines += [
            "An `or` is right where its alternatives have their shares, too: *gap*, in points, is "
            "how far the worst of them is from its own.",
            "",
        ]
    lines += [f"| formulas | {' | '.join(rules)} | ceiling |"]
    lines += ["| --- |" + " ---: |" * (len(rules) + 1)]
    for row in measured_rows(document, ROWS):
        found = rows_of(document, row)
        cells = [_right(found[rule]) + _off(found[rule]) if rule in found else "" for rule in rules]
        top = max((one["ceiling"] or 0 for one in found.values()), default=0)
        lines.append(f"| `{row}` | {' | '.join(cells)} | {f'{100 * top:.1f} %' if top else ''} |")
    return "\n".join([*lines, "", *_leads(document)])


def _leads(document: Document) -> Iterator[str]:
    """Our lead over every other rule on nested formulas, in words."""
    for one in leads(document, measured_rows(document, NESTED)):
        drawn = f", on the {100 * one.drawn:.0f} % of the formulas it accepts"
        yield (
            f"On nested formulas {OURS} is {_points(one.mean, one.error)} ahead of {one.rule}"
            f"{drawn if one.drawn < 1 else ''}."
        )
        yield ""


def _kind(document: Document, row: str) -> str:
    """One kind of formula: what was asked, and a line per rule."""
    found = [rows_of(document, row, way=way) for way in ways_of(document)]
    rows = [column[rule] for rule in rules_of(document) for column in found if rule in column]
    extra = {"not": ["unwanted"]}.get(row, ["largest gap"] if row in OR_ROWS else [])
    formulas = list(dict.fromkeys(group["formula"] for group in rows[0]["groups"]))
    shown = ", ".join(f"`{formula}`" for formula in formulas[:N_EXAMPLES])
    heads = ["rule", "drawn", "strength", "pictures", "right", *extra, "refused", "no object"]
    with_fid = any(one["fid"]["value"] is not None for one in document["rows"])
    heads += [*(["FID"] if with_fid else []), "energy calls", "s/picture"]
    lines = [
        f"### {row}",
        "",
        f"{len(formulas)} formula{'s' * (len(formulas) > 1)}: {MEANING[row]}, such as {shown}. "
        f"Mean prior {100 * rows[0]['prior']:.1f} %.",
        "",
        f"| {' | '.join(heads)} |",
        "| --- |" + " ---: |" * (len(heads) - 1),
    ]
    lines += [f"| {' | '.join(_cells(one, extra, with_fid=with_fid))} |" for one in rows]
    lines += ["", *(f"{text}\n" for text in _reasons(rows))]
    return "\n".join(lines)


def _cells(row: Row, extra: list[str], *, with_fid: bool) -> list[str]:
    calls, seconds = row["energy_calls"], row["seconds_per_picture"]
    branches = row.get("branches") or {}
    own = {
        "unwanted": percent(row["unwanted"]),
        "largest gap": _points(branches.get("largest_gap"), branches.get("noise")),
    }
    return [
        row["rule"],
        way_of(row).title,
        f"{row['strength']:g}",
        str(row["n"]),
        percent(row["accuracy"]),
        *(own[name] for name in extra),
        f"{100 * row['refused']['share']:.0f} %",
        percent(row["absent"]),
        *([_number(row["fid"]["value"])] if with_fid else []),
        "" if calls is None else f"{calls:.0f}",
        "" if seconds is None else f"{seconds:.2f}",
    ]


def _fid(document: Document) -> str:
    """FID of every rule on all its pictures."""
    rows = fid_rows(document)
    title = "## FID by rule\n"
    if not rows:
        return f"{title}\nNot measured: {_no_fid(document)}.\n"
    lines = [
        title,
        "All pictures of a rule together, against renders in which every formula counts as often "
        "as it was drawn. A rule that refuses formulas has drawn others than ours: *same formulas* "
        f"is the FID of the pictures that {OURS} drew of those at one attempt, *difference* how "
        "far the rule is above it, ± standard error (formulas left out one by one). *Renders*: "
        "other renders, as many of every formula as were drawn; so few are far from 0, too.",
        "",
        "| rule | drawn | formulas | pictures | FID | same formulas | difference | renders |",
        "| --- |" + " ---: |" * 7,
        *(f"| {' | '.join(cells)} |" for cells in rows),
        "",
    ]
    for row in document["fid"]:
        if row["value"] is None and row["n"] < row["n_features"]:
            lines += [f"{row['rule']} has {row['n']} pictures of {row['n_features']} it takes.", ""]
    if n := max(row["without_renders"] for row in document["fid"]):
        lines += [f"Left out: up to {n} pictures of a rule whose formulas no render satisfies.", ""]
    return "\n".join(lines)


def _no_fid(document: Document) -> str:
    """Why there is no FID."""
    rows = document.get("fid") or []
    if not rows:
        return "the pictures of these lines were not kept"
    most, n_features = max(row["n"] for row in rows), rows[0]["n_features"]
    if most < n_features:
        return f"it takes {n_features} pictures of a rule, as many as the judge has features"
    return f"fewer than {n_features} renders to compare with satisfy the formulas"


def fid_rows(document: Document) -> list[list[str]]:
    """Rule, way, formulas, pictures, FID, ours, difference, renders; none where there is no FID."""
    found = []
    for (rule, way), row in rows_of_rules(document).items():
        more = "" if row["ours"] is None else f"{row['value'] - row['ours']:.2f}"
        more += "" if row["error"] is None else f" ± {row['error']:.2f}"
        cells = [rule, way.title, str(row["formulas"]), str(row["n"]), _number(row["value"])]
        found.append([*cells, _number(row["ours"]), more, _number(row["floor"])])
    return found if any(cells[4] for cells in found) else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _reasons(rows: list[Row]) -> Iterator[str]:
    """Why formulas were refused; reasons that differ in the formula alone are told once."""
    for row in rows:
        counts: Counter[str] = Counter()
        example: dict[str, str] = {}
        for reason, count in row["refused"]["reasons"].items():
            kind, _, formula = reason.partition(" has no rule for ")
            counts[kind] += count
            example.setdefault(kind, f"no rule for formulas such as `{formula}`" if formula else "")
        for kind, count in counts.items():
            text = f"{row['rule']} refused {count} of {row['refused']['of']}"
            yield f"{text}: {example[kind] or kind}."


def _metropolis(document: Document) -> str:
    """What a test of every step gains, on nested formulas."""
    table = metropolis_rows(document)
    title = "## The Metropolis test\n"
    if not table:
        names = " and ".join(METROPOLIS)
        return f"{title}\nNot measured yet; with {names}, on nested formulas.\n"
    kinds = [row for row in NESTED if any(row in found for found in table.values())]
    lines = [
        title,
        f"Nested formulas, rule {OURS}, one attempt: moves that are accepted or rejected, against "
        f"`{PLAIN}`, which accepts all; gains are on all these formulas together. *Equal moves*: "
        "at the same number of moves per noise level, those of a test not counting the warm-up in "
        "which its step adapts. *Equal calls*: against the longest of these `langevin` lines that "
        "takes no more energy calls, warm-up and all.",
        "",
        f"| sampler | moves | {' | '.join(kinds)} | gain, equal moves | gain, equal calls "
        "| energy calls | s/picture |",
        "| --- | ---: |" + " ---: |" * (len(kinds) + 4),
    ]
    for (sampler, steps), found in table.items():
        seconds = _per_picture(found.values(), "seconds_per_picture")
        cells = [percent(found[kind]["accuracy"]) if kind in found else "" for kind in kinds]
        cells += _gains(table, sampler, steps)
        calls = _per_picture(found.values(), "energy_calls")
        lines.append(f"| {sampler} | {steps} | {' | '.join(cells)} | {calls:.0f} | {seconds:.2f} |")
    return "\n".join([*lines, ""])


def _gains(table: dict[tuple[str, int], dict[str, Row]], sampler: str, steps: int) -> list[str]:
    """What a Metropolis test gains at equal moves and at equal calls; nothing for PLAIN itself."""
    if sampler == PLAIN:
        return ["", ""]
    own = table[sampler, steps].values()
    calls = {
        n: _per_picture(found.values(), "energy_calls")
        for (name, n), found in table.items()
        if name == PLAIN
    }
    limit = _per_picture(own, "energy_calls")
    affordable = [n for n, count in calls.items() if count <= limit]
    equal = max(affordable, key=lambda n: calls[n], default=None)
    gains = [lead(own, table.get((PLAIN, n or 0), {}).values()) for n in (steps, equal)]
    cells = [_points(gain.mean, gain.error) if gain else "" for gain in gains]
    return [cells[0], f"{cells[1]} (of {equal})" if cells[1] else ""]


def _per_picture(rows: Collection[Row], key: str) -> float:
    """The mean over all pictures of some rows."""
    return float(sum(row[key] * row["n"] for row in rows) / sum(row["n"] for row in rows))


def _pictures() -> str:
    return (
        "## Pictures\n\n"
        "The first picture of some formulas, with the rule that drew it.\n\n"
        "![Pictures by formula and rule](logic.png)\n"
    )


def line_rows(document: Document) -> list[list[str]]:
    """Lines of all tables for a terminal, in plain letters."""
    found = []
    for row in document["rows"]:
        way = way_of(row)
        extra = f", {way.title}" if way != COMPARED else ""
        if row["part"] == "metropolis":
            extra = f", {row['sampler']} {row['corrector_steps']}"
        calls = row["energy_calls"]
        cells = [row["row"], row["rule"] + extra, str(row["n"]), percent(row["accuracy"])]
        cells += [f"{100 * row['refused']['share']:.0f} %", percent(row["absent"])]
        found.append([*cells, "" if calls is None else f"{calls:.0f}"])
    return [[_plain(cell) for cell in cells] for cells in found]


def fid_lines(document: Document) -> list[list[str]]:
    """FID of all rules for a terminal: rule, pictures, FID, ours of the same formulas, renders."""
    rows = fid_rows(document)
    lines = [[f"{rule}, {way}", n, fid, *rest] for rule, way, _, n, fid, *rest in rows]
    return [[_plain(cell) for cell in cells] for cells in lines]


def aim_rows(document: Document) -> list[list[str]]:
    """The aims of our rule at one attempt for a terminal, in plain letters."""
    return [
        [_plain(text) for text in (aim.text, _asked(aim), _aim_value(aim), aim.verdict)]
        for aim in aims(document)
    ]


def _plain(text: str) -> str:
    return text.replace("±", "+-").replace("`", "")


def percent(estimate: Row | None) -> str:
    """A share and its standard error, such as 95.0 ± 1.2 %; empty where there is none."""
    mean, error = mean_and_error(estimate)
    return "" if mean is None else f"{100 * mean:.1f} ± {100 * (error or 0):.1f} %"


def _right(row: Row) -> str:
    refused = row["refused"]["share"]
    if row["accuracy"] is None:
        return "all refused"
    note = f" ({100 * refused:.0f} % refused)" if refused else ""
    return percent(row["accuracy"]) + note


def _off(row: Row) -> str:
    """How far the alternatives of an "or" are from their shares: its other half of being right."""
    gap = (row.get("branches") or {}).get("largest_gap")
    return "" if gap is None else f", gap {100 * gap:.0f}"


def _points(mean: float | None, error: float | None) -> str:
    """A difference of shares, such as 4.5 ± 1.2 points."""
    if mean is None:
        return ""
    spread = "" if error is None else f" ± {100 * error:.1f}"
    return f"{100 * mean:.1f}{spread} points"


def _is_difference(aim: Aim) -> bool:
    return "lead" in aim.text or "distance" in aim.text


def _aim_value(aim: Aim) -> str:
    if aim.value is None:
        return ""
    text = _points(aim.value, aim.error)
    return text if _is_difference(aim) else text.replace("points", "%")


def _asked(aim: Aim) -> str:
    word = "at least" if aim.at_least else "at most"
    return f"{word} {100 * aim.limit:g} {'points' if _is_difference(aim) else '%'}"


def _and(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
