"""``ebm demo``: the whole program on a fresh machine, small enough for a few minutes.

Render pictures, train a concept on the bundled base, add another beside it, draw formulas, read
the values back, let the judge look, write one offline page. The user's registry is not touched:
the demo works on a copy of the bundled one. Without OpenGL nothing is rendered or trained, and the
rest runs with the bundled concepts.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ebmcli.errors import ConfigError, EbmError, InterruptedRun, OutputExistsError, RenderError
from ebmcli.registry import Registry, create_registry, read_registry
from ebmcli.registry.places import BUNDLED
from ebmcli.report import Check
from ebmcli.workflows import demo_steps as steps
from ebmcli.workflows.add_concept import Added, add
from ebmcli.workflows.demo_steps import Advance, Drawing
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.judging import load_judge
from ebmcli.workflows.plans import plan_concept
from ebmcli.workflows.registry import accuracy
from ebmcli.workflows.render import RenderSettings
from ebmcli.workflows.train import Trained, train

TITLES = (
    "render pictures to train on",
    "train a concept: hue, learned from the factor color",
    "add a concept beside it: where, learned from the factor position",
    "generate pictures of formulas",
    "infer the values back from the pictures",
    "check: a judge that saw no energy reads the pictures",
    "write the report",
)
BUNDLED_FORMULAS = (
    ("faces", "old & male & ~wavy"),
    ("scenes", "shape=cube & color=red & position=(0.4,-0.2)"),
    ("either", "color=red | color=blue"),
)
FRESH_FORMULA = ("fresh", "hue=green & where=(-0.5,0.5)")
MARKER = ".ebm-demo"  # a folder with this file was made here and may be emptied again
MADE = (
    "scenes.h5",
    "scenes.h5.partial",
    "registry.yaml",
    "checkpoints",
    "runs",
    "pictures",
    "report.html",
)
WORKERS = 2
AGAIN = 1.4  # draws that a picture is expected to take, for progress; chosen
UPDATES = 1000  # per minute asked for, as two cores do them; a count, so that load changes nothing
BUNDLED_RIGHT, FRESH_RIGHT = 0.75, 0.6  # of 16 pictures, by the judge; chosen to tell a broken
# program from a working one at so few pictures: how good the models are is measured by ebm eval
HELD_OUT, AGREED = 0.9, 0.9  # accuracy of the fresh concept; share of values read back


@dataclass(frozen=True, kw_only=True)
class DemoRequest:
    """What ``ebm demo`` was asked for; the last four are for tests."""

    out: Path = Path("demo-out")
    minutes: float = 1.0  # per concept, on two cores
    overwrite: bool = False
    source: Path = BUNDLED
    n: int = 16  # pictures per formula
    levels: int = 32  # of noise, per picture
    n_images: int = 4000  # rendered

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 60:
            raise ConfigError(f"--minutes is above 0 and at most 60, got {self.minutes:g}")

    @property
    def n_steps(self) -> int:
        """Updates of each training."""
        return max(1, round(UPDATES * self.minutes))

    @property
    def command(self) -> str:
        """The command that starts this demo again."""
        return f"ebm demo --out {self.out} --minutes {self.minutes:g} --overwrite"


class Narrator(Protocol):
    """Who tells the user what is going on."""

    def step(self, number: int, title: str) -> AbstractContextManager[Advance]:
        """A numbered step, shown while it lasts and with its time after it."""

    def say(self, text: str) -> None:
        """One line."""


@dataclass(kw_only=True)
class Demo:
    """What the demo did and found, step by step."""

    request: DemoRequest
    seconds: dict[int, float] = field(default_factory=dict)  # by number of the step
    commands: dict[int, list[str]] = field(default_factory=dict)
    no_opengl: str = ""  # why nothing was rendered
    trained: Trained | None = None
    added: Added | None = None
    frozen: dict[str, str] = field(default_factory=dict)  # digests before anything was trained
    unchanged: int = 0  # of these, how many are the same at the end
    drawings: list[Drawing] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def report(self) -> Path:
        """The page."""
        return self.request.out / "report.html"

    @property
    def registry(self) -> Path:
        """The registry of the demo's own."""
        return self.request.out / "registry.yaml"

    @property
    def data(self) -> Path:
        """What it rendered."""
        return self.request.out / "scenes.h5"

    def verify(self) -> None:
        """Raise if a check failed.

        Raises:
            EbmError: With the names of the checks.
        """
        failed = [check for check in self.checks if not check.passed]
        if failed:
            names = "; ".join(f"{c.name}: {c.found}, asked {c.asked}" for c in failed)
            problem = f"{len(failed)} of {len(self.checks)} checks failed: {names}"
            raise EbmError(problem, hint=f"{self.report} shows the pictures")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for --json."""
        return {
            "report": str(self.report),
            "passed": all(check.passed for check in self.checks),
            "seconds": round(sum(self.seconds.values()), 1),
            "no_opengl": self.no_opengl or None,
            "steps": [
                {
                    "step": title,
                    "seconds": round(self.seconds[i], 1) if i in self.seconds else None,
                    "commands": self.commands.get(i, []),
                }
                for i, title in enumerate(TITLES, start=1)
            ],
            "checks": [dict(vars(check)) for check in self.checks],
            "formulas": [
                {
                    "expression": d.expression,
                    "pictures": len(d.files),
                    "right": steps.share(d.right),
                    "agreed": steps.share(d.agreed),
                    "seconds": round(d.seconds, 1),
                }
                for d in self.drawings
            ],
        }


def run_demo(request: DemoRequest, narrator: Narrator) -> Demo:
    """Do everything and write the report; call :meth:`Demo.verify` afterwards.

    Raises:
        OutputExistsError: The folder is in use and was not to be overwritten.
        InterruptedRun: Ctrl-C.
    """
    from ebmcli.workflows.demo_report import write_report

    source = read_registry(request.source)
    prepare(request)
    demo = Demo(request=request)
    try:
        copied = steps.copy_records(source, create_registry(request.out), ("base", "concept"))
        demo.frozen = steps.digests(read_registry(demo.registry), copied)
        learn(demo, narrator)
        steps.copy_records(source, demo.registry, ("judge",))
        use(demo, narrator)
        now = steps.digests(read_registry(demo.registry), copied)
        demo.unchanged = sum(now[name] == digest for name, digest in demo.frozen.items())
        demo.checks = checks(demo)
        with timed(demo, narrator, 7):
            write_report(demo)
    except (KeyboardInterrupt, InterruptedRun) as error:
        raise InterruptedRun("interrupted", hint=f"start again: {request.command}") from error
    return demo


def prepare(request: DemoRequest) -> None:
    """An empty folder to work in; with ``overwrite``, what an earlier demo left is removed.

    Raises:
        OutputExistsError: The folder holds something, or something that no demo made.
    """
    out = request.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MARKER).is_file():
            raise OutputExistsError(out, hint="choose another folder with --out")
        if not request.overwrite:
            raise OutputExistsError(out)
        for name in MADE:
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def learn(demo: Demo, narrator: Narrator) -> None:
    """Steps 1 to 3: data, a concept, another one beside it. Without OpenGL none of them."""
    request = demo.request
    settings = RenderSettings(recipe="scenes", n_images=request.n_images)
    try:
        with timed(demo, narrator, 1) as advance:
            command = steps.render(settings, demo.data, workers=WORKERS, advance=advance)
            demo.commands[1] = [command]
    except RenderError as error:
        demo.no_opengl = f"{error.problem}; {error.hint}" if error.hint else error.problem
        narrator.say(f"no OpenGL, so steps 1 to 3 are left out: {demo.no_opengl}")
        return
    fresh = partial(
        steps.fresh_request, data=demo.data, registry=demo.registry, n_steps=request.n_steps
    )
    with timed(demo, narrator, 2) as advance:
        wanted = fresh("hue", "color")
        demo.trained = train(plan_concept(wanted), report=_updates(advance), announce=narrator.say)
        demo.commands[2] = [wanted.command]
    with timed(demo, narrator, 3) as advance:
        wanted = fresh("where", "position", to="hue")
        demo.added = add(wanted, others=["hue"], report=_updates(advance), announce=narrator.say)
        demo.commands[3] = [wanted.command]


def use(demo: Demo, narrator: Narrator) -> None:
    """Steps 4 to 6: draw every formula, read the values back, let the judge look."""
    registry = read_registry(demo.registry)
    formulas = [*BUNDLED_FORMULAS, *([FRESH_FORMULA] if demo.added else [])]
    with timed(demo, narrator, 4) as advance:
        reached, first = 0.0, 0  # in formulas; levels of the first draws of a formula
        for index, (name, expression) in enumerate(formulas):

            def overall(done: int, total: int, index: int = index) -> None:
                nonlocal reached, first
                first = first or total
                reached = max(reached, index + done / max(total, AGAIN * first))
                advance(round(100 * reached), 100 * len(formulas), note=formulas[index][1])

            folder = demo.request.out / "pictures" / name
            size = {"n": demo.request.n, "levels": demo.request.levels}
            demo.drawings.append(
                steps.draw(name, expression, registry, folder, **size, advance=overall)
            )
        advance(100 * len(formulas), 100 * len(formulas), note="")
        demo.commands[4] = [drawing.command for drawing in demo.drawings]
    with timed(demo, narrator, 5):
        demo.drawings = [steps.read_back(drawing, registry) for drawing in demo.drawings]
        demo.commands[5] = [drawing.infer_command for drawing in demo.drawings]
    with timed(demo, narrator, 6):
        demo.drawings = [_judged(drawing, registry) for drawing in demo.drawings]


def checks(demo: Demo) -> list[Check]:
    """What must hold for the demo to pass."""
    found = [
        _at_least(
            f'"{d.expression}" is shown, by the judge',
            steps.share(d.right),
            FRESH_RIGHT if d.title == FRESH_FORMULA[0] else BUNDLED_RIGHT,
            of=f"{len(d.files)} pictures",
        )
        for d in demo.drawings
    ]
    agreed = [flag for drawing in demo.drawings for flag in drawing.agreed]
    name = "values inferred from the pictures agree with their formulas"
    found.append(_at_least(name, steps.share(agreed), AGREED, of=f"{len(agreed)} pictures"))
    if demo.trained is not None:
        held = accuracy(demo.trained.record) or 0.0
        name = "hue is read rightly in pictures it was not trained on"
        found.append(_at_least(name, held, HELD_OUT))
    if demo.added is not None:
        for kept in demo.added.kept:
            name = f"{kept.name} is read as well after the other concept was added"
            found.append(_at_least(name, kept.after, kept.before))
    total = len(demo.frozen)
    found.append(
        Check(
            "files of the bundled bases and concepts are unchanged",
            f"{demo.unchanged} of {total}",
            f"{total}",
            demo.unchanged == total,
        )
    )
    return found


@contextmanager
def timed(demo: Demo, narrator: Narrator, number: int) -> Iterator[Advance]:
    """One step: told to the user, and its time kept."""
    start = time.monotonic()
    with narrator.step(number, TITLES[number - 1]) as advance:
        yield advance
        demo.seconds[number] = time.monotonic() - start


def _at_least(name: str, found: float, asked: float, *, of: str = "") -> Check:
    shown = f"{100 * found:.1f} %" + (f" of {of}" if of else "")
    return Check(name, shown, f"at least {100 * asked:.1f} %", found >= asked)


def _judged(drawing: Drawing, registry: Registry) -> Drawing:
    _, space = formula_of(registry, drawing.expression)
    return steps.judged(drawing, registry, load_judge(registry, space))


def _updates(advance: Advance) -> Any:
    """A training report as progress."""

    def report(update: Any) -> None:
        advance(update.step, update.n_steps, note=f"loss {update.losses['loss']:.3g}")

    return report
