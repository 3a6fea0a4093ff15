"""Files made to break, to fill or to hold up a reader; each is read in a process of its own, whose cost is measured."""

from __future__ import annotations

import gzip
import io
import json
import os
import runpy
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from PIL import Image
from pydicom.data import get_testdata_file

from brain_mri.errors import ImageError
from brain_mri.images import FORMATS, read_image
from brain_mri.sources import MAX_PIXELS
from brain_mri.volumes import read_slices

_SECONDS, _MEGABYTES = 2.0, 500
_ROOT = Path(__file__).parents[1]
_fuzzer = runpy.run_path(str(_ROOT / "benchmarks" / "fuzz_images.py"))
_REGRESSIONS = Path(__file__).parent / "regressions"

# Reads each file in a fork of a process that has everything imported, so that a peak is the file's own; a limit on the
# address space keeps a failing test from taking the machine with it. CPU seconds, so that a busy machine doesn't fail.
_MEASURE = """
import json, os, resource, sys, time, warnings
import brain_mri.dicom, brain_mri.nifti, pydicom, nibabel, pydicom.pixels.decoders, nibabel.orientations
from brain_mri.errors import ImageError
from brain_mri.images import FORMATS, read_image
from brain_mri.volumes import read_slices
warnings.simplefilter("ignore")
read_slices(sys.argv[1])
space = int(open("/proc/self/statm").read().split()[0]) * 4096 + 2**31
for line in sys.stdin:
    path, reader = json.loads(line)
    read, write = os.pipe()
    if not os.fork():
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, wall = time.process_time(), time.monotonic()
        try:
            {"image": read_image, "slices": read_slices}[reader](path, "upload")
            kind, message = "read", ""
        except BaseException as error:
            kind, message = type(error).__name__, str(error)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(write, json.dumps({
            "kind": kind, "message": message, "cpu": time.process_time() - start, "wall": time.monotonic() - wall,
            "megabytes": (peak - before) / 1024,
        }).encode())
        os._exit(0)
    os.close(write)
    status = os.wait()[1]
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read().decode()
    print(found or json.dumps({"kind": f"ended by {status}", "message": "", "cpu": 99, "wall": 99, "megabytes": 0}))
    sys.stdout.flush()
"""


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(kind: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    return _saved(Image.fromarray(pixels), kind, **options)


def _bundled(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
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


def _dicom(body: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
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
    return _dicom(_picture_elements(side, side, b"1 ", pixels), syntax)


def _large_j2k() -> bytes:
    codestream = bytearray(_noise("JPEG2000", irreversible=False))
    start = codestream.find(b"\xff\x4f\xff\x51")
    codestream[start + 8 : start + 16] = struct.pack(">II", 100_000, 100_000)
    codestream[start + 24 : start + 32] = struct.pack(">II", 100_000, 100_000)
    return _encapsulated(bytes(codestream[start:]), b"1.2.840.10008.1.2.4.91")


def _large_jpeg() -> bytes:
    codestream = bytearray(_noise("JPEG"))
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


def _nifti_header(*shape: int, offset: float = 352, dtype: type = np.float64) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header["dim"][: len(shape) + 1] = (len(shape), *shape)
    header["vox_offset"] = offset
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def _gzip(raw_deflated: bytes, *, name: bytes = b"") -> bytes:
    flags = 8 if name else 0
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + (name + b"\0" if name else b"") + raw_deflated + bytes(8)


def _stored(content: bytes) -> bytes:
    """Pack as one deflate block that is not the last one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)


def _nested(depth: int, *, explicit: bool) -> bytes:
    if explicit:  # lengths are given, hence parsed only where somebody looks inside
        body = b""
        for _ in range(depth):
            body = _element(0x28, 0x3010, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body)
    else:
        body = (b"\x28\0\x10\x30SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * depth
    pixels = _element(0x7FE0, 0x10, b"OW", bytes(64 * 64))
    return _dicom(_picture_elements(64, 64, b"1 ", body + pixels))


def _gif_with_a_large_frame() -> bytes:
    content = bytearray(_noise("GIF"))
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
_UPLOADS: dict[str, Callable[[], bytes]] = {
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
    **{f"{kind} cut off": lambda kind=kind: _cut(_noise(kind)) for kind in FORMATS},
    "DICOM cut off": lambda: _cut(_bundled("MR_small.dcm")),
    "compressed DICOM cut off": lambda: _cut(_bundled("JPEG2000.dcm")),
    "RLE DICOM cut off": lambda: _cut(_bundled("MR_small_RLE.dcm")),
    "NIfTI cut off": lambda: _cut((Path(data_path) / "anatomical.nii").read_bytes()),
    "nii.gz cut off": lambda: _cut((Path(data_path) / "example4d.nii.gz").read_bytes())[:100_000],
    "zip cut off": lambda: _cut(_zip(("a.png", _noise("PNG")))),
    "png of 100,000 x 100,000": lambda: _png(100_000, 100_000),
    "png of 8,000 x 8,000": lambda: _saved(Image.new("L", (8000, 8000)), "PNG"),
    "png of no width": lambda: _png(0, 5),
    "png with a text bomb": lambda: _png(9, 9, *[(b"zTXt", b"a\0\0\x78\x9c" + _zeros(2**26))] * 40),
    "png with a profile bomb": lambda: _png(9, 9, (b"iCCP", b"a\0\0\x78\x9c" + _zeros(2**31))),
    "jpeg of 65,535 x 65,535": _large_jpeg,
    "jpeg of 5,000 scans": _many_scans,
    "gif of 65,535 x 65,535": lambda: b"GIF89a\xff\xff\xff\xff" + _noise("GIF")[10:],
    "gif with a frame of 65,535 x 65,535": _gif_with_a_large_frame,
    "bmp of 100,000 x 100,000": lambda: _noise("BMP")[:18] + struct.pack("<II", 100_000, 100_000) + _noise("BMP")[26:],
    "webp of 2^24 x 255": lambda: _riff(2**24, 255),
    "webp of 16,383 x 16,383": lambda: _riff(16_383, 16_383),
    "tiff of 100,000 x 100,000": lambda: _tiff(
        *((tag, 4, 1, value) for tag, value in {**_TIFF_TAGS, 256: 100_000, 257: 100_000, 273: 8, 279: 9}.items())
    ),
    "tiff with a huge tile": _tiled_tiff,
    "tiff with ten million strips": _long_tiff,
    "tiff that goes in circles": lambda: b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 8),
    "zip of 4 GB of zeros": lambda: _raw_zip(b"a.png", _zeros(2**32 - 2**20), 2**32 - 2**20),
    "zip that lies about 4 GB": lambda: _raw_zip(b"a.dcm", _stored(_dicom(b"")) + _zeros(2**32), 2**27),
    "zip of 4 GB of DICOM": lambda: _raw_zip(b"a.dcm", _stored(_dicom(b"")) + _zeros(2**27 - 2**20), 2**27),
    "zip in a zip": lambda: _zip(("a.zip", _zip(("a.png", _noise("PNG"))))),
    "zip slip": lambda: _zip(("../../etc/slice.png", _noise("PNG"))),
    "zip slip of Windows": lambda: _zip(("..\\..\\slice.png", _noise("PNG"))),
    "zip of absolute paths": lambda: _zip(("/etc/slice.png", _noise("PNG"))),
    "zip with a drive": lambda: _zip(("C:\\slice.png", _noise("PNG"))),
    "encrypted zip": lambda: _raw_zip(b"a.png", bytes(50), 38, flags=1),
    "zip by bzip2": lambda: _raw_zip(b"a.png", bytes(50), 38, method=12),
    "zip of 5,000 files": lambda: _raw_zip(b"a.png", b"", 0, count=5000),
    "zip of 200,000 files": lambda: _raw_zip(b"a", b"", 0, count=200_000),
    "zip of 2,048 headers of DICOM": lambda: _zip(*((f"{i}", _dicom(b"")) for i in range(2048))),
    "zip with a broken slice": lambda: _zip(("1", _bundled("MR_small.dcm")), ("2", _cut(_bundled("MR_small.dcm")))),
    "zip of a broken picture": lambda: _zip(("a.png", _cut(_noise("PNG")))),
    "NIfTI of 32,000^3": lambda: _nifti_header(32_000, 32_000, 32_000),
    "NIfTI of negative size": lambda: _nifti_header(-3, 5, 5),
    "NIfTI of no size": lambda: _nifti_header(0, 5, 5),
    "NIfTI of 30,000 slices": lambda: _nifti_header(1, 1, 30_000, dtype=np.uint8) + bytes(30_000),
    "NIfTI far away": lambda: _nifti_header(9, 9, 9, offset=1e30),
    "NIfTI at infinity": lambda: _nifti_header(9, 9, 9, offset=np.inf),
    "nii.gz bomb": lambda: _gzip(_stored(_nifti_header(500, 500, 500)) + _zeros(2**30)),
    "nii.gz bomb before the voxels": lambda: _gzip(_stored(_nifti_header(9, 9, 9, offset=2e9)) + _zeros(2**31)),
    "gzip of 4 GB of zeros": lambda: _gzip(_zeros(2**32)),
    "gzip with a name of 100 MB": lambda: _gzip(_zeros(2**20), name=b"a" * 100_000_000),
    "gzip of many parts": lambda: gzip.compress(_nifti_header(99, 99, 99)) + gzip.compress(b"") * 1_000_000,
    "DICOM of 65,535 x 65,535": lambda: _dicom(_frames(b"1 ", side=65_535)),
    "DICOM of two billion frames": lambda: _dicom(_frames(b"2000000000")),
    "DICOM of -1 frames": lambda: _dicom(_frames(b"-1")),
    "DICOM of a few frames": lambda: _dicom(_frames(b"few ")),
    "deflated DICOM bomb": lambda: _dicom(_zeros(2**32), _DEFLATED_SYNTAX),
    "deflated DICOM of empty elements": lambda: _dicom(_zeros(2**26), _DEFLATED_SYNTAX),
    "DICOM of empty elements": lambda: _dicom(_element(8, 16, b"SH", b"") * 8_000_000),
    "DICOM of empty elements inside": lambda: _dicom(
        _picture_elements(64, 64, b"1 ", b"")
        + _element(0x5200, 0x9229, b"SQ", b"\xfe\xff\0\xe0\xff\xff\xff\xff" + _element(8, 16, b"SH", b"") * 8_000_000)
    ),
    "DICOM of millions of fragments": lambda: _encapsulated(b"\xfe\xff\0\xe0\0\0\0\0" * 8_000_000, _RLE),
    "DICOM nested 20,000 deep": lambda: _nested(20_000, explicit=False),
    "JPEG 2000 of 100,000 x 100,000 in DICOM": _large_j2k,
    "JPEG of 65,535 x 65,535 in DICOM": lambda: _encapsulated(_large_jpeg(), b"1.2.840.10008.1.2.4.50"),
    "DICOM by an unknown syntax": lambda: _encapsulated(bytes(64), b"1.2.3.4\0"),
    "film": lambda: b"\0\0\0\x20ftypisom" + bytes(100),
}  # fmt: skip


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path | str, str], dict[str, Any]]]:
    warm = tmp_path_factory.mktemp("warm") / "warm.dcm"
    warm.write_bytes(_bundled("MR_small.dcm"))
    command = [sys.executable, "-c", _MEASURE, str(warm)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout

        def ask(path: Path | str, reader: str) -> dict[str, Any]:
            process.stdin.write(json.dumps([str(path), reader]) + "\n")
            process.stdin.flush()
            found: dict[str, Any] = json.loads(process.stdout.readline())
            return found

        yield ask
        process.stdin.close()


def _assert_refused(found: dict[str, Any]) -> None:
    assert found["kind"] == "ImageError", found
    assert found["cpu"] < _SECONDS and found["megabytes"] < _MEGABYTES and found["wall"] < 10 * _SECONDS, found
    message = found["message"]
    assert message.startswith("upload: ") and message.endswith(".") and message.isprintable() and len(message) < 250


@pytest.mark.parametrize("name", _UPLOADS)
def test_a_hostile_upload_gets_one_sentence_soon_and_cheaply(
    name: str, tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(_UPLOADS[name]())
    _assert_refused(measure(path, "slices"))
    _assert_refused(measure(path, "image"))
    path.unlink()


def test_nested_sequences_of_known_length_are_never_unfolded(
    tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    path = tmp_path / "nested.dcm"
    path.write_bytes(_nested(2000, explicit=True))
    found = measure(path, "slices")
    assert found["cpu"] < _SECONDS and found["megabytes"] < _MEGABYTES and found["kind"] in ("read", "ImageError")


@pytest.mark.parametrize("suffix", ["png", "nii", "dcm", "zip", "nii.gz"])
def test_a_file_of_a_hundred_gigabytes_of_nothing_is_not_read(
    suffix: str, tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    starts = {
        "png": _png(9, 9)[:-20] + struct.pack(">I", 2**31 - 1) + b"tEXt",
        "nii": _nifti_header(1000, 1000, 1000),
        "dcm": _dicom(b"\x09\0\x10\0OB\0\0\xf0\xff\xff\xff"),
        "zip": b"PK\3\4",
        "nii.gz": _gzip(b""),
    }
    path = tmp_path / f"sparse.{suffix}"
    with path.open("wb") as file:
        file.write(starts[suffix])
        file.truncate(100 * 2**30)
    _assert_refused(measure(path, "slices"))


@pytest.mark.parametrize("name", ["a folder", "a pipe", "a dead link", "a device", "a null byte", "a long name"])
def test_what_is_no_file_is_one_sentence(
    name: str, tmp_path: Path, measure: Callable[[Path | str, str], dict[str, Any]]
) -> None:
    path: Path | str = tmp_path / "thing.png"
    if name == "a folder":
        Path(path).mkdir()
    elif name == "a pipe":
        os.mkfifo(path)
    elif name == "a dead link":
        Path(path).symlink_to(tmp_path / "nowhere")
    else:
        path = {"a device": "/dev/zero", "a null byte": "a\0b.png", "a long name": "a" * 5000}[name]
    for reader in ("image", "slices"):
        _assert_refused(measure(path, reader))


def test_a_link_to_a_picture_is_followed_and_a_folder_that_holds_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(_noise("PNG"))
    (tmp_path / "link.png").symlink_to(tmp_path / "picture")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe")
    assert read_image(tmp_path / "link.png").size == (64, 64)
    assert read_slices(tmp_path).names == ("link.png", "picture")


def test_a_picture_as_large_as_is_allowed_fits_in_the_memory(
    tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    side = int(MAX_PIXELS**0.5)
    for mode, kind, options in (("RGBA", "PNG", {"compress_level": 1}), ("RGB", "JPEG", {"progressive": True})):
        path = tmp_path / f"large.{kind.lower()}"
        Image.new(mode, (side, side), (9, 99, 199, 128)[: len(mode)]).save(path, **options)
        found = measure(path, "image")
        assert found["kind"] == "read" and found["megabytes"] < _MEGABYTES, found


def test_a_strange_name_cannot_break_the_sentence() -> None:
    with pytest.raises(ImageError) as error:
        read_image(b"", "a\nb\x1b[31m" + "c" * 1000)
    assert str(error.value).isprintable() and len(str(error.value)) < 450


def test_mutated_files_of_every_format_are_read_or_refused() -> None:
    counts, _ = _fuzzer["fuzz"](300, seed=1, seconds=_SECONDS)
    assert sum(counts.values()) == 300
    assert {kind for kind, _ in counts} == set(_fuzzer["seeds"]())
    assert {result for _, result in counts} <= {"read", "refused"}, counts


@pytest.mark.parametrize("path", sorted(_REGRESSIONS.glob("*.dcm")), ids=lambda path: path.name)
def test_what_the_fuzzer_once_found_stays_mended(path: Path, measure: Callable[[Path, str], dict[str, Any]]) -> None:
    _assert_refused(measure(path, "slices"))
