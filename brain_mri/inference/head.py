"""Where the head is in a picture. No torch."""

from __future__ import annotations

import numpy as np
from PIL import Image

_READ = 224  # pixels a side to which a picture is brought first
_FOREGROUND = 0.15  # of the range from background to white: brighter is head
_LEAST_FILLED = 0.03  # of a row or column: less is a line of the head rest, or a letter
_SMALLEST = 8  # pixels

Box = tuple[int, int, int, int]


def small(image: Image.Image) -> Image.Image:
    """The picture as `standing_out` reads it: grey, 224 pixels a side."""
    return image.convert("L").resize((_READ, _READ), Image.Resampling.BILINEAR)


def standing_out(grey: Image.Image) -> tuple[Box, np.float64] | None:
    """The box of the head and how bright the background is, of a picture that `small` gives.

    Returns:
        (left, top, right, bottom) in pixels, the last two outside, and a value from 0 to 255; None where nothing stands
        out from the background.
    """
    pixels = np.asarray(grey)
    black, white = np.percentile(pixels, (2, 99.5))
    bright = pixels > black + _FOREGROUND * (white - black)
    rows, columns = (np.flatnonzero(bright.mean(axis=axis) > _LEAST_FILLED) for axis in (1, 0))
    if min(len(rows), len(columns)) < _SMALLEST:
        return None
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1), black


def head_box(image: Image.Image) -> Box | None:
    """(left, top, right, bottom) of the head in a picture of any size and mode, in its own pixels; None without one."""
    found = standing_out(small(image))
    if found is None:
        return None
    left, top, right, bottom = found[0]
    width, height = image.size
    return left * width // _READ, top * height // _READ, -(-right * width // _READ), -(-bottom * height // _READ)
