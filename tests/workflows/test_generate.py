"""Drawing: seeds, attempts, edits, and what a picture costs; all networks have random weights."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from squares import COLOR, FACTORS, SPACE, TALL, WIDTH, draw_squares, put_concept, random_registry
from torch import Tensor

from ebmcli.core.base_energy import BaseEnergy
from ebmcli.core.concepts import PosteriorConcept
from ebmcli.core.expression import parse
from ebmcli.core.images import to_bytes
from ebmcli.core.logic import compile_formula
from ebmcli.errors import (
    ConfigError,
    DeviceError,
    DivergedError,
    EbmError,
    ExpressionError,
    FileFormatError,
    UnknownNameError,
    UsageError,
)
from ebmcli.pictures import write_png
from ebmcli.registry import Registry, read_registry
from ebmcli.workflows import drawing, jobs
from ebmcli.workflows.drawing import ATTEMPT_STRIDE
from ebmcli.workflows.energies import LOGICS
from ebmcli.workflows.finished import acceptance
from ebmcli.workflows.generate import Drawn, GenerateRequest, draw_pictures
from ebmcli.workflows.generate_request import CORRECT_FROM


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path = random_registry(tmp_path_factory.mktemp("registry"), [COLOR, TALL, WIDTH])
    return read_registry(path)


def ask(expression: str = "color=red & tall", **changes: Any) -> GenerateRequest:
    settings: dict[str, Any] = {"n": 3, "steps": 4, "attempts": 1, "device": "cpu"}
    return GenerateRequest(expression=expression, **settings | changes)


def test_pictures_come_with_all_that_is_known_about_them(registry: Registry) -> None:
    drawn = draw_pictures(ask(seed=5), registry)
    assert drawn.images.shape == (3, 16, 16, 3)
    assert drawn.images.dtype == np.uint8
    assert drawn.seeds == [5, 6, 7]
    assert drawn.attempts == [1, 1, 1]
    assert bool(((drawn.probabilities >= 0) & (drawn.probabilities <= 1)).all())
    assert drawn.first_accepted == pytest.approx((drawn.probabilities >= 0.5).mean())
    assert drawn.space == SPACE
    assert set(drawn.digests) == {f"base {SPACE}", "concept color", "concept tall"}
    assert drawn.frames == []
    assert drawn.trace == []


@pytest.mark.parametrize("changes", [{"n": 1}, {"n": 5}, {"batch_size": 1}, {"batch_size": 2}])
def test_a_picture_depends_on_its_seed_alone(registry: Registry, changes: dict[str, Any]) -> None:
    """Neither on how many are drawn nor on the batch, but for the last bit of a byte."""
    no_change: dict[str, Any] = {}
    plain, other = (draw_pictures(ask(seed=2, **c), registry).images for c in (no_change, changes))
    n = min(len(plain), len(other))
    gap = plain[:n].astype(int) - other[:n].astype(int)
    assert abs(gap).max() <= 1


def test_neighbouring_seeds_shift_the_same_pictures(registry: Registry) -> None:
    first = draw_pictures(ask(seed=0), registry).images.astype(int)
    second = draw_pictures(ask(seed=1), registry).images.astype(int)
    assert abs(first[1:] - second[:-1]).max() <= 1
    assert abs(first[0] - first[1]).max() > 50


class Reading:
    """Instead of the model's P(f | x): a fixed list, in the order of the draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
        self.values = list(values)
        self.drawn: list[Tensor] = []
        reading = self

        def probability(_: Any, __: Any, x: Tensor) -> Tensor:
            reading.drawn.append(x.clone())
            taken, reading.values = reading.values[: len(x)], reading.values[len(x) :]
            return torch.tensor(taken)

        monkeypatch.setattr(drawing.Work, "_probability", probability)


