"""Files made to break, to fill or to hold up a reader, each a few lines of code; nothing of it is stored."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.testing import data_path
from PIL import Image
from pydicom.data import get_testdata_file

from brain_mri.io.images import FORMATS
from support.dicom_files import as_mr


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(kind: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    return _saved(Image.fromarray(pixels), kind, **options)


def bundled(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *chunks, (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _zeros(size: int) -> bytes:
    """Deflate (raw) zeros without doing the work for all of them: a block that ends on a byte can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(2**16)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def _raw_zip(name: bytes, packed: bytes, size: int, *, flags: int = 0, method: int = 8, count: int = 1) -> bytes:
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0, 0, len(packed), size, len(name), 0)
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 0, 0, len(packed), size, len(name), 0, 0, 0, 0, 0, 0
    )
    start = len(local) + len(name) + len(packed)
    directory = (entry + name) * count
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, min(count, 65535), min(count, 65535), len(directory), start, 0)
    return local + name + packed + directory + end


def _zip(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def dicom(body: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    """Put explicit little-endian elements behind a DICOM header."""
    return bytes(128) + b"DICM" + _element(2, 0x10, b"UI", syntax) + body


def _element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    long = kind in (b"OB", b"OW", b"SQ", b"UN")
    size = struct.pack("<2xI", len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + kind + size + value


def _picture_elements(rows: int, columns: int, frames: bytes, pixels: bytes) -> bytes:
    numbers = {0x02: 1, 0x10: rows, 0x11: columns, 0x100: 8, 0x101: 8, 0x102: 7, 0x103: 0}
    elements = {number: _element(0x28, number, b"US", struct.pack("<H", value)) for number, value in numbers.items()}
    elements[0x04] = _element(0x28, 0x04, b"CS", b"MONOCHROME2 ")
    elements[0x08] = _element(0x28, 0x08, b"IS", frames)
    return b"".join(elements[number] for number in sorted(elements)) + pixels


def _frames(number: bytes, side: int = 64) -> bytes:
    return _picture_elements(side, side, number, _element(0x7FE0, 0x10, b"OW", bytes(4096)))


def _encapsulated(codestream: bytes, syntax: bytes, side: int = 64) -> bytes:
    codestream += b"\0" * (len(codestream) % 2)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(codestream)) + codestream
    pixels = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return dicom(_picture_elements(side, side, b"1 ", pixels), syntax)


def _large_j2k() -> bytes:
    codestream = bytearray(noise("JPEG2000", irreversible=False))
    start = codestream.find(b"\xff\x4f\xff\x51")
    codestream[start + 8 : start + 16] = struct.pack(">II", 100_000, 100_000)
    codestream[start + 24 : start + 32] = struct.pack(">II", 100_000, 100_000)
    return _encapsulated(bytes(codestream[start:]), b"1.2.840.10008.1.2.4.91")


def _large_jpeg() -> bytes:
    codestream = bytearray(noise("JPEG"))
    start = codestream.find(b"\xff\xc0")
    codestream[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    return bytes(codestream)


def _many_scans() -> bytes:
    """Repeat the last scan of a progressive JPEG, which refines every pixel."""
    whole = _saved(Image.new("L", (4096, 4096), 128), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * 5000 + whole[-2:]


def _tiff(*entries: tuple[int, int, int, int], packed: bytes = b"") -> bytes:
    """Write a directory of (tag, type, count, value) entries; `packed` lies at byte 8."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory + bytes(4)


_TIFF_TAGS = {256: 4096, 257: 4096, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}


def _tiled_tiff() -> bytes:
    """Give a picture of 100 x 100 one tile of 60,000 x 60,000, 3.4 GB of zeros."""
    packed = b"\x78\x9c" + _zeros(2**32)
    tags = {256: 100, 257: 100, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: len(packed)}
    return _tiff(*((tag, 4, 1, value) for tag, value in tags.items()), packed=packed)


def _long_tiff() -> bytes:
    offsets = struct.pack("<I", 8) * 10_000_000
    lists = ((273, 4, 10_000_000, 8), (279, 4, 10_000_000, 8))
    return _tiff(*((tag, 4, 1, value) for tag, value in _TIFF_TAGS.items()), *lists, packed=offsets)


def nifti_header(*shape: int, offset: float = 352, dtype: type = np.float64) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header["dim"][: len(shape) + 1] = (len(shape), *shape)
    header["vox_offset"] = offset
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def gzip_of(raw_deflated: bytes, *, name: bytes = b"") -> bytes:
    flags = 8 if name else 0
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + (name + b"\0" if name else b"") + raw_deflated + bytes(8)


def _stored(content: bytes) -> bytes:
    """Pack as one deflate block that is not the last one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)


def nested(depth: int, *, explicit: bool) -> bytes:
    if explicit:  # lengths are given, hence parsed only where somebody looks inside
        body = b""
        for _ in range(depth):
            body = _element(0x28, 0x3010, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body)
    else:
        body = (b"\x28\0\x10\x30SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * depth
    pixels = _element(0x7FE0, 0x10, b"OW", bytes(64 * 64))
    return dicom(_picture_elements(64, 64, b"1 ", body + pixels))


def _gif_with_a_large_frame() -> bytes:
    content = bytearray(noise("GIF"))
    start = content.find(b"\x2c\0\0\0\0\x40\0\x40\0")
    content[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    return bytes(content)


def _riff(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", 16) + bytes(16)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


_RLE = b"1.2.840.10008.1.2.5\0"
_DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
UPLOADS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\xff",
    "zeros": lambda: bytes(10_000),
    "text": lambda: b"not a picture\n" * 100,
    "html": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "svg of nested entities": lambda: b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa">]><svg>&a;</svg>',
    "pdf": lambda: b"%PDF-1.7\n" + bytes(500),
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
    "pickle": lambda: b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x07exit 42\x85R.",
    "npy": lambda: b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (9, 9), }",
    **{f"{kind} cut off": lambda kind=kind: _cut(noise(kind)) for kind in FORMATS},
    "DICOM cut off": lambda: _cut(bundled("MR_small.dcm")),
    "compressed DICOM cut off": lambda: _cut(as_mr("JPEG2000.dcm")),
    "RLE DICOM cut off": lambda: _cut(bundled("MR_small_RLE.dcm")),
    "NIfTI cut off": lambda: _cut((Path(data_path) / "anatomical.nii").read_bytes()),
    "nii.gz cut off": lambda: _cut((Path(data_path) / "example4d.nii.gz").read_bytes())[:100_000],
    "zip cut off": lambda: _cut(_zip(("a.png", noise("PNG")))),
    "png of 100,000 x 100,000": lambda: png(100_000, 100_000),
    "png of 8,000 x 8,000": lambda: _saved(Image.new("L", (8000, 8000)), "PNG"),
    "png of no width": lambda: png(0, 5),
    "png with a text bomb": lambda: png(9, 9, *[(b"zTXt", b"a\0\0\x78\x9c" + _zeros(2**26))] * 40),
    "png with a profile bomb": lambda: png(9, 9, (b"iCCP", b"a\0\0\x78\x9c" + _zeros(2**31))),
    "jpeg of 65,535 x 65,535": _large_jpeg,
    "jpeg of 5,000 scans": _many_scans,
    "gif of 65,535 x 65,535": lambda: b"GIF89a\xff\xff\xff\xff" + noise("GIF")[10:],
    "gif with a frame of 65,535 x 65,535": _gif_with_a_large_frame,
    "bmp of 100,000 x 100,000": lambda: noise("BMP")[:18] + struct.pack("<II", 100_000, 100_000) + noise("BMP")[26:],
    "webp of 2^24 x 255": lambda: _riff(2**24, 255),
    "webp of 16,383 x 16,383": lambda: _riff(16_383, 16_383),
    "tiff of 100,000 x 100,000": lambda: _tiff(
        *((tag, 4, 1, value) for tag, value in {**_TIFF_TAGS, 256: 100_000, 257: 100_000, 273: 8, 279: 9}.items())
    ),
    "tiff with a huge tile": _tiled_tiff,
    "tiff with ten million strips": _long_tiff,
    "tiff that goes in circles": lambda: b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 8),
    "zip of 4 GB of zeros": lambda: _raw_zip(b"a.png", _zeros(2**32 - 2**20), 2**32 - 2**20),
    "zip that lies about 4 GB": lambda: _raw_zip(b"a.dcm", _stored(dicom(b"")) + _zeros(2**32), 2**27),
    "zip of 4 GB of DICOM": lambda: _raw_zip(b"a.dcm", _stored(dicom(b"")) + _zeros(2**27 - 2**20), 2**27),
    "zip in a zip": lambda: _zip(("a.zip", _zip(("a.png", noise("PNG"))))),
    "zip slip": lambda: _zip(("../../etc/slice.png", noise("PNG"))),
    "zip slip of Windows": lambda: _zip(("..\\..\\slice.png", noise("PNG"))),
    "zip of absolute paths": lambda: _zip(("/etc/slice.png", noise("PNG"))),
    "zip with a drive": lambda: _zip(("C:\\slice.png", noise("PNG"))),
    "encrypted zip": lambda: _raw_zip(b"a.png", bytes(50), 38, flags=1),
    "zip by bzip2": lambda: _raw_zip(b"a.png", bytes(50), 38, method=12),
    "zip of 5,000 files": lambda: _raw_zip(b"a.png", b"", 0, count=5000),
    "zip of 200,000 files": lambda: _raw_zip(b"a", b"", 0, count=200_000),
    "zip of 2,048 headers of DICOM": lambda: _zip(*((f"{i}", dicom(b"")) for i in range(2048))),
    "zip with a broken slice": lambda: _zip(("1", bundled("MR_small.dcm")), ("2", _cut(bundled("MR_small.dcm")))),
    "zip of a broken picture": lambda: _zip(("a.png", _cut(noise("PNG")))),
    "NIfTI of 32,000^3": lambda: nifti_header(32_000, 32_000, 32_000),
    "NIfTI of negative size": lambda: nifti_header(-3, 5, 5),
    "NIfTI of no size": lambda: nifti_header(0, 5, 5),
    "NIfTI of 30,000 slices": lambda: nifti_header(1, 1, 30_000, dtype=np.uint8) + bytes(30_000),
    "NIfTI far away": lambda: nifti_header(9, 9, 9, offset=1e30),
    "NIfTI at infinity": lambda: nifti_header(9, 9, 9, offset=np.inf),
    "nii.gz bomb": lambda: gzip_of(_stored(nifti_header(500, 500, 500)) + _zeros(2**30)),
    "nii.gz bomb before the voxels": lambda: gzip_of(_stored(nifti_header(9, 9, 9, offset=2e9)) + _zeros(2**31)),
    "gzip of 4 GB of zeros": lambda: gzip_of(_zeros(2**32)),
    "gzip with a name of 100 MB": lambda: gzip_of(_zeros(2**20), name=b"a" * 100_000_000),
    "gzip of many parts": lambda: gzip.compress(nifti_header(99, 99, 99)) + gzip.compress(b"") * 1_000_000,
    "DICOM of 65,535 x 65,535": lambda: dicom(_frames(b"1 ", side=65_535)),
    "DICOM of two billion frames": lambda: dicom(_frames(b"2000000000")),
    "DICOM of -1 frames": lambda: dicom(_frames(b"-1")),
    "DICOM of a few frames": lambda: dicom(_frames(b"few ")),
    "deflated DICOM bomb": lambda: dicom(_zeros(2**32), _DEFLATED_SYNTAX),
    "deflated DICOM of empty elements": lambda: dicom(_zeros(2**26), _DEFLATED_SYNTAX),
    "DICOM of empty elements": lambda: dicom(_element(8, 16, b"SH", b"") * 8_000_000),
    "DICOM of empty elements inside": lambda: dicom(
        _picture_elements(64, 64, b"1 ", b"")
        + _element(0x5200, 0x9229, b"SQ", b"\xfe\xff\0\xe0\xff\xff\xff\xff" + _element(8, 16, b"SH", b"") * 8_000_000)
    ),
    "DICOM of millions of fragments": lambda: _encapsulated(b"\xfe\xff\0\xe0\0\0\0\0" * 8_000_000, _RLE),
    "DICOM nested 20,000 deep": lambda: nested(20_000, explicit=False),
    "JPEG 2000 of 100,000 x 100,000 in DICOM": _large_j2k,
    "JPEG of 65,535 x 65,535 in DICOM": lambda: _encapsulated(_large_jpeg(), b"1.2.840.10008.1.2.4.50"),
    "DICOM by an unknown syntax": lambda: _encapsulated(bytes(64), b"1.2.3.4\0"),
    "film": lambda: b"\0\0\0\x20ftypisom" + bytes(100),
}  # fmt: skip
