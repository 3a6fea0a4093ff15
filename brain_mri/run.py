"""The steps of a run around the training itself: what is checked before it, what is left on disk after it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from brain_mri import calibration, hardware, plots
from brain_mri.arguments import LAST_CHECKPOINT
from brain_mri.card import write_card
from brain_mri.data import PreparedImages, boxed_images, fingerprint
from brain_mri.decisions import softmax
from brain_mri.errors import ConfigError
from brain_mri.evaluation import CALIBRATION, EVIDENCE, Predictions, calibration_scores, evidence_figures, predict
from brain_mri.export import batches, export_onnx, quantize
from brain_mri.guard import Guard
from brain_mri.leakage import audit, headline
from brain_mri.models import at_output_stride, fold_temperature
from brain_mri.onnx_model import FLOAT32_FILE, OnnxModel, served_file
from brain_mri.scores import quick_scores
from brain_mri.training import MRITrainer
from brain_mri.transforms import Preprocessing

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
PATIENT_WISE = "patient_wise.json"
_GUARD_IMAGES = 2000  # of train, evenly spread: enough for 256 principal axes
_COVERAGE = 0.95  # of the prediction sets
_KEPT_ACCURACY = 0.99  # of what is not referred to a human
_PACKAGES = ("accelerate", "datasets", "evaluate", "numpy", "pillow", "scikit-learn", "timm", "torch", "transformers")


def set_up_console() -> None:
    """Let the main process speak in plain sentences, and the libraries only of errors."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("brain_mri").setLevel(logging.INFO if PartialState().is_main_process else logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # of loading and saving weights; the trainer's own bar stays


def begin(args: TrainingArguments) -> Path:
    """Check that the run can be started and seed it; returns the model folder. Nothing is written yet.

    The trainer's own checkpoints go to a sub-folder of it, so that what is published holds none of them.

    Raises:
        ConfigError: the folder already holds a run that `--resume_from_checkpoint` was not asked to go on with.
    """
    hardware.check_compiler(args.torch_compile)
    set_up_console()
    folder = Path(args.output_dir or "outputs/run")
    checkpoints = folder / CHECKPOINTS
    if not args.resume_from_checkpoint and ((folder / "config.json").exists() or checkpoints.exists()):
        raise ConfigError(
            f"{folder} already holds a run: add --resume_from_checkpoint to go on with it, or choose another "
            "--output_dir, or remove it."
        )
    args.output_dir = str(checkpoints)
    args.dataloader_pin_memory = args.dataloader_pin_memory and args.device.type == "cuda"  # else only a warning
    set_seed(args.seed)
    return folder


def checkpoint_to_resume(args: TrainingArguments) -> str | None:
    """The checkpoint asked for by `--resume_from_checkpoint`; bare, the newest complete one, or None before the first.

    Raises:
        ConfigError: the folder named holds no complete checkpoint.
    """
    wanted = args.resume_from_checkpoint
    if not wanted:
        return None
    if wanted in (LAST_CHECKPOINT, "true", "True"):
        steps = {int(p.name.split("-")[1]): p for p in Path(args.output_dir).glob("checkpoint-*") if _is_complete(p)}
        return str(steps[max(steps)]) if steps else None
    if not _is_complete(Path(wanted)):
        raise ConfigError(f"--resume_from_checkpoint {wanted}: holds no complete checkpoint.")
    return str(wanted)


def _is_complete(checkpoint: Path) -> bool:
    """The trainer's state is what is written last; a run killed while it saved leaves none, or half of it."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return True


def split_sizes(splits: DatasetDict, label_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images per split and class."""
    counts = {split: Counter(rows["label"]) for split, rows in splits.items()}
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
    names = {name: split for split, rows in splits.items() for name in rows["file_name"]}
    found = audit(images.audit_table([names[name] for name in images.rows["file_name"]]), threshold)
    write_json(found, folder / "audit.json")
    logger.info("%s\n\n%s\n", format_sizes(split_sizes(splits, images.label_names)), headline(found))


def refine(model: PreTrainedModel, validation: Dataset, preprocessing: Preprocessing, stride: int) -> PreTrainedModel:
    """The trained model at a finer output stride (`--final_output_stride`), unless validation macro-F1 suffers."""
    if not stride:
        return model
    finer = at_output_stride(model, stride)
    scores = []
    for candidate in (model, finer):
        predictions = predict(candidate, validation, preprocessing)
        scores.append(quick_scores(predictions.logits, predictions.labels)["macro_f1"])
    kept = scores[1] >= scores[0]
    logger.info(
        "validation macro-F1 %.4f, at output stride %d %.4f: %s",
        scores[0],
        stride,
        scores[1],
        "kept" if kept else "not kept",
    )
    return finer if kept else model


