"""Accuracy after referring the least certain images, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.cases import FloatArray
from brain_mri.metrics.metric import ProbabilityMetric


class Referral(ProbabilityMetric):
    """Accuracy kept when the least certain 5, 10 and 20% of the images are referred to a human, in [0, 1]."""

    key = "referral"
    formula = staticmethod(formulas.referral)

    def _compute(self, predictions: FloatArray, references: FloatArray) -> dict[str, dict[str, float]]:
        kept = zip(formulas.REFERRED_SHARES, self._figure(predictions, references), strict=True)
        return {self.key: {f"{share:.0%}": float(value) for share, value in kept}}