def test_only_improbable_pictures_are_drawn_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P 0.9 stays; 0.2 is drawn twice more, 0.1 once; the most probable draw is kept."""
    reading = Reading(monkeypatch, [0.9, 0.2, 0.1, 0.05, 0.8, 0.3])
    drawn = draw_pictures(ask(attempts=3, keep_frames=True), registry)
    assert reading.values == []
    assert [len(x) for x in reading.drawn] == [3, 2, 1]
    assert drawn.attempts == [1, 3, 2]
    assert drawn.probabilities.tolist() == pytest.approx([0.9, 0.3, 0.8])
    assert drawn.first_accepted == pytest.approx(1 / 3)
    first, second, third = reading.drawn
    assert drawn.seeds == [0, 1, 2]
    for image, x in zip(drawn.images, (first[0], third[0], second[1]), strict=True):
        assert np.array_equal(image, to_bytes(x[None]).numpy()[0])
    assert len(drawn.trace) == 4  # of the first draws


def test_every_attempt_has_noise_of_its_own(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch reads 32 bits of a seed: seeds 2^32 apart would draw the same picture again."""
    reading = Reading(monkeypatch, [0.0] * 9)
    draw_pictures(ask(n=3, attempts=3), registry)
    states = torch.cat(reading.drawn)
    assert len(states) == 9
    for i in range(9):
        for j in range(i):
            assert (states[i] - states[j]).abs().max() > 0.1
    assert ATTEMPT_STRIDE % 2 == 1


def test_probable_pictures_are_not_drawn_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(monkeypatch, [0.8, 0.85, 1.0])
    assert draw_pictures(ask(attempts=9), registry).attempts == [1, 1, 1]
    assert len(reading.drawn) == 1


def test_a_little_noise_keeps_the_picture_that_is_edited(
    registry: Registry, tmp_path: Path
) -> None:
    picture = draw_squares(1, seed=3)[0][0]
    path = tmp_path / "start.png"
    write_png(path, picture)
    drawn = [
        draw_pictures(ask(start_image=path, start_noise=noise, n=2, corrector_steps=0), registry)
        for noise in (0.05, 8.0)
    ]
    near, far = (abs(d.images.astype(int) - picture.astype(int)).mean() for d in drawn)
    assert near < 15
    assert near < far / 2


