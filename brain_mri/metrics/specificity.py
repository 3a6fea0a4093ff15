"""Specificity per class, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import PerClassMetric


class Specificity(PerClassMetric):
    """Share of the other classes' images that are not given this class, in [0, 1]."""

    key = "specificity"
    formula = staticmethod(formulas.specificity)
