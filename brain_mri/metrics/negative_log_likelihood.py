"""Negative log-likelihood, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class NegativeLogLikelihood(ScalarMetric):
    """Mean of -log p(true class) in nats; lower is better."""

    key = "negative_log_likelihood"
    formula = staticmethod(formulas.negative_log_likelihood)
