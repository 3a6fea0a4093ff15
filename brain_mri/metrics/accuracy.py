"""Accuracy, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class Accuracy(ScalarMetric):
    """Share of images whose most probable class is the true one, in [0, 1]."""

    key = "accuracy"
    formula = staticmethod(formulas.accuracy)
