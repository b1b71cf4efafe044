"""Commands on the registry: list, show, verify, rename, rm, export, import, registry."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ebmcli.cli import completion

if TYPE_CHECKING:
    from ebmcli.registry import Registry

Kind = Literal["base", "concept", "judge"]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
RegistryPath = Annotated[Path | None, typer.Option("--registry", help="registry.yaml to use.")]
OfKind = Annotated[Kind | None, typer.Option("--kind", help="Needed where two kinds share a name.")]
NamesOrAll = Annotated[
    list[str] | None,
    typer.Argument(
        help="Names in the registry; all without.",
        show_default=False,
        autocompletion=completion.names,
    ),
]
Name = Annotated[str, typer.Argument(help="Name in the registry.", autocompletion=completion.names)]
Names = Annotated[
    list[str], typer.Argument(help="Names in the registry.", autocompletion=completion.names)
]

app = typer.Typer(help="Where the registry is, and new ones.", rich_markup_mode=None)


def list_records(
    space: Annotated[str | None, typer.Option(help="Only of this space.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """List what is trained: concepts, bases and judges.

    Example: ebm list --kind concept
    """
    from ebmcli.cli import console
    from ebmcli.workflows.registry import summaries

    opened = _open(registry)
    found = summaries(opened, space=space, kind=kind)
    if as_json:
        console.print_json(found)
        return
    headers = ["name", "kind", "space", "values", "method", "accuracy", "size", "status"]
    rows = [_row(summary) for summary in found]
    if all(summary["status"] == "ok" for summary in found):  # a column less, to fit 80 characters
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    console.table(str(opened.path), headers, rows)
    if not found:
        console.message(f"nothing to list in {opened.path}")


def show(
    name: Name,
    kind: OfKind = None,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Show everything about one entry.

    How to write it in a formula, its numbers on held-out images, its origin and its digest.

    Example: ebm show color
    """
    from ebmcli.cli import console
    from ebmcli.workflows.registry import description

    opened = _open(registry)
    found = description(opened, opened.find(name, kind))
    if as_json:
        console.print_json(found)
        return
    usage = found.pop("usage")
    heading = f"{found.pop('kind')} {found.pop('name')}" + (f": {usage}" if usage else "")
    console.prose([heading, *_outline(found, indent="  ")])


