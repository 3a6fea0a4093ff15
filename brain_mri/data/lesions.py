"""Painted lesions: a bright or dark region with a random outline in the brain of a slice.

The tumours of the public sets take up contrast agent. A lower-grade glioma often does not: it is a bright region on
FLAIR and T2, a dark one on T1. Such regions are painted with random shape, size, brightness and texture, so that a
network learns that an odd region is none of a healthy brain, whatever the sequence; as the synthetic tumours of Hu 2023
(label-free liver tumour segmentation), in the manner of domain randomisation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from brain_mri.data.compositing import Box, Floats, Grey, Slice

_RADII = (0.07, 0.26)  # of the head's width
_DEPTH = 0.12  # of the head's width that skull and scalp may take
_ASPECT = (0.6, 1.0)
_ROUGH = 0.45  # how far the outline departs from an ellipse, in radii
_EDGE = (0.03, 0.25)  # width of the edge, in radii
_BRIGHT = (1.3, 2.6)  # factors on the brightness
_DARK = (0.3, 0.75)
_TEXTURE = 0.15  # of the brightness, at most
_FLAT = (0.2, 0.8)  # how much of the tissue's own pattern goes
_CORE = 0.35  # share of the lesions with a core of another brightness
_LEAST_CONTRAST = 0.2  # of the brightness around it; less is not seen
_SATURATED = 0.05  # of the region at most may have to be cut off at white
_TRIES = 8
_FEWEST = 12  # pixels


def paint(host: Slice, rng: np.random.Generator) -> tuple[Grey, Box] | None:
    """A lesion in the brain of a slice.

    Args:
        host: of a slice without a tumour.
        rng: of place, shape and brightness.

    Returns:
        The slice's pixels with the lesion, and its box; None if no place or no visible brightness was found.
    """
    width = min(host.window[2:])
    inside = ndimage.distance_transform_edt(host.head) - _DEPTH * width
    places = np.argwhere(inside > 0)
    if len(places) < _FEWEST:
        return None
    for _ in range(_TRIES):
        share = _region(inside, places[rng.integers(len(places))], width, rng)
        painted = _painted(host.pixels, share, host.head, rng)
        if painted is not None:
            return painted, _box(share)
    return None


def _region(inside: Floats, centre: npt.NDArray[np.int64], width: float, rng: np.random.Generator) -> Floats:
    """How much of each pixel (S, S) belongs to the lesion, 0 to 1; 0 outside of the brain."""
    radius = width * np.exp(rng.uniform(*np.log(_RADII)))
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(*_ASPECT)
    down, across = (np.arange(len(inside))[:, None] - centre[0], np.arange(len(inside))[None] - centre[1])
    along, aside = np.cos(angle) * across + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * across
    distance = np.hypot(along, aside / aspect) / radius + _ROUGH * _noise(inside.shape, radius / 2, rng)
    share = np.clip((1 - distance) / rng.uniform(*_EDGE), 0, 1)
    result: Floats = (share * np.clip(inside / (0.04 * width), 0, 1)).astype(np.float32)
    return result


def _noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Floats:
    """Smooth noise with deviation 1 and blobs of about `scale` pixels."""
    coarse = rng.standard_normal([max(2, round(side / max(scale, 1.0))) + 3 for side in shape])
    smooth = ndimage.zoom(coarse, [side / (n - 3) for side, n in zip(shape, coarse.shape, strict=True)], order=3)
    start = [int(rng.integers(0, n - side + 1)) for n, side in zip(smooth.shape, shape, strict=True)]
    part: Floats = smooth[start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]]
    noise: Floats = (part - part.mean()) / max(float(part.std()), 1e-6)
    return noise


def _painted(pixels: Grey, share: Floats, head: npt.NDArray[np.bool_], rng: np.random.Generator) -> Grey | None:
    region = share > 0.5
    if region.sum() < _FEWEST:
        return None
    around = ndimage.binary_dilation(region, iterations=max(2, len(pixels) // 40)) & ~region & head
    own = pixels.astype(np.float32)
    flat = rng.uniform(*_FLAT)
    tissue = (1 - flat) * own + flat * max(float(np.median(own[region])), 1.0)
    factor = _factor(rng) * (1 + _TEXTURE * rng.random() * _noise(pixels.shape, len(pixels) / 30, rng))
    if rng.random() < _CORE:
        core = np.clip(4 * (share.astype(np.float32) * _depth(region) - rng.uniform(0.3, 0.6)), 0, 1)
        factor = factor + core * (_factor(rng) - factor)
    changed = tissue * factor
    before, after = float(np.median(own[around])) if around.any() else 0.0, float(np.median(changed[region]))
    if abs(after - before) < _LEAST_CONTRAST * max(before, 1.0) or (changed[region] > 255).mean() > _SATURATED:
        return None
    mixed: Grey = (share * changed + (1 - share) * own).round().clip(0, 255).astype(np.uint8)
    return mixed


def _factor(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(_BRIGHT if rng.random() < 0.6 else _DARK))))


def _depth(region: npt.NDArray[np.bool_]) -> Floats:
    depth: Floats = ndimage.distance_transform_edt(region).astype(np.float32)
    return depth / max(float(depth.max()), 1.0)


def _box(share: Floats) -> Box:
    """The box of what is at least half lesion."""
    rows, columns = (np.flatnonzero((share > 0.5).any(axis=axis)) for axis in (1, 0))
    side = len(share)
    left, right, top, bottom = (float(v) / side for v in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1))
    return ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
