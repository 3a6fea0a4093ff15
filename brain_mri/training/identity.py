"""What a run was begun with, so that only the same run goes on from its checkpoints."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import TrainingArguments

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.data.prepare import PreparedImages, fingerprint
from brain_mri.errors import ConfigError
from brain_mri.model_folder import BEGUN, CHECKPOINTS, read_record
from brain_mri.utils.files import write_json

logger = logging.getLogger(__name__)

_OF_THE_DATA = (
    "validation_fraction", "test_fraction", "split_seed", "twin_threshold", "train_on_validation", "max_train_samples",
    "max_eval_samples",
)  # fmt: skip
_AFTER_THE_TRAINING = ("export", "final_output_stride", "resume_with_changes")
_OF_THE_TRAINER = (
    "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args", "weight_decay", "adam_beta1",
    "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor", "bf16", "fp16", "seed", "data_seed",
    "dataloader_drop_last", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
)  # fmt: skip
_OF_THE_STEPS = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs", "max_steps"
)  # fmt: skip
_DATA = ("classes", "images", "patients, boxes and findings", "splits")
_PROCESSES = "processes"
CHANGEABLE = (*(f"--{name}" for name in _OF_THE_STEPS), _PROCESSES)
"""What may change on the way with `--resume_with_changes`; each takes effect from the checkpoint on."""


def identity(
    images: PreparedImages,
    splits: Mapping[str, Dataset],
    arguments: tuple[DataArguments, ModelArguments, RecipeArguments, TrainingArguments],
) -> dict[str, Any]:
    """What makes a run this run, by the names that a message calls it by: images, classes, options, processes.

    Args:
        images: all that was read.
        splits: how they are divided; not the streamed ones, which `data.streaming` compares.
        arguments: as given, before a search changes them.
    """
    data, model, recipe, training = arguments
    rows = images.rows
    chosen = {name: getattr(data, name) for name in _OF_THE_DATA} | asdict(model) | asdict(recipe)
    chosen |= {name: getattr(training, name) for name in (*_OF_THE_TRAINER, *_OF_THE_STEPS)}
    options = {f"--{name}": _plain(value) for name, value in chosen.items() if name not in _AFTER_THE_TRAINING}
    sides = zip(*(rows[name][:] for name in ("file_name", "patient_group", "finding", "box")), strict=True)
    held = ((split, name) for split, part in splits.items() for name in part["file_name"][:])
    classes = ", ".join(images.label_names)
    images_here = f"{len(images)} (fingerprint {fingerprint(images)[:8]})"
    return {
        **dict(zip(_DATA, (classes, images_here, _hash(sides), _hash(held)), strict=True)),
        **options,
        _PROCESSES: training.world_size,
    }


def _hash(rows: Iterable[object]) -> str:
    return "fingerprint " + hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return value if value is None or isinstance(value, bool | int | float) else str(getattr(value, "value", value))


def settle(identity: dict[str, Any], folder: Path, checkpoint: str | None, with_changes: bool) -> None:
    """Keep `identity` in the model folder; with a `checkpoint`, compare it first with that of the run it comes from.

    Args:
        identity: of this run, see `identity`.
        folder: the model folder.
        checkpoint: that the run goes on from, of this folder or another.
        with_changes: `--resume_with_changes`.

    Raises:
        ConfigError: that run was begun with something else; all of it is named in one sentence.
        DataError: its record can't be read.
    """
    if checkpoint:
        _compare(identity, _record_of(Path(checkpoint)), with_changes)
    if PartialState().is_main_process:
        write_json(identity, folder / BEGUN)


def _record_of(checkpoint: Path) -> Path:
    where = checkpoint.resolve().parent
    return (where.parent if where.name == CHECKPOINTS else where) / BEGUN


def _compare(identity: dict[str, Any], record: Path, with_changes: bool) -> None:
    if not record.is_file():
        logger.warning("%s is missing, so nobody can tell whether this run was begun with the same data", record)
        return
    begun = read_record(record)
    changed = {name: value for name, value in identity.items() if name in begun and begun[name] != value}
    if not changed:
        return
    of_data = [name for name in _DATA if name in changed]
    for name in of_data[1:]:  # other classes are other images too, and so on
        del changed[name]
    said = "; ".join(f"{name}: {begun[name]}, now {value}" for name, value in changed.items())
    if not all(name in CHANGEABLE for name in changed):
        raise ConfigError(
            f"--resume_from_checkpoint: {record.parent} was begun with something else ({said}): give the same again, "
            "or another --output_dir for a run of its own."
        )
    if not with_changes:
        raise ConfigError(
            f"--resume_from_checkpoint: {record.parent} was begun with other steps ({said}): give the same again, or "
            "--resume_with_changes to go on with these from the checkpoint's step."
        )
    logger.warning("from the checkpoint's step on with changes (%s)", said)
