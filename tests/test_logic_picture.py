"""scripts/reproduce/logic_picture: its world, its solver, and the table of docs/logic.md."""

import json

import numpy as np
import pytest
import torch
from script import ROOT, load_script

from ebmcli.core.energy import energy_gradient
from ebmcli.core.rules import RULES

script = load_script("reproduce/logic_picture")


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane of 20 by 20 cells."""
    monkeypatch.setattr(script, "N_CELLS", 20)


def test_the_distances_on_the_page_are_those_that_were_measured() -> None:
    document = json.loads((ROOT / "docs/images/logic.json").read_text(encoding="utf-8"))
    assert set(document["independent"]) == {"exact", *RULES}
    page = (ROOT / "docs/logic.md").read_text(encoding="utf-8")
    assert page == script.page(document)


def test_every_rule_has_a_paragraph_and_a_row() -> None:
    page = (ROOT / "docs/logic.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"**`{rule}`**" in page
        assert f"| `{rule}` |" in page


@pytest.mark.parametrize("source", script.FORMULAS)
def test_the_exact_rule_has_the_true_density(coarse: None, source: str) -> None:
    true = script.shares(script.World().truth(source, script.plane()).numpy())
    found = script.density("exact", source, script.World())
    assert script.distance(found, true) < 1e-12


def test_the_distance_of_a_composed_density_is_that_of_now(coarse: None) -> None:
    """A mean of two ratios is far from OR; an equal mixture is off by its shares alone."""
    world, source = script.World(), "right | height=high"
    true = script.shares(world.truth(source, script.plane()).numpy())
    mean = script.distance(script.density("logdiff-constant", source, world), true)
    mixture = script.distance(script.density("reduce-reuse-recycle", source, world), true)
    assert 0.1 < mixture < 0.3 < 0.5 < mean


def test_the_walk_of_a_gradient_ends_in_its_boltzmann_density(coarse: None) -> None:
    """For an energy quadratic along each axis the middle of an edge has exactly its difference."""

    def energy(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return 0.5 * flat[:, 0].square() + 0.2 * (flat[:, 1] - 1).square()

    found = script.stationary(lambda x: -energy_gradient(energy, x))
    expected = script.shares((-energy(script.plane())).exp().numpy())
    assert np.abs(found - expected).max() < 1e-12
