"""``ebm train``, ``train-base`` and ``add-concept``: from a dataset file to a registered energy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ebmcli.cli import completion
from ebmcli.cli.typed import listed, typed_command

Name = Annotated[str, typer.Argument(help="Name in the registry.", show_default=False)]
Data = Annotated[Path, typer.Option(help="Dataset file of ebm render-dataset or import-dataset.")]
FactorName = Annotated[
    str | None, typer.Option(help="Factor of the file to learn; without it, the one called NAME.")
]
Method = Annotated[str, typer.Option(help="posterior, conditional or both.")]
BaseName = Annotated[
    str | None,
    typer.Option(
        help="Base energy; without it, the space's own.",
        autocompletion=completion.names_of("base"),
    ),
]
Minutes = Annotated[float | None, typer.Option(help="Time to train; schedules fit it.")]
Steps = Annotated[int | None, typer.Option(help="Updates, instead of --minutes.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="key=value, such as learning_rate=0.001.")
]
Start = Annotated[
    str | None,
    typer.Option(
        help="Begin with the weights of this trained entry of the same shape.",
        autocompletion=completion.names_of("concept", "base"),
    ),
]
Independent = Annotated[
    str | None,
    typer.Option(
        help="Frozen concept to know nothing of, for data with combinations left out.",
        autocompletion=completion.names_of("concept"),
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help="auto (measured), fp32 or bf16.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and noise.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has this name.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop an unfinished run and start again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run; write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
RegistryPath = Annotated[Path | None, typer.Option("--registry", help="registry.yaml to use.")]


def train(
    name: Name,
    data: Data,
    factor: FactorName = None,
    method: Method = "posterior",
    base: BaseName = None,
    minutes: Minutes = None,
    steps: Steps = None,
    assignments: Assignments = None,
    start: Start = None,
    independent_of: Independent = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Train a concept: an energy of one factor of a dataset.

    Example: ebm train hue --data scenes.h5 --factor color --minutes 8
    """
    request = _request(
        name, data, registry, factor=factor, method=method, base=base, minutes=minutes,
        steps=steps, assignments=tuple(assignments or ()), start=start, device=device,
        independent_of=independent_of, precision=precision,
        seed=seed, resume=resume, overwrite=overwrite, restart=restart,
    )  # fmt: skip
    _run(request, kind="concept", dry_run=dry_run, as_json=as_json)