def test_a_start_that_is_missing_is_reported(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        draw_pictures(ask(start_image=tmp_path / "absent.png"), registry)


def test_frames_and_trace_have_one_entry_per_noise_level(registry: Registry) -> None:
    """Whatever the batches: means over all pictures."""
    drawn = [draw_pictures(ask(keep_frames=True, batch_size=b), registry) for b in (16, 2)]
    for one in drawn:
        assert [frame.shape for frame in one.frames] == [(3, 16, 16, 3)] * 4
        sigmas = [row["sigma"] for row in one.trace]
        assert len(sigmas) == 4
        assert sigmas == sorted(sigmas, reverse=True)
    for row, other in zip(drawn[0].trace, drawn[1].trace, strict=True):
        moved = {"ess", "r_hat"} if row["sigma"] >= CORRECT_FROM else set()
        assert set(row) == {"sigma", "energy", "log_p"} | moved
        assert row == pytest.approx(other, rel=1e-3, abs=1e-2)


def test_progress_counts_levels_of_all_pictures(registry: Registry) -> None:
    """Two pictures through four levels, then the third."""
    seen: list[tuple[int, int]] = []
    draw_pictures(ask(batch_size=2), registry, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(done, 12) for done in (2, 4, 6, 8, 9, 10, 11, 12)]


def test_progress_never_goes_back_when_pictures_are_drawn_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "acceptance", lambda *_: 1.1)  # no picture is good enough
    seen: list[tuple[int, int]] = []
    drawn = draw_pictures(ask(attempts=3), registry, progress=lambda *at: seen.append(at))
    assert drawn.attempts == [3, 3, 3]
    assert seen == [(3 * i, 12 * (1 + (i - 1) // 4)) for i in range(1, 13)]


def cost(registry: Registry, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Counter[str]:
    """Images that went through each network while sampling."""
    calls: Counter[str] = Counter()
    real_base, real_concept = BaseEnergy.energy, PosteriorConcept.log_posterior

    def base(self: BaseEnergy, x: Tensor, *rest: Any) -> Tensor:
        calls["base"] += len(x)
        return real_base(self, x, *rest)

    def concept(self: PosteriorConcept, x: Tensor, sigma: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # the reading of finished pictures has no gradient
            calls[self.factor.name] += len(x)
        return real_concept(self, x, sigma)

    with monkeypatch.context() as patch:
        patch.setattr(BaseEnergy, "energy", base)
        patch.setattr(PosteriorConcept, "log_posterior", concept)
        drawn = draw_pictures(ask(**changes), registry)
    assert set(calls.values()) == {len(drawn.images) * drawn.n_energy_calls}
    return calls


@pytest.mark.parametrize("logic", ["exact", "paper"])
def test_cost_is_linear_in_images_steps_and_distinct_concepts(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, logic: str
) -> None:
    """Heun: 2 steps - 1 evaluations of every network per picture, repeated names for free."""
    options: dict[str, Any] = {"logic": logic, "sampler": "heun", "expression": "color=red"}
    assert cost(registry, monkeypatch, n=1, **options) == {"base": 7, "color": 7}
    assert cost(registry, monkeypatch, n=4, **options) == {"base": 28, "color": 28}
    assert cost(registry, monkeypatch, n=1, steps=8, **options) == {"base": 15, "color": 15}
    options["expression"] = "(color=red & tall) | (color=green & tall) | (color=blue & ~tall)"
    found = cost(registry, monkeypatch, n=1, **options)
    assert found == {"base": 7, "color": 7, "tall": 7}


def test_every_corrector_step_costs_one_evaluation(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the levels at or above 0.3 only."""
    plain = cost(registry, monkeypatch, n=1, steps=8, corrector_steps=0)["base"]
    one = cost(registry, monkeypatch, n=1, steps=8, corrector_steps=1)["base"]
    three = cost(registry, monkeypatch, n=1, steps=8, corrector_steps=3)["base"]
    assert 0 < one - plain < 8
    assert three - plain == 3 * (one - plain)


def test_every_logic_and_sampler_draws(registry: Registry) -> None:
    def images(**changes: Any) -> Drawn:
        return draw_pictures(ask(n=1, **changes), registry)

    drawn = [
        images(expression="tall & ~color=red & ~color=green", logic=logic)
        for logic in LOGICS
        if logic != "logdiff-constant"  # without OR it is composable-diffusion
    ]
    drawn += [
        images(), images(sampler="heun"), images(strength=5.0), images(sampler="langevin", steps=3)
    ]  # fmt: skip
    pictures = [one.images.tobytes() for one in drawn]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"n": 0}, "-n must be at least 1, got 0"),
        ({"n": -2}, "-n must be at least 1, got -2"),
        ({"steps": 1}, "--steps must be at least 2, got 1"),
        ({"attempts": 0}, "--attempts must be at least 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"n": 10**9}, "-n is at most 100,000, got 1,000,000,000"),
        ({"steps": 100_000}, "--steps is at most 1,000"),
        ({"batch_size": 10**6}, "--batch-size is at most 4,096"),
        ({"sampler": "euler"}, "unknown sampler 'euler'"),
        ({"logic": "fuzzy"}, "unknown logic 'fuzzy'"),
        ({"corrector_steps": -1}, "--corrector-steps must not be negative"),
        ({"strength": 0.0}, "--strength is above 0"),
        ({"strength": float("nan")}, "--strength is above 0"),
        ({"strength": 2.0, "logic": "paper"}, "--strength has no meaning with --logic paper"),
        ({"sampler": "mala", "logic": "perp-neg"}, "perp-neg has no energy"),
        ({"start_noise": 0.001}, "--noise is above 0.02"),
        ({"start_noise": float("nan")}, "--noise is above 0.02"),
        ({"seed": -1}, "seeds are between 0"),
        ({"seed": 2**32 - 2}, "seeds are between 0"),
    ],
)
def test_a_request_out_of_range_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=problem):
        ask(**changes)


@pytest.mark.parametrize(
    ("expression", "kind", "problem"),
    [
        ("colour=red", UnknownNameError, "unknown concept 'colour'"),
        ("color=pink", UnknownNameError, "pink"),
        ("color=red & color=blue", ExpressionError, "never true"),
        ("color=red &", ExpressionError, "expected"),
        ("color=red & old", UsageError, "one picture cannot show both"),
    ],
)
def test_a_wrong_formula_is_refused(
    registry: Registry, tmp_path: Path, expression: str, kind: type[EbmError], problem: str
) -> None:
    if "old" in expression:
        path = random_registry(tmp_path, [COLOR])
        put_concept(path, TALL, name="old", space="faces-16")
        registry = read_registry(path)
    with pytest.raises(kind, match=problem):
        draw_pictures(ask(expression), registry)


def test_numbers_that_are_not_finite_end_the_drawing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An energy that overflows: an error, and no black pictures."""
    real = jobs.compose

    def broken(*names: Any, **options: Any) -> Any:
        composed = real(*names, **options)
        return replace(composed, energy=lambda x, sigma: (1e38 * x).square().flatten(1).sum(1))

    monkeypatch.setattr(jobs, "compose", broken)
    with pytest.raises(DivergedError, match="not finite") as caught:
        draw_pictures(ask(), registry)
    assert "--strength" in (caught.value.hint or "")


def test_an_absent_device_is_refused(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="absent"):
        draw_pictures(ask(device="cuda"), registry)


@pytest.mark.parametrize(
    ("source", "least"),
    [("tall", 0.8), ("color=red & ~tall", 0.64), ("size=0.4", 0.5), ("size>0.4", 0.5),
     ("tall & position=(0.5,0)", 0.2), ("position=(0.5,0) | position=(0.5,0)", 0.25),
     ("color=red | color=blue", 0.8)],
)  # fmt: skip
def test_concepts_that_were_not_measured_are_asked_for_by_kind(source: str, least: float) -> None:
    assert acceptance(compile_formula(parse(source), FACTORS), {}) == pytest.approx(least)


@pytest.mark.parametrize(
    ("source", "least"),
    [("tall", 0.7), ("color=red & ~tall", 0.95 * 0.7), ("size=0.4", 0.5), ("size>0.4", 0.5),
     ("tall & position=(0.5,0)", 0.7 * 0.6)],
)  # fmt: skip
def test_measured_concepts_are_asked_for_what_real_pictures_reach(
    source: str, least: float
) -> None:
    known = {"tall": 0.7, "color": 1.0, "position": 0.6}
    assert acceptance(compile_formula(parse(source), FACTORS), known) == pytest.approx(least)


@pytest.mark.parametrize(
    ("source", "least"),
    [("0.3*tall", 0.5), ("0.1*tall & color=red", 0.5), ("tall & color=red", 0.5),
     ("tall & 0.9*color=red & position=(0.5,0)", 0.125), ("0.9*position=(0.5,0)", 0.54)],
)  # fmt: skip
def test_neither_weights_nor_poor_labels_switch_the_limit_off(source: str, least: float) -> None:
    known = {"tall": 0.3, "color": 0.6, "position": 0.6}
    if "position" in source and "tall" in source:
        known["position"] = 0.1
    assert acceptance(compile_formula(parse(source), FACTORS), known) == pytest.approx(least)


@pytest.mark.parametrize(
    ("method", "sampler", "n_readings"),
    [("posterior", "auto", 6), ("posterior", "rejection", 1), ("conditional", "auto", 1)],
)
def test_finished_pictures_are_read_as_often_as_it_is_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, sampler: str, n_readings: int
) -> None:
    path = random_registry(tmp_path / "registry", [])
    put_concept(path, COLOR, method=method)
    levels: list[float] = []
    real = jobs.compose

    def counting(*words: Any, **options: Any) -> Any:
        composed = real(*words, **options)

        def log_probability(x: Tensor, sigma: Tensor) -> Tensor:
            levels.append(float(sigma[0]))
            return composed.log_probability(x, sigma)

        return replace(composed, log_probability=log_probability)

    monkeypatch.setattr(jobs, "compose", counting)
    draw_pictures(
        GenerateRequest(expression="color=red", n=1, steps=2, attempts=1, sampler=sampler),
        read_registry(path),
    )
    assert len(levels) == n_readings
    assert sorted(set(levels)) == pytest.approx([0.1] if n_readings == 1 else [0.1, 0.3, 0.5])
