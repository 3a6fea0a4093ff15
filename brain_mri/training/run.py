"""The steps of a run before and after the training itself: checks, and the records that it leaves."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import DatasetDict
from transformers import TrainerCallback, TrainingArguments, set_seed

from brain_mri.data.prepare import PreparedImages, boxed_images, fingerprint
from brain_mri.data.splits import format_sizes, left_out, split_sizes
from brain_mri.errors import ConfigError
from brain_mri.leakage.audit import audit, headline, without_names
from brain_mri.model_folder import AUDIT, CHECKPOINTS, CONFIG, RUN, SEARCH, SECONDS, TRAINING_CURVES, read_records
from brain_mri.reporting import plots
from brain_mri.reporting.cautions import cautions
from brain_mri.training import checkpoints
from brain_mri.training.trainer import MRITrainer
from brain_mri.utils import hardware
from brain_mri.utils.argument_parser import LAST_CHECKPOINT
from brain_mri.utils.files import read_json, write_json
from brain_mri.utils.locks import hold
from brain_mri.utils.logging import set_up_console
from brain_mri.utils.options import DEFAULT_FOLDER

logger = logging.getLogger(__name__)
_PACKAGES = ("accelerate", "datasets", "evaluate", "numpy", "pillow", "scikit-learn", "timm", "torch", "transformers")


def begin(args: TrainingArguments) -> Path:
    """Check that the run can start, and seed it; returns the model folder. Only a lock is written.

    The trainer's checkpoints go to a sub-folder, which is never published.

    Raises:
        ConfigError: the folder already holds a run and `--resume_from_checkpoint` is not given, or another process is
            writing to it.
    """
    hardware.check_compiler(args.torch_compile)
    set_up_console(bars=not args.disable_tqdm)
    folder = Path(args.output_dir or DEFAULT_FOLDER)
    if PartialState().is_main_process:
        hold(folder)
    output = folder / CHECKPOINTS
    if not args.resume_from_checkpoint and any(path.exists() for path in (folder / CONFIG, folder / SEARCH, output)):
        raise ConfigError(f"{folder} already holds a run: add --resume_from_checkpoint or choose another --output_dir.")
    args.output_dir = str(output)
    args.dataloader_pin_memory = args.dataloader_pin_memory and args.device.type == "cuda"  # else only a warning
    set_seed(args.seed)
    return folder


def checkpoint_to_resume(args: TrainingArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names, or without a name the newest whole one, if there is any.

    Raises:
        ConfigError: the named folder holds no complete checkpoint, or a damaged one.
    """
    wanted = args.resume_from_checkpoint
    if not wanted:
        return None
    if wanted in (LAST_CHECKPOINT, "true", "True"):
        newest = checkpoints.newest_whole(Path(args.output_dir))
        if newest is None:
            logger.warning("%s holds no checkpoint to go on from: the training begins anew", args.output_dir)
            return None
        return str(newest)
    checkpoints.check_whole(Path(wanted))
    return str(wanted)


def report(images: PreparedImages, splits: DatasetDict, threshold: float, folder: Path) -> None:
    """Print the split sizes and the audit's headline, and write `audit.json`, before training starts.

    `audit.json` is published with the model, so it names no file; `brain-mri audit` does.
    """
    if not PartialState().is_main_process:
        return
    split_of = {name: split for split, rows in splits.items() for name in rows["file_name"][:]}
    names = images.rows["file_name"][:]
    used = np.array([i for i, name in enumerate(names) if name in split_of])  # a finding may keep an image out of all
    table = PreparedImages(images.rows.select(used), images.label_names).audit_table([split_of[names[i]] for i in used])
    found = audit(table, threshold, images.near_duplicates(threshold).among(used, len(images)))
    digests = dict(zip(table.file_names, table.digests, strict=True))
    write_json(without_names(found, digests), folder / AUDIT)
    logger.info("%s\n\n%s\n", format_sizes(split_sizes(splits, images.label_names)), headline(found))


class Clock(TrainerCallback):
    """Counts a run's seconds, including those of the processes it was resumed from, up to their last checkpoint."""

    def __init__(self, folder: Path, started: float) -> None:
        """Count from `started`, a `time.time()`; earlier seconds are read from the checkpoints' folder."""
        self._path, self._started = folder / SECONDS, started
        self._earlier = float(read_json(self._path).get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Of this process and those it was resumed from."""
        return round(self._earlier + time.time() - self._started, 1)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Store them with every checkpoint."""
        if PartialState().is_main_process:
            write_json({"seconds": self.seconds}, self._path)


def save_history(trainer: MRITrainer, folder: Path, stages: Sequence[dict[str, Any]]) -> None:
    """Draw the training curves, those of the stages before included, see `lineage.earlier_stages`."""
    if PartialState().is_main_process:
        earlier = [stage.get("log_history") or [] for stage in stages]
        plots.training_curves(trainer.state.log_history, folder / TRAINING_CURVES, earlier)


def save_run(
    folder: Path,
    trainer: MRITrainer,
    images: PreparedImages,
    splits: DatasetDict,
    arguments: Sequence[Any],
    origins: dict[str, Any],
    seconds: float,
) -> None:
    """Write `run.json`: configuration, data, seed, versions, hardware, time.

    Args:
        folder: the model folder.
        trainer: after its training.
        images: all that was read.
        splits: what was trained on and held out.
        arguments: DataArguments, ModelArguments, RecipeArguments and TrainingArguments, as they were used.
        origins: see `lineage.origins`.
        seconds: that the run has taken, see `Clock`.
    """
    if not PartialState().is_main_process:
        return
    data, model, recipe, training = arguments
    record = {
        "data": asdict(data) | {"on_hub": not Path(str(data.data_dir)).exists()},
        "model": asdict(model),
        "recipe": asdict(recipe),
        "training": training.to_dict(),
        "data_fingerprint": fingerprint(images),
        "label_names": list(images.label_names),
        "splits": split_sizes(splits, images.label_names),
        "left_out": left_out(images.rows, splits),
        "parameters": trainer.model.num_parameters(),
        "grafts": len(trainer.train_dataset) // (recipe.cache_features or 1) - len(splits["train"]),
        "boxed_images": boxed_images(splits["train"]),
        "best_metric": trainer.state.best_metric,
        "global_step": trainer.state.global_step,
        "log_history": trainer.state.log_history,
        "processes": training.world_size,
        "hardware": hardware.describe(),
        "versions": {name: version(name) for name in _PACKAGES},
        "seconds": seconds,
        **origins,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_json(record, folder / RUN)


def _warn(folder: Path) -> None:
    """Say what makes the model doubtful, see `reporting.cautions`."""
    if PartialState().is_main_process:
        for caution in cautions(read_records(folder)):
            logger.warning("beware: %s", caution)


def finish(trainer: MRITrainer, folder: Path, data_dir: str) -> None:
    """Print what makes the model doubtful, the result, where the model is, and the next command, ready to copy."""
    _warn(folder)
    metric, value = trainer.args.metric_for_best_model, trainer.state.best_metric
    reached = f"best validation {metric} {value:.4f}; " if metric and value is not None else ""
    command = shlex.join(["brain-mri", "evaluate", str(folder), "--data_dir", data_dir])
    logger.info("%smodel in %s; next: %s", reached, folder, command)
