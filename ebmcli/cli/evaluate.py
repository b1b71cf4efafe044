"""``ebm eval`` and ``ebm train-judge``: how often pictures are right, and who says so."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ebmcli.cli.typed import typed_command

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run; write nothing.")]
RegistryPath = Annotated[Path | None, typer.Option("--registry", help="registry.yaml to use.")]


def evaluate(
    targets: Annotated[
        list[str],
        typer.Argument(
            help="The suites single, conjunction, inference; formulas, in which color=? is any; "
            "calibration, and after it concepts, or none for all."
        ),
    ],
    n: Annotated[int, typer.Option("-n", "--n", help="Pictures per row and seed.")] = 500,
    seeds: Annotated[int, typer.Option(help="Seeds, whose spread gives the error.")] = 3,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    space: Annotated[str | None, typer.Option(help="Only this space, as scenes-64.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Real pictures to compare with; rendered if absent.")
    ] = None,
    fid: Annotated[bool, typer.Option("--fid/--no-fid", help="Compare with real pictures.")] = True,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="JSON file, written row by row, or a folder.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Noise levels from noise to picture.")] = 32,
    sampler: Annotated[
        str, typer.Option(help="auto, heun, langevin, mala, hmc, smc or rejection.")
    ] = "auto",
    corrector_steps: Annotated[int | None, typer.Option(help="Moves per noise level.")] = None,
    chains: Annotated[
        int | None, typer.Option(help="Chains per picture: mala, hmc, smc, rejection.")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="Weight of guidance.")] = None,
    logic: Annotated[
        str, typer.Option(help="exact, or another's rules: paper, dng, ... (docs/logic.md).")
    ] = "exact",
    attempts: Annotated[
        int, typer.Option(help="Draws per picture while the model finds it wrong.")
    ] = 3,
    batch_size: Annotated[int, typer.Option(help="Chains at a time; changes no picture.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the finished rows.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Measure how often generated pictures are right, and inferred values.

    A judge that never saw an energy reads them. A number, or each coordinate of a place, is
    right within a tenth of its range (0.2 on [-1, 1]), a rendered size within 0.05; places within
    twice that, as in the paper, stand beside it. Calibration needs no judge: it compares
    probabilities with the labels of pictures, and draws charts where -o is given.

    Example: ebm eval "color=red & position=(0.5,0)" conjunction -n 100 -o results.json
    """
    from ebmcli.cli.console import note_resumption, print_json, progress
    from ebmcli.registry import find_registry, read_registry
    from ebmcli.workflows.evaluate import EvalRequest
    from ebmcli.workflows.evaluate import evaluate as evaluated
    from ebmcli.workflows.generate import GenerateRequest, draw_together

    known = read_registry(find_registry(registry))
    sampling = GenerateRequest(
        expression="", steps=steps, sampler=sampler, corrector_steps=corrector_steps,
        chains=chains, strength=strength, logic=logic, attempts=attempts, batch_size=batch_size,
        device=device,
    )  # fmt: skip
    request = EvalRequest(
        targets=tuple(targets), sampling=sampling, n=n, seeds=seeds, seed=seed, space=space,
        data=data, fid=fid, output=out, resume=resume, overwrite=overwrite, command=typed_command(),
    )  # fmt: skip
    note_resumption(resume, request.results)
    with progress("rows") as report:
        document = evaluated(
            request, known, draw=partial(draw_together, registry=known), report=report
        )
    if as_json:
        print_json(document)
    else:
        show(document)


