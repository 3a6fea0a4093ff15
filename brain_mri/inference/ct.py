"""Recognising a head CT by its pixels, whatever the network. No torch.

In CT bone is brighter than all else in a head: in any window that shows the brain, the skull is a thick, closed, evenly
white ring that lies right on the grey brain. In MR compact bone gives hardly any signal. What is bright around the
brain there is fat or fluid: a thinner and uneven ring, with a black line beneath it.

Nothing is fitted. The limits were set by hand, with the MR slices and the head CT of the Brain Tumor MRI Dataset's
training part in view, and `python -m benchmarks.ood.ct` counts what they refuse. Not found are slices through the base
of the skull or the face, where the ring is open, and windows in which bone is not white (as stored, or made for bone):
these are left to the guard, which reads the embedding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from brain_mri.inference.head import small, standing_out

Floats = npt.NDArray[np.floating]

_SIDE = 160  # pixels a side of the head, cut out
_DIRECTIONS = 96
_BONE = 0.95  # of white
_THINNEST, _THICKEST = 0.03, 0.35  # a skull, as a share of the distance from the middle
_UNEVEN = 0.08  # how far a direction's bone may lie off its neighbours', as a share of their distance
_NEIGHBOURS = 6  # on either side
_BENEATH = 0.2  # of the distance to the bone: where the black line of MR is looked for
_BLACK = 0.25  # of the brain's grey
_BRIGHTEST_BRAIN = 0.65  # of white
_LIMIT = 0.6  # of the directions


def _rays() -> npt.NDArray[np.intp]:
    """Where the pixels from the middle outwards are in a flat head, (directions, distances); the last of it outside."""
    middle = (_SIDE - 1) / 2
    angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)[:, None]
    distances = np.arange(round(1.2 * middle))
    y, x = (np.rint(middle + turn(angles) * distances).astype(np.intp) for turn in (np.sin, np.cos))
    inside = (np.minimum(x, y) >= 0) & (np.maximum(x, y) < _SIDE)
    return np.where(inside, y * _SIDE + x, _SIDE**2)


_RAYS = _rays()
_DISTANCES = np.arange(_RAYS.shape[1])


def ct_score(image: Image.Image) -> float:
    """How much a picture looks like a head CT: 0 not at all, more than 1 it is taken for one.

    It is the share of all directions from the middle of the head in which the head ends in bone as CT shows it, in
    units of the share above which it is CT. The picture may have any size and mode; takes about 2 ms.
    """
    head = _cut_out(image)
    return 0.0 if head is None else float(_ends_in_bone(head).mean()) / _LIMIT


def _cut_out(image: Image.Image) -> Floats | None:
    """The head alone, from 0 (background) to 1 (white), (_SIDE, _SIDE); None where nothing stands out."""
    grey = small(image)
    found = standing_out(grey)
    if found is None:
        return None
    box, black = found
    head = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
    return np.asarray(np.clip((head - black) / max(np.percentile(head, 99) - black, 1.0), 0.0, 1.0))


def _ends_in_bone(head: Floats) -> npt.NDArray[np.bool_]:
    """Whether, in each direction, the outermost white is a skull's: (_DIRECTIONS,)."""
    rays = np.append(head.ravel(), 0.0)[_RAYS]
    white = rays >= _BONE
    outer = _last(white)
    inner = _last(~white & (outer[:, None] > _DISTANCES))  # the first pixel beneath the bone
    thickness = (outer - inner) / np.maximum(outer, 1)
    around = np.median([np.roll(outer, k) for k in range(-_NEIGHBOURS, _NEIGHBOURS + 1)], axis=0)
    even = np.abs(outer - around) <= _UNEVEN * np.maximum(around, 1)
    brain = _brain_grey(rays, inner)
    beneath = (inner[:, None] * (1 - _BENEATH) <= _DISTANCES) & (inner[:, None] > _DISTANCES)
    darkest = np.where(beneath, rays, 1.0).min(axis=1) * beneath.any(axis=1)
    skull = (thickness > _THINNEST) & (thickness < _THICKEST) & even & (darkest >= _BLACK * brain)
    return np.asarray(skull & (brain <= _BRIGHTEST_BRAIN))


def _brain_grey(rays: Floats, inner: npt.NDArray[np.intp]) -> float:
    """The median of what lies well within the bone; white where that is next to nothing."""
    within = (0.1 * inner[:, None] <= _DISTANCES) & (0.9 * inner[:, None] > _DISTANCES)
    return float(np.median(rays[within])) if within.sum() >= _DIRECTIONS else 1.0


def _last(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The last marked place of each row, 0 where none is."""
    return np.where(marked.any(axis=1), marked.shape[1] - 1 - marked[:, ::-1].argmax(axis=1), 0)
