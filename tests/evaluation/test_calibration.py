"""Temperature scaling against synthetic posteriors whose temperature and error are known.

Labels are drawn from a true posterior; the predictor's evidence is the true one times a factor, so
that the temperature to be found is that factor.
"""

import math

import pytest
import torch
from squares import COLOR, WIDTH, squares
from torch import Tensor

from ebmcli.core.factors import Factor
from ebmcli.core.targets import cell_weights
from ebmcli.core.temperature import tempered_posterior
from ebmcli.evaluation.calibration import (
    HOTTEST,
    PULL,
    at_temperature,
    evidence_for,
    fit_level,
    fit_temperature,
)
from ebmcli.evaluation.held_out import Read
from ebmcli.evaluation.metrics import calibration_error, reliability

N = 4000
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()


def drawn(n: int = N, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """True evidence (n, 3), and one-hot labels drawn from the posterior that it makes."""
    generator = torch.Generator().manual_seed(seed)
    evidence = 1.5 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    q = torch.softmax(PRIOR + evidence, dim=1)
    labels = torch.multinomial(q, 1, generator=generator)[:, 0]
    return evidence, torch.nn.functional.one_hot(labels, 3).double()


def read_of(evidence: Tensor, target: Tensor) -> Read:
    log_q = tempered_posterior(evidence, PRIOR).float()
    return Read(log_posterior=log_q, target=target.float(), labels=target.argmax(1))


def information(evidence: Tensor) -> Tensor:
    """Of b at b = 1 for true evidence s: the sum over images of Var_q(s)."""
    q = torch.softmax(PRIOR + evidence, dim=1)
    mean = (q * evidence).sum(1, keepdim=True)
    return (q * (evidence - mean).square()).sum()


@pytest.mark.parametrize("known", [0.5, 1.0, 2.0, 3.0])
def test_a_known_temperature_is_found(known: float) -> None:
    """b T is 1 within four standard errors, plus what the pull to 1 may move it.

    With evidence T s the log loss has at b = 1/T the curvature T^2 I, I the information of the
    true evidence; the pull's slope there is (1/T - 1) / PULL^2. Both are divided by 1/T.
    """
    evidence, target = drawn()
    found = fit_temperature(known * evidence, PRIOR, target)
    info = float(information(evidence))
    error = 4 / math.sqrt(info) + abs(known - 1) / (PULL**2 * known**2 * info)
    assert abs(known / found - 1) < error
    assert error < 0.15


def test_the_found_temperature_has_the_least_penalised_loss() -> None:
    evidence, target = drawn(500)
    found = fit_temperature(2.5 * evidence, PRIOR, target)

    def loss(temperature: float) -> float:
        log_q = torch.log_softmax(PRIOR + 2.5 * evidence / temperature, dim=1)
        return float(-(target * log_q).sum() + (1 / temperature - 1) ** 2 / (2 * PULL**2))

    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01), loss(1.0))


def test_it_stays_finite_and_near_one_where_everything_is_read_rightly() -> None:
    """Without the pull T would be 0: a log loss can always be made smaller."""
    target = torch.eye(3, dtype=torch.float64)[torch.arange(300) % 3]
    sure = fit_temperature(9 * target, PRIOR, target)
    assert 0.5 < sure <= 1
    doubtful = fit_temperature(2 * target, PRIOR, target)
    assert 1 / HOTTEST < doubtful < sure


def test_without_evidence_there_is_nothing_to_temper() -> None:
    _, target = drawn(200)
    assert fit_temperature(torch.zeros(200, 3), PRIOR, target) == pytest.approx(1, abs=1e-6)


def test_evidence_that_is_not_finite_is_refused() -> None:
    target = torch.eye(3)
    for evidence in (torch.full((3, 3), math.nan), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="finite evidence"):
            fit_temperature(evidence, PRIOR, target[: len(evidence)])


