"""What is measured on a set of judged images: all of them, those without a twin in training, calibration, referral."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from brain_mri import calibration as formulas
from brain_mri.evaluation import CALIBRATION, Predictions, calibration_scores
from brain_mri.scores import score


def read_json(folder: str | Path, name: str) -> dict[str, Any]:
    """A JSON file of a model folder; {} where the folder has none."""
    path = Path(folder) / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def figures(
    predictions: Predictions, rows: Dataset, label_names: Sequence[str], model_dir: str, audited: bool
) -> dict[str, Any]:
    """Everything that `results.json` says of a model's answers.

    Args:
        predictions: the answers.
        rows: the images, in the same order.
        label_names: the model's labels.
        model_dir: the model's folder.
        audited: whether the folder's `audit.json` is of these very images; another folder may use the same names.

    Returns:
        `scores` of all rows; `leak_free`, of the rows without a twin in training, where the audit of the training run
        names some of them; and, of a calibrated model, `before_calibration`, `prediction_sets` and `referral`.
    """
    result: dict[str, Any] = {"scores": _score(predictions, rows, label_names)}
    twins = set(read_json(model_dir, "audit.json").get("test_with_twin", ())) if audited else set()
    kept = [i for i, name in enumerate(rows["file_name"]) if name not in twins]
    if 0 < len(kept) < len(rows):
        result["leak_free"] = {"removed": len(rows) - len(kept), **_subset(predictions, rows, label_names, kept)}
    if record := read_json(model_dir, CALIBRATION):
        result |= _calibrated(predictions, record)
    return result


def _score(predictions: Predictions, rows: Dataset, label_names: Sequence[str]) -> dict[str, Any]:
    return score(predictions.probabilities, predictions.labels, label_names, groups=list(rows["patient_group"]))


def _subset(predictions: Predictions, rows: Dataset, label_names: Sequence[str], kept: Sequence[int]) -> dict[str, Any]:
    part = Predictions(predictions.logits[list(kept)], predictions.labels[list(kept)])
    return {"scores": _score(part, rows.select(kept), label_names)}


def _calibrated(predictions: Predictions, record: dict[str, Any]) -> dict[str, Any]:
    probabilities, labels = predictions.probabilities, predictions.labels
    uncalibrated = formulas.softmax(predictions.logits * record["temperature"])
    return {
        "before_calibration": calibration_scores(uncalibrated, labels),
        "prediction_sets": _prediction_sets(probabilities, labels, record["prediction_sets"]),
        "referral": _referral(probabilities, labels, record["referral"]["threshold"]),
    }


def _prediction_sets(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], chosen: dict[str, Any]
) -> dict[str, float]:
    """Coverage as split-conformal prediction means it, and of the sets as users see them, which are never empty."""
    strict = formulas.prediction_sets(probabilities, chosen["threshold"], allow_empty=True)
    shown = formulas.prediction_sets(probabilities, chosen["threshold"])
    return {
        "target": chosen["coverage"],
        "coverage": formulas.empirical_coverage(strict, labels),
        "coverage_shown": formulas.empirical_coverage(shown, labels),
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
