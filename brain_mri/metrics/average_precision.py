"""Average precision per class, one-vs-rest, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import PerClassMetric


class AveragePrecision(PerClassMetric):
    """Precision averaged over the steps in recall, without interpolation, in [0, 1]."""

    key = "average_precision"
    formula = staticmethod(formulas.average_precision)
