"""Checkpoints that a run can safely resume from: written whole or removed, and sealed with checksums."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from brain_mri.errors import DISK_FULL, ConfigError
from brain_mri.model_folder import WEIGHTS
from brain_mri.utils.files import read_json, readable_as_usual, sha256, write_json

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

CHECKSUMS = "checksums.json"
_STATE = "trainer_state.json"  # what the trainer writes last
_NO_SPACE = 2**20  # bytes; torch's writer does not give the reason


@contextmanager
def saving(checkpoint: Path, is_writer: bool, wait: Callable[[], None]) -> Iterator[None]:
    """Write a checkpoint in this block: it is sealed afterwards, or removed if the disk is full.

    Args:
        checkpoint: its folder; the remains of a killed run are removed first.
        is_writer: whether this is the process that removes and seals.
        wait: returns once every process of the launch has called it.

    Raises:
        ConfigError: the disk is full.
    """
    if is_writer and checkpoint.exists():
        shutil.rmtree(checkpoint)
    wait()
    try:
        yield
        wait()
        if is_writer:
            for weights in checkpoint.glob("*.safetensors"):
                readable_as_usual(weights)
            seal(checkpoint)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_full(error, checkpoint):
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise ConfigError(
            f"the disk of {checkpoint.parent} is full: {checkpoint.name} could not be written and was removed, earlier "
            "ones are whole. Free some space, then give the same command with --resume_from_checkpoint."
        ) from error


def keep_names(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Save a checkpoint's weights again under the network's own names, if its file has others.

    `save_pretrained` writes some networks of transformers, ViT for one, under the names of an earlier version, and
    Trainer reads a checkpoint by the names of this one: it would go on with a part of the weights.

    Args:
        checkpoint: its folder.
        tensors: the network's, by name.
    """
    path = checkpoint / WEIGHTS
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as saved:
        same = set(saved.keys()) == set(tensors)
    if not same:
        from safetensors.torch import save_file  # imports torch, for which a typo on the command line need not wait

        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def seal(checkpoint: Path) -> None:
    """Write the SHA-256 of each file of a finished checkpoint into `checksums.json`."""
    files = sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    write_json({str(p.relative_to(checkpoint)): sha256(p) for p in files}, checkpoint / CHECKSUMS)


def damaged_file(checkpoint: Path) -> str | None:
    """The name of a file that is missing or changed since the seal; None if there is none, or no seal."""
    try:
        sealed = read_json(checkpoint / CHECKSUMS)
    except ValueError:  # no longer JSON or UTF-8
        return CHECKSUMS
    for name, digest in sealed.items():
        path = checkpoint / name
        if not path.is_file() or sha256(path) != digest:
            return name
    return None


def is_complete(checkpoint: Path) -> bool:
    """Whether the trainer finished it; a run killed while saving leaves no state file, or half of one."""
    if (checkpoint / CHECKSUMS).is_file():
        return True
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def newest_whole(folder: Path) -> Path | None:
    """The newest complete checkpoint with unchanged files; a warning names each damaged one."""
    found = {int(p.name.split("-")[1]): p for p in folder.glob("checkpoint-*") if is_complete(p)}
    for step in sorted(found, reverse=True):
        if (name := damaged_file(found[step])) is None:
            return found[step]
        logger.warning("%s is damaged (%s is not as it was saved): going back to the one before.", found[step], name)
    return None


def last_step(folder: Path) -> int | None:
    """The step of the newest complete checkpoint, which is not read; None if there is none."""
    return max((int(p.name.split("-")[1]) for p in folder.glob("checkpoint-*") if is_complete(p)), default=None)


def check_whole(checkpoint: Path) -> None:
    """Refuse an incomplete or damaged checkpoint.

    Raises:
        ConfigError: it was not finished, or one of its files has changed since.
    """
    if not is_complete(checkpoint):
        raise ConfigError(f"--resume_from_checkpoint {checkpoint}: holds no complete checkpoint.")
    if (name := damaged_file(checkpoint)) is not None:
        raise ConfigError(
            f"{checkpoint} is damaged ({name} is not as it was saved): remove it, and give --resume_from_checkpoint "
            "without a folder to go on from the one before."
        )


def _is_full(error: BaseException, checkpoint: Path) -> bool:
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return "No space left" in str(error) or shutil.disk_usage(checkpoint.parent).free < _NO_SPACE
