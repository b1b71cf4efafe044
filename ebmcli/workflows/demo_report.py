"""The demo's page: checks first, then every step with its time, commands, numbers and pictures."""

import platform
from typing import TYPE_CHECKING

import torch

import ebmcli
from ebmcli.report import Block, Checks, Commands, Paragraph, Picture, Section, Table, write_page
from ebmcli.workflows import demo_steps as steps
from ebmcli.workflows.train import quality_table

if TYPE_CHECKING:
    from ebmcli.workflows.demo import Demo

N_READ = 4  # pictures of each formula whose values are listed
NEXT = 'ebm generate "old and male and not wavy" -n 16'


def write_report(demo: "Demo") -> None:
    """Write the page beside everything else."""
    total = sum(demo.seconds.values())
    passed = sum(check.passed for check in demo.checks)
    lead = (
        f"{passed} of {len(demo.checks)} checks passed; {total / 60:.1f} minutes; ebm "
        f"{ebmcli.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    )
    sections = [Section("Checks", [Checks(demo.checks)]), *_steps(demo), _next(demo)]
    write_page(demo.report, "ebm demo", lead, sections)


def own_command(demo: "Demo") -> str:
    """How to train a concept of one's own, on the data the demo made where there are any."""
    if demo.no_opengl:
        return "ebm import-dataset --help"
    return f"ebm train big --data {demo.data} --factor size --registry {demo.registry}"


def _steps(demo: "Demo") -> list[Section]:
    """One section per step that ran."""
    from ebmcli.workflows.demo import TITLES

    blocks: dict[int, list[Block]] = {
        1: [Paragraph(f"{demo.request.n_images} scenes of 64 x 64 pixels, labels known.")],
        2: _trained(demo),
        3: _added(demo),
        4: [block for drawing in demo.drawings for block in _pictures(drawing)],
        5: _read(demo),
        6: _judged(demo),
    }
    sections = []
    for number, content in blocks.items():
        if number not in demo.seconds or (demo.no_opengl and number <= 3):
            continue
        title = f"{number}. {TITLES[number - 1]} ({demo.seconds[number]:.0f} s)"
        commands = demo.commands.get(number, [])
        sections.append(Section(title, [*([Commands(commands)] if commands else []), *content]))
    if demo.no_opengl:
        text = "There is no OpenGL here, so nothing was rendered and no concept was trained: "
        note = Section("Left out: steps 1 to 3", [Paragraph(text + demo.no_opengl)])
        sections.insert(0, note)
    return sections


def _trained(demo: "Demo") -> list[Block]:
    """Numbers of the concept that was trained."""
    if demo.trained is None:
        return []
    rows = quality_table(demo.trained.record.measured)
    text = "On pictures it was not trained on, by noise level; log_loss in nats."
    table = Table([*rows[0]], [[float(row[key]) for key in rows[0]] for row in rows])
    return [Paragraph(text), table]


def _added(demo: "Demo") -> list[Block]:
    """The "nothing forgotten" table."""
    if demo.added is None:
        return []
    headers, rows = demo.added.table()
    text = "Nothing is forgotten: the older concept is frozen, its file and its readings stay."
    return [Paragraph(text), Table(headers, rows)]


def _pictures(drawing: steps.Drawing) -> list[Block]:
    mean = sum(drawing.probabilities) / len(drawing.probabilities)
    caption = (
        f"{drawing.expression}: {len(drawing.files)} pictures in {drawing.seconds:.1f} s; "
        f"P = probability of the formula by the model itself, mean {mean:.2f}"
    )
    return [Picture(drawing.sheet.read_bytes(), caption)]


def _read(demo: "Demo") -> list[Block]:
    """Some of the values that the concepts infer, and how many agree with the formula."""
    rows = [
        [drawing.expression, path.name, read, "yes" if agreed else "no"]
        for drawing in demo.drawings
        for path, read, agreed in list(
            zip(drawing.files, drawing.read, drawing.agreed, strict=True)
        )[:N_READ]
    ]
    text = f"The first {N_READ} pictures of each formula; the check counts all of them."
    return [Paragraph(text), Table(["formula", "picture", "inferred", "agrees"], rows)]


def _judged(demo: "Demo") -> list[Block]:
    rows: list[list[str | int | float]] = [
        [d.expression, len(d.files), sum(d.right), sum(d.agreed), round(d.seconds, 1)]
        for d in demo.drawings
    ]
    headers = ["formula", "pictures", "right by the judge", "inferred as asked", "seconds"]
    text = (
        "The judge is a classifier with training pictures of its own. A picture is right when the "
        "judge sees an object and reads what the formula says (a place within 0.2 per coordinate)."
    )
    return [Paragraph(text), Table(headers, rows)]


def _next(demo: "Demo") -> Section:
    return Section("Next", [Commands([NEXT, own_command(demo), demo.request.command])])
