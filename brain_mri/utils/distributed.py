"""Several processes of one run: finding each other, agreeing on a checkpoint, gathering a sharded model."""

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
    """Let the processes of one launch find each other on CPUs too; call it before anything else uses accelerate.

    Without an accelerator, accelerate 1.15 treats each process that `torchrun` or `mpirun` starts as a separate run,
    unless it is told to use the CPU.

    Raises:
        ConfigError: `accelerate launch --cpu` was asked for several processes. It starts only one, without a process
            group, which would fail with "Default process group has not been initialized".
    """
    grouped = "LOCAL_RANK" in os.environ or any(name in os.environ for name in _MPI_SIZES)
    if grouped and not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # for TrainingArguments, which asks for itself
        PartialState(cpu=True)
    launched_alone = not grouped and "MASTER_PORT" in os.environ
    if launched_alone and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1"):
        raise ConfigError(
            f"accelerate launch --cpu starts a single process; use: {_TORCHRUN}, or {_TWO_PROCESSES} train.py ..."
        )


def leave_launch() -> None:
    """Close what connects the processes of a launch; to be called by each as it ends well.

    Python's own end takes it apart in whatever order, and a process that aborts there makes torchrun end the others,
    which may still be writing.
    """
    PartialState().destroy_process_group()


def same_in_all_processes(checkpoint: str | None) -> str | None:
    """Return `checkpoint` if all processes of the run found the same one; all of them must call this.

    Raises:
        ConfigError: they found different ones.
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
    """Gather a model whose weights FSDP has sharded, complete in each process; all processes must call this.

    BatchNorm's statistics, which FSDP does not share, are those of the main process.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict  # FSDP alone needs it

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    complete: PreTrainedModel = AutoModelForImageClassification.from_config(model.config, dtype=torch.float32)
    complete.to(PartialState().device)
    complete.load_state_dict(weights)
    complete.load_state_dict(broadcast(complete.state_dict()))
    return complete.eval()