def test_a_level_repairs_an_overconfident_posterior() -> None:
    evidence, target = drawn()
    level = fit_level(read_of(3 * evidence, target), PRIOR.float(), sigma=0.5)
    assert level.temperature == pytest.approx(3, rel=0.1)
    assert level.log_loss < level.log_loss_before
    true = read_of(evidence, target)
    chance = reliability(true.confidence, true.hit).error_by_chance
    assert level.calibration_error < 3 * chance < level.calibration_error_before


def test_a_temperature_that_is_no_gain_on_other_images_stays_one() -> None:
    """Of a posterior that is right as it is, few images say little: then nothing is changed."""
    levels = []
    for seed in range(12):
        evidence, target = drawn(60, seed=seed)
        levels.append(fit_level(read_of(evidence, target), PRIOR.float(), sigma=0.5))
    for level in levels:
        if level.temperature == 1.0:
            assert level.log_loss == pytest.approx(level.log_loss_before, rel=1e-6)
        else:
            assert level.log_loss < level.log_loss_before
    assert 3 <= sum(level.temperature == 1.0 for level in levels) <= 12


def test_before_is_what_was_read_until_now() -> None:
    evidence, target = drawn(400)
    read = read_of(3 * evidence, target)
    old = at_temperature(read, PRIOR.float(), torch.full((400,), 2.0))
    level = fit_level(read, PRIOR.float(), sigma=0.5, before=2.0)
    assert level.calibration_error_before == calibration_error(old.confidence, old.hit)
    torch.testing.assert_close(old.log_posterior.logsumexp(1), torch.zeros(400), atol=1e-5, rtol=0)


def test_names_have_one_value_that_is_shown_and_others_that_are_not() -> None:
    evidence, target = drawn(50)
    factor = Factor(name="c", kind="categorical", names=("a", "b", "c"))
    read = read_of(evidence, target)
    yes, no = evidence_for(read, PRIOR.float(), factor)
    s = read.log_posterior - PRIOR.float()
    assert torch.equal(yes, s[torch.arange(50), read.labels])
    assert no.shape == (100,)
    torch.testing.assert_close(yes.sum() + no.sum(), s.sum(), rtol=1e-4, atol=1e-3)


def test_yes_is_told_from_no_by_the_evidence_for_yes() -> None:
    """Of a posterior that knows: for yes where it is, against it where it is not."""
    factor = Factor(name="old", kind="binary", names=("no", "yes"))
    labels = torch.tensor([0, 1, 1, 0, 0])
    target = torch.nn.functional.one_hot(labels, 2).float()
    log_prior = torch.tensor([0.75, 0.25]).log()
    read = Read(log_posterior=(0.98 * target + 0.01).log(), target=target, labels=labels)
    yes, no = evidence_for(read, log_prior, factor)
    torch.testing.assert_close(yes.exp(), torch.full((2,), 0.99 / 0.25))
    torch.testing.assert_close(no.exp(), torch.full((3,), 0.01 / 0.25))


def test_numbers_are_compared_with_those_of_other_pictures() -> None:
    """An oracle: much evidence for the own value, hardly any for one two spacings away."""
    labels = squares(WIDTH, n=40).labels
    assert labels is not None
    target = cell_weights(WIDTH, labels)
    log_prior = torch.full((17,), 1 / 17).log()
    read = Read(log_posterior=(0.999 * target + 0.001 / 17).log(), target=target, labels=labels)
    yes, no = evidence_for(read, log_prior, WIDTH)
    assert len(yes) == len(no) == 40
    assert float(no.max()) < float(yes.min())
    same = Read(
        log_posterior=read.log_posterior[:3], target=target[:3], labels=labels[:1].repeat(3)
    )
    assert len(evidence_for(same, log_prior, WIDTH)[1]) == 0


def test_colours_of_squares_have_the_cells_of_their_factor() -> None:
    labels = squares(COLOR, n=10).labels
    assert labels is not None
    assert cell_weights(COLOR, labels).argmax(1).tolist() == labels.tolist()
