"""Reading Philips PAR/REC: magnitude pictures of the first echo, repeat and diffusion weight. No torch."""

from __future__ import annotations

import io
import math
from collections import Counter
from typing import Any, BinaryIO

import numpy as np

from brain_mri.errors import ImageError
from brain_mri.io.nifti import anatomy, to_grey
from brain_mri.io.planes import Grid, check_stored, sensible
from brain_mri.io.untrusted import MAX_VOLUME_BYTES, parsing, read_all
from brain_mri.io.windowing import Array

_MAX_HEADER_BYTES = 2**23
_MAX_LINES = 8192  # one a picture; nibabel takes 0.1 ms for each
_KINDS = {0: "magnitude", 1: "real part", 2: "imaginary part", 3: "phase"}
_APART = {  # what tells pictures of one place apart, and what to call it
    "scanning sequence": "sequences",
    "echo number": "echoes",
    "cardiac phase number": "cardiac phases",
    "diffusion b value number": "diffusion weights",
    "gradient orientation number": "diffusion directions",
    "label type": "labels",
    "dynamic scan number": "repeats",
}


def read_parrec(file: BinaryIO, label: str, voxel_file: BinaryIO | None) -> tuple[Grid, list[str]]:
    """Read a .par file and its .rec file; notes as `nifti.read_nifti`.

    Raises:
        ImageError: the .rec file is missing, no magnitude picture, damaged, or beyond the limits of `io.untrusted`.
    """
    if voxel_file is None:
        raise ImageError(
            f"{label}: a Philips header without its pictures: give the .par and the .rec file together.", "incomplete"
        )
    content = read_all(file, _MAX_HEADER_BYTES, label)
    if content.count(b"\n") > _MAX_LINES:
        raise ImageError(f"{label}: more than {_MAX_LINES:,} pictures; give a part of them.", "too_large")
    with parsing(label, "PAR/REC file"):
        from nibabel import parrec

        untyped: Any = parrec
        general, pictures = untyped.parse_PAR_header(io.StringIO(content.decode("latin-1")))
        chosen, notes = _chosen(pictures, label)
        header = untyped.PARRECHeader(general, pictures[chosen], permit_truncated=True)
        voxels = _voxels(pictures, chosen, voxel_file, label)
        grid = Grid(to_grey(voxels), anatomy(header.get_affine()), sensible(header.get_zooms()[:3]))
    return grid, notes


def _chosen(pictures: Array, label: str) -> tuple[Array, list[str]]:
    """The numbers of the pictures that are judged, in order of their slices, and notes on the others."""
    kinds = Counter(_KINDS.get(int(kind), "derived map") for kind in pictures["image_type_mr"])
    others = [f"{count} of {kind}" for kind, count in kinds.items() if kind != "magnitude"]
    if not kinds["magnitude"]:
        raise ImageError(
            f"{label}: holds no magnitude picture ({', '.join(others)}); give the magnitude pictures.", "no_scan"
        )
    notes = [f"left out, since only magnitude pictures are judged: {', '.join(others)}"] if others else []
    chosen = np.flatnonzero(pictures["image_type_mr"] == 0)
    for field, what in _APART.items():
        if field in (pictures.dtype.names or ()) and len(values := np.unique(pictures[field][chosen])) > 1:
            chosen = chosen[pictures[field][chosen] == values[0]]
            notes.append(f"of {len(values)} {what} the first is read")
    _, first = np.unique(pictures["slice number"][chosen], return_index=True)  # sorted by their slices
    return chosen[first], notes


def _voxels(pictures: Array, chosen: Array, file: BinaryIO, label: str) -> Array:
    """The values that Philips displays: float32 of shape (x, y, slices)."""
    first = pictures[chosen[0]]
    width, height, bits = (int(one) for one in (*first["recon resolution"], first["image pixel size"]))
    same = pictures[["recon resolution", "image pixel size"]]
    if bits not in (8, 16) or (same != same[chosen[0]]).any():
        raise ImageError(
            f"{label}: its pictures differ in size, or have neither 8 nor 16 bits; convert it to NIfTI.", "variant"
        )
    check_stored((width, height, len(chosen)), label)
    if 4 * math.prod((width, height, len(chosen))) > MAX_VOLUME_BYTES:
        raise ImageError(
            f"{label}: a volume of more than {MAX_VOLUME_BYTES >> 20} MiB; convert it to NIfTI.", "too_large"
        )
    size = width * height * bits // 8
    voxels = np.empty((len(chosen), height, width), np.float32)
    for k, picture in enumerate(pictures[chosen]):
        file.seek(int(picture["index in REC file"]) * size)
        stored = file.read(size)
        if len(stored) < size:
            raise ImageError(f"{label}: its .rec file ends before its last picture; copy it again.")
        values = np.frombuffer(stored, f"<u{bits // 8}").reshape(height, width)
        voxels[k] = values * float(picture["rescale slope"]) + float(picture["rescale intercept"])
    return voxels.transpose(2, 1, 0)
