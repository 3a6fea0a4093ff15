"""Every figure as one `evaluate` module, a configuration each, loaded from this file's path, offline.

`evaluate.load("accuracy")` asks the Hub; `evaluate.load("brain_mri/metrics/metric.py", "accuracy")` does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from brain_mri.metrics.cases import Cases, FloatArray
from brain_mri.metrics.formulas import FORMULAS, PER_CLASS, REFERRED_SHARES, macro


class ProbabilityMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """The figure named by the configuration, of probabilities `(n, k)` against class numbers `(n,)`.

    `compute(predictions=probabilities, references=labels)` gives, by the kind of figure:

    - one number: `{name: value}`, or `{}` where the number does not exist;
    - one number per class: `{name: {class: value}, "macro_" + name: mean, "classes": [class]}`. Classes whose figure
      does not exist are left out, and `classes` names those the macro average is over. Takes `label_names`;
    - `referral`: `{"referral": {"5%": accuracy, ...}}`;
    - `confusion_matrix`: `{"confusion_matrix": [[count]]}`, rows true, columns predicted.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in FORMULAS:
            raise ValueError(f"no metric is called {self.config_name!r}; there are: {', '.join(FORMULAS)}")
        features = {
            "predictions": datasets.Sequence(datasets.Value("float64")),
            "references": datasets.Value("int64"),
        }
        return evaluate.MetricInfo(
            description=FORMULAS[self.config_name].__doc__ or "",
            citation="",
            inputs_description="predictions: probabilities (n, k), rows summing to 1; references: class numbers (n,).",
            features=datasets.Features(features),
        )

    def _compute(
        self, predictions: FloatArray, references: FloatArray, label_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        name, cases = self.config_name, Cases.of(predictions, references)
        figure = FORMULAS[name](cases, cases.ones)[0]
        if name in PER_CLASS:
            return _per_class(name, figure, label_names or [str(number) for number in range(len(figure))])
        if name == "referral":
            return {name: {f"{share:.0%}": float(x) for share, x in zip(REFERRED_SHARES, figure, strict=True)}}
        if name == "confusion_matrix":
            return {name: figure.astype(int).tolist()}
        return {} if np.isnan(figure) else {name: float(figure)}


def _per_class(name: str, figure: FloatArray, label_names: Sequence[str]) -> dict[str, Any]:
    exists = {label: float(x) for label, x in zip(label_names, figure, strict=True) if not np.isnan(x)}
    average = {f"macro_{name}": float(macro(figure[None])[0])} if exists else {}
    return {name: exists, "classes": list(exists), **average}
