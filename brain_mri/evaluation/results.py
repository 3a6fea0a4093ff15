"""The figures of an evaluation: all images, those without a twin in training, calibration, referral, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import PartialState
from datasets import Dataset

from brain_mri.data.prepare import PreparedImages
from brain_mri.errors import ConfigError
from brain_mri.evaluation.predict import Predictions
from brain_mri.inference.guard import Guard
from brain_mri.inference.postprocess import prediction_sets, softmax
from brain_mri.leakage.shortcut import shortcut_accuracy
from brain_mri.metrics import calibration
from brain_mri.metrics.calibration import calibration_scores
from brain_mri.metrics.localization import localization
from brain_mri.metrics.scores import score
from brain_mri.model_folder import AUDIT, CALIBRATION, GUARD, PATIENT_WISE, RUN
from brain_mri.reporting.model_card import write_card
from brain_mri.utils.files import read_json, write_json


def figures(
    predictions: Predictions, rows: Dataset, label_names: Sequence[str], model_dir: str, audited: bool
) -> dict[str, Any]:
    """The figures of `results.json`.

    Args:
        predictions: the model's outputs.
        rows: the images, in the same order.
        label_names: the model's labels.
        model_dir: the model's folder.
        audited: whether the folder's `audit.json` is of these very images; another folder may use the same names.

    Returns:
        `scores` of all rows, and what applies of: `leak_free`, of the rows without a twin in training;
        `before_calibration`, unless an earlier stage was calibrated; `prediction_sets` and `referral`; `guard`, the
        share that the guard accepts; `evidence`, of the rows that have a box.
    """
    result: dict[str, Any] = {"scores": _score(predictions, rows, label_names)}
    twins = set(read_json(Path(model_dir) / AUDIT).get("test_with_twin", ())) if audited else set()
    kept = [i for i, name in enumerate(rows["file_name"][:]) if name not in twins]
    if 0 < len(kept) < len(rows):
        result["leak_free"] = {"removed": len(rows) - len(kept), **_subset(predictions, rows, label_names, kept)}
    if record := read_json(Path(model_dir) / CALIBRATION):
        result |= _calibrated(predictions, record)
    if (Path(model_dir) / GUARD).is_file():
        result["guard"] = {"accepted": float(Guard.load(model_dir).accepts(predictions.embeddings).mean())}
    if evidence := evidence_figures(predictions, rows, label_names):
        result["evidence"] = evidence
    return result


def shortcut(images: PreparedImages, rows: Dataset, label_names: Sequence[str]) -> dict[str, Any]:
    """The shortcut control: fitted on all images but `rows`, whose labels are `label_names`, and scored on `rows`.

    {} if there are no other images.
    """
    tested = set(rows["file_name"][:])
    others = [i for i, name in enumerate(images.rows["file_name"][:]) if name not in tested]
    if not others:
        return {}
    train = images.rows.select(others)
    features = [np.asarray(part["shortcut"][:], dtype=np.float64) for part in (train, rows)]
    labels = [[images.label_names[i] for i in train["label"][:]], [label_names[i] for i in rows["label"][:]]]
    return shortcut_accuracy(features[0], labels[0], features[1], labels[1])


def _score(predictions: Predictions, rows: Dataset, label_names: Sequence[str]) -> dict[str, Any]:
    return score(predictions.probabilities, predictions.labels, label_names, groups=rows["patient_group"][:])


def _subset(predictions: Predictions, rows: Dataset, label_names: Sequence[str], kept: Sequence[int]) -> dict[str, Any]:
    return {"scores": _score(predictions.select(kept), rows.select(kept), label_names)}


def _calibrated(predictions: Predictions, record: dict[str, Any]) -> dict[str, Any]:
    probabilities, labels = predictions.probabilities, predictions.labels
    uncalibrated = softmax(predictions.logits * record["temperature"])
    before = {} if record.get("earlier_stage") else {"before_calibration": calibration_scores(uncalibrated, labels)}
    return before | {
        "prediction_sets": _prediction_sets(probabilities, labels, record["prediction_sets"]),
        "referral": _referral(probabilities, labels, record["referral"]["threshold"]),
    }


def _prediction_sets(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], chosen: dict[str, Any]
) -> dict[str, float]:
    """Coverage in the sense of split-conformal prediction, and of the sets that users see, which are never empty."""
    strict = prediction_sets(probabilities, chosen["threshold"], allow_empty=True)
    shown = prediction_sets(probabilities, chosen["threshold"])
    return {
        "target": chosen["coverage"],
        "coverage": calibration.empirical_coverage(strict, labels),
        "coverage_shown": calibration.empirical_coverage(shown, labels),
        "mean_size": float(shown.sum(axis=1).mean()),
        "empty": float((~strict.any(axis=1)).mean()),
    }


def _referral(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], threshold: float
) -> dict[str, float]:
    kept = probabilities.max(axis=1) >= threshold
    result = {"threshold": threshold, "referred": float((~kept).mean())}
    if kept.any():
        result["accuracy_kept"] = float((probabilities[kept].argmax(axis=1) == labels[kept]).mean())
    return result


def evidence_figures(predictions: Predictions, rows: Dataset, label_names: Sequence[str]) -> dict[str, Any]:
    """`localization` of the maps, for the rows that have a box; {} without maps or boxes."""
    if predictions.evidence is None:
        return {}
    groups = rows["patient_group"][:]
    return localization(predictions.evidence, predictions.labels, rows["box"][:], label_names, groups)


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
    write_json(read_json(path), evaluation / PATIENT_WISE)


def write_model_card(folder: str | Path) -> None:
    """Write the model's card from its folder's records; a model from elsewhere, without `run.json`, keeps its own."""
    if PartialState().is_main_process and (Path(folder) / RUN).is_file():
        write_card(folder)