def train_base(
    name: Name,
    data: Data,
    minutes: Minutes = None,
    steps: Steps = None,
    assignments: Assignments = None,
    start: Start = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Train the base of a space: the energy of its images when nothing is asked.

    Example: ebm train-base mine-64 --data scenes.h5 --minutes 30
    """
    request = _request(
        name, data, registry, minutes=minutes, steps=steps, start=start,
        assignments=tuple(assignments or ()),
        device=device, precision=precision, seed=seed, resume=resume, overwrite=overwrite,
        restart=restart,
    )  # fmt: skip
    _run(request, kind="base", dry_run=dry_run, as_json=as_json)


def add_concept(
    name: Name,
    data: Data,
    to: Annotated[
        list[str], typer.Option(help="Frozen concepts it will work with: color,position.")
    ],
    factor: FactorName = None,
    method: Method = "posterior",
    base: BaseName = None,
    minutes: Minutes = None,
    steps: Steps = None,
    assignments: Assignments = None,
    start: Start = None,
    device: Device = "auto",
    precision: Precision = "auto",
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Train a concept beside frozen ones, then show that nothing was forgotten.

    Example: ebm add-concept width --data scenes.h5 --factor size --to color,position
    """
    from ebmcli.cli.console import message, print_json, table
    from ebmcli.workflows.add_concept import add, plan_added

    request = _request(
        name, data, registry, factor=factor, method=method, base=base, minutes=minutes,
        steps=steps, assignments=tuple(assignments or ()), start=start, device=device,
        precision=precision,
        seed=seed, resume=resume, overwrite=overwrite, restart=restart,
    )  # fmt: skip
    others = listed(to)
    plan, _ = plan_added(request, others)
    _tell(plan)
    if dry_run:
        _show_plan(plan)
        return
    request = _own(plan)
    with _training_progress(f"train {name}") as report:
        added = add(request, others=others, report=report, announce=message)
    if as_json:
        print_json(added.to_dict())
        return
    _show(added.trained)
    headers, rows = added.table()
    table("nothing forgotten: frozen files are unchanged", headers, rows)


def _request(name: str, data: Path, registry: Path | None, **options: Any) -> Any:
    from ebmcli.registry import find_registry
    from ebmcli.workflows.plans import TrainRequest

    path = find_registry(registry)
    return TrainRequest(name=name, data=data, registry=path, command=typed_command(), **options)


def _own(plan: Any) -> Any:
    """The request of a plan on a registry that may be changed.

    The bundled one is copied, but not before everything that could be refused has been tried.
    """
    from ebmcli.registry import writable_registry
    from ebmcli.registry.places import BUNDLED
    from ebmcli.workflows.prepare import rehearse

    path = plan.request.registry
    if path.resolve() == BUNDLED:
        rehearse(plan)
    return replace(plan.request, registry=writable_registry(path))


def _run(request: Any, *, kind: str, dry_run: bool, as_json: bool) -> None:
    from ebmcli.cli.console import message, print_json
    from ebmcli.workflows.plans import plan_base, plan_concept
    from ebmcli.workflows.train import train as run_plan

    planned = plan_base if kind == "base" else plan_concept
    plan = planned(request)
    _tell(plan)
    if dry_run:
        _show_plan(plan)
        return
    own = _own(plan)
    if own != request:
        plan = planned(own)
    if plan.resting:
        named = ", ".join(plan.resting)
        message(f"warning: {named} were trained against the base {request.name} that this replaces")
    message(f"training {kind} {request.name}; run folder {plan.folder}")
    with _training_progress(f"train {request.name}") as report:
        trained = run_plan(plan, report=report, announce=message)
    if as_json:
        print_json({"name": request.name, **trained.record.to_dict()})
        return
    _show(trained)
    if plan.resting:
        warn_of_other_base(request.name, plan.resting)


def _tell(plan: Any) -> None:
    from ebmcli.cli.console import message

    for note in plan.notes:
        message(note)


def _show_plan(plan: Any) -> None:
    """What would run, once all that the run could be refused for has been tried."""
    from ebmcli.cli.console import print_json
    from ebmcli.workflows.prepare import rehearse
    from ebmcli.workflows.train import planned_length

    rehearse(plan)
    beside = {"to": list(plan.request.to)} if plan.request.to else {}
    print_json(plan.to_dict() | beside | planned_length(plan))


def warn_of_other_base(base: str, concepts: Sequence[str]) -> None:
    """Say which concepts rest on a base that was replaced."""
    from ebmcli.cli.console import message

    message(f"warning: {', '.join(concepts)} were trained against another base {base}")
    message("hint: their measured numbers are of that one: train them again; ebm verify lists them")


def _training_progress(title: str) -> Any:
    from ebmcli.cli.console import training_progress

    return training_progress(title)


def _show(trained: Any) -> None:
    from ebmcli.cli.console import message, table
    from ebmcli.workflows.train import N_DRAWN, quality_table

    rows = quality_table(trained.record.measured)
    if rows:
        headers = list(rows[0])
        shown = [[f"{row[key]:.4g}" for key in headers] for row in rows]
        table(f"{trained.record.name} on held-out images, per noise level", headers, shown)
    shares = trained.record.measured.get("object_share")
    if shares:
        shown = [[steps, f"{100 * share:.1f} %"] for steps, share in shares.items()]
        n = trained.record.measured.get("n_drawn", N_DRAWN)
        headers = ["corrector steps per level", f"of {n} pictures with an object"]
        table("honest test: the share must not fall", headers, shown)
    message(f"saved {trained.weights} after {trained.seconds:.0f} s")
