"""Recognising a brain whose skull was removed by a program, whatever the network. No torch.

Around a brain in MR lie the black line of compact bone and, outside it, bright fat and skin. A program that strips the
skull sets all outside of the brain to one value: the brain's edge is then the picture's only one. The training set has
no such slices. The guard refuses many of them, and this says why; "no tumour" is said of none.

Nothing is fitted. The limits were set by hand; `docs/reading.md` tells what they find.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

_SIDE = 160  # pixels to which a picture is brought
_EMPTY = 4  # grey levels: what a stripped background has at most, after a lossy compression
_LEAST_EMPTY = 0.25  # of the picture's pixels
_FOREGROUND = 0.12  # of white
_SMALLEST = 0.05  # of the picture's pixels: less is no brain
_DIRECTIONS = 90
_BENEATH, _OUTERMOST = 0.3, 0.12  # of the distance to the edge: where bone would lie, and skin
_DARK, _BRIGHT = 0.45, 0.5  # of the brain's grey: bone, and what lies outside it
_MOST_BONE = 0.2  # of the directions
_BRIGHTEST_RIM = 1.3  # times the brain's grey: what is brighter is fat


def is_stripped(image: Image.Image) -> bool:
    """Whether a picture looks like a brain without its skull; it may have any size and mode; takes 5 ms."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
    white = float(np.percentile(grey, 99.5))
    inside = grey > _FOREGROUND * white
    if (grey <= _EMPTY).mean() < _LEAST_EMPTY or inside.mean() < _SMALLEST:
        return False
    rays = _rays(grey, inside)
    brain = float(np.median(grey[inside]))
    bone = np.mean([_has_bone(ray, brain) for ray in rays])
    rim = np.median([_rim(ray, brain) for ray in rays])
    return bool(bone <= _MOST_BONE and rim <= _BRIGHTEST_RIM)


def _rays(grey: Floats, inside: npt.NDArray[np.bool_]) -> list[Floats]:
    """The values from the middle of what is bright outwards to the picture's edge, in all directions."""
    rows, columns = np.nonzero(inside)
    steps = np.arange(_SIDE)
    rays = []
    for angle in np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False):
        row = np.rint(rows.mean() + steps * np.sin(angle)).astype(int)
        column = np.rint(columns.mean() + steps * np.cos(angle)).astype(int)
        within = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < _SIDE)
        rays.append(grey[row[within], column[within]])
    return rays


def _edge(ray: Floats, brain: float) -> int:
    """Where the outermost bright value of a ray is, 0 where none is."""
    bright = np.flatnonzero(ray > _BRIGHT * brain)
    return int(bright[-1]) if len(bright) else 0


def _has_bone(ray: Floats, brain: float) -> bool:
    """Whether a black line lies beneath the outermost of what is bright."""
    edge = _edge(ray, brain)
    beneath = ray[int(edge * (1 - _BENEATH)) : edge]
    return bool(len(beneath) and beneath.min() < _DARK * brain)


def _rim(ray: Floats, brain: float) -> float:
    """The brightest of the outermost values, in units of the brain's grey."""
    edge = _edge(ray, brain)
    return float(ray[int(edge * (1 - _OUTERMOST)) : edge + 1].max() / max(brain, 1.0))
