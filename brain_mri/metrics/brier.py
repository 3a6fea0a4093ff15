"""Multiclass Brier score, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class Brier(ScalarMetric):
    """Squared distance of the probabilities to the one-hot truth, summed over classes, in [0, 2]; lower is better."""

    key = "brier"
    formula = staticmethod(formulas.brier)
