"""The figures said about a model, each an `evaluate` module in a file of its own, loaded from its path, offline.

`evaluate.load("accuracy")` asks the Hub; `evaluate.load("brain_mri/metrics/accuracy.py")` does not. The formulas are in
`formulas.py`, weighted, so that the bootstrap of `brain_mri.metrics.scores` uses the very same ones.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt

METRIC_NAMES = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "f1",
    "auroc",
    "average_precision",
    "matthews",
    "cohen_kappa",
    "brier",
    "negative_log_likelihood",
    "expected_calibration_error",
    "referral",
    "confusion_matrix",
)


@cache
def load_metric(name: str) -> Any:
    """Loads one of `METRIC_NAMES` through `evaluate.load`, once per process.

    Predictions stay in memory: evaluate's default is a cache file that two processes of one training would share.

    Raises:
        ValueError: `name` is not one of `METRIC_NAMES`.
    """
    if name not in METRIC_NAMES:
        raise ValueError(f"no metric is called {name!r}; there are: {', '.join(METRIC_NAMES)}")
    import evaluate  # it brings in datasets and pandas: seconds that only those who score should pay

    return evaluate.load(str(Path(__file__).with_name(f"{name}.py")), keep_in_memory=True)


def compute(name: str, probabilities: npt.ArrayLike, labels: npt.ArrayLike, **options: Any) -> dict[str, Any]:
    """The answer of the metric `name` for probabilities `(n, k)` and labels `(n,)`.

    Args:
        name: one of `METRIC_NAMES`.
        probabilities: `(n, k)`, every row summing to 1.
        labels: `(n,)` class numbers.
        options: what else the metric takes: `label_names` for those with a figure per class.

    Raises:
        ValueError: no such metric, or the inputs are not probabilities and class numbers.
    """
    answer: dict[str, Any] = load_metric(name).compute(predictions=probabilities, references=labels, **options)
    return answer
