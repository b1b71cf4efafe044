"""A posterior that is not a number: every command says whose it is, and makes nothing of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, TALL, random_registry, squares_file
from torch import Tensor
from typer.testing import CliRunner

from ebmcli.cli.app import app
from ebmcli.core.concepts import PosteriorConcept, refuse_nan
from ebmcli.pictures import write_png
from ebmcli.registry import read_registry
from ebmcli.workflows.generate import GenerateRequest, draw_pictures

FEW = ["--steps", "3", "-n", "2", "--attempts", "1", "--device", "cpu"]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return random_registry(tmp_path / "trained", (COLOR, TALL))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the posterior of color NaN where the noise is below a level."""
    real = PosteriorConcept.log_posterior

    def below(limit: float) -> None:
        def log_posterior(self: PosteriorConcept, x: Tensor, sigma: Tensor) -> Tensor:
            log_q = real(self, x, sigma)
            spoilt = (self.factor.name == "color") & (sigma < limit)
            return torch.where(spoilt[:, None], torch.full_like(log_q, torch.nan), log_q)

        monkeypatch.setattr(PosteriorConcept, "log_posterior", log_posterior)

    return below


def test_a_probability_of_zero_is_a_number() -> None:
    refuse_nan(torch.tensor([[0.0, -torch.inf]]), "color")


@pytest.mark.parametrize("sampler", ["langevin", "mala", "hmc", "smc", "rejection"])
@pytest.mark.parametrize("limit", [1e9, 0.3, 0.15])  # everywhere, where chains end, where P is read
def test_no_sampler_goes_on(
    registry: Path, broken: Any, tmp_path: Path, sampler: str, limit: float
) -> None:
    broken(limit)
    chains = ["--chains", "2"] if sampler in ("smc", "rejection") else []
    words = ["generate", "tall and color=red", "--sampler", sampler, *chains, *FEW]
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(app, [*words, "--registry", str(registry), "-o", str(out)])
    assert result.exit_code == 1, result.output
    assert "error: the posterior of color is not a number at noise level" in result.stderr
    assert "hint: ebm verify" in result.stderr
    assert not out.exists()


def test_a_formula_without_that_concept_is_drawn(registry: Path, broken: Any) -> None:
    broken(1e9)
    request = GenerateRequest(expression="tall", n=1, steps=3, attempts=1, device="cpu")
    assert len(draw_pictures(request, read_registry(registry)).images) == 1


def test_no_reader_goes_on(registry: Path, broken: Any, tmp_path: Path) -> None:
    broken(0.3)
    data = squares_file(tmp_path / "fresh.h5", n=130, seed=7)
    picture = tmp_path / "picture.png"
    request = GenerateRequest(expression="tall", n=1, steps=3, attempts=1, device="cpu")
    write_png(picture, draw_pictures(request, read_registry(registry)).images[0])
    before = registry.read_bytes()
    for words in (
        ["infer", "--images", str(picture)],
        ["calibrate", "color", "--data", str(data)],
        ["eval", "calibration", "--data", str(data), "-o", str(tmp_path / "charts")],
    ):
        result = CliRunner().invoke(app, [*words, "--registry", str(registry)])
        assert result.exit_code == 1, result.output
        assert "error: the posterior of color is not a number" in result.stderr, words
    assert registry.read_bytes() == before
