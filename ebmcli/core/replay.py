"""Energies on a GPU, replayed: value and gradient of a whole batch as one CUDA graph.

An energy of a formula is some hundred small kernels, and chains ask for it some hundred times.
Captured once for a shape of x, the kernels follow each other without waiting for Python. Values and
gradients are those of the energy itself; second derivatives there are none.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ebmcli.core.energy import NoisyEnergy, energy_and_gradient

N_KEPT = 2  # graphs, each with memory of its own: one of whole batches, one of what is left over
N_REHEARSALS = 2  # before a capture, which choose algorithms and fill caches


def replayed(energy: NoisyEnergy) -> NoisyEnergy:
    """The same energy, its gradient in x ready before it is asked for; on a GPU by a CUDA graph.

    One graph for every shape of x, captured at its first use; the last N_KEPT are kept. On any
    other device the energy is called as it is.

    Args:
        energy: From x (B, C, H, W) and sigma (B,) to (B,); its kernels must not depend on what x
            holds, only on its shape.
    """
    graphs: dict[tuple[torch.Size, torch.dtype], _Graph] = {}

    def fast(x: Tensor, sigma: Tensor) -> Tensor:
        if not x.is_cuda:
            return energy(x, sigma)
        key = (x.shape, x.dtype)
        if key not in graphs:
            while len(graphs) >= N_KEPT:
                del graphs[next(iter(graphs))]  # with its memory
            with torch.cuda.device(x.device):
                graphs[key] = _Graph(energy, x, sigma)
        return ReplayedEnergy.apply(x, sigma, graphs[key])  # type: ignore[no-any-return, no-untyped-call]  # torch has no type for it

    return fast


class _Graph:
    """E(x, sigma) and dE/dx of one shape, at fixed places in memory."""

    def __init__(self, energy: NoisyEnergy, x: Tensor, sigma: Tensor) -> None:
        self.x, self.sigma = x.detach().clone(), sigma.detach().clone()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]  # torch has no type
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            for _ in range(N_REHEARSALS):
                self._compute(energy)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream):
            self.value, self.gradient = self._compute(energy)

    def _compute(self, energy: NoisyEnergy) -> tuple[Tensor, Tensor]:
        return energy_and_gradient(lambda x: energy(x, self.sigma), self.x)

    def __call__(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        self.x.copy_(x)
        self.sigma.copy_(sigma)
        self.graph.replay()
        return self.value.clone(), self.gradient.clone()


class ReplayedEnergy(torch.autograd.Function):
    """E(x, sigma) by its graph; the gradient is kept until autograd asks for it."""

    @staticmethod
    def forward(context: Any, x: Tensor, sigma: Tensor, graph: _Graph) -> Tensor:
        """(B,), nats."""
        value, gradient = graph(x, sigma)
        context.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        """dE/dx times the outer derivative of every image."""
        (gradient,) = context.saved_tensors
        return outer[0][:, None, None, None] * gradient, None, None
