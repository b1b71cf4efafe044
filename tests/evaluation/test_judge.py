"""The judge and its negatives, on random weights and hand-made pictures."""

import pytest
import torch
from torch import Generator, Tensor

from ebmcli.core.factors import Factor
from ebmcli.errors import ConfigError
from ebmcli.evaluation import negatives
from ebmcli.evaluation.judge import Judge, JudgeConfig, Readings, disturb, judge_losses

FACTORS = {
    "color": Factor(name="color", kind="categorical", names=("red", "green", "blue")),
    "size": Factor(name="size", kind="scalar", low=0.2, high=0.6),
    "position": Factor(name="position", kind="position", low=-1.0, high=1.0),
}
FACE = {
    name: Factor(name=name, kind="binary", names=("no", "yes")) for name in ("old", "hat", "beard")
}
CONFIG = JudgeConfig(size=32, widths=(4, 8, 8, 8), n_features=16)


@pytest.fixture
def generator() -> Generator:
    return Generator().manual_seed(0)


@pytest.fixture
def pictures(generator: Generator) -> Tensor:
    return torch.rand(8, 3, 32, 32, generator=generator) * 2 - 1


@pytest.fixture
def labels(generator: Generator) -> dict[str, Tensor]:
    return {
        "color": torch.randint(3, (8,), generator=generator),
        "size": 0.2 + 0.4 * torch.rand(8, generator=generator),
        "position": torch.rand(8, 2, generator=generator) * 2 - 1,
    }


def small_judge() -> Judge:
    torch.manual_seed(0)
    return Judge(FACTORS, CONFIG)


def test_readings_are_in_the_units_and_shapes_of_the_factors(pictures: Tensor) -> None:
    readings = small_judge().eval().read(pictures)
    assert readings.values["color"].dtype == torch.int64
    assert readings.values["size"].shape == (8,)
    assert readings.values["position"].shape == (8, 2)
    assert torch.allclose(readings.probabilities["color"].sum(1), torch.ones(8))
    assert ((readings.present > 0) & (readings.present < 1)).all()
    assert (readings.values["size"] - 0.4).abs().max() < 0.4  # near the middle before training


def test_a_reading_does_not_depend_on_the_batch(pictures: Tensor) -> None:
    judge = small_judge().eval()
    whole = judge.read(pictures)
    parts = Readings.join([judge.read(pictures[:3]), judge.read(pictures[3:])])
    assert len(parts) == 8
    for name, value in whole.values.items():
        assert torch.allclose(value.double(), parts.values[name].double(), atol=1e-5)


@pytest.mark.parametrize("size", [16, 48, 64, 128])
def test_any_multiple_of_16_can_be_judged(size: int) -> None:
    config = JudgeConfig(size=size, widths=(4, 4, 4, 4), n_features=8)
    judge = Judge(FACE, config).eval()
    assert judge.features(torch.zeros(2, 3, size, size)).shape == (2, 8)


@pytest.mark.parametrize("size", [0, 8, 40])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 16"):
        JudgeConfig(size=size)


def test_a_config_survives_its_plain_form() -> None:
    assert JudgeConfig.from_dict(CONFIG.to_dict()) == CONFIG


def test_the_default_judge_is_small_enough_to_ship_in_half_precision() -> None:
    n_weights = sum(
        tensor.numel() for tensor in Judge(FACTORS, JudgeConfig()).state_dict().values()
    )
    assert 2 * n_weights < 1_000_000


def test_perfect_outputs_leave_no_loss(pictures: Tensor, labels: dict[str, Tensor]) -> None:
    """A head of zeros: ln 3 for three colours, ln 2 for presence, the Huber distance of numbers."""
    judge = small_judge()
    torch.nn.init.zeros_(judge.heads.weight)
    torch.nn.init.zeros_(judge.heads.bias)
    middle = {**labels, "size": torch.full((8,), 0.4), "position": torch.zeros(8, 2)}
    losses = judge_losses(judge, pictures, pictures[:4], middle)
    assert losses["color"].item() == pytest.approx(torch.tensor(3.0).log().item())
    assert losses["present"].item() == pytest.approx(torch.tensor(2.0).log().item())
    assert losses["size"].item() == pytest.approx(0, abs=1e-6)
    assert losses["position"].item() == 0
    assert losses["loss"].item() == pytest.approx(torch.tensor(6.0).log().item(), abs=1e-6)


