"""The pieces of the demo, each a call of the workflow that the command of the same name calls.

Every function returns plain records and the command line that does the same.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ebmcli.checkpoint import file_digest, write_bytes
from ebmcli.core.expression import Expression, concept_names, map_literals
from ebmcli.evaluation.judge import Judge, Readings
from ebmcli.evaluation.truth import PRESENT, holds
from ebmcli.registry import Kind, Record, Registry, checkpoint_file, edit_registry
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.generate import GenerateRequest, draw_pictures
from ebmcli.workflows.infer import Reading, answers, plan_inference
from ebmcli.workflows.judging import read_all
from ebmcli.workflows.loading import load_concepts
from ebmcli.workflows.output import write_pictures
from ebmcli.workflows.plans import TrainRequest
from ebmcli.workflows.render import RenderSettings, render_dataset

Advance = Callable[..., None]  # advance(done, total, note="")

SETTINGS = ("score_weight=0", "n_warmup=50")  # of a minute's training: cross-entropy alone


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Pictures of one formula, and what was read in them."""

    title: str
    expression: str
    command: str
    folder: Path
    files: tuple[Path, ...]  # one per picture
    sheet: Path
    seconds: float
    probabilities: tuple[float, ...]  # P(f | x) as the model has it
    right: tuple[bool, ...] = ()  # does the formula hold, by the judge?
    agreed: tuple[bool, ...] = ()  # does it, by the values that the concepts infer?
    read: tuple[str, ...] = ()  # the values inferred, as statements
    infer_command: str = ""


def render(settings: RenderSettings, path: Path, *, workers: int, advance: Advance) -> str:
    """Write the data the demo trains on; return the command.

    Raises:
        RenderError: There is no OpenGL.
    """
    for done in render_dataset(settings, path, workers=workers, overwrite=True):
        advance(done, settings.n_images)
    return settings.command(path, workers=workers)


def copy_records(source: Registry, path: Path, kinds: Sequence[Kind]) -> list[Record]:
    """Copy records of some kinds and their weights, checked, into another registry."""
    copied = []
    for record in source.records():
        if record.kind in kinds:
            data = source.checked_file(record).read_bytes()
            file = checkpoint_file(record.name, kind=record.kind)
            write_bytes(path.parent / file, data)
            copied.append(replace(record, file=file))
    with edit_registry(path) as editor:
        for record in sorted(copied, key=lambda record: record.kind != "base"):
            editor.put(record)
    return copied


def digests(registry: Registry, records: Sequence[Record]) -> dict[str, str]:
    """The digest of the weights of each record, hashed now."""
    return {f"{r.kind} {r.name}": file_digest(registry.file(r)) for r in records}


def fresh_request(
    name: str, factor: str, *, data: Path, registry: Path, n_steps: int, to: str = ""
) -> TrainRequest:
    """How the demo trains a concept of its own; with ``to``, beside a frozen one."""
    words = ["ebm", "add-concept" if to else "train", name, "--data", str(data)]
    words += ["--to", to] if to else []
    words += ["--factor", factor, "--steps", str(n_steps)]
    words += [word for text in SETTINGS for word in ("--set", text)]
    words += ["--registry", str(registry)]
    return TrainRequest(
        name=name,
        data=data,
        registry=registry,
        factor=factor,
        steps=n_steps,
        assignments=SETTINGS,
        command=shlex.join(words),
    )


def draw(
    title: str,
    expression: str,
    registry: Registry,
    folder: Path,
    *,
    n: int,
    levels: int,
    advance: Advance,
) -> Drawing:
    """Draw n pictures of a formula into a folder, one file each and a sheet."""
    request = GenerateRequest(expression=expression, n=n, steps=levels)
    drawn = draw_pictures(request, registry, progress=advance)
    *files, sheet = write_pictures(drawn, request, folder, overwrite=True)
    words = ["ebm", "generate", expression, "-n", str(n), "--seed", "0"]
    words += ["--steps", str(levels), "-o", str(folder)]
    return Drawing(
        title=title,
        expression=expression,
        command=_typed([*words, "--registry", str(registry.path)]),
        folder=folder,
        files=tuple(files),
        sheet=sheet,
        seconds=drawn.seconds,
        probabilities=tuple(float(p) for p in drawn.probabilities),
    )


def read_back(drawing: Drawing, registry: Registry) -> Drawing:
    """Infer the values of the formula's concepts from the files of its pictures."""
    formula, space = formula_of(registry, drawing.expression)
    names = concept_names(formula.expression)
    plan = plan_inference(drawing.files, registry, concepts=names, space=space)
    concepts = load_concepts(registry, plan.concepts)
    found = [r for r in answers(plan, concepts) if isinstance(r, Reading)]
    words = ["ebm", "infer", "--images", *map(str, drawing.files[:1]), "--concepts"]
    return replace(
        drawing,
        agreed=tuple(holds(formula.expression, as_readings(found, registry)).tolist()),
        read=tuple(_statements(reading) for reading in found),
        infer_command=_typed([*words, ",".join(names), "--registry", str(registry.path)]),
    )


def as_readings(found: Sequence[Reading], registry: Registry) -> Readings:
    """What concepts inferred, in the form of what a judge reads; by the names of the concepts."""
    names = list(found[0].estimates)
    factors = registry.factors()
    values = {
        name: torch.tensor(
            [r.estimates[name].cell if factors[name].names else r.estimates[name].value
             for r in found]
        )
        for name in names
    }  # fmt: skip
    return Readings(
        factors={name: factors[name] for name in names},
        values=values,
        probabilities={},
        present=torch.ones(len(found)),
    )


def judged(drawing: Drawing, registry: Registry, judge: Judge) -> Drawing:
    """Let the judge look: the formula holds, and there is an object at all."""
    formula, _ = formula_of(registry, drawing.expression)
    expression = by_factor(formula.expression, registry)
    readings, _ = read_all(judge, torch.stack([_image(path) for path in drawing.files]))
    right = holds(expression, readings) & (readings.present > PRESENT)
    return replace(drawing, right=tuple(right.tolist()))


def by_factor(expression: Expression, registry: Registry) -> Expression:
    """The formula with the names of factors, which the judge knows, for those of concepts."""
    factors = registry.factors()
    return map_literals(
        expression, lambda literal: replace(literal, name=factors[literal.name].name)
    )


def share(flags: Sequence[bool]) -> float:
    """The share of what is true, in [0, 1]."""
    return sum(flags) / len(flags) if flags else 0.0


def _image(path: Path) -> torch.Tensor:
    """A picture as it lies on disk, uint8 (S, S, 3)."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB")))


def _statements(reading: Reading) -> str:
    """The values of one picture in words."""
    parts = []
    for name, estimate in reading.estimates.items():
        value = estimate.value
        if isinstance(value, tuple):
            shown = f"({value[0]:.2f},{value[1]:.2f})"
        else:
            shown = value if isinstance(value, str) else f"{value:.2f}"
        parts.append(f"{name}={shown} ({100 * estimate.probability:.0f} %)")
    return ", ".join(parts)


def _typed(words: Sequence[str]) -> str:
    """A command line with formulas in double quotes, which every shell reads alike."""
    plain = {word for word in words if shlex.quote(word) == word}
    return " ".join(word if word in plain else f'"{word}"' for word in words)
