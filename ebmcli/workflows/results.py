"""What ``ebm eval`` was asked for, and its results file, which grows row by row."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebmcli.errors import ConfigError, UsageError
from ebmcli.registry import Registry
from ebmcli.workflows.generate_request import GenerateRequest
from ebmcli.workflows.results_file import Document, circumstances, is_current, open_results
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
        own = {"expression", "base", "n", "seed", "start_image", "keep_frames", "batch_size"}
        ignored = own | {"branches"}  # which is no option here, and older files do not have it
        sampling = {k: v for k, v in asdict(self.sampling).items() if k not in ignored}
        sampling["strength"] = self.sampling.power
        sampling["corrector_steps"] = self.sampling.n_corrector
        data = str(self.data) if self.data else None
        head = {"n": self.n, "seeds": self.all_seeds, "fid": self.fid}
        return {**head, "sampling": sampling, "data": data}


def is_folder(path: Path) -> bool:
    """Is a folder meant? It exists, or nothing does and it has no suffix."""
    return path.is_dir() or (path.suffix == "" and not path.exists())


def opened(request: EvalRequest) -> Document:
    """A fresh document, or the one to go on with."""
    if request.resume and request.results is None:
        raise UsageError("nothing to go on with", hint="name the results file with -o")
    fresh = {
        "format": FORMAT,
        "version": VERSION,
        "command": request.command,
        "settings": request.settings(),
        **circumstances(request.sampling.device),
        "rows": [],
    }
    return open_results(
        fresh, request.results, by="ebm eval", resume=request.resume, overwrite=request.overwrite
    )


def is_done(document: Document, case: Case, registry: Registry) -> bool:
    """Is there a row for this case, made with the weights that are registered now?"""
    wanted = asdict(case).items()
    return any(
        all(row[key] == value for key, value in wanted) and is_current(row["digests"], registry)
        for row in document["rows"]
    )
