"""Step sizes found by acceptance: during a warm-up only, then frozen."""

from torch import Tensor

GAIN_POWER = 0.6  # of the falling gain, chosen; (1/2, 1] converges
STEP_RANGE = (1e-5, 3.0)  # of h; beyond 3, e^-h forgets the state


def adapt_step(
    step: Tensor, acceptance: Tensor, *, target: float, count: int, chains: int
) -> Tensor:
    """One Robbins-Monro update of the steps of some pictures.

        ln h' = ln h + count^-0.6 (mean acceptance - target)

    The mean is over the chains of one picture only, so that a picture depends on its own seed.
    A chain whose step still changes leaves its density not quite invariant: adapt in a warm-up and
    freeze the step before states count.

    Args:
        step: h, one per chain, equal within a picture (P k,).
        acceptance: Probabilities of the last move, (P k,).
        target: Acceptance aimed at: 0.574 for MALA, 0.651 for HMC.
        count: Updates since the start or the last change of the density, from 1.
        chains: k chains per picture.

    Returns:
        h', (P k,), within STEP_RANGE.

    Source: Andrieu and Thoms (2008), Algorithm 4, scaling only; targets from Roberts and Rosenthal
    (1998) and Beskos et al. (2013).
    """
    mean = acceptance.view(-1, chains).mean(1).repeat_interleave(chains)
    low, high = STEP_RANGE
    gain: float = count**-GAIN_POWER
    return (step * (gain * (mean.to(step) - target)).exp()).clamp(low, high)
