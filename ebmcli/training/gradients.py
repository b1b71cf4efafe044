"""The gradient of one batch: computed step by step, or replayed as a CUDA graph.

A batch of small pictures is more than a thousand small kernels. Launched one by one from Python
they leave a GPU idle most of the time; captured once and replayed, they follow each other at once.
Random numbers stay those of the run's own generator: a replay advances it as the kernels would.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

Losses = dict[str, Tensor]  # scalars by name; "loss" is minimised, the others are reported
Objective = Callable[[Generator], Losses]
Gradients = Callable[[], Losses]  # draws a batch; its gradient is in the parameters afterwards

N_REHEARSALS = 3  # batches before a capture, which choose algorithms and warm up libraries


def gradients_of(
    objective: Objective, parameters: Sequence[nn.Parameter], generator: Generator
) -> Gradients:
    """How a run gets its gradients: a CUDA graph where its random numbers live on a GPU."""
    if generator.device.type == "cuda":
        with torch.cuda.device(generator.device):
            return _captured(objective, parameters, generator)

    def computed() -> Losses:
        losses = objective(generator)
        _backward(losses, parameters)
        return losses

    return computed


def _captured(
    objective: Objective, parameters: Sequence[nn.Parameter], generator: Generator
) -> Gradients:
    """The same as a graph. Parameters and gradients keep their places in memory from here on.

    The rehearsals leave no trace: the generator is set back, and nothing has moved the parameters.
    """
    before = generator.get_state()
    stream = torch.cuda.Stream(generator.device)  # type: ignore[no-untyped-call]  # torch has no type
    stream.wait_stream(torch.cuda.current_stream(generator.device))
    with torch.cuda.stream(stream):
        for _ in range(N_REHEARSALS):
            _backward(objective(generator), parameters)
    torch.cuda.current_stream(generator.device).wait_stream(stream)
    generator.set_state(before)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph, stream=stream):
        losses = objective(generator)
        _backward(losses, parameters)  # new gradients, in the memory of the graph

    def replayed() -> Losses:
        graph.replay()
        return losses

    return replayed


def _backward(losses: Losses, parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
    losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch has no type for it
