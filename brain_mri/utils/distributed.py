"""One process or many: joining a launch, and what all processes agree on."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather_object
from transformers import AutoModelForImageClassification, PreTrainedModel

from brain_mri.errors import ConfigError

_TORCHRUN = "torchrun --nproc_per_node 2 train.py <config> --data_dir <folder>"
_TWO_PROCESSES = "accelerate launch --config_file configs/accelerate/cpu_two_processes.yaml"
_MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # of mpirun, as accelerate reads them


def join_launch() -> None:
    """Make the processes of one launch find each other on CPUs too; to be called before anything asks accelerate.

    Without an accelerator, accelerate 1.15 takes each process that `torchrun` or `mpirun` starts for a run of its own,
    unless it is told to use the CPU.

    Raises:
        ConfigError: `accelerate launch --cpu` was asked for processes that it does not start: one process comes up,
            told of no group, that would fail with "Default process group has not been initialized".
    """
    grouped = "LOCAL_RANK" in os.environ or any(name in os.environ for name in _MPI_SIZES)
    if grouped and not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # for TrainingArguments, which asks for itself
        PartialState(cpu=True)
    launched_alone = not grouped and "MASTER_PORT" in os.environ
    if launched_alone and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1"):
        raise ConfigError(
            f"accelerate launch --cpu starts no several processes; use: {_TORCHRUN}, or {_TWO_PROCESSES} train.py ..."
        )


def same_in_all_processes(checkpoint: str | None) -> str | None:
    """The checkpoint to go on from, once every process of the run is known to have found the same; every one calls it.

    Raises:
        ConfigError: they found different ones, and would train past each other.
    """
    found = gather_object([Path(checkpoint).name if checkpoint else "none"])
    if len(set(found)) > 1:
        seen = ", ".join(f"process {rank}: {name}" for rank, name in enumerate(found))
        raise ConfigError(
            f"--resume_from_checkpoint: the processes do not find the same checkpoint ({seen}): put --output_dir on a "
            "disk that every machine sees, or copy its checkpoints folder to each."
        )
    return checkpoint


def whole(model: PreTrainedModel) -> PreTrainedModel:
    """The model whose weights FSDP has dealt out to the processes, in one piece in each; every process calls it.

    Statistics that FSDP does not share, BatchNorm's, become those of the main process.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict  # FSDP alone needs it

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    complete: PreTrainedModel = AutoModelForImageClassification.from_config(model.config, dtype=torch.float32)
    complete.to(PartialState().device)
    complete.load_state_dict(weights)
    complete.load_state_dict(broadcast(complete.state_dict()))
    return complete.eval()
