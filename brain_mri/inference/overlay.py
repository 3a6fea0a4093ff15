"""An evidence map over its slice: a wash of colour, a cross at its peak, a contour round the strong part. No torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.floating[Any]]

_LEVELS = 253  # of strength in a layer; the next two are the lines and their edge
LEVEL = 0.5
"""The contour's share of the map's peak, where none was chosen on boxes (`metrics.localization.choose_levels`)."""
_CROSS = 0.02  # its arms, as a share of the picture's shorter side
_OUTLINE = (
    86,
    180,
    233,
)  # sky blue of Okabe and Ito (2008): the colour-blind see it on the wash, and it is light in grey
# From transparent black over vermilion to yellow: lightness rises with the evidence, so that it reads in grey too.
_WASH = np.array([[0, 0, 0], [120, 28, 20], [213, 94, 0], [240, 170, 40], [255, 240, 150]], dtype=np.float64)


def enlarge(evidence: Floats, width: int, height: int) -> npt.NDArray[np.float32]:
    """A map (h, w) at the size of the picture it is of, (height, width) float32.

    The places are the coefficients of a uniform cubic B-spline (Unser 1999), repeated beyond the edges. Its surface can
    peak between two strong places, where linear interpolation peaks in the middle of one; measured on unseen tumours,
    that finds more of them.
    """
    rows, columns = spline(evidence.shape[0], height), spline(evidence.shape[1], width)
    return np.asarray(rows @ np.asarray(evidence, dtype=np.float64) @ columns.T, dtype=np.float32)


@lru_cache(maxsize=64)
def spline(places: int, pixels: int) -> npt.NDArray[np.float64]:
    """The weight of each place at each pixel along one side, (pixels, places); see `enlarge`."""
    positions = (np.arange(pixels) + 0.5) * places / pixels - 0.5
    neighbours = np.floor(positions).astype(int)[:, None] + np.arange(-1, 3)
    distance = np.abs(positions[:, None] - neighbours)
    kernel = np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, np.maximum(2 - distance, 0) ** 3 / 6)
    weights = np.zeros((pixels, places))
    np.add.at(weights, (np.arange(pixels)[:, None], neighbours.clip(0, places - 1)), kernel)
    return weights


def evidence_region(enlarged: Floats, level: float = LEVEL) -> npt.NDArray[np.bool_]:
    """Where a map (H, W) has at least the share `level` of its largest value, and more than 0; (H, W)."""
    positive = np.maximum(enlarged, 0)
    region: npt.NDArray[np.bool_] = (positive >= level * positive.max()) & (positive > 0)
    return region


def draw_overlay(
    image: Image.Image, evidence: Floats, opacity: float = 0.45, outline: bool = True, level: float = LEVEL
) -> Image.Image:
    """Lay a class's evidence map over the slice it was computed from.

    Args:
        image: the slice, any size and mode.
        evidence: (h, w), the map of one class; only its positive part, the evidence for the class, is drawn.
        opacity: of the wash at the map's peak, 0 (the slice alone) to 1.
        outline: whether to mark the map's peak by a cross, and `evidence_region` by a contour.
        level: of the contour, a share of the peak.

    Returns:
        A picture in mode RGB, of the size of `image`.
    """
    slice_ = image.convert("RGB")
    enlarged = enlarge(evidence, slice_.width, slice_.height)
    strength = np.maximum(enlarged, 0) / max(float(enlarged.max()), np.finfo(np.float32).tiny)
    steps = np.linspace(0, 1, len(_WASH))
    wash = np.stack([np.interp(strength, steps, _WASH[:, channel]) for channel in range(3)], axis=-1)
    weight = (opacity * strength)[..., None]
    blended = np.asarray(slice_, dtype=np.float64) * (1 - weight) + wash * weight
    if outline and opacity > 0:
        lines, edge = _lines(enlarged, level)
        blended[lines], blended[edge] = _OUTLINE, 0
    return Image.fromarray(blended.round().astype(np.uint8))


def evidence_layer(evidence: Floats, width: int, height: int, level: float = LEVEL) -> Image.Image:
    """What `draw_overlay` lays over a slice, as a picture of its own that can be blended at any opacity.

    Args:
        evidence: (h, w), the map of one class.
        width: of the layer, in pixels.
        height: of the layer, in pixels.
        level: of the contour, a share of the peak.

    Returns:
        A picture in mode P whose palette has the strengths of the wash, 0 to 253, the lines and their dark edge, each
        with its alpha at full opacity in `info["transparency"]`.
    """
    enlarged = enlarge(evidence, width, height)
    top = max(float(enlarged.max()), float(np.finfo(np.float32).tiny))
    places = np.asarray(np.maximum(enlarged, 0) / top * _LEVELS).round().astype(np.uint8)
    for place, drawn in enumerate(_lines(enlarged, level), _LEVELS + 1):
        places[drawn] = place
    layer = Image.fromarray(places)
    strength = np.linspace(0, 1, _LEVELS + 1)
    steps = np.linspace(0, 1, len(_WASH))
    colours = np.stack([np.interp(strength, steps, _WASH[:, channel]) for channel in range(3)], axis=-1)
    layer.putpalette(
        [  # which turns mode L into P
            *colours.round().astype(np.uint8).tobytes(),
            *_OUTLINE,
            *(0, 0, 0),
        ]
    )
    layer.info["transparency"] = bytes([*(255 * strength).round().astype(np.uint8), 255, 255])
    return layer


def _lines(enlarged: Floats, level: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The pixels of contour and cross, (H, W), and of a dark edge, by which they are seen on bright tissue too."""
    lines = _border(evidence_region(enlarged, level)) | _cross(enlarged)
    return lines, ~_shrunk(~lines, 1) & ~lines


def _border(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The outermost pixels of a region, more of them on larger pictures so that the line stays visible."""
    return region & ~_shrunk(region, _thickness(region))


def _shrunk(region: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """The pixels around which all as far as `reach` are in a region."""
    inner = np.pad(region, reach, mode="edge")
    for _ in range(2):  # along the columns, then along the rows
        inner = np.logical_and.reduce([inner[k : len(inner) - 2 * reach + k] for k in range(2 * reach + 1)]).T
    return inner


def _cross(enlarged: Floats) -> npt.NDArray[np.bool_]:
    """The pixels of a small cross at the peak of a map; none where the map speaks against its class everywhere."""
    pixels = np.zeros(enlarged.shape, dtype=bool)
    row, column = np.unravel_index(int(enlarged.argmax()), enlarged.shape)
    if enlarged[row, column] <= 0:
        return pixels
    half, arm = _thickness(enlarged) // 2, max(3, round(_CROSS * min(enlarged.shape)))
    for tall, wide in ((arm, half), (half, arm)):
        pixels[max(row - tall, 0) : row + tall + 1, max(column - wide, 0) : column + wide + 1] = True
    return pixels


def _thickness(picture: npt.NDArray[Any]) -> int:
    """Of lines, in pixels."""
    side: int = min(picture.shape)
    return max(1, round(side / 250))
