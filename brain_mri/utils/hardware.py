"""What the machine can do: number formats, compilers, processes."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil

import torch
from torch import nn

from brain_mri.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 2**31 - 1  # bytes, of one block
_NEVER = -1


def keep_freed_memory() -> None:
    """Let glibc keep the memory that one training step frees for the next one.

    By default it returns large blocks, and so every activation, to the system and gets empty pages for the next
    (docs/benchmarks.md has the cost). Only for CPUs, and where no MALLOC_ variable is set.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if platform.libc_ver()[0] == "glibc" and not chosen and not torch.accelerator.is_available():
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


def autocast_dtype(precision: str, device: torch.device, model: nn.Module) -> torch.dtype | None:
    """The number format of the training forward pass under `--precision`; None means float32.

    `auto` takes bfloat16 where the hardware computes in it: NVIDIA GPUs since Ampere, CPUs with AMX or AVX512-BF16.
    Depthwise convolutions stay in float32 on CPUs: in bfloat16 they fall back to slow kernels there.

    Raises:
        ConfigError: fp16, whose gradients underflow without a loss scaler.
    """
    if precision == "fp16":
        raise ConfigError("--precision fp16: use --fp16 true, which scales the loss so that it doesn't underflow.")
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto" and _computes_in_bf16(device) and not (device.type == "cpu" and _has_depthwise(model)):
        return torch.bfloat16
    return None


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False


def _has_depthwise(model: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.groups > 1 and m.groups == m.in_channels for m in model.modules())


def check_compiler(torch_compile: bool) -> None:
    """Raise a `ConfigError` when `--torch_compile` is asked for on a CPU without a C++ compiler."""
    if torch_compile and not torch.cuda.is_available() and not (os.environ.get("CXX") or shutil.which("g++")):
        raise ConfigError("--torch_compile needs a C++ compiler: install g++ or give --torch_compile false.")


def describe() -> dict[str, object]:
    """Processor, cores, memory and accelerators, for `run.json`."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "gpus": gpus, "system": platform.platform()}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
