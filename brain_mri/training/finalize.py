"""The steps that complete a trained model: calibration, evidence figures, ONNX files, guard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel

from brain_mri.data.prepare import batch_count, batches, evenly_spread
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import DataError
from brain_mri.evaluation.predict import Predictions, predict
from brain_mri.evaluation.results import evidence_figures
from brain_mri.inference.guard import Guard, joined, widths_of
from brain_mri.inference.onnx_model import OnnxModel
from brain_mri.inference.postprocess import softmax
from brain_mri.metrics import calibration
from brain_mri.metrics.calibration import calibration_scores
from brain_mri.metrics.localization import choose_levels
from brain_mri.metrics.scores import quick_scores
from brain_mri.model_folder import (
    CALIBRATION,
    EVALUATION,
    EVIDENCE,
    EXPORT,
    FLOAT32_FILE,
    GUARD,
    GUARD_TENSORS,
    LITERT_FILE,
    ONNX,
    OPENVINO_FILE,
    RUN,
    WEIGHTS,
    Calibration,
    served_file,
)
from brain_mri.models.export import EXPORT_STEPS, export_onnx, quantize
from brain_mri.models.layers import at_output_stride, fold_temperature, is_timm
from brain_mri.utils.files import read_json, readable_as_usual, sha256, write_json
from brain_mri.utils.progress import steps

logger = logging.getLogger(__name__)
_GUARD_IMAGES = 2000  # of train, evenly spread: enough for 256 principal axes
_GUARD_HELD_OUT = 4000  # of validation at most, to limit memory; 40 of them then lie beyond the threshold
_COVERAGE = 0.95  # of the prediction sets
_KEPT_ACCURACY = 0.98  # of what is not referred to a human; for 99% a quarter of new patients' slices get no answer
_HEALTHY_ACCURACY = 0.99  # of what may be named healthy: a false all-clear hurts most


def refine(model: PreTrainedModel, validation: Dataset, preprocessing: Preprocessing, stride: int) -> PreTrainedModel:
    """The trained model at a finer output stride (`--final_output_stride`), unless validation macro-F1 gets worse."""
    if not stride:
        return model
    finer = at_output_stride(model, stride)
    scores = []
    for candidate in (model, finer):
        predictions = predict(candidate, validation, preprocessing, phase="Output stride")
        scores.append(quick_scores(predictions.logits, predictions.labels)["macro_f1"])
    kept = scores[1] >= scores[0]
    decision = "kept" if kept else "not kept"
    logger.info(f"validation macro-F1 {scores[0]:.4f}, at output stride {stride} {scores[1]:.4f}: {decision}")
    return finer if kept else model


def calibrate(model: PreTrainedModel, predictions: Predictions, folder: Path) -> None:
    """Fit a temperature on the model's `predictions` of the validation split, and divide the classifier by it.

    Writes `calibration.json`, with the thresholds of prediction sets and of referral for the calibrated probabilities.
    """
    temperature = calibration.fit_temperature(predictions.logits, predictions.labels)
    fold_temperature(model, temperature)
    probabilities = softmax(predictions.logits / temperature)
    record: Calibration = {
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
            "healthy_accuracy": _HEALTHY_ACCURACY,
            "healthy_threshold": calibration.referral_threshold(probabilities, predictions.labels, _HEALTHY_ACCURACY),
        },
    }
    if PartialState().is_main_process:
        write_json(dict(record), folder / CALIBRATION)
        sets, referral = record["prediction_sets"]["threshold"], record["referral"]["threshold"]
        thresholds = f"in a prediction set from {sets:.4f}, no answer below {min(referral, 1):.4f}"
        n = len(predictions.labels)
        logger.info(f"temperature {temperature:.4f}, fitted on the {n} validation images; {thresholds}")


def measure_evidence(predictions: Predictions, validation: Dataset, label_names: Sequence[str], folder: Path) -> None:
    """Compare the evidence with the boxes of the validation images that have one; write `evidence.json`.

    Its `levels`, of the overlay's contour, are chosen on these images.
    """
    if predictions.evidence is None or not PartialState().is_main_process:
        return
    levels = choose_levels(predictions.evidence, predictions.labels, validation["box"][:], label_names)
    if found := evidence_figures(predictions, validation, label_names, levels):
        write_json(found, folder / EVIDENCE)
        peak = f"{found['pointing_game']['value']:.1%} of {found['n']} validation images with a box"
        logger.info(f"the peak of the evidence lies on the tumour in {peak}")


def refit_contour(predictions: Predictions, validation: Dataset, label_names: Sequence[str], folder: Path) -> None:
    """Choose the contour's levels anew, for a last stage that keeps the evidence's figures of the stage before.

    Another stage's maps are wider or narrower, and their levels do not fit. That these images were trained on matters
    little: levels chosen on training images fitted unseen patients as well as any (docs/experiments.md).
    """
    record = read_json(folder / EVIDENCE)
    if predictions.evidence is None or not record or not PartialState().is_main_process:
        return
    levels = choose_levels(predictions.evidence, predictions.labels, validation["box"][:], label_names)
    write_json(record | {"levels": levels}, folder / EVIDENCE)


def fit_guard(train: Dataset, validation: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    """Fit the guard to embeddings of training images, and set its threshold on those of validation images.

    The embeddings come from the file that will be served, int8 if there is one: int8 and float32 embeddings differ.
    """
    if not PartialState().is_main_process:
        return
    held_out_names = set(validation["file_name"][:])  # which train holds too after --train_on_validation
    train = train.select([i for i, name in enumerate(train["file_name"][:]) if name not in held_out_names])
    train, validation = evenly_spread(train, _GUARD_IMAGES), evenly_spread(validation, _GUARD_HELD_OUT)
    served = OnnxModel(served_file(folder) or folder / FLOAT32_FILE)
    with steps("Guard", sum(batch_count(len(rows)) for rows in (train, validation))) as step:
        known, widths = _embeddings(served, train, preprocessing, step)
        held_out, _ = _embeddings(served, validation, preprocessing, step)
    Guard.fit(known, train["label"][:], held_out, widths=widths).save(folder)


def guard_if_possible(train: Dataset, validation: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    """`fit_guard`; of a folder that is too small for one the training is kept, and the model answers nothing."""
    try:
        fit_guard(train, validation, preprocessing, folder)
    except DataError as error:
        logger.warning("no guard was written, so that the model refuses every picture: %s", error)


def _embeddings(
    served: OnnxModel, rows: Dataset, preprocessing: Preprocessing, step: Callable[[], None]
) -> tuple[npt.NDArray[np.float32], tuple[int, ...]]:
    """What the guard reads of each row, (n, d), and how many of the d values belong to each part."""
    found: list[npt.NDArray[np.float32]] = []
    widths: tuple[int, ...] = ()
    for batch in batches(rows, preprocessing):
        outputs = served.run(batch)
        found.append(joined(outputs))
        widths = widths_of(outputs)
        step()
    return np.concatenate(found), widths


def export(model: PreTrainedModel, validation: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    """Write the ONNX files and `export.json`, which says how int8 changes the predictions."""
    if not PartialState().is_main_process:
        return
    with steps("Exporting", EXPORT_STEPS) as step:
        export_onnx(model, preprocessing, folder)
        step()
        quantized = quantize(folder, validation, preprocessing, step)
    write_json({"int8": asdict(quantized)}, folder / EXPORT)
    logger.info(quantized.in_words())


def discard_products(folder: Path) -> None:
    """Remove the products of an earlier training from the folder, so that none is taken for this one's."""
    if PartialState().is_main_process:
        for exported in (folder / ONNX, (folder / OPENVINO_FILE).parent, (folder / LITERT_FILE).parent):
            shutil.rmtree(exported, ignore_errors=True)
        for name in (RUN, CALIBRATION, EVIDENCE, EXPORT, GUARD, GUARD_TENSORS):
            (folder / name).unlink(missing_ok=True)


def save_model(model: PreTrainedModel, preprocessing: Preprocessing, folder: Path) -> None:
    """Write `config.json`, `model.safetensors` and, for a transformers-native model, its processor's settings.

    `evaluation/` is removed if it belongs to other weights.
    """
    if not PartialState().is_main_process:
        return
    weights, evaluation = folder / WEIGHTS, folder / EVALUATION
    before = sha256(weights) if weights.is_file() else ""
    timms = model.timm_model.state_dict() if is_timm(model.config) else None  # under the names that timm knows too
    model.save_pretrained(folder, state_dict=timms)
    readable_as_usual(weights)
    preprocessing.processor.save_pretrained(folder)
    if before and evaluation.is_dir() and sha256(weights) != before:
        shutil.rmtree(evaluation)
        logger.info("%s belonged to earlier weights and was removed: evaluate again.", evaluation)
