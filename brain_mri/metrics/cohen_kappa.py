"""Cohen's kappa, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class CohenKappa(ScalarMetric):
    """Agreement of predicted and true class beyond chance, at most 1; 0 is chance."""

    key = "cohen_kappa"
    formula = staticmethod(formulas.cohen_kappa)
