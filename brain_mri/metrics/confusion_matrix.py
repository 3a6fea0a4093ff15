"""Confusion matrix, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.cases import FloatArray
from brain_mri.metrics.metric import ProbabilityMetric


class ConfusionMatrix(ProbabilityMetric):
    """Counts of images; rows are the true classes, columns the predicted ones."""

    key = "confusion_matrix"
    formula = staticmethod(formulas.confusion_matrix)

    def _compute(self, predictions: FloatArray, references: FloatArray) -> dict[str, list[list[int]]]:
        return {self.key: self._figure(predictions, references).astype(int).tolist()}
