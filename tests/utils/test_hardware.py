from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from brain_mri.errors import ConfigError
from brain_mri.utils import distributed, hardware
from brain_mri.utils.distributed import join_launch

_CPU = torch.device("cpu")
_PLAIN, _DEPTHWISE = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8)


@pytest.mark.parametrize(
    ("precision", "capable", "model", "expected"),
    [
        ("fp32", True, _PLAIN, None),
        ("bf16", False, _DEPTHWISE, torch.bfloat16),
        ("auto", True, _PLAIN, torch.bfloat16),
        ("auto", True, _DEPTHWISE, None),
        ("auto", False, _PLAIN, None),
    ],
)
def test_precision_follows_the_hardware_and_the_model(
    monkeypatch: pytest.MonkeyPatch, precision: str, capable: bool, model: nn.Module, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: capable)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert hardware.autocast_dtype(precision, _CPU, model) == expected


def test_a_single_process_and_a_process_of_a_group_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "MASTER_PORT", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    join_launch()
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node 2"):
        join_launch()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    joined: list[bool] = []
    monkeypatch.setattr(distributed, "PartialState", lambda cpu: joined.append(cpu))
    join_launch()
    assert joined == [True]
    assert os.environ["ACCELERATE_USE_CPU"] == "true", "or torchrun's processes would each run alone"
    assert hardware.describe()["threads"] == torch.get_num_threads()


def test_compiling_without_a_compiler_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CXX", raising=False)
    hardware.check_compiler(torch_compile=False)
    with pytest.raises(ConfigError, match=r"install g\+\+ or give --torch_compile false"):
        hardware.check_compiler(torch_compile=True)


@pytest.mark.slow
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or torch.accelerator.is_available(), reason="another allocator, or a GPU"
)
def test_memory_that_a_step_frees_is_kept_for_the_next_unless_the_environment_says_otherwise() -> None:
    code = """
import os, resource, torch
from brain_mri.utils.hardware import keep_freed_memory
def new_pages():
    torch.ones(16_000_000)  # 64 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def new_pages_of_five():
    seen = [new_pages() for _ in range(20)]  # the first ones lay out the heap
    return seen[-1] - seen[-6]
print(new_pages_of_five())
os.environ["MALLOC_ARENA_MAX"] = "2"
keep_freed_memory()
print(new_pages_of_five())
del os.environ["MALLOC_ARENA_MAX"]
keep_freed_memory()
print(new_pages_of_five())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    default, chosen, kept = map(int, done.stdout.split())
    assert kept < default / 10
    assert chosen > default / 2