def calibrate(model: PreTrainedModel, predictions: Predictions, folder: Path, seen: bool = False) -> None:
    """Fit a temperature on the validation split and fold it into the classifier; write `calibration.json`.

    `predictions` are the model's on the validation split. The thresholds of prediction sets and of referral are chosen
    there too, on the calibrated probabilities. Images that were trained on can't tell how sure a model may be, so after
    `--train_on_validation` nothing is fitted.
    """
    if seen:
        logger.info(
            "not calibrated: the validation images were trained on; the weights keep the first stage's temperature"
        )
        return
    temperature = calibration.fit_temperature(predictions.logits, predictions.labels)
    fold_temperature(model, temperature)
    probabilities = softmax(predictions.logits / temperature)
    record = {
        "temperature": temperature,
        "n": len(predictions.labels),
        "validation": {
            "before": calibration_scores(predictions.probabilities, predictions.labels),
            "after": calibration_scores(probabilities, predictions.labels),
        },
        "prediction_sets": {
            "coverage": _COVERAGE,
            "threshold": calibration.conformal_threshold(probabilities, predictions.labels, _COVERAGE),
            "method": "LAC",
        },
        "referral": {
            "accuracy": _KEPT_ACCURACY,
            "threshold": calibration.referral_threshold(probabilities, predictions.labels, _KEPT_ACCURACY),
        },
    }
    if PartialState().is_main_process:
        write_json(record, folder / CALIBRATION)
        logger.info("temperature %.3f, fitted on the %d validation images", temperature, len(predictions.labels))


def judge_evidence(
    predictions: Predictions, validation: Dataset, label_names: Sequence[str], folder: Path, seen: bool = False
) -> None:
    """Measure on the validation images that have a box whether the evidence lies there; write `evidence.json`."""
    if seen or predictions.evidence is None or not PartialState().is_main_process:
        return
    if found := evidence_figures(predictions, validation, label_names):
        write_json(found, folder / EVIDENCE)
        logger.info(
            "the peak of the evidence lies on the tumour in %.1f%% of %d validation images with a box",
            100 * found["pointing_game"]["value"],
            found["n"],
        )


def export(model: PreTrainedModel, validation: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    """Write the ONNX files and `export.json`, what int8 does to the answers."""
    if PartialState().is_main_process:
        export_onnx(model, preprocessing, folder)
        write_json({"int8": asdict(quantize(folder, validation, preprocessing))}, folder / "export.json")


def fit_guard(train: Dataset, validation: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    """Describe the embeddings of training images, and set the guard's threshold on those of the validation images.

    They are those of the file that will be served, int8 where there is one: its rounding is then part of what a brain
    MRI may look like, and the float32 embeddings lie within.
    """
    if not PartialState().is_main_process:
        return
    chosen = np.unique(np.linspace(0, len(train) - 1, min(_GUARD_IMAGES, len(train))).round().astype(int))
    served = OnnxModel(served_file(folder) or folder / FLOAT32_FILE)
    known, held_out = (
        np.concatenate([served.run(batch)["embedding"] for batch in batches(rows, preprocessing)])
        for rows in (train.select(chosen), validation)
    )
    Guard.fit(known, train.select(chosen)["label"], held_out).save(folder)


def save_model(model: PreTrainedModel, preprocessing: Preprocessing, folder: Path) -> None:
    """Write `config.json`, `model.safetensors` and, for a transformers-native model, its processor's settings."""
    if PartialState().is_main_process:
        model.save_pretrained(folder)
        preprocessing.processor.save_pretrained(folder)


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
    started: float,
) -> None:
    """Write `run.json`: configuration, data, seed, versions, hardware, time.

    Args:
        folder: the model folder.
        trainer: after its training.
        images: all that was read.
        splits: what was trained on and held out.
        arguments: DataArguments, ModelArguments, RecipeArguments and TrainingArguments, as they were used.
        started: what `time.time()` gave at the run's start, in seconds.
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
        "boxed_images": boxed_images(splits["train"]),
        "best_metric": trainer.state.best_metric,
        "global_step": trainer.state.global_step,
        "log_history": trainer.state.log_history,
        "processes": training.world_size,
        "hardware": hardware.describe(),
        "versions": {name: version(name) for name in _PACKAGES},
        "seconds": round(time.time() - started, 1),
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


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(partial, path)
