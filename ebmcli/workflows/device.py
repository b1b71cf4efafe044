"""Which device and which precision: asked for, or found out by a short measurement."""

import time

import torch
import torch.nn.functional as F

from ebmcli.errors import ConfigError, DeviceError

PRECISIONS = ("auto", "fp32", "bf16")


def resolve_device(name: str) -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:N or mps.

    Raises:
        DeviceError: It is absent.
        ConfigError: There is no such kind of device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        hint = "known: auto, cpu, cuda, cuda:0, mps"
        raise ConfigError(f"unknown device {name!r}", hint=hint) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"{count} CUDA device{'s' * (count != 1)} found"
            hint = "use --device cpu or --device auto"
            raise DeviceError(f"{name} was asked for and is absent: {found}", hint=hint)
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("mps was asked for and is absent", hint="use --device cpu")
    elif device.type != "cpu":
        raise ConfigError(f"unknown device {name!r}", hint="known: auto, cpu, cuda, cuda:0, mps")
    return device


def resolve_precision(name: str, device: torch.device) -> bool:
    """Should networks run in bfloat16? For ``auto`` both are timed for a few milliseconds.

    CPUs of one kind differ: on some bfloat16 is twice as fast, on others it is emulated and a
    hundred times slower. Energies, gradients and sums stay in float32 either way.

    Raises:
        ConfigError: The name is not in PRECISIONS.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"unknown precision {name!r}", hint=f"known: {', '.join(PRECISIONS)}")
    if name != "auto":
        return name == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    return convolution_seconds(torch.bfloat16) < 0.8 * convolution_seconds(torch.float32)


def convolution_seconds(dtype: torch.dtype) -> float:
    """Shortest of six passes, forward and back, of one small convolution on the CPU."""
    x = torch.ones(8, 128, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weight = torch.ones(128, 128, 3, 3, dtype=dtype, requires_grad=True)
    shortest = float("inf")
    for _ in range(6):  # the first also warms up
        start = time.perf_counter()
        F.conv2d(x, weight, padding=1).sum().backward()  # type: ignore[no-untyped-call]  # torch has no type
        shortest = min(shortest, time.perf_counter() - start)
    return shortest
