"""Precision per class, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import PerClassMetric


class Precision(PerClassMetric):
    """Share of the images given a class that belong to it, in [0, 1]; 0 for a class that occurs and is never given."""

    key = "precision"
    formula = staticmethod(formulas.precision)
