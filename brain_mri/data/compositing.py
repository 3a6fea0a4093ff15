"""Copying a region of one slice into another without a visible seam.

Both are squares of grey pixels. A point keeps its place relative to the bounding box of the head. The region has a
soft edge, and its brightness is matched to the surroundings by the medians of the rim, as in the copy-paste
augmentation of Dwibedi 2017 and, for lesions, the CarveMix of Zhang 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Window = tuple[slice, slice]  # rows, columns
Box = tuple[float, float, float, float]  # center x, center y, width, height; fractions of the picture

_MARGIN = 1.3  # sides of the region over those of the box
_POWER = 4  # of the region's outline |x|^p + |y|^p = 1: rounded, yet the corners of the box lie inside
_SOFT_FROM, _SOFT_TO = 0.9, 1.15  # of the way from the region's centre to its outline: whole, and nothing
_RIM_TO = 1.35  # the rim is what lies between the whole part and this
_AIR = 0.25  # of the typical brightness; what is darker is not head
_BACKGROUND = 0.4  # quantile of the picture's edge that is taken for the brightness of the air
_HEAD_SIDE = 112  # pixels at least, at which a head is found
_INSIDE = 0.85  # of the region at least has to be head
_AGREEING = 0.93  # of the region at least has to be head, or air, in both slices
_GAINS = (0.5, 2.0)  # beyond which two slices are too different to be matched
_SATURATED = 0.01  # of the region at most may have to be cut off at white
_FEWEST = 12  # pixels of a region, and of a rim, that can be matched


@dataclass(frozen=True)
class Slice:
    """A slice and its head.

    Attributes:
        pixels: uint8 (S, S).
        head: bool (S, S), without holes.
        window: left, top, width, height of the head, in pixels.
    """

    pixels: Grey
    head: Mask
    window: tuple[float, float, float, float]

    @classmethod
    def of(cls, pixels: Grey) -> Slice | None:
        """Find the head: the largest connected part that is not dark; None of a picture without one."""
        step = max(1, len(pixels) // _HEAD_SIDE)
        coarse = pixels[::step, ::step].astype(np.float32)
        edges = np.concatenate([coarse[0], coarse[-1], coarse[:, 0], coarse[:, -1]])
        coarse = (coarse - np.quantile(edges, _BACKGROUND)).clip(0)
        typical = float(np.square(coarse).sum()) / max(float(coarse.sum()), 1.0)
        parts, n = ndimage.label(ndimage.binary_opening(coarse > _AIR * typical))
        if not n:
            return None
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        mask = ndimage.binary_fill_holes(parts == largest)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = float(columns[0] * step), float(rows[0] * step)
        width, height = float(columns[-1] + 1) * step - left, float(rows[-1] + 1) * step - top
        fine = np.arange(len(pixels)) // step
        return cls(pixels, mask[np.ix_(fine, fine)], (left, top, width, height))

    def carried(self, box: Box, other: Slice) -> Box:
        """The place of a box of this slice in another one, relative to the heads."""
        side = len(self.pixels)
        (left, top, width, height), (to_left, to_top, to_width, to_height) = self.window, other.window
        x, y, w, h = (side * value for value in box)
        carried = (
            to_left + (x - left) * to_width / width,
            to_top + (y - top) * to_height / height,
            w * to_width / width,
            h * to_height / height,
        )
        return tuple(value / len(other.pixels) for value in carried)  # type: ignore[return-value]


def composite(host: Slice, donor: Slice, box: Box) -> Grey | None:
    """The host with the donor's tissue in and around `box`, a place in the host; None if the two do not fit.

    They fit where the region is head in both, or air in both, and where one factor from a half to two makes the
    medians of their rims equal.
    """
    window = _window(len(host.pixels), box)
    if window is None:
        return None
    distance = _distance(len(host.pixels), box, window)
    region = distance < 1
    if region.sum() < _FEWEST:
        return None
    host_head, donor_head = host.head[window], _aligned(donor.head.astype(np.float32), donor, host, window) > 0.5
    if host_head[region].mean() < _INSIDE or (host_head == donor_head)[region].mean() < _AGREEING:
        return None
    tissue = _aligned(donor.pixels.astype(np.float32), donor, host, window)
    rim = (distance > _SOFT_FROM) & (distance < _RIM_TO) & host_head & donor_head
    gain = _gain(host.pixels[window][rim], tissue[rim])
    if gain is None or ((tissue * gain > 255) & region).sum() > _SATURATED * region.sum():
        return None
    share = np.clip((_SOFT_TO - distance) / (_SOFT_TO - _SOFT_FROM), 0, 1)
    share = share * share * (3 - 2 * share)
    mixed = share * tissue * gain + (1 - share) * host.pixels[window]
    result = host.pixels.copy()
    result[window] = mixed.round().clip(0, 255)
    return result


def _gain(host: Grey, donor: Floats) -> float | None:
    """The factor on the donor's brightness that makes the medians of two rims equal; None if there is none."""
    if len(host) < _FEWEST:
        return None
    gain = float(np.median(host)) / max(float(np.median(donor)), 1.0)
    return gain if _GAINS[0] <= gain <= _GAINS[1] else None


def overlap(first: Box, second: Box) -> bool:
    """Whether the regions of two boxes touch, with their soft edges."""
    reach = _MARGIN * (1 + _SOFT_TO) / 2
    return all(abs(first[i] - second[i]) < reach * (first[i + 2] + second[i + 2]) / 2 for i in (0, 1))


def _window(side: int, box: Box) -> Window | None:
    """The rows and columns of the region and its rim; None if they leave the picture."""
    x, y, width, height = box
    reach = _MARGIN * _RIM_TO / 2
    left, right = (round(side * (x + sign * reach * width)) for sign in (-1, 1))
    top, bottom = (round(side * (y + sign * reach * height)) for sign in (-1, 1))
    rows, columns = slice(max(0, top), min(side, bottom + 1)), slice(max(0, left), min(side, right + 1))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _distance(side: int, box: Box, window: Window) -> Floats:
    """The distance of each pixel of the window from the region's centre, 1 on its outline."""
    x, y, width, height = box
    centres = ((np.arange(side) + 0.5) / side).astype(np.float32)
    across = np.abs(centres[window[1]] - x) / (_MARGIN * max(width, 1 / side) / 2)
    down = np.abs(centres[window[0]] - y) / (_MARGIN * max(height, 1 / side) / 2)
    power: Floats = (across[None] ** _POWER + down[:, None] ** _POWER) ** (1 / _POWER)
    return power


def _aligned(values: Floats, donor: Slice, host: Slice, window: Window) -> Floats:
    """Values (S, S) of the donor, moved and scaled so that its head lies on the host's; a window of the host."""
    (left, top, width, height), (to_left, to_top, to_width, to_height) = donor.window, host.window
    scale = np.array([height / to_height, width / to_width])
    start = np.array([window[0].start - to_top, window[1].start - to_left])
    offset = np.array([top, left]) + scale * (start + 0.5) - 0.5
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    moved: Floats = ndimage.affine_transform(values, scale, offset, shape, order=1, mode="constant")
    return moved
