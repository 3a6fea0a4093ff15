"""The figures of a model: probabilities and true classes become numbers, with intervals. No torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt

from brain_mri.metrics.formulas import FORMULAS

METRIC_NAMES = tuple(FORMULAS)


@cache
def load_metric(name: str) -> Any:
    """Loads one of `METRIC_NAMES` through `evaluate.load`, once per process.

    Predictions stay in memory: evaluate's default is a cache file that two processes of one training would share.

    Raises:
        ValueError: `name` is not one of `METRIC_NAMES`.
    """
    import evaluate  # it brings in datasets and pandas: seconds that only those who score should pay

    return evaluate.load(str(Path(__file__).with_name("metric.py")), name, keep_in_memory=True)


def compute(name: str, probabilities: npt.ArrayLike, labels: npt.ArrayLike, **options: Any) -> dict[str, Any]:
    """What `ProbabilityMetric` gives for the metric `name`.

    Args:
        name: one of `METRIC_NAMES`.
        probabilities: `(n, k)`, every row summing to 1.
        labels: `(n,)` class numbers.
        options: `label_names`, for the metrics with a figure per class.

    Raises:
        ValueError: no such metric, or the inputs are not probabilities and class numbers.
    """
    record: dict[str, Any] = load_metric(name).compute(predictions=probabilities, references=labels, **options)
    return record
