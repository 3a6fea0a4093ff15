"""F1 per class, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import PerClassMetric


class F1(PerClassMetric):
    """Harmonic mean of precision and sensitivity, in [0, 1]."""

    key = "f1"
    formula = staticmethod(formulas.f1)
