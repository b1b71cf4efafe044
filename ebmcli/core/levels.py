"""Numbers known at some noise levels, and what they are between and beyond them."""

from torch import Tensor


def between_levels(log_sigma: Tensor, values: Tensor, sigma: Tensor) -> Tensor:
    """Values at noise levels (B,): linear in log sigma between known ones, constant outside.

    Args:
        log_sigma: ln of the known levels, rising, (L,), L at least 1.
        values: At those levels, (L,).
        sigma: Noise levels (B,), intensity, positive.

    Returns:
        (B,), float32; exactly ``values[0]`` where all values are the same.
    """
    left, width = log_sigma[:-1], log_sigma.diff()
    passed = ((sigma.float().log()[:, None] - left) / width).clamp(0, 1)  # of each interval
    return values[0] + passed @ values.diff()
