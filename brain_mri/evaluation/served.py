"""The predictions of the served file for prepared images: ONNX file, guard and thresholds, as users get them.

`evaluation.predict` measures the float32 weights that `pipeline` loads. Guard and thresholds belong to the file that is
served, int8 if there is one, whose embeddings differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from PIL import Image

from brain_mri.data.transforms import unpack
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.model_folder import served_file
from brain_mri.utils.progress import each

_BATCH = 32


@dataclass(frozen=True)
class ServedPredictions:
    """The predictions of the served file, in the order of the images.

    Attributes:
        probabilities: float64 (n, k), in the order of the model's labels.
        verdicts: (n,), `answer`, `unsure` or `refused`.
        reasons: (n,), the codes of `inference.predictions.REASONS`; None for an answer.
        asymmetries: (n,), see `inference.symmetry`; None of a model without evidence maps.
        file: the name of the ONNX file.
    """

    probabilities: npt.NDArray[np.float64]
    verdicts: npt.NDArray[Any]
    reasons: tuple[str | None, ...]
    asymmetries: npt.NDArray[np.float64] | None
    file: str

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """Whether the guard accepts each image, (n,)."""
        return np.asarray(self.verdicts != "refused")

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Whether a class is named for each image, (n,)."""
        return np.asarray(self.verdicts == "answer")

    def select(self, kept: Sequence[int]) -> ServedPredictions:
        """Of some of the images."""
        rows = np.asarray(kept, dtype=np.int64)
        reasons = tuple(self.reasons[i] for i in rows)
        asymmetries = None if self.asymmetries is None else self.asymmetries[rows]
        return ServedPredictions(self.probabilities[rows], self.verdicts[rows], reasons, asymmetries, self.file)


def predict_served(model_dir: str | Path, rows: Dataset, size: int) -> ServedPredictions | None:
    """Predictions of a model folder's served file; None without ONNX file, guard or thresholds.

    Args:
        model_dir: the model folder.
        rows: prepared images, see `data.prepare.PreparedImages`.
        size: height and width, in pixels, that they were prepared to.

    Raises:
        ConfigError: a file of the folder is damaged.
    """
    path = served_file(Path(model_dir))
    if path is None:
        return None
    classifier = BrainMRIClassifier.from_pretrained(model_dir)
    if classifier.rule.missing:  # it refuses everything, so no figure of its answers exists
        return None
    classifier.compares_all = True
    probabilities: list[list[float]] = []
    verdicts: list[str] = []
    reasons: list[str | None] = []
    asymmetries: list[float] = []
    for start in each(range(0, len(rows), _BATCH), f"Predicting, {path.name}"):
        packed = rows[start : start + _BATCH]["pixels"]
        images = [Image.fromarray(np.ascontiguousarray(unpack(data, size).transpose(1, 2, 0))) for data in packed]
        for one in classifier.predict_images(images, [""] * len(images)):
            probabilities.append(list(one.probabilities.values()))
            verdicts.append(one.verdict)
            reasons.append(one.reason)
            asymmetries.append(math.inf if one.asymmetry is None else one.asymmetry)  # as the rule takes it
    unlike = np.asarray(asymmetries, dtype=np.float64) if classifier.has_evidence else None
    return ServedPredictions(np.asarray(probabilities), np.asarray(verdicts), tuple(reasons), unlike, path.name)
