"""Samplers as a request names them: what each draws, costs, tells and refuses; random weights."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from squares import COLOR, TALL, random_registry
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.errors import ConfigError
from ebmcli.registry import Registry, read_registry
from ebmcli.workflows import drawing
from ebmcli.workflows.chains import N_CHAINS, SAMPLERS, choose
from ebmcli.workflows.generate import Drawn, GenerateRequest, draw_pictures

NEW = ("mala", "hmc", "smc", "rejection")
FEW = {"smc": 3, "rejection": 2}  # chains, to be quick


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return read_registry(random_registry(tmp_path_factory.mktemp("registry"), [COLOR, TALL]))


def ask(sampler: str, **changes: Any) -> GenerateRequest:
    settings: dict[str, Any] = {
        "expression": "color=red & tall", "n": 2, "steps": 4, "attempts": 1, "device": "cpu",
        "seed": 2, "sampler": sampler, "chains": FEW.get(sampler),
    }  # fmt: skip
    if sampler != "heun":
        settings["corrector_steps"] = 1
    return GenerateRequest(**settings | changes)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_depends_on_its_seed_alone(registry: Registry, sampler: str) -> None:
    """Alone, in another batch or beside others it is the same, but for the last bit of a byte."""
    plain = draw_pictures(ask(sampler), registry).images.astype(int)
    for changes in ({"n": 1}, {"batch_size": 1}):
        other = draw_pictures(ask(sampler, **changes), registry).images.astype(int)
        assert abs(other - plain[: len(other)]).max() <= 1
    shifted = draw_pictures(ask(sampler, seed=3, n=1), registry).images.astype(int)
    assert abs(shifted - plain[1:]).max() <= 1
    assert abs(plain[0] - plain[1]).max() > 20


def test_samplers_draw_different_pictures(registry: Registry) -> None:
    """All but auto, which is langevin with another number of steps."""
    others = [sampler for sampler in SAMPLERS if sampler != "auto"]
    pictures = {draw_pictures(ask(s, n=1), registry).images.tobytes() for s in others}
    assert len(pictures) == len(others)


@pytest.mark.parametrize(
    ("sampler", "corrector_steps"),
    [("mala", 1), ("mala", 2), ("hmc", 1), ("smc", 1), ("smc", 2), ("rejection", 2)],
)
def test_the_cost_of_a_picture_is_counted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, sampler: str, corrector_steps: int
) -> None:
    """Every image that goes through the base with a gradient; rejection leaves concepts alone."""
    calls: Counter[str] = Counter()
    real_base, real_concept = BaseEnergy.energy, PosteriorConcept.log_posterior

    def base(self: BaseEnergy, x: Tensor, *rest: Any) -> Tensor:
        calls["base"] += len(x)
        return real_base(self, x, *rest)

    def concept(self: PosteriorConcept, x: Tensor, sigma: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            calls[self.factor.name] += len(x)
        return real_concept(self, x, sigma)

    monkeypatch.setattr(BaseEnergy, "energy", base)
    monkeypatch.setattr(PosteriorConcept, "log_posterior", concept)
    drawn = draw_pictures(ask(sampler, corrector_steps=corrector_steps, n=1), registry)
    expected = drawn.n_energy_calls
    networks = ["base"] if sampler == "rejection" else ["base", "color", "tall"]
    assert calls == dict.fromkeys(networks, expected)


@pytest.mark.parametrize("sampler", NEW)
def test_a_trace_tells_what_its_sampler_has(registry: Registry, sampler: str) -> None:
    request = ask(sampler, n=2, corrector_steps=4, keep_frames=True)
    drawn = draw_pictures(request, registry)
    assert [frame.shape for frame in drawn.frames] == [(2, 16, 16, 3)] * 4
    sigmas = [row["sigma"] for row in drawn.trace]
    assert len(sigmas) == 4
    assert sigmas == sorted(sigmas, reverse=True)
    first = drawn.trace[0]
    extra = {
        "mala": {"acceptance", "step"},
        "hmc": {"acceptance", "step"},
        "smc": {"acceptance", "step", "particles", "resampled", "log_z"},
        "rejection": set(),
    }[sampler]
    mixing = set() if sampler == "smc" else {"ess", "r_hat"}
    assert set(first) == {"sigma", "energy", "log_p"} | mixing | extra
    assert set(drawn.trace[-1]) == {"sigma", "energy", "log_p"}  # below 0.3 nothing moves
    if "acceptance" in extra:
        assert 0 <= drawn.diagnostics["acceptance"] <= 1
    if sampler == "smc":
        assert 1 <= drawn.diagnostics["particles"] <= 3
        first, second = drawn.diagnostics["log_z"]
        assert drawn.diagnostics["log_z_spread"] == pytest.approx(abs(first - second) / 2**0.5)


def test_diagnostics_are_there_without_a_trace(registry: Registry) -> None:
    drawn = draw_pictures(ask("mala", corrector_steps=4), registry)
    assert drawn.trace == []
    assert set(drawn.diagnostics) == {"acceptance", "r_hat"}


def test_langevin_chains_tell_r_hat_and_no_acceptance(registry: Registry) -> None:
    drawn = draw_pictures(ask("langevin", corrector_steps=4), registry)
    assert set(drawn.diagnostics) == {"r_hat"}
    assert draw_pictures(ask("heun"), registry).diagnostics == {}


class Probabilities:
    """Instead of the model's P(f | x): one row of numbers after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *rows: list[float]) -> None:
        self.rows, self.drawn = list(rows), list[Tensor]()
        mine = self

        def probability(_: Any, __: Any, x: Tensor) -> Tensor:
            mine.drawn.append(x.clone())
            return torch.tensor(mine.rows.pop(0))

        monkeypatch.setattr(drawing.Work, "_probability", probability)


