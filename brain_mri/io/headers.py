"""The headers of compressed pictures, checked before a decoder reads them. No torch.

A decoder allocates what a header asks for, so a few bytes can cost minutes and gigabytes.
"""

from __future__ import annotations

import re
import struct

from brain_mri.errors import ImageError
from brain_mri.io.untrusted import MAX_PIXELS, MAX_SLICES

# A progressive JPEG has about 10 scans; each costs a pass over all pixels and can be a few bytes long.
MAX_JPEG_SCANS = 100
# A picture of MAX_PIXELS has as many tiles of 16 x 16, the smallest that TIFF allows.
_MAX_TIFF_VALUES = MAX_PIXELS // 256
_MAX_TIFF_ENTRIES = 4096  # of a directory; a picture has about 20
_MAX_ALL_ENTRIES = 2**16  # of all directories; each costs Pillow 12 microseconds
_MAX_ALL_VALUES = 2**21
_TIFF_BYTE_TYPES = frozenset({1, 2, 6, 7})  # Pillow keeps them as bytes, whatever their number
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_MARKER = re.compile(rb"\xff[^\0\x01\xd0-\xd8\xff]")  # of JPEG; the excluded ones are data, or have no segment
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0 to SOF15, and JPEG-LS

_ALONE = range(0xD0, 0xDA)  # markers of JPEG without a segment
_LEAST_BITS = 2  # of lossless JPEG and JPEG-LS


def check_jpeg(content: bytes, label: str) -> tuple[int, int] | None:
    """Walk through the segments of a JPEG or JPEG-LS stream up to its end.

    Returns:
        The largest width and height of a frame header, or None without one.

    Raises:
        ImageError: more than `MAX_JPEG_SCANS` scans.
    """
    size, scans, position = None, 0, 2
    while match := _MARKER.search(content, position):
        marker, position = match[0][1], match.end()
        if marker == 0xD9:
            break
        if marker in _FRAME_HEADERS and len(content) >= position + 7:
            height, width = struct.unpack_from(">HH", content, position + 3)
            size = (width, height) if size is None else (max(width, size[0]), max(height, size[1]))
        scans += marker == 0xDA
        if scans > MAX_JPEG_SCANS:
            raise ImageError(f"{label}: a JPEG of more than {MAX_JPEG_SCANS} scans; save it again.", "variant")
        position += max(2, int.from_bytes(content[position : position + 2]))
    return size


def check_frame(codestream: bytes, rows: int, columns: int, label: str) -> None:
    """Compare a compressed DICOM frame's own header with the size that the DICOM file gives.

    JPEG, JPEG-LS and JPEG 2000 are checked; other kinds pass.

    Raises:
        ImageError: they differ, or the stream has more than 4 components or too many scans.
    """
    size, components = None, 1
    if codestream.startswith(b"\xff\xd8"):
        size = check_jpeg(codestream, label)
    elif (start := _jpeg2000_start(codestream, label)) is not None and len(codestream) >= start + 42:
        right, bottom, left, top = struct.unpack_from(">4I", codestream, start + 8)
        size, components = (right - left, bottom - top), struct.unpack_from(">H", codestream, start + 40)[0]
    if components > 4 or size not in (None, (columns, rows)):
        raise ImageError(f"{label}: its compressed pixels have another size than its header says; export it again.")


def check_for_gdcm(codestream: bytes, samples: int, bits: int, label: str) -> None:
    """Walk through the segments of a lossless JPEG or JPEG-LS stream up to its pixels.

    GDCM throws what ends the whole process: at whatever its JPEG library warns of, and at a frame that is not what the
    DICOM header says. `samples` a pixel and `bits` a sample are allocated by that.

    Raises:
        ImageError: bytes between the segments, another frame header, or a JFIF or Adobe segment of an unknown version.
    """
    position = 2
    while codestream[position : position + 2] != b"\xff\xda":
        if codestream[position : position + 2] == b"\xff\xff":  # a byte that fills
            position += 1
            continue
        length = int.from_bytes(codestream[position + 2 : position + 4])
        end = position + 2 + length
        if codestream[position : position + 1] != b"\xff" or not _is_sound(
            codestream[position + 1], codestream[position + 4 : end], length - 2, samples, bits
        ):
            raise ImageError(f"{label}: damaged before its compressed pixels; export it again.")
        position = end


