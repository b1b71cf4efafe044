"""Convolutions that are quick to differentiate twice on a GPU.

Training an energy by its score differentiates the gradient of a network once more. Of that second
derivative PyTorch takes the part in the weights by a convolution whose kernel is as large as the
picture: right, and an order of magnitude slower than the GPU's own kernel for gradients of weights.
Three functions, each of which has the other two as its derivative, stay on those kernels:

    y = x * w,    dL/dx = w^T * dL/dy,    dL/dw = x^T * dL/dy

On a CPU the library's way is as quick and is left alone.

Source: the idea as in the training code of Karras et al. (2020), StyleGAN2-ADA.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_gradients = torch.ops.aten.convolution_backward
Step = tuple[int, int]  # stride and padding, of both axes alike


class Convolution(nn.Conv2d):
    """``nn.Conv2d`` with one stride and one padding for both axes, no dilation and no groups."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if not x.is_cuda:
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            x, weight = x.to(dtype), weight.to(dtype)
        y = convolve(x, weight, (self.stride[0], int(self.padding[0])))
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]


def convolve(x: Tensor, weight: Tensor, step: Step) -> Tensor:
    """x * w for x (B, C, H, W), w (C', C, k, k), stride and padding: any derivative is as quick."""
    return _applied(_Forward, x, weight, step)


def _applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """A function of autograd on its arguments: the one place where torch's lack of types shows."""
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]  # torch has no type
    return result


class _Forward(torch.autograd.Function):
    """y = x * w."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, step: Step) -> Tensor:
        context.save_for_backward(x, weight)
        context.step = step
        return F.conv2d(x, weight, None, *step)

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = context.saved_tensors
        to_x, to_weight, _ = context.needs_input_grad
        step = context.step
        return (
            _applied(_ToInput, outer[0], weight, x.shape, step) if to_x else None,
            _applied(_ToWeight, x, outer[0], weight.shape, step) if to_weight else None,
            None,
        )


class _ToInput(torch.autograd.Function):
    """dL/dx = w^T * dL/dy, linear in both."""

    @staticmethod
    def forward(
        context: Any, outer: Tensor, weight: Tensor, size: torch.Size, step: Step
    ) -> Tensor:
        context.save_for_backward(outer, weight)
        context.step = step
        x = _unfilled(outer, size)
        found: Tensor = _gradients(outer, x, weight, None, *_options(step), [True, False, False])[0]
        return found

    @staticmethod
    def backward(context: Any, *second: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        outer, weight = context.saved_tensors
        to_outer, to_weight = context.needs_input_grad[:2]
        step = context.step
        return (
            _applied(_Forward, second[0], weight, step) if to_outer else None,
            _applied(_ToWeight, second[0], outer, weight.shape, step) if to_weight else None,
            None,
            None,
        )


class _ToWeight(torch.autograd.Function):
    """dL/dw = x^T * dL/dy, linear in both."""

    @staticmethod
    def forward(context: Any, x: Tensor, outer: Tensor, size: torch.Size, step: Step) -> Tensor:
        context.save_for_backward(x, outer)
        context.step = step
        weight = _unfilled(outer, size)
        found: Tensor = _gradients(outer, x, weight, None, *_options(step), [False, True, False])[1]
        return found

    @staticmethod
    def backward(context: Any, *second: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, outer = context.saved_tensors
        to_x, to_outer = context.needs_input_grad[:2]
        step = context.step
        return (
            _applied(_ToInput, outer, second[0], x.shape, step) if to_x else None,
            _applied(_Forward, x, second[0], step) if to_outer else None,
            None,
            None,
        )


def _unfilled(like: Tensor, size: torch.Size) -> Tensor:
    """A tensor of which only the size counts."""
    return torch.empty(
        size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _options(step: Step) -> tuple[Any, ...]:
    """Stride, padding, dilation, transposed, output padding and groups, as the library has them."""
    stride, padding = step
    return [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1
