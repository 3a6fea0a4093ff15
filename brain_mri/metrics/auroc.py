"""Area under the ROC curve per class, one-vs-rest, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import PerClassMetric


class Auroc(PerClassMetric):
    """Chance that an image of the class is ranked above one of another class, ties counting half, in [0, 1]."""

    key = "auroc"
    formula = staticmethod(formulas.auroc)
