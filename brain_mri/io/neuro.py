"""Reading the volumes of neuroimaging: NIfTI, FreeSurfer, Analyze, MINC 1 and Philips PAR/REC. No torch.

nibabel reads the headers; voxels are read here, within the limits of `io.untrusted`.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from brain_mri.errors import ImageError
from brain_mri.io.nifti import Layout, anatomy, read_nifti, read_voxels, reader, to_grey
from brain_mri.io.parrec import read_parrec
from brain_mri.io.planes import NORMALS, Grid, acquired_plane, check_stored, sensible
from brain_mri.io.untrusted import HEAD_BYTES, MAX_PICTURE_BYTES, parsing, peek, read_all

Found = tuple[Grid, list[str]]

_MGH_VOXELS = 284
_MAX_MINC_READS = 200_000  # a header of some hundred entries takes thousands
_MAX_MINC_VOXELS = 2**25  # nibabel holds each as 8 bytes


def read_volume(kind: str, file: BinaryIO, label: str, voxel_file: BinaryIO | None) -> Found:
    """Read the first volume of a file of one of the kinds `formats.VOLUMES`; notes and errors as `nifti.read_nifti`.

    Args:
        kind: as `formats.format_of` gives it.
        file: the file, or the header of a pair.
        label: what it is called in errors.
        voxel_file: the second file of a pair; None where there is none.
    """
    if kind in ("nifti", "nifti header"):
        return read_nifti(file, label, voxel_file if kind == "nifti header" else None)
    readers: dict[str, Callable[[], Found]] = {
        "mgh": lambda: _read_mgh(file, label),
        "minc": lambda: _read_minc(file, label),
        "analyze": lambda: _read_analyze(file, label, voxel_file),
        "par": lambda: read_parrec(file, label, voxel_file),
    }
    return readers[kind]()


def outline(kind: str, head: bytes) -> tuple[str, int]:
    """The plane of acquisition and how many slices a volume has in it, by its first bytes; "" and 0 if not told."""
    try:
        with parsing("", kind):
            return _outline(kind, head)
    except ImageError:  # what is wrong with a header is said when the volume is read
        return "", 0


def _outline(kind: str, head: bytes) -> tuple[str, int]:
    from nibabel.freesurfer.mghformat import MGHHeader
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spm99analyze import Spm99AnalyzeHeader

    if head.startswith(b"\x1f\x8b"):
        head = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    nifti: Any = Nifti2Header if head[4:8] in (b"n+2\0", b"ni2\0") else Nifti1Header
    headers: dict[str, Any] = {
        "nifti": nifti, "nifti header": nifti, "mgh": MGHHeader, "analyze": Spm99AnalyzeHeader
    }  # fmt: skip
    if kind not in headers:
        return "", 0
    template = headers[kind].template_dtype.itemsize
    header = headers[kind](head[:template].ljust(template, b"\0"), check=False)
    shape = (*(int(side) for side in header.get_data_shape()), 1, 1)[:3]
    order = np.argsort(anatomy(header.get_best_affine())[:, 0])
    sides = sensible(header.get_zooms())
    plane = acquired_plane(tuple(shape[i] for i in order), (sides[order[0]], sides[order[1]], sides[order[2]]))
    return plane, shape[order[NORMALS[plane]]]


def _read_mgh(file: BinaryIO, label: str) -> Found:
    from nibabel.freesurfer.mghformat import MGHHeader

    with parsing(label, "FreeSurfer file (.mgz)"):
        read_into = reader(file, label)
        buffer = bytearray(HEAD_BYTES)
        head = bytes(buffer[: read_into(memoryview(buffer))])
        untyped: Any = MGHHeader
        header = untyped(head[: untyped.template_dtype.itemsize].ljust(untyped.template_dtype.itemsize, b"\0"))
        x, y, z, *frames = [*(int(side) for side in header["dims"]), 1, 1]
        layout = Layout((x, y, z), header.get_data_dtype(), _MGH_VOXELS)
        voxels = read_voxels(layout, head, read_into, label)
        grid = Grid(to_grey(voxels), anatomy(header.get_affine()), sensible(header["delta"]))
    return grid, [f"of {frames[0]:,} volumes in the file the first is read"] if frames[0] > 1 else []


def _read_analyze(file: BinaryIO, label: str, voxel_file: BinaryIO | None) -> Found:
    from nibabel.spm99analyze import Spm99AnalyzeHeader

    if voxel_file is None:
        raise ImageError(
            f"{label}: an Analyze header without its voxels: give the .hdr and the .img file together.", "incomplete"
        )
    with parsing(label, "Analyze file"):
        untyped: Any = Spm99AnalyzeHeader
        header = untyped(peek(file)[: untyped.template_dtype.itemsize], check=False)
        x, y, z, *times = [int(side) for side in header.get_data_shape()] + [1] * 4
        layout = Layout((x, y, z), header.get_data_dtype(), int(header["vox_offset"]))
        voxels = read_voxels(layout, b"", reader(voxel_file, label), label)
        falling = (header.get_slope_inter()[0] or 1.0) < 0
        grid = Grid(to_grey(voxels, falling), anatomy(header.get_best_affine()), sensible(header.get_zooms()))
    notes = ["the format Analyze does not say which side is left: the slices may be mirrored"]
    return grid, [*notes, *([f"of {times[0]:,} volumes in the file the first is read"] if times[0] > 1 else [])]


class _Counted(io.BytesIO):
    """Bytes that allow `_MAX_MINC_READS` reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_MINC_READS:
            raise ValueError("more entries than a volume can need")
        return super().read(size)


def _read_minc(file: BinaryIO, label: str) -> Found:
    from nibabel.externals.netcdf import netcdf_file
    from nibabel.minc1 import Minc1File

    content = read_all(file, MAX_PICTURE_BYTES, label)
    with parsing(label, "MINC file"):
        untyped: Any = Minc1File
        minc = untyped(netcdf_file(_Counted(content)))
        shape = tuple(int(side) for side in minc.get_data_shape())
        if len(shape) < 3:
            raise ImageError(f"{label}: a MINC file without a volume; give one of three dimensions.", "no_scan")
        check_stored((shape[-3], shape[-2], shape[-1]), label)
        if math.prod(shape[-3:]) > _MAX_MINC_VOXELS:
            raise ImageError(
                f"{label}: too large for a MINC file; convert it with `mnc2nii brain.mnc brain.nii`.", "too_large"
            )
        if not all(name.endswith("space") for name in minc._dim_names[-3:]):
            raise ImageError(f"{label}: its dimensions are in an unusual order; convert it with `mnc2nii`.", "variant")
        first = np.asarray(minc.get_scaled_data((0,) * (len(shape) - 3)) if len(shape) > 3 else minc.get_scaled_data())
        grid = Grid(to_grey(first), anatomy(minc.get_affine()), sensible(minc.get_zooms()[-3:]))
    volumes = math.prod(shape[:-3])
    return grid, [f"of {volumes:,} volumes in the file the first is read"] if volumes > 1 else []