def _is_sound(marker: int, content: bytes, length: int, samples: int, bits: int) -> bool:
    """Whether a segment of a JPEG stream is what GDCM can read, as far as is known."""
    if len(content) != length or marker < min(_FRAME_HEADERS) or marker in _ALONE:
        return False
    if marker in _FRAME_HEADERS:
        return length == 6 + 3 * samples and content[5] == samples and _LEAST_BITS <= content[0] <= min(bits, 16)
    if content.startswith(b"JFIF\0"):
        return content[5:6] == b"\1"
    return not content.startswith(b"Adobe") or content[11:12] <= b"\1"


def _jpeg2000_start(codestream: bytes, label: str) -> int | None:
    """Find where the JPEG 2000 stream begins, behind the boxes of a JP2 file if it is in one; None for other kinds."""
    start = 0
    if codestream.startswith(b"\0\0\0\x0cjP  "):
        while start < len(codestream) and codestream[start + 4 : start + 8] != b"jp2c":
            length = int.from_bytes(codestream[start : start + 4])
            if length < 8:  # with 0, pydicom 3.0 never ends (get_j2k_parameters)
                raise ImageError(f"{label}: damaged between the parts of its compressed pixels; export it again.")
            start += length
        start += 8
    elif not codestream.startswith(b"\xff\x4f"):
        return None
    if codestream[start : start + 4] != b"\xff\x4f\xff\x51":
        raise ImageError(f"{label}: its compressed pixels begin without their size; export it again.")
    return start


def check_tiff(content: bytes, label: str) -> None:
    """Look at the directories of a TIFF file: there is one for each page.

    Raises:
        ImageError: there are more directories, entries or values than pages can need, or tiles are larger than
            `MAX_PIXELS`.
    """
    order = "<" if content.startswith(b"II") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    seen: set[int] = set()
    entries = values = 0
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
        while start and start not in seen:
            seen.add(start)
            if len(seen) > MAX_SLICES:
                raise ImageError(
                    f"{label}: a TIFF of more than {MAX_SLICES:,} pages; give a part of them.", "too_large"
                )
            start, count, listed = _check_tiff_directory(content, start, order, big, label)
            entries, values = entries + count, values + listed
            if entries > _MAX_ALL_ENTRIES or values > _MAX_ALL_VALUES:
                raise ImageError(f"{label}: a TIFF whose directories list too much for its pages; save it again.")
    except struct.error:
        return  # the directory is cut off, which Pillow reports


def _check_tiff_directory(content: bytes, start: int, order: str, big: bool, label: str) -> tuple[int, int, int]:
    """Check one directory; where the next one begins (0 after the last), how many entries it has, and values they."""
    header, entry = ("Q", "HHQQ") if big else ("H", "HHII")
    tile = {_TILE_WIDTH: 1, _TILE_LENGTH: 1}
    (count,) = struct.unpack_from(order + header, content, start)
    start += struct.calcsize(order + header)
    size = struct.calcsize(order + entry)
    if count > _MAX_TIFF_ENTRIES:
        raise ImageError(f"{label}: a TIFF whose directory has {count:,} entries; save it again.")
    values = 0
    for i in range(count):
        position = start + i * size
        tag, kind, number, _ = struct.unpack_from(order + entry, content, position)
        if number > _MAX_TIFF_VALUES and kind not in _TIFF_BYTE_TYPES:
            raise ImageError(f"{label}: a TIFF whose directory lists {number:,} values; save it again.")
        values += 0 if kind in _TIFF_BYTE_TYPES else number
        if tag in tile and kind in (3, 4):
            (tile[tag],) = struct.unpack_from(order + " HI"[kind - 2], content, position + (12 if big else 8))
    if tile[_TILE_WIDTH] * tile[_TILE_LENGTH] > MAX_PIXELS:
        raise ImageError(
            f"{label}: a TIFF with tiles of more than {MAX_PIXELS:,} pixels; save it again without tiles.", "too_large"
        )
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), content, start + count * size)
    return int(following), count, values
