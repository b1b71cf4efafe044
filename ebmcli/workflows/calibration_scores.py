"""One row of ``ebm eval calibration``: is a concept right as often as it says?"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import ebmcli
from ebmcli.charts.posteriors import (
    HistogramPanel,
    ReliabilityPanel,
    histogram_chart,
    reliability_chart,
)
from ebmcli.core.images import TrainingImages
from ebmcli.core.objective import cross_entropy
from ebmcli.datasets.hdf5 import DatasetInfo
from ebmcli.evaluation.calibration import evidence_for
from ebmcli.evaluation.held_out import Read, quality, read_posterior
from ebmcli.evaluation.held_out_fields import read_fullest
from ebmcli.evaluation.metrics import Reliability, average, reliability
from ebmcli.pictures import write_png
from ebmcli.registry import Record, Registry
from ebmcli.workflows.calibrate import affordable, check_readable, temperature_at
from ebmcli.workflows.judging import Labelled
from ebmcli.workflows.loading import Concept, load_concept
from ebmcli.workflows.origin import data_origin, has_seen, in_common
from ebmcli.workflows.scoring import plain
from ebmcli.workflows.suites import Case

SIGMAS = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)  # intensity; where calibration is measured
AIM, AIM_UP_TO = 0.03, 1.0  # ECE that is aimed at, and the highest noise level it is asked of
CHARTS = ("reliability", "evidence")

Level = tuple[float, Read, Reliability]


def chart_files(folder: Path, name: str) -> list[Path]:
    """The charts of a concept."""
    return [folder / f"{name}-{kind}.png" for kind in CHARTS]


@dataclass(frozen=True, kw_only=True)
class CalibrationScorer:
    """Measures the concepts of one space on labelled pictures."""

    registry: Registry
    data: Labelled
    info: DatasetInfo  # of the pictures; its file may be gone
    n: int  # pictures per seed
    seeds: list[int]
    device: torch.device
    folder: Path | None  # for charts

    def row(self, case: Case, *, report: Callable[[str], None]) -> dict[str, Any]:
        """All numbers of one concept, in plain types; its charts are written.

        Raises:
            UsageError: The pictures are of another space, or lack the concept's factor.
            OutputError: A chart cannot be written.
        """
        start = time.monotonic()
        record = self.registry.get("concept", case.template)
        check_readable(record, self.info)
        concept = load_concept(self.registry, case.template, device=self.device)
        images, per_seed = self._images(concept)
        levels: list[Level] = []
        reading = read_fullest if concept.factor.kind == "objects" else read_posterior
        for sigma in SIGMAS:
            report(f"{case.template} at noise level {sigma:g}")
            read = reading(concept, images, sigma, seed=self.seeds[0])
            levels.append((sigma, read, reliability(read.confidence, read.hit)))
        charts = self._charts(record, concept, levels)
        return {
            "suite": case.suite,
            "space": case.space,
            "template": case.template,
            "n": len(images),
            "levels": [self._numbers(concept, record, level, per_seed) for level in levels],
            "charts": [path.name for path in charts],
            "seen": seen(record, self.info),
            "data": self.info.digest,
            "digests": {f"concept {case.template}": record.fingerprint},
            "seconds": round(time.monotonic() - start, 2),
        }

    def _images(self, concept: Concept) -> tuple[TrainingImages, int]:
        """Pictures with the concept's labels, and how many of them each seed has."""
        n = affordable(concept, min(self.n * len(self.seeds), len(self.data.images)))
        per_seed = max(1, n // len(self.seeds))
        part = self.data.part(slice(0, per_seed * len(self.seeds)))
        labels = part.labels[concept.factor.name]
        return TrainingImages(part.images, labels, device=self.device), per_seed

    def _numbers(
        self, concept: Concept, record: Record, level: Level, per_seed: int
    ) -> dict[str, Any]:
        """One noise level; the ECE is of all pictures together, since parts would inflate it."""
        sigma, read, bins = level
        if concept.factor.kind == "objects":
            accuracy, mean_error = float((read.hit > 0.5).float().mean()), None
        else:
            found = quality(concept.factor, read, sigma)
            accuracy, mean_error = found.accuracy, found.mean_error
        losses = cross_entropy(read.log_posterior, read.target)
        asked = sigma <= AIM_UP_TO
        return {
            "sigma": sigma,
            "temperature": temperature_at(record.temperatures, sigma),
            "accuracy": accuracy,
            "mean_error": mean_error,
            "log_loss": plain(average(list(losses.split(per_seed)))),  # type: ignore[no-untyped-call]  # torch
            "ece": bins.error,
            "ece_by_chance": bins.error_by_chance,
            "aim": AIM if asked else None,
            "met": bins.error <= AIM if asked else None,
            "bins": {
                "count": bins.count.long().tolist(),
                "confidence": _means(bins.confidence, bins.count).tolist(),
                "right": _means(bins.hits, bins.count).tolist(),
            },
        }

    def _charts(self, record: Record, concept: Concept, levels: list[Level]) -> list[Path]:
        """Write the charts of a concept, where there is a folder for them."""
        if self.folder is None:
            return []
        n = len(levels[0][1].target)
        state = "calibrated" if record.temperatures else "as trained"
        subject = f"{record.name} ({record.space}), {state}, {n} pictures"
        drawn = [
            reliability_chart(f"Is it right as often as it says? {subject}", _reliable(levels))
        ]
        if concept.factor.kind != "objects":  # a cell's prior is that of nothing, nearly always
            drawn.append(evidence_chart(f"Evidence: {subject}", concept, levels))
        text = {
            "ebm:concept": record.name,
            "ebm:data": self.info.digest,
            "ebm:digests": json.dumps({f"concept {record.name}": record.fingerprint}),
            "ebm:version": ebmcli.__version__,
        }
        files = chart_files(self.folder, record.name)
        for path, chart in zip(files, drawn, strict=False):
            write_png(path, chart, text, overwrite=True)  # the command looked before it measured
        return files[: len(drawn)]


def seen(record: Record, info: DatasetInfo) -> str | None:
    """What a concept used some data for already: "training", "calibration" or nothing."""
    if has_seen(record, info):
        return "training"
    used = record.calibration
    if used and (info.digest == used.get("data") or in_common(used, data_origin(info))):
        return "calibration"
    return None


def _reliable(levels: list[Level]) -> list[ReliabilityPanel]:
    return [
        ReliabilityPanel(
            title=f"noise level {sigma:g}",
            note=f"ECE {bins.error:.3f}, by chance {bins.error_by_chance:.3f}",
            count=bins.count.numpy(),
            confidence=_means(bins.confidence, bins.count).numpy(),
            right=_means(bins.hits, bins.count).numpy(),
        )
        for sigma, _, bins in levels
    ]


def evidence_chart(title: str, concept: Concept, levels: list[Level]) -> Image.Image:
    """Histograms of log p(c | x) / p(c), the fall of the energy, for values shown and not shown."""
    log_prior, panels = concept.log_prior.cpu(), []
    for sigma, read, _ in levels:
        yes, no = (side.double().numpy() for side in evidence_for(read, log_prior, concept.factor))
        means = " and ".join(f"{np.mean(side):.1f}" for side in (yes, no) if len(side))
        panels.append(
            HistogramPanel(
                title=f"noise level {sigma:g}", note=f"means {means} nats", yes=yes, no=no
            )
        )
    return histogram_chart(title, panels, axis="log p(value | picture) / p(value), nats")


def _means(sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Means of bins; 0 where a bin is empty."""
    return sums / counts.clamp_min(1)
