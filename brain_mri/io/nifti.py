"""Reading the first volume of a NIfTI file as axial slices in radiological orientation. No torch."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from brain_mri.errors import ImageError
from brain_mri.io.untrusted import HEAD_BYTES, MAX_VOLUME_BYTES, check_size, parsing, peek
from brain_mri.io.windowing import Array, Bytes, percentile_window, sampled, to_bytes

_CHUNK = 2**16
_MAX_SKIPPED = 2**24  # bytes of extensions between header and voxels, usually kilobytes
_MAX_MEMBERS = 2**13  # of a gzip file; bgzip makes one for every 64 KiB
_SQUARE = 0.05  # pixels whose sides differ by less are shown as they are
_MAX_STRETCH = 16.0


def nifti_slices(file: BinaryIO, label: str) -> list[Bytes]:
    """Read the slices of a .nii or .nii.gz file, whatever its extension.

    The axes are permuted and flipped (never interpolated) to the nearest anatomical ones: slices are axial and go from
    the feet to the head; in each the front is up and the patient's right on the viewer's left. Voxels that are not
    square in this plane are stretched to their true proportions. Only the first volume of a series in time or of
    several contrasts is read. All slices share one window, the 1st to the 99th percentile of the volume.

    Returns:
        The slices, uint8 of shape (rows, columns) each.

    Raises:
        ImageError: not NIfTI, damaged, cut off, in colour, or beyond the limits of `brain_mri.io.untrusted`.
    """
    with parsing(label, "NIfTI file"):
        compressed = peek(file).startswith(b"\x1f\x8b")
        read_into = _inflater(file, label) if compressed else _plain(file)
        head = bytearray(HEAD_BYTES)
        head = head[: read_into(memoryview(head))]
        header = _header(bytes(head), label)
        return _slices(_voxels(header, bytes(head), read_into, label), header)


def _plain(file: BinaryIO) -> Callable[[memoryview], int]:
    return lambda view: file.readinto(view)  # type: ignore[attr-defined]


def _inflater(file: BinaryIO, label: str) -> Callable[[memoryview], int]:
    """A function that fills a buffer with unpacked bytes and returns how many.

    `gzip.GzipFile` would read the file name in the header byte by byte, however long it is.
    """
    decoder, members = zlib.decompressobj(16 + zlib.MAX_WBITS), 1

    def read_into(view: memoryview) -> int:
        nonlocal decoder, members
        filled = 0
        while filled < len(view):
            data = decoder.unused_data or decoder.unconsumed_tail or file.read(_CHUNK)
            if decoder.eof:
                if not data.startswith(b"\x1f"):
                    break
                decoder, members = zlib.decompressobj(16 + zlib.MAX_WBITS), members + 1
                if members > _MAX_MEMBERS:
                    raise ImageError(f"{label}: a gzip file of more than {_MAX_MEMBERS:,} parts; pack it again.")
            part = decoder.decompress(data, len(view) - filled)
            view[filled : filled + len(part)] = part
            filled += len(part)
            if not data and not part:
                break
        return filled

    return read_into


def _header(head: bytes, label: str) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise ImageError(f"{label}: a NIfTI header without its voxels (.hdr); save both in one .nii file.")
    kind: Any = Nifti1Header if head[344:348] == b"n+1\0" else Nifti2Header
    # Unchecked, because nibabel repairs headers and prints to stderr; the values in use are checked here.
    return kind(head[: kind.template_dtype.itemsize], check=False)


def _axes(header: Any) -> Array:
    """For each axis of the file its anatomical axis (right, front, top) and its sign: shape (3, 2)."""
    from nibabel import orientations

    untyped: Any = orientations  # nibabel is typed only in part
    axes: Array = untyped.io_orientation(header.get_best_affine())
    return axes


def _shape(header: Any) -> tuple[int, int, int]:
    x, y, z = (*(int(side) for side in header.get_data_shape()), 1, 1, 1)[:3]
    return x, y, z


def _voxels(header: Any, head: bytes, read_into: Callable[[memoryview], int], label: str) -> Array:
    """Read the stored numbers of the first volume: shape (x, y, z) in the order of the file."""
    shape, dtype, offset = _shape(header), header.get_data_dtype(), int(header["vox_offset"])
    if dtype.kind not in "iuf":
        raise ImageError(f"{label}: its voxels are colours or complex numbers; save it with one plain number each.")
    width, height, slices = (shape[axis] for axis in np.argsort(_axes(header)[:, 0]))
    check_size(width, height, label, slices)
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_VOLUME_BYTES:
        raise ImageError(f"{label}: a volume of more than {MAX_VOLUME_BYTES >> 20} MiB; save it with 16-bit numbers.")
    if not 0 <= offset <= _MAX_SKIPPED:
        raise ImageError(f"{label}: says that its voxels begin at byte {offset:,}; it is damaged.")
    voxels: Bytes = np.empty(size, np.uint8)
    start = np.frombuffer(head[offset:], np.uint8)[:size]
    voxels[: len(start)] = start
    skipped = max(0, offset - len(head))
    complete = read_into(memoryview(bytearray(skipped))) == skipped
    if not complete or read_into(memoryview(voxels.data)[len(start) :]) < size - len(start):
        raise ImageError(f"{label}: broken NIfTI file (it ends before its last voxel); copy it again.")
    stored: Array = voxels.view(dtype)
    return stored.reshape(shape, order="F")


def _slices(voxels: Array, header: Any) -> list[Bytes]:
    from nibabel import orientations

    untyped: Any = orientations
    # A window of percentiles makes slope and intercept irrelevant, unless the slope is negative.
    falling = (header.get_slope_inter()[0] or 1.0) < 0
    low, high = percentile_window([sampled(voxels)])
    axes = _axes(header)
    sides = ([float(side) for side in header.get_zooms()[:3]] + [1.0] * 3)[:3]
    spacing = [sides[axis] for axis in np.argsort(axes[:, 0])]
    shown = untyped.apply_orientation(voxels, axes)[::-1, ::-1].transpose(
        1, 0, 2
    )  # from right to left, from front to back
    slices = []
    for k in range(shown.shape[2]):
        grey = to_bytes(shown[:, :, k], low, high)
        slices.append(_true_proportions(np.invert(grey) if falling else grey, *spacing[:2]))
    return slices


def _true_proportions(grey: Bytes, width: float, height: float) -> Bytes:
    """Stretch the shorter side of voxels of `width` x `height` mm, unless the header's sides make no sense."""
    ratio = width / height if width > 0 and height > 0 else math.nan
    if not 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH or abs(ratio - 1) < _SQUARE:
        return grey
    rows, columns = grey.shape
    size = (round(columns * max(1.0, ratio)), round(rows * max(1.0, 1 / ratio)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR), np.uint8)
