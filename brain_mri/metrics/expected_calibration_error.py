"""Expected calibration error, as an `evaluate` module."""

from __future__ import annotations

from brain_mri.metrics import formulas
from brain_mri.metrics.metric import ScalarMetric


class ExpectedCalibrationError(ScalarMetric):
    """Top-label expected calibration error over 15 equal-mass bins, in [0, 1]; lower is better."""

    key = "expected_calibration_error"
    formula = staticmethod(formulas.expected_calibration_error)
