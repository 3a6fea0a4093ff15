"""From the numbers of a scanner or of a 16-bit picture to 8-bit grey. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0
_SAMPLES = 2**20  # values for a window: the percentiles of a million are those of all
_BLOCK = 2**20  # values converted at a time, which keeps the 64-bit copies small
_LARGEST = 1e30  # numbers beyond are no intensities; differences of these still fit in 64 bits


def sampled(values: Array, count: int = _SAMPLES) -> Array:
    """Return about `count` of the values at most, evenly spaced: float64 of shape (n,), without NaN or infinity."""
    step = max(1, int((values.size / count) ** (1 / max(values.ndim, 1))))
    some = np.asarray(values[(slice(None, None, step),) * values.ndim], np.float64).ravel()
    return np.clip(some[np.isfinite(some)], -_LARGEST, _LARGEST)


def percentile_window(samples: Iterable[Array]) -> tuple[float, float]:
    """Return the values to be shown black and white: the 1st and 99th percentile of what `sampled` gave.

    Where these are equal (nearly all is air) the smallest and the largest value; (0, 0) where there is none.
    """
    values = np.concatenate([np.zeros(0), *samples])
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE])
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def picture_window(values: Array) -> tuple[float, float]:
    """Return the values of a picture with more than 8 bits that are to be shown black and white.

    Values from 0 to 255 are grey levels already and are kept; fractions from 0 to 1 are shares of white. Anything else
    is scaled from its smallest to its largest value, as 8-bit data sets are made of 12-bit slices; this also restores
    8-bit pictures stored as 16 bits.
    """
    finite = values if values.dtype.kind in "ui" else values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0
    return grey_range(float(finite.min()), float(finite.max()), values.dtype.kind == "f")


def grey_range(low: float, high: float, fractions: bool) -> tuple[float, float]:
    """The same from the smallest and the largest value; `fractions`: whether they are of a type that has them."""
    if low >= 0 and high <= 255:
        return (0.0, 1.0) if fractions and high <= 1 else (0.0, 255.0)
    return max(low, -_LARGEST), min(high, _LARGEST)


def in_blocks(values: Array, convert: Callable[[Array], Array]) -> Bytes:
    """Apply an element-wise conversion to 0..255 a block of rows at a time, and round: uint8 of the same shape."""
    result = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        converted = np.nan_to_num(convert(values[start : start + rows]), nan=0.0, posinf=255.0, neginf=0.0)
        result[start : start + rows] = np.clip(converted, 0.0, 255.0) + 0.5
    return result


def to_bytes(values: Array, low: float, high: float) -> Bytes:
    """Map `low` to 0 and `high` to 255, linearly and clipped; all 0 where they are equal. NaN becomes 0."""
    scale = 255.0 / (high - low) if high > low else 0.0
    return in_blocks(values, lambda block: (np.asarray(block, np.float64) - low) * scale)
