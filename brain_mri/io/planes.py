"""Cutting a volume into slices: in the plane it was acquired in, or in all three. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from brain_mri.errors import ImageError
from brain_mri.io.slices import PLANES
from brain_mri.io.untrusted import MAX_SLICES, MAX_VOXELS, check_size
from brain_mri.io.windowing import Array, Bytes

NORMALS = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The anatomical axis (right, front, top) that each plane looks along."""
_THICK = 1.5  # times the second largest side of a voxel: the slices were acquired along this axis
_STRIP = 0.5  # shorter side to longer side, in mm: a head's slices are at least this wide
_SQUARE = 0.05  # pixels whose sides differ by less are shown as they are
_MAX_STRETCH = 16.0


@dataclass(frozen=True)
class Grid:
    """A volume as it is stored.

    Attributes:
        grey: uint8 of shape (a, b, c).
        axes: for each axis of `grey` its anatomical axis (0 right, 1 front, 2 top) and 1 or -1, as
            `nibabel.orientations.io_orientation` gives them: shape (3, 2).
        spacing: of each axis of `grey`, mm; 1 where it makes no sense.
    """

    grey: Bytes
    axes: Array
    spacing: tuple[float, float, float]

    def anatomical(self) -> tuple[Bytes, tuple[float, float, float]]:
        """The volume with axes to the right, the front and the top, as a view, and its spacing in this order."""
        order = np.argsort(self.axes[:, 0])
        turned = self.grey.transpose(order)[tuple(slice(None, None, int(self.axes[axis, 1])) for axis in order)]
        right, front, top = (self.spacing[axis] for axis in order)
        return turned, (right, front, top)


@dataclass(frozen=True)
class Cut:
    """The slices of a volume.

    Attributes:
        pixels: uint8 of shape (rows, columns) each.
        names: of each, such as "axial 3 of 24"; empty where all are of one plane.
        planes: of the slices, in order.
        notes: what was not cut and why, a sentence each without its full stop.
    """

    pixels: list[Bytes]
    names: tuple[str, ...]
    planes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def cut(grid: Grid, plane: str, label: str) -> Cut:
    """Cut a volume as a radiologist hangs it.

    Axial slices go from the feet to the head, the front is up and the patient's right on the viewer's left. Coronal
    slices go from the back to the front, the head is up and the patient's right on the viewer's left. Sagittal slices
    go from left to right, the head is up and the front on the viewer's left. Axes are permuted and flipped, never
    interpolated; pixels that are not square are stretched to their true proportions.

    Args:
        grid: the volume.
        plane: `auto` (the plane of acquisition where voxels are clearly longer along one axis, else all three, but
            never one whose slices would be strips), `all`, or one of `PLANES`.
        label: what it is called in errors.

    Raises:
        ImageError: a plane is asked for whose slices would be strips, or beyond the limits of `io.untrusted`.
    """
    volume, spacing = grid.anatomical()
    wanted = planes_of(volume.shape, spacing, plane, label)
    notes: tuple[str, ...] = ()
    total, pixels = sum(volume.shape[NORMALS[one]] for one in wanted), _stretched_pixels(volume.shape, spacing, wanted)
    if len(wanted) > 1 and (total > MAX_SLICES or pixels > MAX_VOXELS):
        notes = (f"only {wanted[0]} slices are read: in all planes they would be too many",)
        wanted = wanted[:1]
    slices = [_cut(volume, spacing, one, label) for one in wanted]
    names = [
        f"{one} {i} of {len(cut)}" for one, cut in zip(wanted, slices, strict=True) for i in range(1, len(cut) + 1)
    ]
    return Cut([grey for cut in slices for grey in cut], tuple(names if len(wanted) > 1 else ()), tuple(wanted), notes)


def planes_of(shape: tuple[int, ...], spacing: tuple[float, float, float], plane: str, label: str) -> list[str]:
    """The planes to cut; `shape` and `spacing` have the order right, front, top. Errors as `cut`."""
    whole = [one for one in PLANES if not _is_strip(shape, spacing, one)]
    acquired = acquired_plane(shape, spacing)
    if plane in PLANES:
        if plane not in whole and plane != acquired:
            width, height = _sides(shape, plane)
            raise ImageError(
                f"{label}: {plane} slices of it would be strips of {width} x {height} pixels; leave out --plane, or "
                f"choose {acquired}.",
                "variant",
            )
        return [plane]
    if plane == "auto" and is_thick(spacing):
        return [acquired]
    return [acquired, *(one for one in whole if one != acquired)]


