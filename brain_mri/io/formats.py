"""Recognising formats of this trade beside DICOM and NIfTI by their first bytes; naming those not read. No torch.

What is recognised here is read by `io.neuro`, or refused in a sentence that names the format and its converter.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import BinaryIO

from brain_mri.errors import ImageError
from brain_mri.io.untrusted import HEAD_BYTES, MAX_DICOM_BYTES, kind_of, parsing, unrecognised

PAIRED = {"analyze": ".img", "nifti header": ".img", "par": ".rec"}
"""Kinds of headers whose voxels lie in a second file of the same name, and that one's ending."""

VOLUMES = frozenset({"nifti", "mgh", "minc", *PAIRED})
"""Kinds that are read as one volume."""

_MOST_SIDES = 7  # dimensions of an Analyze header
_LARGEST_SIDE = 2**15
_MGH_TYPES = frozenset({0, 1, 3, 4})
_MNC2NII = "mnc2nii brain.mnc brain.nii"
_NAMED = (
    (re.compile(rb"\x89HDF\r\n"), f"an HDF5 file, such as MINC 2: convert it with `{_MNC2NII}`"),
    (re.compile(rb"MATRIX[67]"), "an ECAT file, which is PET: give an MRI"),
    (re.compile(rb"NRRD000"), "an NRRD file: save it as NIfTI (.nii.gz), such as with 3D Slicer"),
    (re.compile(rb"(ObjectType|NDims) *="), "a MetaImage file: save it as NIfTI (.nii.gz), such as with 3D Slicer"),
    (re.compile(rb"\s*type *= *(string|integer|float)-attribute"), "an AFNI header: convert it with "
     "`3dAFNItoNIFTI -prefix brain.nii brain+orig`"),
    (re.compile(rb"MATLAB 5\.0"), "a MATLAB file: save the volume as NIfTI (.nii.gz)"),
    (re.compile(rb"\x93NUMPY"), "a NumPy file: save the volume as NIfTI (.nii.gz)"),
    (re.compile(rb"TRACK\0|mrtrix tracks"), "a file of fibre tracks, which has no pixels: give the scan"),
    (re.compile(rb"##TITLE="), "a Bruker parameter file: convert the scan with `brkraw tonii` or `dcm2niix`"),
    (re.compile(rb"\s*<\?xml.{,300}<GIFTI", re.DOTALL), "a GIFTI file, a surface without pixels: give the scan"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive: unpack it, or pack its files as a zip"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "compressed with zstd: unpack it first"),
)  # fmt: skip
_BY_NAME = (
    (re.compile(r"\.(img|rec)(\.gz)?$", re.IGNORECASE), "the voxels of a volume without their header: give the .hdr "
     "and the .img file, or the .par and the .rec file, together"),
    (re.compile(r"\.brik(\.gz)?$", re.IGNORECASE), "the voxels of an AFNI data set: convert it with "
     "`3dAFNItoNIFTI -prefix brain.nii brain+orig`"),
)  # fmt: skip


def format_of(head: bytes) -> str:
    """Recognise a file by its first `HEAD_BYTES` bytes.

    Returns:
        What `untrusted.kind_of` returns; `mgh`, `minc` (version 1), `analyze`, `nifti header`, `par`; `gzip` for a
        compressed file of another kind; or the empty string.
    """
    kind, packed = kind_of(head), head.startswith(b"\x1f\x8b")
    plain = _unpacked(head) if packed else head
    if kind == "nifti" and (plain[344:348] == b"ni1\0" or plain[4:8] == b"ni2\0"):
        return "gzip" if packed else "nifti header"
    if kind:
        return "gzip" if kind != "nifti" and packed else kind
    if _is_mgh(plain):
        return "mgh"
    if packed:
        return "gzip" if plain else ""
    if plain.startswith(b"CDF\1"):
        return "minc"
    if plain.startswith(b"# ===") and b"DATA DESCRIPTION FILE" in plain:
        return "par"
    return "analyze" if _is_analyze(plain) else ""


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


def _is_mgh(head: bytes) -> bool:
    if len(head) < 30:
        return False
    version, *sides, frames, kind = struct.unpack_from(">6i", head)
    sensible = all(0 < side <= _LARGEST_SIDE for side in (*sides, frames))
    return version == 1 and sensible and kind in _MGH_TYPES


def _is_analyze(head: bytes) -> bool:
    """Whether it is a header of 348 bytes (as it says itself) with sensible sides."""
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            count, *sides = struct.unpack_from(order + "8h", head, 40)
            return 0 < count <= _MOST_SIDES and all(side > 0 for side in sides[:count])
    return False


def unpack(file: BinaryIO, label: str) -> bytes:
    """Unpack a gzip file of one file.

    Raises:
        ImageError: damaged, or larger when unpacked than `MAX_DICOM_BYTES`.
    """
    with parsing(label, "gzip file"):
        decoder, content = zlib.decompressobj(16 + zlib.MAX_WBITS), io.BytesIO()
        while not decoder.eof and (data := decoder.unconsumed_tail or file.read(2**16)):
            content.write(decoder.decompress(data, MAX_DICOM_BYTES + 1 - content.tell()))
            if content.tell() > MAX_DICOM_BYTES:
                raise ImageError(
                    f"{label}: unpacks to more than {MAX_DICOM_BYTES >> 20} MiB; give a smaller file.", "too_large"
                )
        if not decoder.eof:
            raise ImageError(f"{label}: broken gzip file (it ends too early); copy it again.")
        return content.getvalue()


def not_read(head: bytes, label: str) -> ImageError:
    """The error for a file that is not read: it names its format and the way out where these are known."""
    packed = head.startswith(b"\x1f\x8b")
    plain = _unpacked(head) if packed else head
    for pattern, what in _NAMED:
        if pattern.match(plain):
            return ImageError(f"{label}: {'a compressed file, inside it ' if packed else ''}{what}.", "variant")
    for ending, what in _BY_NAME:
        if head and ending.search(label):
            return ImageError(f"{label}: by its name {what}.", "variant")
    return unrecognised(head, label)
