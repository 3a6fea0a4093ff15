"""Matthews correlation coefficient, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class Matthews(ScalarMetric):
    """Multiclass Matthews correlation, in [-1, 1]; it does not exist where only one class occurs."""

    key = "matthews"
    formula = staticmethod(formulas.matthews)