def test_disturbing_keeps_a_picture_readable(pictures: Tensor, generator: Generator) -> None:
    flat = torch.full_like(pictures, 0.2)
    changed = disturb(flat, generator=generator)
    # brightness changes 1.2 by at most 5 %, noise has at most 0.05 at five standard deviations
    assert (changed - flat).abs().max() < 1.2 * 0.05 + 5 * 0.05
    assert not torch.equal(changed, flat)
    assert disturb(pictures, generator=generator).abs().max() <= 1


def test_negatives_of_a_scene_are_finite_distinct_and_repeatable(
    pictures: Tensor, labels: dict[str, Tensor]
) -> None:
    def made(factors: dict[str, Factor], given: dict[str, Tensor]) -> Tensor:
        return negatives.without_object(
            pictures,
            given,
            factors,
            floors=pictures.mean(0, keepdim=True),
            generator=Generator().manual_seed(1),
        )

    before = pictures.clone()
    for factors, given in (
        (FACTORS, labels),
        (FACE, {name: torch.arange(8) % 2 for name in FACE}),
    ):
        first = made(factors, given)
        assert first.shape == pictures.shape
        assert first.abs().max() <= 1
        assert torch.equal(first, made(factors, given))
        assert ((first - pictures).abs().mean((1, 2, 3)) > 0.05).all()
    assert torch.equal(pictures, before)


def test_an_emptied_scene_has_no_object(generator: Generator) -> None:
    """White squares on grey floors in nine different places: the median shows the floor alone."""
    scenes = torch.full((9, 3, 32, 32), -0.5)
    for i in range(9):
        scenes[i, :, 10 * (i // 3) : 10 * (i // 3) + 6, 10 * (i % 3) : 10 * (i % 3) + 6] = 1.0
    floors = negatives.empty_floors(scenes, 4, generator=generator)
    brighter = negatives.emptied(scenes + 0.1, floors, generator=generator)
    assert floors.shape == (4, 3, 32, 32)
    assert torch.allclose(brighter, torch.tensor(-0.4), atol=1e-6)


def test_pictures_differ_much_when_places_or_half_of_the_names_do() -> None:
    place = {"position": torch.tensor([[0.0, 0.0], [0.4, 0.4], [0.0, 0.5]])}
    position = {"position": FACTORS["position"]}
    assert negatives.differ_much(place, position).tolist() == [
        [False, False, True],
        [False, False, False],
        [True, False, False],
    ]
    names = {
        "old": torch.tensor([0, 1]),
        "hat": torch.tensor([0, 1]),
        "beard": torch.tensor([0, 0]),
    }
    assert negatives.differ_much(names, FACE).tolist() == [[False, True], [True, False]]


def test_pictures_with_numbers_alone_differ_by_these() -> None:
    factors = {"age": Factor(name="age", kind="scalar", low=0.0, high=80.0)}
    labels = {"age": torch.tensor([10.0, 25.0, 40.0])}
    assert negatives.differ_much(labels, factors).tolist() == [
        [False, False, True],
        [False, False, False],
        [True, False, False],
    ]


def test_a_partner_is_never_the_picture_itself(generator: Generator) -> None:
    nobody = torch.zeros(5, 5, dtype=torch.bool)
    found = negatives.partners(nobody, generator=generator)
    assert (found != torch.arange(5)).all()
    only = nobody.clone()
    only[:, 2] = True
    assert negatives.partners(only, generator=generator).tolist()[:2] == [2, 2]


def test_shuffling_keeps_every_pixel(pictures: Tensor, generator: Generator) -> None:
    mixed = negatives.shuffled(pictures, generator=generator)
    assert torch.equal(mixed.flatten(2).sort(2).values, pictures.flatten(2).sort(2).values)
    assert not torch.equal(mixed, pictures)


def test_erasing_fills_half_or_all_with_the_colour_of_the_corners(generator: Generator) -> None:
    faces = torch.full((64, 3, 32, 32), 0.5)
    faces[:, :, 8:] = -0.5
    gone = (negatives.erased(faces, generator=generator)[:, 0, 8:] == 0.5).float().mean((1, 2))
    assert ((gone > 0.3) & (gone < 0.7) | (gone == 1)).all()
    assert 0 < (gone == 1).float().mean() < 0.5


def test_a_blur_leaves_a_flat_picture_flat() -> None:
    assert torch.allclose(
        negatives.box_blur(torch.full((1, 3, 32, 32), 0.3), radius=4), torch.tensor(0.3)
    )
