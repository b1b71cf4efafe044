"""Our convolution against the library's: values, gradients, gradients of gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ebmcli.core.convolution import Convolution, convolve

SHAPES = [(1, 1, 3), (2, 1, 3), (1, 0, 1)]  # stride, padding, side of the kernel


def drawn(*shape: int, seed: int) -> Tensor:
    generator = Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def second_derivative(y: Tensor, x: Tensor, weight: Tensor) -> list[Tensor]:
    """Gradients of the squared gradient of a sum of sines: all paths of both derivatives."""
    (slope,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    return list(torch.autograd.grad(slope.square().sum(), [x, weight]))


@pytest.mark.parametrize(("stride", "padding", "side"), SHAPES)
def test_all_derivatives_are_those_of_the_library(stride, padding, side):
    x, weight = drawn(2, 3, 8, 8, seed=0), drawn(4, 3, side, side, seed=1)
    own = convolve(x, weight, (stride, padding))
    known = F.conv2d(x, weight, None, stride, padding)
    torch.testing.assert_close(own, known)
    for a, b in zip(
        second_derivative(own, x, weight), second_derivative(known, x, weight), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("stride", "padding", "side"), SHAPES)
def test_derivatives_agree_with_finite_differences(stride, padding, side):
    x, weight = drawn(1, 2, 4, 4, seed=2), drawn(2, 2, side, side, seed=3)
    assert torch.autograd.gradgradcheck(lambda x, w: convolve(x, w, (stride, padding)), (x, weight))


def test_weights_are_named_as_the_library_names_them():
    assert list(Convolution(2, 3, 3).state_dict()) == ["weight", "bias"]


@pytest.mark.gpu
def test_on_a_gpu_the_layer_is_that_of_the_library():
    torch.manual_seed(0)
    layer = Convolution(5, 7, 3, stride=2, padding=1)
    x = torch.randn(4, 5, 8, 8)
    found = layer.cuda()(x.cuda()).cpu()
    layer.cpu()
    torch.testing.assert_close(found, layer(x), rtol=1e-2, atol=1e-2)  # tf32 on the GPU
