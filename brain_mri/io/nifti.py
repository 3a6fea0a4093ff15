"""Reading the first volume of a NIfTI file. No torch."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from brain_mri.errors import ImageError
from brain_mri.io.planes import Grid, check_stored, sensible
from brain_mri.io.untrusted import HEAD_BYTES, MAX_VOLUME_BYTES, parsing, peek
from brain_mri.io.windowing import Array, Bytes, percentile_window, sampled, to_bytes

_CHUNK = 2**16
_MAX_SKIPPED = 2**24  # bytes of extensions between header and voxels, usually kilobytes
_MAX_MEMBERS = 2**13  # of a gzip file; bgzip makes one for every 64 KiB
NO_SCAN = frozenset({*range(2, 25), *range(3001, 3016)})  # intent codes of maps of statistics, and of CIFTI


def read_nifti(file: BinaryIO, label: str, voxel_file: BinaryIO | None = None) -> tuple[Grid, list[str]]:
    """Read the first volume of a .nii or .nii.gz file, or of a pair of files (.hdr and .img), whatever the extensions.

    The grey values have one window, the 1st to the 99th percentile of the volume.

    Args:
        file: the file, or the header of a pair.
        label: what it is called in errors.
        voxel_file: the second file of a pair.

    Returns:
        The volume, and notes: what was not read, a sentence each without its full stop.

    Raises:
        ImageError: not NIfTI, damaged, cut off, in colour, or beyond the limits of `brain_mri.io.untrusted`.
    """
    with parsing(label, "NIfTI file"):
        read_into = reader(file, label)
        head = bytearray(HEAD_BYTES)
        head = head[: read_into(memoryview(head))]
        header = _header(bytes(head), label, paired=voxel_file is not None)
        volumes = math.prod(int(side) for side in header.get_data_shape()[3:])
        if voxel_file is not None:
            head, read_into = bytearray(), reader(voxel_file, label)
        layout = Layout(_shape(header), header.get_data_dtype(), int(header["vox_offset"]))
        voxels = read_voxels(layout, bytes(head), read_into, label)
        # A window of percentiles makes slope and intercept irrelevant, unless the slope is negative.
        falling = (header.get_slope_inter()[0] or 1.0) < 0
        grid = Grid(to_grey(voxels, falling), anatomy(header.get_best_affine()), sensible(header.get_zooms()))
    return grid, [f"of {volumes:,} volumes in the file the first is read"] if volumes > 1 else []


@dataclass(frozen=True)
class Layout:
    """Where the voxels of a file lie: their shape (a, b, c), the first axis running fastest, type and first byte."""

    shape: tuple[int, int, int]
    dtype: Any
    offset: int


def reader(file: BinaryIO, label: str) -> Callable[[memoryview], int]:
    """A function that fills a buffer with the next bytes of a file, unpacked if it is gzip, and returns how many."""
    return _inflater(file, label) if peek(file).startswith(b"\x1f\x8b") else _plain(file)


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
                    raise ImageError(
                        f"{label}: a gzip file of more than {_MAX_MEMBERS:,} parts; pack it again.", "too_large"
                    )
            part = decoder.decompress(data, len(view) - filled)
            view[filled : filled + len(part)] = part
            filled += len(part)
            if not data and not part:
                break
        return filled

    return read_into


def _header(head: bytes, label: str, paired: bool) -> Any:
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    first = head[344:348] in (b"n+1\0", b"ni1\0")
    if (head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0") and not paired:
        raise ImageError(
            f"{label}: a NIfTI header without its voxels: give the .hdr and the .img file together.", "incomplete"
        )
    kind: Any = (
        (Nifti1PairHeader if paired else Nifti1Header) if first else Nifti2PairHeader if paired else Nifti2Header
    )
    # Unchecked, because nibabel repairs headers and prints to stderr; the values in use are checked here.
    header = kind(head[: kind.template_dtype.itemsize], check=False)
    if int(header["intent_code"]) in NO_SCAN:
        raise ImageError(f"{label}: a map of statistics by its header, not a scan; give the scan.", "no_scan")
    return header


def anatomy(affine: Array) -> Array:
    """For each axis of a file its anatomical axis (right, front, top) and its sign: shape (3, 2)."""
    from nibabel import orientations

    untyped: Any = orientations  # nibabel is typed only in part
    plain = np.array([[0, 1], [1, 1], [2, 1]])
    if not np.isfinite(affine).all() or abs(np.linalg.det(np.asarray(affine)[:3, :3])) == 0:
        return plain  # a header that says nothing sensible
    axes: Array = np.asarray(untyped.io_orientation(affine))
    return axes if np.isfinite(axes).all() else plain


def _shape(header: Any) -> tuple[int, int, int]:
    x, y, z = (*(int(side) for side in header.get_data_shape()), 1, 1, 1)[:3]
    return x, y, z


def read_voxels(layout: Layout, head: bytes, read_into: Callable[[memoryview], int], label: str) -> Array:
    """Read the stored numbers of the first volume: shape `layout.shape`.

    Args:
        layout: where they lie.
        head: what was read of the file already.
        read_into: reads on, see `reader`.
        label: what the file is called in errors.

    Raises:
        ImageError: in colour, beyond the limits, or cut off.
    """
    shape, dtype, offset = layout.shape, np.dtype(layout.dtype), layout.offset
    if dtype.kind not in "iuf":
        raise ImageError(
            f"{label}: its voxels are colours or complex numbers; save it with one plain number each.", "variant"
        )
    check_stored(shape, label)
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_VOLUME_BYTES:
        raise ImageError(
            f"{label}: a volume of more than {MAX_VOLUME_BYTES >> 20} MiB; save it with 16-bit numbers.", "too_large"
        )
    if not 0 <= offset <= _MAX_SKIPPED:
        raise ImageError(f"{label}: says that its voxels begin at byte {offset:,}; it is damaged.")
    voxels: Bytes = np.empty(size, np.uint8)
    start = np.frombuffer(head[offset:], np.uint8)[:size]
    voxels[: len(start)] = start
    skipped = max(0, offset - len(head))
    complete = read_into(memoryview(bytearray(skipped))) == skipped
    if not complete or read_into(memoryview(voxels.data)[len(start) :]) < size - len(start):
        raise ImageError(f"{label}: broken file (it ends before its last voxel); copy it again.")
    stored: Array = voxels.view(dtype)
    return stored.reshape(shape, order="F")


def to_grey(voxels: Array, falling: bool = False) -> Bytes:
    """Show a volume from its 1st to its 99th percentile: uint8 of the same shape; `falling` turns black to white."""
    turned = voxels.T if voxels.flags.f_contiguous else voxels  # in the order of the memory, which is faster
    grey = to_bytes(turned, *percentile_window([sampled(voxels)]))
    grey = np.invert(grey, out=grey) if falling else grey
    return grey.T if voxels.flags.f_contiguous else grey
