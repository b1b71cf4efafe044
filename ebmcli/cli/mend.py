"""``ebm mend-base``: a base learns from its own samples where it puts too much mass."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ebmcli.cli import completion

DEFAULTS = (2000, 2000, 0, "auto")  # samples, steps, seed, device


def mend_base(
    name: Annotated[
        str,
        typer.Argument(
            help="Base in the registry.",
            show_default=False,
            autocompletion=completion.names_of("base"),
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="Dataset file of its space.")] = None,
    samples: Annotated[int, typer.Option(help="Pictures that its own chains draw.")] = DEFAULTS[0],
    steps: Annotated[int, typer.Option(help="Updates of the residual.")] = DEFAULTS[1],
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the residual away again; asks before it does.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = DEFAULTS[3],
    seed: Annotated[int, typer.Option(help="Seed of samples, weights and batches.")] = DEFAULTS[2],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    registry: Annotated[
        Path | None, typer.Option("--registry", help="registry.yaml to use.")
    ] = None,
) -> None:
    """Mend a base by samples of its own chains.

    Draws pictures as ebm generate does, learns to tell them from real ones at every noise level,
    and subtracts that log ratio from the energy. The weights stay; --undo takes it away again.

    Example: ebm mend-base mine-64 --data scenes.h5 --samples 2000
    """
    from ebmcli.cli.console import confirmed, message, print_json
    from ebmcli.cli.typed import typed_command
    from ebmcli.errors import UsageError
    from ebmcli.registry import find_registry, read_registry, writable_registry
    from ebmcli.workflows import mend as jobs

    known = read_registry(find_registry(registry))
    known.get("base", name)
    if undo and (data is not None or (samples, steps, seed, device) != DEFAULTS):
        problem = "--undo takes no --data and no settings of a training"
        raise UsageError(problem, hint=f"ebm mend-base {name} --undo")
    if yes and not undo:
        raise UsageError("--yes goes with --undo", hint="nothing else is asked")
    if undo:
        jobs.check_undo(find_registry(registry), name)  # a bundled one is copied by what is right
        if not confirmed(f"take the residual of base {name} away", yes=yes):
            message("nothing was changed")
            return
        path = writable_registry(registry)
        record = jobs.undo(path, name)
        if as_json:
            print_json({"name": name, **record.to_dict()})
            return
        message(f"{name} is what it was: {path.parent / record.file}, {record.sha256[:19]}")
        return
    if data is None:
        hint = f"ebm mend-base {name} --data scenes.h5"
        raise UsageError("--data is missing: real pictures to compare with", hint=hint)
    request = jobs.MendRequest(
        name=name, data=data, registry=find_registry(registry), samples=samples, steps=steps,
        seed=seed, device=device, command=typed_command(),
    )  # fmt: skip
    jobs.plan_mend(request)
    request = replace(request, registry=writable_registry(registry))
    mended = _with_progress(request)
    if as_json:
        print_json(mended.to_dict())
        return
    _show(mended, request.registry)


def _with_progress(request: Any) -> Any:
    from ebmcli.cli.console import progress, training_progress
    from ebmcli.workflows.mend import draw_samples, mend, plan_mend

    plan = plan_mend(request)
    with progress(f"draw from {request.name}") as drawn:
        pictures = draw_samples(plan, progress=drawn)
    with training_progress(f"mend {request.name}") as report:
        return mend(plan, pictures, report=report)


def _show(mended: Any, registry: Path) -> None:
    from ebmcli.cli.console import message, table

    rows = [
        [f"{row.sigma:g}", f"{100 * row.accuracy:.1f} %", f"{row.log_loss:.4f}", f"{row.data:+.2f}",
         f"{row.samples:+.2f}"]
        for row in mended.quality
    ]  # fmt: skip
    headers = ["sigma", "told right", "log loss", "log ratio of data", "of samples"]
    table(f"{mended.record.name}: real or drawn? held-out pictures", headers, rows)
    shares = mended.record.measured.get("object_share")
    if shares:
        before = mended.before.get("object_share", {})
        rows = [
            [
                steps,
                f"{100 * before[steps]:.1f} %" if steps in before else "",
                f"{100 * share:.1f} %",
            ]
            for steps, share in shares.items()
        ]
        headers = ["corrector steps per level", "with an object before", "now"]
        table("honest test: the share must not fall", headers, rows)
    message(f"saved {registry.parent / mended.record.file}")
    if mended.learned_by_heart:
        again = f"ebm mend-base {mended.record.name} --undo"
        message(
            "note: held-out samples are told from data worse than by chance (log loss over 0.693): "
            f"this base's samples are too few, or too good. {again} takes the residual away; "
            "more --samples or fewer --steps may help"
        )
