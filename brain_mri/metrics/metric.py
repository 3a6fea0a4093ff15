"""What our `evaluate` modules share: the inputs, the checks, and leaving out what does not exist.

These classes are abstract on purpose: `evaluate.load` instantiates the first concrete metric class it finds in a file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from brain_mri.metrics.cases import Cases, FloatArray
from brain_mri.metrics.formulas import macro


class ProbabilityMetric(evaluate.Metric, ABC):  # type: ignore[misc]  # evaluate ships no types
    """A metric of probabilities `(n, k)` against class numbers `(n,)`.

    `compute(predictions=probabilities, references=labels)`; modules with a figure per class also take `label_names`.
    """

    key: str
    """The figure's name in the answer."""

    @staticmethod
    @abstractmethod
    def formula(cases: Cases, weights: FloatArray) -> FloatArray:
        """The figure for each row of weights; see `brain_mri.metrics.formulas`."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.Sequence(datasets.Value("float64")),
            "references": datasets.Value("int64"),
        }
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description="predictions: probabilities (n, k), rows summing to 1; references: class numbers (n,).",
            features=datasets.Features(features),
        )

    def _figure(self, predictions: FloatArray, references: FloatArray) -> FloatArray:
        cases = Cases.of(predictions, references)
        return np.asarray(self.formula(cases, np.ones((1, len(cases.labels))))[0], dtype=np.float64)


class ScalarMetric(ProbabilityMetric):
    """A metric that is one number: `{key: value}`, or `{}` where the number does not exist."""

    def _compute(self, predictions: FloatArray, references: FloatArray) -> dict[str, float]:
        value = float(self._figure(predictions, references))
        return {} if np.isnan(value) else {self.key: value}


class PerClassMetric(ProbabilityMetric):
    """A metric with one number per class: `{key: {name: value}, "macro_" + key: mean, "classes": [name]}`.

    Classes whose figure does not exist are left out, and `classes` names those the macro average is over.
    """

    def _compute(
        self, predictions: FloatArray, references: FloatArray, label_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        figures = self._figure(predictions, references)
        names = [str(number) for number in range(len(figures))] if label_names is None else label_names
        exists = {name: float(figure) for name, figure in zip(names, figures, strict=True) if not np.isnan(figure)}
        answer: dict[str, Any] = {self.key: exists, "classes": list(exists)}
        return answer | {f"macro_{self.key}": float(macro(figures[None])[0])} if exists else answer
