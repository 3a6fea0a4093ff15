"""Balanced accuracy, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class BalancedAccuracy(ScalarMetric):
    """Mean sensitivity over the classes that occur, in [0, 1]."""

    key = "balanced_accuracy"
    formula = staticmethod(formulas.balanced_accuracy)
