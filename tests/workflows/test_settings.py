"""Settings: defaults per method, changes by key=value, nothing misspelt passes."""

from dataclasses import fields
from typing import Any

import pytest

from ebmcli.errors import ConfigError, UnknownNameError
from ebmcli.workflows.settings import (
    DEFAULTS,
    ON_GPU,
    PARTS,
    GaussianConfig,
    Settings,
    changed,
    default_settings,
)


@pytest.fixture
def settings() -> Settings:
    return default_settings("base", size=64)


def test_no_two_parts_share_a_key() -> None:
    keys = [field.name for kind in PARTS.values() for field in fields(kind)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("method", DEFAULTS)
def test_settings_survive_their_plain_form(method: str) -> None:
    settings = default_settings(method, size=32)
    assert settings.trunk.size == 32
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize("method", DEFAULTS)
def test_defaults_name_known_settings_only(method: str) -> None:
    assert set(DEFAULTS[method]) <= set(default_settings(method, size=64).to_dict())


@pytest.mark.parametrize("method", DEFAULTS)
def test_a_gpu_gets_batches_that_are_no_smaller(method: str) -> None:
    here, there = (default_settings(method, size=64, on_gpu=gpu) for gpu in (False, True))
    assert there.training.batch_size >= here.training.batch_size
    assert there.trunk == here.trunk
    assert set(ON_GPU[method]) <= set(here.to_dict())


def test_values_take_the_type_of_what_they_replace(settings: Settings) -> None:
    new = changed(settings, ["learning_rate=3e-4", " batch_size = 8 ", "depths=1,1,1,1"])
    assert new.training.learning_rate == 3e-4
    assert new.training.batch_size == 8
    assert new.trunk.depths == (1, 1, 1, 1)
    assert new.trunk.widths == settings.trunk.widths
    assert new.objective == settings.objective


def test_settings_that_only_fit_together_are_changed_together(settings: Settings) -> None:
    """Neither order works one by one: widths and depths must have the same length."""
    for texts in (["widths=4,8", "depths=1,1"], ["depths=1,1", "widths=4,8"]):
        trunk = changed(settings, texts).trunk
        assert (trunk.widths, trunk.depths) == ((4, 8), (1, 1))


def test_the_last_of_two_equal_keys_counts(settings: Settings) -> None:
    assert changed(settings, ["head=8", "head=9"]).trunk.head == 9


def test_an_unknown_key_is_told_with_the_nearest(settings: Settings) -> None:
    with pytest.raises(UnknownNameError, match="unknown setting 'learning-rate'") as caught:
        changed(settings, ["learning-rate=1"])
    assert "did you mean 'learning_rate'?" in (caught.value.hint or "")
    assert "n_components" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("learning_rate", "not a setting: 'learning_rate'"),
        ("learning_rate=fast", "learning_rate cannot be 'fast'"),
        ("learning_rate=nan", "learning_rate cannot be 'nan'"),
        ("learning_rate=inf", "learning_rate cannot be 'inf'"),
        ("learning_rate=-1", "learning_rate must be positive"),
        ("batch_size=8.5", "batch_size cannot be '8.5'"),
        ("widths=4,x", "widths cannot be '4,x'"),
        ("widths=", "widths cannot be ''"),
        ("widths=4,8", "same length"),
        ("unshuffle=0", "unshuffle must be at least 1"),
        ("unshuffle=3", "image size must be a multiple of 24, got 64"),
        ("size=32", "size is that of the images"),
        ("floor=0", "floor must be positive"),
        ("n_components=0", "must be positive"),
        ("label_dropout=1", "label_dropout must be in"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(settings: Settings, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        changed(settings, [text])


def test_the_hint_shows_the_value_as_it_would_be_typed(settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(settings, ["widths=a"])
    assert caught.value.hint == "now widths=32,64,128,160"


@pytest.mark.parametrize("bad", [{"n_components": 0}, {"floor": 0.0}])
def test_a_gaussian_needs_components_and_a_floor(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GaussianConfig(**bad)


def test_the_denoising_term_of_a_posterior_is_for_a_gpu() -> None:
    assert default_settings("posterior", size=64).objective.score_weight == 0
    assert default_settings("posterior", size=64, on_gpu=True).objective.score_weight == 0.3
