"""From a registry and a formula to one energy: what it equals, and what it costs."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from squares import COLOR, PLACE, SPACE, TALL, noisy_squares, put_base, put_concept, random_registry
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import BothConcept, ConditionalConcept, PosteriorConcept
from ebmcli.core.energy import at_noise_level, energy_and_gradient
from ebmcli.errors import DigestError, FileFormatError, UnknownNameError, UsageError
from ebmcli.registry import Registry, create_registry, read_registry
from ebmcli.workflows.energies import (
    LOGICS,
    WITHOUT_STRENGTH,
    Composed,
    Networks,
    compose,
    once_per_input,
)
from ebmcli.workflows.formulas import formula_of
from ebmcli.workflows.loading import load_base, load_concept

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def posteriors(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return read_registry(random_registry(tmp_path_factory.mktemp("posteriors")))


@pytest.fixture(scope="module")
def conditionals(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path = create_registry(tmp_path_factory.mktemp("conditionals"))
    put_concept(path, COLOR, method="conditional", base=None)
    put_concept(path, TALL, method="both", base=None)
    return read_registry(path)


def composed(registry: Registry, source: str, **options: Any) -> Composed:
    networks = Networks(registry, CPU)
    return compose(registry, formula_of(registry, source)[0], networks=networks, **options)


def test_the_exact_energy_is_bayes_rule(posteriors: Registry) -> None:
    x, sigma = noisy_squares()
    base = load_base(posteriors, SPACE)
    color, tall = (load_concept(posteriors, name) for name in ("color", "tall"))
    red = color.log_posterior(x, sigma)[:, 0]
    short = tall.log_posterior(x, sigma)[:, 0]
    found = composed(posteriors, "color=red & ~tall", strength=1.5)
    expected = base.energy(x, sigma) - 1.5 * (red + short)
    torch.testing.assert_close(found.energy(x, sigma), expected, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(found.log_probability(x, sigma), red + short, rtol=1e-5, atol=1e-5)
    assert found.size == 16
    assert set(found.digests) == {f"base {SPACE}", "concept color", "concept tall"}


@pytest.mark.parametrize("source", ["color=red", "tall", "size=0.3", "position=(0.4,-0.2)"])
def test_exact_and_paper_agree_on_one_statement_up_to_a_constant(
    posteriors: Registry, source: str
) -> None:
    x, sigma = noisy_squares()
    energies = [
        composed(posteriors, source, logic=logic).energy(x, sigma) for logic in ("exact", "paper")
    ]
    gap = energies[0] - energies[1]
    torch.testing.assert_close(gap, gap[:1].expand(4), rtol=0, atol=2e-3)  # energies near 1000


def test_by_the_papers_rules_and_adds_energies(posteriors: Registry) -> None:
    """E(x | red) + E(x | tall), each with the energy of the space."""
    x, sigma = noisy_squares()
    base = load_base(posteriors, SPACE).energy(x, sigma)
    expected = 2 * base
    for name, cell in (("color", 0), ("tall", 1)):
        concept = load_concept(posteriors, name)
        expected = expected - concept.log_posterior(x, sigma)[:, cell] + concept.log_prior[cell]
    found = composed(posteriors, "color=red & tall", logic="paper").energy(x, sigma)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-2)


def test_a_conjunction_of_conditional_energies_takes_one_pass_each(
    conditionals: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E = mean of the own E0 - strength * sum of (E(none) - E(c)): nothing per cell."""
    calls: Counter[str] = Counter()
    real = ConditionalConcept.energy

    def counting(self: ConditionalConcept, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
        calls[self.factor.name] += 1
        return real(self, x, sigma, target)

    monkeypatch.setattr(ConditionalConcept, "energy", counting)
    x, sigma = noisy_squares()
    found = composed(conditionals, "color=green & tall", strength=2.0).energy(x, sigma)
    assert max(calls.values()) <= 3
    color, tall = (load_concept(conditionals, name) for name in ("color", "tall"))
    assert isinstance(color, ConditionalConcept)
    assert isinstance(tall, BothConcept)
    plain = (color.unconditional(x, sigma) + tall.unconditional(x, sigma)) / 2
    ratios = [
        color.log_ratio(x, sigma, torch.eye(3)[1].expand(4, -1)),
        tall.log_ratio(x, sigma, torch.eye(2)[1].expand(4, -1)),
    ]
    torch.testing.assert_close(found, plain - 2 * sum(ratios), rtol=1e-6, atol=1e-2)


def test_any_other_formula_of_conditional_energies_is_exact_too(conditionals: Registry) -> None:
    x, sigma = noisy_squares()
    color = load_concept(conditionals, "color")
    assert isinstance(color, ConditionalConcept)
    found = composed(conditionals, "~color=red").energy(x, sigma)
    expected = color.unconditional(x, sigma) - color.log_posterior(x, sigma)[:, 1:].logsumexp(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=5e-3)


REPEATED = "(color=red & tall) | (color=green & tall) | (color=blue & ~color=red & ~tall)"
PLAIN = "color=red & tall & ~color=green & ~color=blue"  # for rules that have no OR


@pytest.mark.parametrize("logic", LOGICS)
def test_every_network_runs_once_per_input(
    posteriors: Registry, logic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a formula names a concept: cost grows with distinct concepts only."""
    calls: Counter[str] = Counter()
    real_base, real_concept = BaseEnergy.energy, PosteriorConcept.log_posterior

    def base(self: BaseEnergy, *inputs: Any) -> Tensor:
        calls["base"] += 1
        return real_base(self, *inputs)

    def concept(self: PosteriorConcept, x: Tensor, sigma: Tensor) -> Tensor:
        calls[self.factor.name] += 1
        return real_concept(self, x, sigma)

    monkeypatch.setattr(BaseEnergy, "energy", base)
    monkeypatch.setattr(PosteriorConcept, "log_posterior", concept)
    source = PLAIN if logic in ("composable-diffusion", "dng", "perp-neg") else REPEATED
    energy = composed(posteriors, source, logic=logic).energy
    x, sigma = noisy_squares()
    for done in (1, 2, 3):
        energy_and_gradient(at_noise_level(energy, sigma), x)
        assert calls == {"base": done, "color": done, "tall": done}


@pytest.mark.parametrize("logic", [name for name in LOGICS if name not in WITHOUT_STRENGTH])
def test_a_strength_is_the_same_weight_by_every_rule_that_has_one(
    posteriors: Registry, logic: str
) -> None:
    """E0 - w (log of the posteriors), up to a constant, for AND of two concepts."""
    x, sigma = noisy_squares()
    exact = composed(posteriors, "color=red & tall", strength=3.0).energy(x, sigma)
    found = composed(posteriors, "color=red & tall", logic=logic, strength=3.0).energy(x, sigma)
    gap = found - exact
    torch.testing.assert_close(gap, gap[:1].expand(4), rtol=0, atol=5e-3)  # energies near 1000


def test_an_unknown_logic_is_refused_with_the_nearest_name(posteriors: Registry) -> None:
    with pytest.raises(UnknownNameError, match="unknown logic 'perpneg'") as caught:
        composed(posteriors, "color=red", logic="perpneg")
    assert "did you mean 'perp-neg'" in (caught.value.hint or "")


def test_the_papers_rules_count_a_concept_that_decides_nothing(posteriors: Registry) -> None:
    """Every colour is allowed, so that exactly only tall matters; the paper adds what is typed."""
    source = "tall & (color=red | ~color=red & color=green | color=blue)"
    assert set(composed(posteriors, source).concepts) == {"tall"}
    found = composed(posteriors, source, logic="paper")
    assert set(found.concepts) == {"tall", "color"}
    x, sigma = noisy_squares()
    assert bool(found.energy(x, sigma).isfinite().all())


def test_remembering_forgets_as_soon_as_the_input_is_another_one() -> None:
    seen = []

    def double(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return 2 * x + sigma

    remembering = once_per_input(double)
    x, sigma = torch.ones(2), torch.zeros(2)
    assert remembering(x, sigma) is remembering(x, sigma)
    assert torch.equal(remembering(x.clone(), sigma), remembering(x, sigma.clone()))
    assert len(seen) == 3


def test_concepts_of_two_bases_do_not_make_one_formula(tmp_path: Path) -> None:
    path = random_registry(tmp_path, [COLOR])
    put_base(path, "second")
    put_concept(path, TALL, base="second")
    with pytest.raises(UsageError, match="share one base, found second, squares-16"):
        composed(read_registry(path), "color=red & tall")


def test_changed_and_missing_weights_are_noticed(tmp_path: Path) -> None:
    registry = read_registry(random_registry(tmp_path, [COLOR]))
    path = registry.file(registry.get("concept", "color"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestError, match="has changed"):
        composed(registry, "color=red")
    path.unlink()
    with pytest.raises(
        FileFormatError, match="no such file, the weights of the concept color"
    ) as gone:
        composed(registry, "color=red")
    assert gone.value.hint == "train it again, import it, or take it out: ebm rm color"


def test_a_positions_posterior_is_as_wide_as_its_grid(posteriors: Registry) -> None:
    x, sigma = noisy_squares(2)
    assert load_concept(posteriors, "position").log_posterior(x, sigma).shape == (2, PLACE.n_cells)