def images(drawn: Drawn) -> list[bytes]:
    return [image.tobytes() for image in drawn.images]


def as_bytes(x: Tensor) -> bytes:
    picture = x.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 0)
    return np.asarray(picture).tobytes()


def test_rejection_draws_again_what_no_draw_satisfied_and_says_so(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P is 0 or 1, so that coins do not matter; the best of all draws is kept where none is 1."""
    monkeypatch.setattr(drawing, "reject", lambda log_p, power, uniform: log_p >= 0)
    given = Probabilities(
        monkeypatch, [0.0, 1.0, 1.0, 0.1, 0.3, 0.2, 0.0, 0.0, 0.0], [0.2, 0.0, 0.1, 0.0, 0.0, 1.0]
    )
    drawn = draw_pictures(ask("rejection", n=3, attempts=2, chains=3), registry)
    assert given.rows == []
    first, second = given.drawn
    assert images(drawn) == [as_bytes(first[1]), as_bytes(first[4]), as_bytes(second[5])]
    assert drawn.attempts == [1, 2, 2]
    assert drawn.probabilities.tolist() == pytest.approx([1.0, 0.3, 1.0])
    assert drawn.first_accepted == pytest.approx(1 / 3)
    (note,) = drawn.notes
    assert note.startswith("1 of 3 pictures: none of 6 draws of the base was accepted")
    assert "seed 3 comes closest, P(f | x) = 0.3; by chance P(f) is 0.1" in note
    assert "--sampler auto" in note


def test_rejection_that_reaches_every_picture_says_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    Probabilities(monkeypatch, [1.0] * 4)
    drawn = draw_pictures(ask("rejection", attempts=2), registry)
    assert drawn.attempts == [1, 1]
    assert drawn.notes == []


@pytest.mark.parametrize("sampler", ["auto", "langevin", "mala"])
def test_a_formula_that_no_picture_reaches_is_said_to_be_out_of_reach(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    given = Probabilities(monkeypatch, [0.1, 0.02, 0.03], [0.01, 0.2, 0.04])
    drawn = draw_pictures(ask(sampler, n=3, attempts=2, chains=None), registry)
    assert given.rows == []
    assert drawn.kept == [False] * 3
    (note,) = drawn.notes
    assert note.startswith("no picture reaches the formula: seed 3 comes closest, P(f | x) = 0.2;")
    assert "by chance P(f) is 0.1" in note


def test_a_formula_that_some_pictures_reach_is_not(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    Probabilities(monkeypatch, [0.9, 0.02, 0.03])
    assert draw_pictures(ask("auto", n=3, attempts=1), registry).notes == []


def test_rejection_is_bayes_rule_unless_a_strength_is_asked_for() -> None:
    assert ask("rejection").power == 1
    assert ask("rejection", strength=2.0).power == 2
    assert ask("mala").power == ask("auto").power == 4


def test_of_several_chains_the_first_that_is_kept_is_shown() -> None:
    x = torch.arange(6.0).view(6, 1, 1, 1)
    probability = torch.tensor([0.2, 0.6, 0.9, 0.1, 0.3, 0.2])
    merit = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.1, 0.2])
    frames = [x + 10, x[:2] + 20]
    batch = choose(
        x, probability, merit=merit, kept=probability >= 0.5, frames=frames, n_pictures=2
    )
    assert batch.x.flatten().tolist() == [1, 5]
    assert batch.probability.tolist() == probability[[1, 5]].tolist()
    assert batch.kept.tolist() == [True, False]
    assert [frame.flatten().tolist() for frame in batch.frames] == [[11, 15], [20, 21]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_chains_per_picture_have_a_default(sampler: str) -> None:
    chains = GenerateRequest(expression="tall", sampler=sampler).n_chains
    assert chains == N_CHAINS.get(sampler, 1)


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        ({"sampler": "smc", "chains": 1}, "one chain is too few", "--chains 16"),
        ({"sampler": "mala", "chains": 0}, "--chains must be at least 1, got 0", None),
        ({"sampler": "auto", "chains": 4}, "no meaning with --sampler auto", "mala, hmc, smc"),
        ({"sampler": "langevin", "chains": 1}, "no meaning with --sampler langevin", "mala"),
        ({"sampler": "heun", "corrector_steps": 3}, "heun is the flow alone", "langevin"),
        ({"sampler": "mala", "corrector_steps": 0}, "mala without corrector steps", "heun"),
        ({"sampler": "hmc", "corrector_steps": 0}, "hmc without corrector steps", "heun"),
        ({"sampler": "rejection", "logic": "paper"}, "--logic exact", "another --sampler"),
        ({"sampler": "smc", "start_image": "a.png"}, "smc starts from the base", "mala"),
        ({"sampler": "rejection", "start_image": "a.png"}, "rejection starts from", "mala"),
    ],
)
def test_options_without_meaning_are_refused(
    changes: dict[str, Any], problem: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        GenerateRequest(expression="tall", **changes)
    assert problem in caught.value.problem
    assert hint is None or hint in str(caught.value.hint)
