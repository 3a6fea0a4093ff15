"""Whole files of every format, and how they are damaged: what the fuzzers read and the page is sent."""

from __future__ import annotations

import functools
import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_DICOMS = (
    "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_2frame.dcm", "JPEGLSNearLossless_16.dcm", "image_dfl.dcm", "nested_priv_SQ.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "GDCMJ2K_TextGBR.dcm",
)  # fmt: skip
_NOT_MR = ("JPGExtended.dcm", "JPEG2000.dcm", "rtdose.dcm")  # said to be MR here, else their pixels are never looked at
_NIFTIS = ("functional.nii", "anatomical.nii", "example_nifti2.nii.gz", "standard.nii.gz")
_SMALL, _CODE = 2**16, (".py", ".pyc", ".m")
_AWKWARD = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _pictures() -> dict[str, list[bytes]]:
    y, x = np.mgrid[:40, :48]
    grey = Image.fromarray((127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7)).astype(np.uint8))
    deep, one_bit = Image.fromarray((x * y * 20).astype(np.uint16)), grey.convert("1")
    palette, colour, glass = (grey.convert(mode) for mode in ("P", "RGB", "RGBA"))
    exif = Image.Exif()
    exif[0x0112] = 6
    film: dict[str, Any] = {"save_all": True, "append_images": [grey.rotate(90), grey.rotate(180)]}
    tiffs = [_saved(colour, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")]
    pngs = [_saved(picture, "PNG", exif=exif) for picture in (grey, deep, palette, glass, one_bit)]
    return {
        "JPEG": [
            _saved(colour, "JPEG", exif=exif),
            _saved(grey, "JPEG", progressive=True),
            _saved(colour.convert("CMYK"), "JPEG"),
        ],
        "PNG": [*pngs, _saved(grey, "PNG", **film)],
        "TIFF": [
            *tiffs,
            _saved(one_bit, "TIFF", compression="group4"),
            *(_saved(picture, "TIFF") for picture in (deep, grey.convert("F"))),
        ],
        "WEBP": [
            _saved(colour, "WEBP"),
            _saved(glass, "WEBP", lossless=True, exif=exif),
            _saved(colour, "WEBP", **film),
        ],
        "BMP": [_saved(picture, "BMP") for picture in (colour, palette, one_bit)],
        "GIF": [_saved(palette, "GIF"), _saved(grey, "GIF", transparency=3), _saved(grey, "GIF", **film)],
    }


@functools.cache
def seeds() -> dict[str, list[bytes]]:
    """Return whole files of every format; those in `packed` are packed after they were damaged."""
    from nibabel.testing import data_path
    from pydicom.data import get_testdata_file

    found = _pictures()
    bundled = {name: Path(str(get_testdata_file(name, download=False))) for name in (*_DICOMS, *_NOT_MR)}
    found["DICOM"] = [*(bundled[name].read_bytes() for name in _DICOMS), *(_as_mr(bundled[name]) for name in _NOT_MR)]
    niftis = [(Path(data_path) / name).read_bytes() for name in _NIFTIS]
    found["NIfTI"] = [gzip.decompress(one) if one.startswith(b"\x1f\x8b") else one for one in niftis]
    found["nii.gz"] = [gzip.compress(one, mtime=0) for one in found["NIfTI"]]
    found["zip"] = [_packed([one, two]) for one, two in zip(found["DICOM"][:4], found["PNG"], strict=False)]
    found["packed"] = [*found["DICOM"][:6], *found["PNG"][:2], *found["NIfTI"][:2]]
    return found | {package: _bundled(package) for package in ("pydicom", "nibabel")}


def _bundled(package: str) -> list[bytes]:
    """Every small test file that is installed with a package, scan or not."""
    folder = Path(str(files(package)))
    small = (one for one in folder.rglob("*") if {"data", "test_files"} & set(one.parts) and one.is_file())
    return [one.read_bytes() for one in sorted(small) if 0 < one.stat().st_size < _SMALL and one.suffix not in _CODE]


def _as_mr(path: Path) -> bytes:
    from pydicom import dcmread
    from pydicom.uid import MRImageStorage

    dataset, buffer = dcmread(path), io.BytesIO()
    dataset.Modality, dataset.SOPClassUID = "MR", MRImageStorage
    dataset.save_as(buffer)
    return buffer.getvalue()


def _packed(contents: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(zipfile.ZipInfo(f"slice{number}"), content)
    return buffer.getvalue()


def _flip(data: bytearray, other: bytes, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 4, 16, 64))):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, other: bytes, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _splice(data: bytearray, other: bytes, chance: random.Random) -> None:
    start, at = chance.randrange(len(other)), _place(data, chance)
    length = chance.choice((4, 16, 64, 1024, len(other)))
    data[at : at + chance.choice((0, length))] = other[start : start + length]


def _number(data: bytearray, other: bytes, chance: random.Random) -> None:
    at, form = _place(data, chance), chance.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(form)
    data[at : at + size] = struct.pack(form, chance.choice(_AWKWARD) % 2 ** (8 * size))


def _repeat(data: bytearray, other: bytes, chance: random.Random) -> None:
    at, length = _place(data, chance), chance.choice((1, 8, 64, 512))
    data[at:at] = data[at : at + length] * chance.choice((1, 3, 100))


def _lose(data: bytearray, other: bytes, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 8, 64, 512))]


_DAMAGES = (_flip, _flip, _cut, _splice, _number, _number, _number, _repeat, _lose)


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose where to damage: half the time in the first 512 bytes, where headers are."""
    return chance.randrange(min(len(data), 512) if chance.random() < 0.5 else len(data)) if data else 0


def _mended(data: bytes) -> bytes:
    """Write right checksums into the chunks of a PNG, as far as its lengths lead."""
    mended, position = bytearray(data), 8
    while data.startswith(b"\x89PNG") and position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(mended)


def mutants(n: int, seed: int, kinds: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Yield `n` pairs of a format and a damaged file, the formats (default: all of them) in turn."""
    chance, wholes = random.Random(seed), seeds()
    everything = [content for contents in wholes.values() for content in contents]
    kinds = kinds or list(wholes)
    for i in range(n):
        kind = kinds[i % len(kinds)]
        data = bytearray(chance.choice(wholes[kind]))
        for _ in range(chance.choice((1, 1, 2, 4))):
            if data:
                chance.choice(_DAMAGES)(data, chance.choice(everything), chance)
        content = _mended(bytes(data)) if chance.random() < 0.5 else bytes(data)
        if kind == "packed":
            content = (
                _packed([content, chance.choice(wholes[kind])]) if chance.random() < 0.7 else gzip.compress(content, 1)
            )
        yield kind, content
