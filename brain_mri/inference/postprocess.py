"""Probabilities and prediction sets from logits, with numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from brain_mri.errors import DivergedError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def softmax(logits: npt.ArrayLike) -> FloatArray:
    """Probabilities `(..., k)` of logits `(..., k)`, in double precision, without overflow.

    Raises:
        DivergedError: a logit is nan or infinite.
    """
    values = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DivergedError(
            "the network's outputs are not finite, its training has diverged: train again with a lower --learning_rate."
        )
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float64)


def prediction_sets(probabilities: npt.ArrayLike, threshold: float, allow_empty: bool = False) -> BoolArray:
    """Which classes are in each image's prediction set, `(n, k)`.

    A model more accurate than the coverage asked for has empty sets for its least certain images. So that users see no
    empty set, the most probable class is always in; this can only raise the coverage, to at least the accuracy.

    Args:
        probabilities: `(n, k)`.
        threshold: from `calibration.conformal_threshold`.
        allow_empty: keep empty sets, as the theorem on coverage has them.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    sets = values >= threshold
    if not allow_empty:
        sets[np.arange(len(values)), values.argmax(axis=1)] = True
    return sets