def train_judge(
    name: Annotated[str, typer.Argument(help="Name in the registry, as judge-scenes-64.")],
    data: Annotated[Path, typer.Option(help="Dataset that no energy was trained on.")],
    held: Annotated[
        Path | None, typer.Option(help="Dataset to measure on; else its last twentieth, or 32.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates; 2500 without --minutes.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time to train, instead.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and negatives.")] = 0,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Train the judge of a space, which reads every factor and whether there is an object.

    Example: ebm train-judge judge-mine --data judge.h5 --held held.h5
    """
    from ebmcli.cli.console import print_json, training_progress, whole_or_nothing
    from ebmcli.registry import find_registry, writable_registry
    from ebmcli.workflows.judge import JudgeRequest, planned_judge
    from ebmcli.workflows.judge import train_judge as trained

    request = JudgeRequest(
        name=name, data=data, held=held, steps=steps, minutes=minutes, seed=seed,
        registry=find_registry(registry), overwrite=overwrite, command=typed_command(),
    )  # fmt: skip
    plan = planned_judge(request)  # the bundled registry is copied by what is right
    if dry_run:
        print_json(plan)
        return
    request = replace(request, registry=writable_registry(registry))
    with whole_or_nothing(), training_progress(f"train {name}") as report:
        record = trained(request, report=report)
    if as_json:
        print_json({"name": name, **record.to_dict()})
    else:
        _show_judge(record, request.registry)


def show(document: dict[str, Any]) -> None:
    """The rows of an evaluation as tables: drawn, inferred, and how well calibrated."""
    from ebmcli.cli.console import message, table

    others = ("inference", "calibration")
    drawn = [row for row in document["rows"] if row["suite"] not in others]
    inferred = [row for row in document["rows"] if row["suite"] == "inference"]
    if drawn:
        headers = ["formula", "n", "right", "at 0.4", "no object", "FID", "s/picture"]
        table("generated pictures, read by the judge", headers, [_drawn(row) for row in drawn])
    if inferred:
        headers = ["concept", "n", "right", "at 0.4", "mean error", "s/picture"]
        rows = [_inferred(row) for row in inferred]
        table("values inferred from real pictures", headers, rows)
        for row in inferred:
            if "objects" in row:
                message(_objects(row))
    if drawn or inferred:
        message("right: share +- standard error, of counting or over seeds, whichever is larger")
        allowed = {k: v for row in drawn + inferred for k, v in row.get("tolerances", {}).items()}
        if allowed:
            within = ", ".join(f"{name} {error:g}" for name, error in allowed.items())
            message(f"a number or a coordinate is right within: {within}")
    fids = [row["fid"] for row in drawn if row["fid"]]
    if any(fid["value"] is not None for fid in fids):
        message("FID: on the judge's features; in brackets that of as many real pictures")
    elif fids:
        message("no FID: it takes as many pictures as the judge has features, 128 or more")
    _show_calibration([row for row in document["rows"] if row["suite"] == "calibration"])
    for name, judge in document["judges"].items():
        message(f"{name} itself, on clean held-out pictures: {_own(judge['measured'])}")


def _drawn(row: dict[str, Any]) -> list[str | None]:
    fid = row["fid"] or {}
    return [
        row["template"],
        str(row["n"]),
        _percent(row["accuracy"]),
        _percent(row.get("accuracy_at_0.4")),
        _percent(row["absent"]),
        None if fid.get("value") is None else f"{fid['value']:.1f} ({fid['floor']:.1f})",
        f"{row['seconds_per_picture']:.2f}",
    ]


def _inferred(row: dict[str, Any]) -> list[str | None]:
    error = row.get("mae")
    shown = None
    if error:
        spread = error["seed_error"]
        shown = f"{error['mean']:.4f}" + ("" if spread is None else f" +- {spread:.4f}")
    return [
        row["template"],
        str(row["n"]),
        _percent(row["accuracy"]),
        _percent(row.get("accuracy_at_0.4")),
        shown,
        f"{row['seconds_per_picture']:.3f}",
    ]


def _objects(row: dict[str, Any]) -> str:
    """What was found of a list of objects; its pictures are right when all of it is."""
    n_true, n_found, n_both = (row["objects"][name] for name in ("true", "found", "both"))
    said = f"{n_both} of {n_true} objects found, {n_found - n_both} invented"
    return f"{row['template']}: {said}; a picture is right when neither goes wrong"


def _show_calibration(rows: list[dict[str, Any]]) -> None:
    """A line per concept and noise level, and what the figures mean."""
    from ebmcli.cli.console import message, table

    if not rows:
        return
    headers = ["concept", "sigma", "n", "right", "T", "log loss", "ECE", "by chance", "aim"]
    lines = [
        [row["template"], f"{level['sigma']:g}", str(row["n"]), f"{100 * level['accuracy']:.1f} %",
         f"{level['temperature']:.3f}", _loss(level["log_loss"]), f"{level['ece']:.4f}",
         f"{level['ece_by_chance']:.4f}", _verdict(level["met"])]
        for row in rows
        for level in row["levels"]
    ]  # fmt: skip
    table("are the probabilities of values right?", headers, lines)
    asked = [level for row in rows for level in row["levels"] if level["met"] is not None]
    n_met = sum(level["met"] for level in asked)
    message(f"{n_met} of {len(asked)} aims are met: ECE at most {asked[0]['aim']:g} up to sigma 1")
    message(
        "ECE: 15 equal bins of the confidence in the most probable cell; on the nodes of a number "
        "or place a cell is right by its weight in linear interpolation; of a list of objects it "
        "is what the cell holds that most probably holds one. by chance: about the ECE that "
        "perfect probabilities would have on so few pictures; log loss in nats"
    )
    n_small = sum(level["ece_by_chance"] > level["aim"] for level in asked)
    if n_small:
        problem = f"so few pictures that perfect probabilities would miss {n_small} of them too"
        message(f"note: {problem}; a larger -n tells more")
    for row in rows:
        if row["seen"]:
            message(f"note: {row['template']} has seen these pictures in its {row['seen']}")


def _verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "missed"


def _loss(estimate: dict[str, Any]) -> str:
    """A log loss with its error over seeds."""
    spread = estimate["seed_error"]
    return f"{estimate['mean']:.4f}" + ("" if spread is None else f" +- {spread:.4f}")


def _own(measured: dict[str, Any]) -> str:
    """How good a judge is, in one line: it caps every other figure."""
    factors = {k: v for k, v in measured.items() if isinstance(v, dict) and k != "present"}
    named = [f"{k} {100 * v['accuracy']:.1f} %" for k, v in factors.items() if "accuracy" in v]
    numbers = [f"{k} +-{v['mae']:.3f}" for k, v in factors.items() if "mae" in v]
    lists = [f"{k} {100 * v['found']:.1f} % found" for k, v in factors.items() if "found" in v]
    return ", ".join([*named, *numbers, *lists])


def _percent(estimate: dict[str, Any] | None) -> str | None:
    """A share with its standard error."""
    from ebmcli.evaluation.metrics import share_error

    if estimate is None:
        return None
    return f"{100 * estimate['mean']:.1f} +- {100 * share_error(estimate):.1f} %"


def _show_judge(record: Any, registry: Path) -> None:
    from ebmcli.cli.console import message, table

    rows = [
        [name, "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())]
        for name, numbers in record.measured.items()
        if isinstance(numbers, dict)
    ]
    table(f"{record.name} on clean held-out pictures", ["factor", "measured"], rows)
    message(f"saved {registry.parent / record.file}, {record.sha256[:19]}")
