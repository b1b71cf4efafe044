"""Devices and precisions: what is absent is refused, what is unknown is named."""

import pytest
import torch

from ebmcli.errors import ConfigError, DeviceError
from ebmcli.workflows import device
from ebmcli.workflows.device import PRECISIONS, resolve_device, resolve_precision

CPU = torch.device("cpu")


def test_a_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("there", [False, True])
def test_auto_takes_cuda_where_there_is_one(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto").type == ("cuda" if there else "cpu")


@pytest.mark.parametrize("name", ["tpu", "gpu", "", "meta", "cuda:x"])
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device") as caught:
        resolve_device(name)
    assert "auto, cpu, cuda" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "count", "found"),
    [("cuda", 0, "0 CUDA devices found"), ("cuda:3", 1, "1 CUDA device found")],
)
def test_an_absent_cuda_device_is_refused(
    name: str, count: int, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(DeviceError, match=f"{name} was asked for and is absent: {found}") as caught:
        resolve_device(name)
    assert "--device cpu" in (caught.value.hint or "")


def test_an_absent_mps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="mps"):
        resolve_device("mps")


@pytest.mark.parametrize(("name", "bfloat16"), [("fp32", False), ("bf16", True)])
def test_a_precision_that_is_asked_for_is_not_measured(
    name: str, bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "convolution_seconds", None)
    assert resolve_precision(name, CPU) is bfloat16


@pytest.mark.parametrize(("seconds", "bfloat16"), [(0.5, True), (0.9, False), (100.0, False)])
def test_auto_takes_bfloat16_where_it_is_clearly_faster(
    seconds: float, bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {torch.bfloat16: seconds, torch.float32: 1.0}
    monkeypatch.setattr(device, "convolution_seconds", taken.__getitem__)
    assert resolve_precision("auto", CPU) is bfloat16


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="fp16") as caught:
        resolve_precision("fp16", CPU)
    assert caught.value.hint == f"known: {', '.join(PRECISIONS)}"
