"""The plots of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image

from brain_mri.data.transforms import unpack
from brain_mri.evaluation.predict import Predictions
from brain_mri.inference.postprocess import softmax
from brain_mri.metrics.scores import Scores, worst_mistakes
from brain_mri.model_folder import CONFUSION_MATRIX, REFERRAL, RELIABILITY, ROC, WORST_MISTAKES
from brain_mri.reporting import plots


def draw(predictions: Predictions, scores: Scores, folder: Path, calibration: dict[str, Any]) -> None:
    """Write the plots into `folder`; `calibration` is the model's `calibration.json`, {} for a model without."""
    names, probabilities, labels = scores["label_names"], predictions.probabilities, predictions.labels
    plots.confusion_matrix(scores["confusion_matrix"], names, folder / CONFUSION_MATRIX)
    plots.roc_curves(probabilities, labels, names, folder / ROC)
    fitted = calibration and not calibration.get("earlier_stage")  # later training moved on from what was divided
    before = softmax(predictions.logits * calibration["temperature"]) if fitted else None
    plots.reliability_diagram(probabilities, labels, folder / RELIABILITY, before=before)
    threshold = calibration["referral"]["threshold"] if calibration else None
    plots.referral_curve(probabilities, labels, folder / REFERRAL, threshold=threshold)


def draw_mistakes(predictions: Predictions, rows: Dataset, names: Sequence[str], size: int, folder: Path) -> None:
    """Write `worst_mistakes.png`, the most confident wrong predictions, into `folder`; it shows the data, so keep it.

    The slices are shown as the model saw them, at its input size, with the confidence of its answer.
    """
    mistakes = worst_mistakes(predictions.probabilities, predictions.labels)
    images, captions = [], []
    for i in mistakes[: plots.MISTAKES_SHOWN]:
        predicted, row = int(predictions.probabilities[i].argmax()), rows[int(i)]
        images.append(Image.fromarray(unpack(row["pixels"], size)[0]))
        said = f"{names[predictions.labels[i]]}, called {names[predicted]}: {predictions.probabilities[i].max():.4f}"
        captions.append(f"{Path(row['file_name']).name}\n{said}")
    plots.worst_mistakes(images, captions, len(mistakes), folder / WORST_MISTAKES)