def is_thick(spacing: tuple[float, float, float]) -> bool:
    """Whether voxels are clearly longer along one axis than along the others."""
    *_, middle, longest = sorted(spacing)
    return longest >= _THICK * middle


def acquired_plane(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> str:
    """The plane across the longest side of the voxels; where they are nearly cubes, the one of the largest slices."""
    if is_thick(spacing):
        along = int(np.argmax(spacing))
        return next(plane for plane in PLANES if NORMALS[plane] == along)
    whole = [plane for plane in PLANES if not _is_strip(shape, spacing, plane)]
    return whole[0] if whole else min(PLANES, key=lambda plane: shape[NORMALS[plane]])


def plane_of(normal: Array) -> str:
    """The plane whose normal is nearest to a vector of shape (3,), to the right, the front and the top or opposite."""
    along = int(np.argmax(np.abs(normal)))
    return next(plane for plane in PLANES if NORMALS[plane] == along)


def sensible(sides: Any) -> tuple[float, float, float]:
    """The sides of a voxel in mm: three of them, 1 in the place of what is none."""
    numbers = [abs(float(side)) for side in sides][:3]
    numbers = [side if 0 < side < math.inf else 1.0 for side in numbers] + [1.0] * 3
    return numbers[0], numbers[1], numbers[2]


def _sides(values: tuple[Any, ...], plane: str) -> tuple[Any, Any]:
    """Of three values (right, front, top) those along the columns' and the rows' direction of a plane's slices."""
    right, front, top = values
    return {"axial": (right, front), "coronal": (right, top), "sagittal": (front, top)}[plane]


def _is_strip(shape: tuple[int, ...], spacing: tuple[float, float, float], plane: str) -> bool:
    pixels = sorted(_sides(shape, plane))
    lengths = sorted(count * side for count, side in zip(_sides(shape, plane), _sides(spacing, plane), strict=True))
    return bool(lengths[0] < _STRIP * lengths[1] or pixels[0] < _STRIP**2 * pixels[1])


def _stretched_pixels(shape: tuple[int, ...], spacing: tuple[float, float, float], planes: list[str]) -> int:
    """How many pixels the slices that have to be stretched take; the others are views of the volume."""
    total = 0
    for plane in planes:
        size = _stretched(*_sides(shape, plane), *_sides(spacing, plane))
        total += 0 if size is None else math.prod(size) * shape[NORMALS[plane]]
    return total


def _stretched(columns: int, rows: int, width: float, height: float) -> tuple[int, int] | None:
    """The size at which pixels of `width` x `height` mm are square; None where they are, or the sides make no sense."""
    ratio = width / height
    if not 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH or abs(ratio - 1) < _SQUARE:
        return None
    return round(columns * max(1.0, ratio)), round(rows * max(1.0, 1 / ratio))


def _cut(volume: Bytes, spacing: tuple[float, float, float], plane: str, label: str) -> list[Bytes]:
    axis = NORMALS[plane]
    size = _stretched(*_sides(volume.shape, plane), *_sides(spacing, plane))
    width, height = size or _sides(volume.shape, plane)
    check_size(width, height, label, volume.shape[axis])
    layers = [layer[::-1, ::-1].T for layer in np.moveaxis(volume, axis, 0)]
    return layers if size is None else [_resized(grey, size) for grey in layers]


def _resized(grey: Bytes, size: tuple[int, int]) -> Bytes:
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BILINEAR), np.uint8)


def check_stored(shape: tuple[int, int, int], label: str) -> None:
    """Check the shape of a volume as stored, in any order of its axes, before memory is taken for it.

    Raises:
        ImageError: empty, or beyond the limits of `io.untrusted` whichever way it is cut.
    """
    fewest, fewer, most = sorted(shape)
    check_size(most, fewer, label, fewest)
