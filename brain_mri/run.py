"""The steps of a run around the training itself: what is checked before it, what is left on disk after it."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from brain_mri import checkpoints, hardware, plots
from brain_mri.arguments import LAST_CHECKPOINT
from brain_mri.card import write_card
from brain_mri.data import PreparedImages, boxed_images, fingerprint
from brain_mri.errors import ConfigError
from brain_mri.files import read_json, write_json
from brain_mri.folds import PATIENT_WISE
from brain_mri.leakage import audit, headline
from brain_mri.locks import hold
from brain_mri.stages import earlier_stages
from brain_mri.training import MRITrainer

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
_PACKAGES = ("accelerate", "datasets", "evaluate", "numpy", "pillow", "scikit-learn", "timm", "torch", "transformers")


def set_up_console() -> None:
    """Let the main process speak in plain sentences, and the libraries only of errors."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("brain_mri").setLevel(logging.INFO if PartialState().is_main_process else logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # of loading and saving weights; the trainer's own bar stays


def begin(args: TrainingArguments) -> Path:
    """Check that the run can be started and seed it; returns the model folder. Nothing is written yet but a lock.

    The trainer's own checkpoints go to a sub-folder of it, so that what is published holds none of them.

    Raises:
        ConfigError: the folder already holds a run that `--resume_from_checkpoint` was not asked to go on with, or
            another process is writing to it.
    """
    hardware.check_compiler(args.torch_compile)
    set_up_console()
    folder = Path(args.output_dir or "outputs/run")
    if PartialState().is_main_process:
        hold(folder)
    output = folder / CHECKPOINTS
    if not args.resume_from_checkpoint and ((folder / "config.json").exists() or output.exists()):
        raise ConfigError(
            f"{folder} already holds a run: add --resume_from_checkpoint to go on with it, or choose another "
            "--output_dir, or remove it."
        )
    args.output_dir = str(output)
    args.dataloader_pin_memory = args.dataloader_pin_memory and args.device.type == "cuda"  # else only a warning
    set_seed(args.seed)
    return folder


def checkpoint_to_resume(args: TrainingArguments) -> str | None:
    """The checkpoint asked for by `--resume_from_checkpoint`; bare, the newest whole one, or None before the first.

    Raises:
        ConfigError: the folder named holds no complete checkpoint, or a damaged one.
    """
    wanted = args.resume_from_checkpoint
    if not wanted:
        return None
    if wanted in (LAST_CHECKPOINT, "true", "True"):
        newest = checkpoints.newest_whole(Path(args.output_dir))
        return None if newest is None else str(newest)
    checkpoints.check_whole(Path(wanted))
    return str(wanted)


def split_sizes(splits: DatasetDict, label_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images per split and class."""
    counts = {split: Counter(rows["label"][:]) for split, rows in splits.items()}
    return {s: {name: counts[s][i] for i, name in enumerate(label_names)} for s in counts}


def format_sizes(sizes: dict[str, dict[str, int]]) -> str:
    """A table of `split_sizes`."""
    names = list(next(iter(sizes.values())))
    head = f"{'split':<12}{'images':>8}" + "".join(f"{name:>14}" for name in names)
    lines = [f"{s:<12}{sum(n.values()):>8,}" + "".join(f"{n[x]:>14,}" for x in names) for s, n in sizes.items()]
    return "\n".join([head, *lines])


def report(images: PreparedImages, splits: DatasetDict, threshold: float, folder: Path) -> None:
    """Print the split sizes and the audit's headline, and write `audit.json`: known before a step is trained."""
    if not PartialState().is_main_process:
        return
    names = {name: split for split, rows in splits.items() for name in rows["file_name"][:]}
    table = images.audit_table([names[name] for name in images.rows["file_name"][:]])
    found = audit(table, threshold, images.near_duplicates(threshold))
    write_json(found, folder / "audit.json")
    logger.info("%s\n\n%s\n", format_sizes(split_sizes(splits, images.label_names)), headline(found))


class Clock(TrainerCallback):
    """Counts a run's seconds, those of the processes that it was resumed from included, up to their last checkpoint."""

    def __init__(self, folder: Path, started: float) -> None:
        """Start to count at `started`, as `time.time()` gave it; what went before stands in the checkpoints' folder."""
        self._path, self._started = folder / CHECKPOINTS / "seconds.json", started
        self._earlier = float(read_json(self._path).get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Of this process and those before it."""
        return round(self._earlier + time.time() - self._started, 1)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Write them down with every checkpoint."""
        if PartialState().is_main_process:
            write_json({"seconds": self.seconds}, self._path)


def save_history(trainer: MRITrainer, folder: Path) -> None:
    """Draw the training curves."""
    if PartialState().is_main_process:
        plots.training_curves(trainer.state.log_history, folder / "training_curves.png")


def save_run(
    folder: Path,
    trainer: MRITrainer,
    images: PreparedImages,
    splits: DatasetDict,
    arguments: Sequence[Any],
    seconds: float,
) -> None:
    """Write `run.json`: configuration, data, seed, versions, hardware, time.

    Args:
        folder: the model folder.
        trainer: after its training.
        images: all that was read.
        splits: what was trained on and held out.
        arguments: DataArguments, ModelArguments, RecipeArguments and TrainingArguments, as they were used.
        seconds: that the run has taken, see `Clock`.
    """
    if not PartialState().is_main_process:
        return
    data, model, recipe, training = arguments
    record = {
        "data": asdict(data),
        "model": asdict(model),
        "recipe": asdict(recipe),
        "training": training.to_dict(),
        "data_fingerprint": fingerprint(images),
        "label_names": list(images.label_names),
        "splits": split_sizes(splits, images.label_names),
        "parameters": trainer.model.num_parameters(),
        "boxed_images": boxed_images(splits["train"]),
        "best_metric": trainer.state.best_metric,
        "global_step": trainer.state.global_step,
        "log_history": trainer.state.log_history,
        "processes": training.world_size,
        "hardware": hardware.describe(),
        "versions": {name: version(name) for name in _PACKAGES},
        "seconds": seconds,
        "stages": earlier_stages(model.model),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_json(record, folder / "run.json")


def adopt_patient_wise(source: str | None, evaluation: Path) -> None:
    """Copy the figures of patient-wise cross-validation from the folder that `brain_mri.crossval` filled.

    Raises:
        ConfigError: no fold of it is finished.
    """
    if source is None:
        return
    path = Path(source) / PATIENT_WISE
    if not path.is_file():
        raise ConfigError(f"--patient_wise {source}: no {PATIENT_WISE} there; let brain_mri.crossval finish a fold.")
    write_json(json.loads(path.read_text(encoding="utf-8")), evaluation / PATIENT_WISE)


def write_model_card(folder: str | Path) -> None:
    """Write the model's card from what its folder holds; a model from elsewhere, without `run.json`, keeps its own."""
    if PartialState().is_main_process and (Path(folder) / "run.json").is_file():
        write_card(folder)


def finish(trainer: MRITrainer, folder: Path) -> None:
    """Say what was reached, where it is, and what to do next."""
    metric, value = trainer.args.metric_for_best_model, trainer.state.best_metric
    reached = f"best validation {metric} {value:.4f}; " if metric and value is not None else ""
    logger.info("%smodel in %s; next: python evaluate_model.py %s --data_dir ...", reached, folder, folder)
