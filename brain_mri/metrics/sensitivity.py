"""Sensitivity (recall) per class, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import PerClassMetric


class Sensitivity(PerClassMetric):
    """Share of a class' images that are given that class, in [0, 1]; also called recall."""

    key = "sensitivity"
    formula = staticmethod(formulas.sensitivity)
