"""Labelled images in memory, drawn in batches by the run's own random source."""

import torch
from torch import Generator, Tensor


class TrainingImages:
    """Images and one label each.

    Args:
        images: uint8 (N, S, S, 3), as they lie in a dataset file.
        labels: (N,) or (N, 2), or None for a base.
        device: Where batches go.
    """

    def __init__(
        self, images: Tensor, labels: Tensor | None = None, *, device: str | torch.device = "cpu"
    ) -> None:
        self.images = images
        self.labels = labels
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, n: int, *, generator: Generator) -> tuple[Tensor, Tensor]:
        """n images (n, 3, S, S) in [-1, 1], drawn with replacement, and their labels."""
        place = generator.device
        index = torch.randint(len(self), (n,), generator=generator, device=place)
        return self.take(index)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Chosen images (n, 3, S, S) in [-1, 1] and their labels (empty for a base)."""
        index = index.to(self.images.device)
        x = to_intensity(self.images[index]).to(self.device)
        labels = torch.empty(0) if self.labels is None else self.labels[index]
        return x, labels.to(self.device)

    def settle(self) -> None:
        """Bring all images and labels to the device, so that drawing a batch moves nothing."""
        self.images = self.images.to(self.device)
        if self.labels is not None:
            self.labels = self.labels.to(self.device)

    def take_last(self, n: int) -> "TrainingImages":
        """The last n images, or all if there are fewer."""
        return self.split(n)[1] if n < len(self) else self

    def split(self, n_last: int) -> tuple["TrainingImages", "TrainingImages"]:
        """All but the last images, and the last ones: to train on, and to be judged by."""
        parts = [slice(None, -n_last), slice(-n_last, None)]
        first, last = (
            TrainingImages(
                self.images[part],
                None if self.labels is None else self.labels[part],
                device=self.device,
            )
            for part in parts
        )
        return first, last


def to_intensity(images: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def to_bytes(x: Tensor) -> Tensor:
    """float (B, 3, S, S) in [-1, 1] -> uint8 (B, S, S, 3), cut to the range and rounded."""
    return x.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