def verify(
    names: NamesOrAll = None,
    kind: OfKind = None,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Compare files with what was recorded.

    Every file is hashed again and its header compared; the status is 1 if anything differs.
    Concepts whose base was replaced since they were trained are named; their files are unchanged.

    Example: ebm verify
    """
    from ebmcli.cli import console
    from ebmcli.workflows import registry as jobs

    opened = _open(registry)
    records = [opened.find(name, kind) for name in names] if names else opened.records()
    checks = jobs.verify(opened, records)
    rows = [
        (c.record.name, c.record.kind, c.record.file, c.problem or c.warning or "ok")
        for c in checks
    ]
    headers = ("name", "kind", "file", "result")
    if as_json:
        console.print_json([dict(zip(headers, row, strict=True)) for row in rows])
    else:
        console.table(str(opened.path), headers, rows)
    n_other = sum(check.warning is not None for check in checks)
    if n_other:
        console.message(
            f"warning: concepts on another base than they were trained against: {n_other}"
        )
        console.message("hint: their measured numbers no longer hold: train them again")
    n_bad = sum(check.problem is not None for check in checks)
    if n_bad:
        console.message(f"error: {n_bad} of {len(checks)} files are not what was recorded")
        console.message("hint: train them again, import them again, or ebm rm NAME")
        raise typer.Exit(1)


def rename(
    old: Name,
    new: Annotated[str, typer.Argument(help="Its new name.")],
    kind: OfKind = None,
    registry: RegistryPath = None,
) -> None:
    """Give an entry, and its file, another name.

    Example: ebm rename color colour
    """
    from ebmcli.cli import console
    from ebmcli.registry import find_registry, writable_registry
    from ebmcli.workflows import registry as jobs

    found = find_registry(registry)  # the bundled one is copied by what is right
    jobs.check_rename(found, old, new, kind=kind)
    record = jobs.rename(writable_registry(registry), old, new, kind=kind)
    console.message(f"{record.kind} {old} is now {new}, its file {record.file}")


def rm(
    names: Names,
    kind: OfKind = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_file: Annotated[bool, typer.Option("--keep-file", help="Leave the weights.")] = False,
    registry: RegistryPath = None,
) -> None:
    """Remove entries and their weights; asks before it does.

    Example: ebm rm color --keep-file
    """
    from ebmcli.cli import console
    from ebmcli.registry import writable_registry
    from ebmcli.workflows import registry as jobs

    opened = _open(registry)
    records = [opened.find(name, kind) for name in names]
    jobs.check_removal(opened.path, records)
    what = ", ".join(f"{record.kind} {record.name}" for record in records)
    files = ", keeping files" if keep_file else f" and files in {opened.path.parent.absolute()}"
    if not console.confirmed(f"remove {what}{files}", yes=yes):
        console.message("nothing was removed")
        return
    path = writable_registry(registry)
    for record in records:
        jobs.remove(path, record.name, kind=record.kind, keep_file=keep_file)
        console.message(f"removed {record.kind} {record.name}")


def export(
    names: Names,
    out: Annotated[Path, typer.Option("--out", "-o", help="Zip file to write.")],
    kind: OfKind = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Write concepts and their base into one zip file.

    Example: ebm export color size -o scenes.zip
    """
    from ebmcli.cli import console
    from ebmcli.workflows import archives

    opened = _open(registry)
    records = [opened.find(name, kind) for name in names]
    written = archives.export(opened, records, out, overwrite=overwrite)
    if as_json:
        console.print_json({"file": str(out), "holds": [_named(record) for record in written]})
    else:
        console.result(str(out))
        console.message(f"holds {', '.join(f'{r.kind} {r.name}' for r in written)}")


def import_archive(
    file: Annotated[Path, typer.Argument(help="Zip file of ebm export.")],
    new_name: Annotated[str | None, typer.Option("--as", help="New name of its concept.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other weights.")] = False,
    as_json: Json = False,
    registry: RegistryPath = None,
) -> None:
    """Add what a zip file of ebm export holds.

    Every digest and header is checked first; if anything is wrong, nothing is added.

    Example: ebm import scenes.zip
    """
    from ebmcli.cli import console
    from ebmcli.cli.train import warn_of_other_base
    from ebmcli.registry import find_registry, read_registry, writable_registry
    from ebmcli.workflows import archives
    from ebmcli.workflows.registry import undermined

    found = find_registry(registry)  # the bundled one is copied by what is right
    archives.check_archive(found, file, new_name=new_name, overwrite=overwrite)
    path = writable_registry(registry)
    done = archives.import_archive(path, file, new_name=new_name, overwrite=overwrite)
    if as_json:
        lists = {"added": done.added, "restored": done.restored}
        named = {key: [_named(record) for record in records] for key, records in lists.items()}
        console.print_json({"registry": str(path), **named})
    for record in done.added:
        console.message(f"added {record.kind} {record.name} to {path}")
    for record in done.restored:
        console.message(f"restored {record.kind} {record.name} in {path}")
    opened = read_registry(path)
    for record in done.added:
        others = undermined(opened, record.name) if record.kind == "base" else []
        if others:
            warn_of_other_base(record.name, others)
    if not (done.added or done.restored):
        console.message(f"{path} has everything in {file} already")


@app.command("path")
def registry_path(as_json: Json = False, registry: RegistryPath = None) -> None:
    """Print which registry.yaml is used, and why.

    Example: ebm registry path
    """
    from ebmcli.cli import console
    from ebmcli.registry import locate_registry

    path, reason = locate_registry(registry)
    if as_json:
        console.print_json({"path": str(path.absolute()), "reason": reason})
    else:
        console.result(str(path.absolute()))
        console.message(reason)


@app.command("init")
def registry_init(
    folder: Annotated[Path, typer.Argument(help="Folder, made where missing.")] = Path(),
) -> None:
    """Write an empty registry.yaml.

    Commands in that folder, and below it, will use it.

    Example: ebm registry init experiments
    """
    from ebmcli.cli import console
    from ebmcli.registry import create_registry

    console.result(str(create_registry(folder)))


def _open(registry: Path | None) -> "Registry":
    from ebmcli.registry import find_registry, read_registry

    return read_registry(find_registry(registry))


def _row(summary: dict[str, Any]) -> list[object]:
    """A summary as it is shown: accuracy in percent, bytes with a unit."""
    from ebmcli.cli import console

    share, size = summary["accuracy"], summary["bytes"]
    return [
        summary["name"],
        summary["kind"],
        summary["space"],
        summary["values"],
        summary["method"],
        None if share is None else f"{100 * share:.1f} %",
        None if size is None else console.size_text(size),
        summary["status"],
    ]


def _named(record: Any) -> dict[str, str]:
    return {"kind": record.kind, "name": record.name, "sha256": record.sha256}


def _outline(content: Any, *, indent: str) -> Iterator[str]:
    """Nested plain types as indented lines."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}"
            yield from _outline(value, indent=indent + "  ")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            yield f"{indent}{key}"
            for index, item in enumerate(value, start=1):
                named = {k: v for k, v in item.items() if k != "name"}
                yield from _outline({item.get("name", index): named}, indent=indent + "  ")
        elif value not in (None, {}, []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{indent}{key}  {text}"
