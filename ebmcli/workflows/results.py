"""What ``ebm eval`` was asked for, and its results file, which grows row by row."""

import json
import platform
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import ebmcli
from ebmcli.checkpoint import write_bytes
from ebmcli.errors import ConfigError, FileFormatError, OutputExistsError, UsageError
from ebmcli.registry import Registry
from ebmcli.workflows.device import resolve_device
from ebmcli.workflows.generate import GenerateRequest
from ebmcli.workflows.suites import CALIBRATION, SUITES, Case

FORMAT, VERSION = "ebm-eval", 1
RESULTS = "results.json"  # in the folder that -o names
MAX_SEED = 4000  # seeds of pictures stay below 2^32


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What ``ebm eval`` was asked for."""

    targets: tuple[str, ...]  # suites or formulas; what follows "calibration" names concepts
    sampling: GenerateRequest  # its expression, n and seed are replaced
    n: int = 500  # pictures per row and seed
    seeds: int = 3
    seed: int = 0  # the first
    space: str | None = None  # None: that of the data, or every space with a judge
    data: Path | None = None  # labelled pictures for FID and inference; None: rendered afresh
    fid: bool = True
    output: Path | None = None  # a JSON file, or a folder
    resume: bool = False
    overwrite: bool = False
    command: str = ""  # as typed

    def __post_init__(self) -> None:
        if not self.targets:
            hint = f"name a formula or one of {', '.join(SUITES)}"
            raise UsageError("nothing to evaluate", hint=hint)
        if self.n < 2 or self.seeds < 1:
            raise ConfigError("-n must be at least 2 and --seeds at least 1")
        if not 0 <= self.seed <= self.seed + self.seeds <= MAX_SEED:
            raise ConfigError(f"--seed and --seeds stay below {MAX_SEED}")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds whose spread gives the standard error."""
        return [self.seed + i for i in range(self.seeds)]

    @property
    def drawn_targets(self) -> tuple[str, ...]:
        """The targets before the word calibration."""
        return self.targets[: self._split]

    @property
    def calibrated(self) -> tuple[str, ...] | None:
        """The concepts named after the word calibration; None without that word."""
        return self.targets[self._split + 1 :] if self._split < len(self.targets) else None

    @property
    def _split(self) -> int:
        """Where the word calibration is, or would be."""
        return (*self.targets, CALIBRATION).index(CALIBRATION)

    @property
    def results(self) -> Path | None:
        """The JSON file."""
        return self.output / RESULTS if self.output and is_folder(self.output) else self.output

    @property
    def folder(self) -> Path | None:
        """Where charts go: the folder asked for, or one beside the JSON file, named like it."""
        if self.output is None or is_folder(self.output):
            return self.output
        return self.output.with_suffix("")

    def settings(self) -> dict[str, Any]:
        """What every row of one results file has in common, defaults as they are now."""
        ignored = ("expression", "n", "seed", "start_image", "keep_frames", "batch_size")
        sampling = {k: v for k, v in asdict(self.sampling).items() if k not in ignored}
        sampling["strength"] = self.sampling.power
        sampling["corrector_steps"] = {
            "one concept": self.sampling.n_corrector(1),
            "several": self.sampling.n_corrector(2),
        }
        data = str(self.data) if self.data else None
        head = {"n": self.n, "seeds": self.all_seeds, "fid": self.fid}
        return {**head, "sampling": sampling, "data": data}


def is_folder(path: Path) -> bool:
    """Is a folder meant? It exists, or nothing does and it has no suffix."""
    return path.is_dir() or (path.suffix == "" and not path.exists())


def opened(request: EvalRequest) -> dict[str, Any]:
    """A fresh document, or the one to go on with."""
    path = request.results
    fresh = {
        "format": FORMAT,
        "version": VERSION,
        "command": request.command,
        "settings": request.settings(),
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": platform.machine(),
        "device": str(resolve_device(request.sampling.device)),
        "threads": torch.get_num_threads(),
        "versions": {
            "ebm": ebmcli.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "rows": [],
    }
    if path is None or not path.exists():
        write(fresh, path)  # a folder that cannot be written is found before anything long
        return fresh
    if not request.resume:
        if request.overwrite:
            return fresh
        raise OutputExistsError(path, hint="add --resume to go on with it, or --overwrite")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["version"] > VERSION:
            raise ValueError("another format")
        settings = document["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(path, "holds no results of ebm eval") from error
    mine = json.loads(json.dumps(request.settings()))
    other = [key for key in mine if settings.get(key) != mine[key]]
    if other:
        problem = f"{path} was made with another {other[0]}: {settings.get(other[0])}"
        raise ConfigError(problem, hint="give the same options, or another -o")
    assert isinstance(document, dict)
    return document


def is_done(document: dict[str, Any], case: Case, registry: Registry) -> bool:
    """Is there a row for this case, made with the weights that are registered now?"""
    known = {f"{r.kind} {r.name}": r.fingerprint for r in registry.records()}
    wanted = asdict(case).items()
    return any(
        all(row[key] == value for key, value in wanted)
        and all(known.get(name) == digest for name, digest in row["digests"].items())
        for row in document["rows"]
    )


def write(document: dict[str, Any], path: Path | None) -> None:
    """Write the whole document, where there is a file for it."""
    if path is not None:
        text = json.dumps(document, indent=2, allow_nan=False)
        write_bytes(path, f"{text}\n".encode())
