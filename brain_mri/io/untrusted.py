"""Opening a user's files safely, recognising them by their first bytes, and limiting their size. No torch.

A file's extension is never trusted, and nothing is ever unpacked to the disk.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from brain_mri.errors import ImageError
from brain_mri.io.quiet import quiet

# The public Space has two cores and little memory: an accepted file must need at most 500 MB more than the program
# itself. Pillow holds 4 bytes a pixel in RGB, a progressive JPEG 6 more while it is decoded, and a
# conversion holds two pictures: 2^25 pixels (5,792 x 5,792) come to about 400 MB. An MRI slice has 2^18.
MAX_PIXELS = 2**25
# 2^25 pixels of an uncompressed RGB picture are 96 MiB; a larger file holds something else as well.
MAX_PICTURE_BYTES = 2**27
# A DICOM file is held twice while it is parsed: once as it came, once as the pixel data cut out of it.
MAX_DICOM_BYTES = 2**27
# A head in slices of 0.25 mm has fewer.
MAX_SLICES = 1024
# Voxels of all slices together, kept with 1 byte each (3 in colour): 512 x 512 x 512.
MAX_VOXELS = 2**27
# Bytes of a NIfTI volume as stored; with the 8-bit slices made of it, 384 MiB.
MAX_VOLUME_BYTES = 2**28
# A zip or a folder: of its files only one is in memory at a time.
MAX_ARCHIVE_BYTES = 2**29
MAX_MEMBERS = 2048

HEAD_BYTES = 1024  # enough to recognise every kind
_PICTURES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|BM|GIF8[79]a", re.DOTALL)
# A DICOM file without its preamble starts with an element of group 2 or 8 and a small element number.
_BARE_DICOM = re.compile(rb"[\x02\x08]\0[\0-\x2f]\0|\0[\x02\x08]\0[\0-\x2f]", re.DOTALL)
_OTHERS = (
    (re.compile(rb"%PDF"), "a PDF document"),
    (
        re.compile(rb"\s*<(\?xml|svg|!DOCTYPE|html)", re.IGNORECASE),
        "a web page or a drawing (SVG), which has no pixels",
    ),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "a PostScript document"),
    (re.compile(rb"Rar!|7z\xbc\xaf|\xfd7zXZ|BZh|\x1f\x8b"), "compressed, and neither a zip nor a NIfTI volume"),
    (re.compile(rb"....ftyp", re.DOTALL), "a film or an HEIC or AVIF picture"),
)


def label_of(source: object, name: str | None) -> str:
    """A source's name for messages, on one printable line: `name` if given, else its path as the user wrote it."""
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else "the given bytes"
    return printable(name, limit=300)


def printable(text: str, limit: int = 80) -> str:
    """Untrusted text on one line: control characters become `?`, the middle of a long text `...`."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else f"{text[: limit // 2]}...{text[-limit // 2 :]}"


def kind_of(head: bytes) -> str:
    """Recognise a file by its first `HEAD_BYTES` bytes.

    Returns:
        `picture`, `dicom`, `nifti` (also when compressed by gzip), `zip`, or the empty string for anything else.
    """
    if head[128:132] == b"DICM":  # before pictures: the standard allows a TIFF header in front of a DICOM file
        return "dicom"
    if _PICTURES.match(head):
        return "picture"
    if head.startswith(b"\x1f\x8b"):
        head = _unpacked(head)
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    return "dicom" if _BARE_DICOM.match(head) else ""


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""  # which is of no known kind


def unrecognised(head: bytes, label: str) -> ImageError:
    """The error for a file of an unknown kind, which says what the file is if it is recognised."""
    what = "the file is empty (0 bytes)" if not head else ""
    for pattern, description in _OTHERS:
        if not what and pattern.match(head):
            what = f"it is {description}"
    return ImageError(f"{label}: not a picture that can be read{what and ': ' + what}; remove or replace it.")


@contextmanager
def opened(source: str | Path | bytes, label: str) -> Iterator[BinaryIO]:
    """Open a regular file, or bytes, for reading; a symbolic link is followed.

    Raises:
        ImageError: no such file, a folder, a pipe or a device, or not allowed to be read.
    """
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):  # opening a pipe would wait for its writer
            raise ImageError(f"{label}: a folder, a pipe or a device, not a file; name the picture itself.")
        file = open(source, "rb")  # noqa: SIM115 (closed below, where the errors of the caller's block are not caught)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{label}: no such file.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or "not a path"
        raise ImageError(f"{label}: can't be opened ({reason}); check its name and its permissions.") from error
    with file:
        try:
            yield file
        except OSError as error:
            if error.errno is None:  # a decoder's own
                raise
            raise ImageError(f"{label}: can't be read ({error.strerror}); copy it elsewhere or replace it.") from error


def peek(file: BinaryIO) -> bytes:
    """The first `HEAD_BYTES` bytes; the file is then at its start again."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head


def read_all(file: BinaryIO, limit: int, label: str) -> bytes:
    """Read a whole file.

    Raises:
        ImageError: it has more than `limit` bytes.
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ImageError(
            f"{label}: larger than {limit >> 20} MiB; give a smaller file, or its slices one by one.", "too_large"
        )
    return content


def check_size(width: int, height: int, label: str, slices: int = 1) -> None:
    """Check the size of a picture or a volume before memory is allocated for it.

    Raises:
        ImageError: empty, or more than `MAX_PIXELS` a slice, `MAX_SLICES` slices or `MAX_VOXELS` in all.
    """
    if min(width, height, slices) < 1:
        raise ImageError(f"{label}: says that it has {width} x {height} pixels in {slices} slices; it is damaged.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{label}: says that it has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,}; "
            "give a smaller picture.",
            "too_large",
        )
    if slices > MAX_SLICES or width * height * slices > MAX_VOXELS:
        raise ImageError(
            f"{label}: {slices:,} slices of {width:,} x {height:,} are more than {MAX_SLICES:,} slices or "
            f"{MAX_VOXELS:,} voxels; give a part of the volume.",
            "too_large",
        )


@contextmanager
def parsing(label: str, what: str) -> Iterator[None]:
    """Turn whatever a parser of untrusted bytes raises into one sentence.

    Damaged files make the parsers raise nearly every class of exception (KeyError, struct.error, RecursionError,
    MemoryError ...), so all are caught here. Their messages may quote the file, including a patient's name, and stay in
    the exception's cause; their warnings and log records are dropped.

    Raises:
        ImageError: the block raised.
    """
    try:
        with quiet():
            yield
    except ImageError:
        raise
    except BaseException as error:
        # A panic of a decoder in Rust (pylibjpeg-rle) is a BaseException, but no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ImageError(
            f"{label}: broken {what} (damaged, cut off, or of a variant that is not read); remove or replace it."
        ) from error
