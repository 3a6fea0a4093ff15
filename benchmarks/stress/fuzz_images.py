"""Whether any broken file gets past the reading rooms: mutated pictures, DICOM, NIfTI and zip files.

    python -m benchmarks.stress.fuzz_images [--n 10000] [--seed 0] [--seconds 2] [--keep FOLDER]

Small files of every format (made here, or bundled with pydicom and nibabel) are damaged: bits flipped, cut off, parts
of another file spliced in, numbers in headers replaced by awkward ones, blocks repeated or lost; checksums are mended
half the time, so that the damage gets past them. Each is read by `read_slices` in a second process, which is ended
when it takes longer than --seconds, and started again. Everything but a result or an `ImageError` of one line is a
finding: --keep writes those files. Prints the outcomes by format, the slowest inputs and the peak of memory, and exits
with 1 if there was a finding. The same --n and --seed give the same files.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import os
import random
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from brain_mri.errors import ImageError
from brain_mri.io.volumes import read_slices

READ, REFUSED = "read", "refused"
_ADDRESS_SPACE = 3 * 2**30  # what the reading process may map: a bomb becomes a MemoryError, not a machine without any
_STARTUP_SECONDS = 60.0
_DICOMS = (
    "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_2frame.dcm", "JPEGLSNearLossless_16.dcm", "image_dfl.dcm", "nested_priv_SQ.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "GDCMJ2K_TextGBR.dcm",
)  # fmt: skip
_NOT_MR = ("JPGExtended.dcm", "JPEG2000.dcm", "rtdose.dcm")  # said to be MR here, else their pixels are never looked at
_NIFTIS = ("functional.nii", "anatomical.nii", "example_nifti2.nii.gz", "standard.nii.gz")
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
    return found


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


def mutants(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield `n` pairs of a format and a damaged file, the formats in turn."""
    chance, files = random.Random(seed), seeds()
    everything = [content for contents in files.values() for content in contents]
    for i in range(n):
        kind = list(files)[i % len(files)]
        data = bytearray(chance.choice(files[kind]))
        for _ in range(chance.choice((1, 1, 2, 4))):
            if data:
                chance.choice(_DAMAGES)(data, chance.choice(everything), chance)
        content = _mended(bytes(data)) if chance.random() < 0.5 else bytes(data)
        if kind == "packed":
            content = (
                _packed([content, chance.choice(files[kind])]) if chance.random() < 0.7 else gzip.compress(content, 1)
            )
        yield kind, content


def outcome(content: bytes) -> str:
    """Read a file: `read`, `refused`, or what went wrong."""
    try:
        slices = read_slices(content, "upload")
        modes = {image.mode for image in slices.images}
    except ImageError as error:
        message = str(error)
        return REFUSED if message.startswith("upload: ") and message.isprintable() and message[-1] == "." else message
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return READ if modes == {"RGB"} and len(slices.names) == len(slices.images) else f"modes {modes}"


def _work() -> None:
    """Read length-prefixed files from stdin and write their outcomes, until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    for content in seeds()["DICOM"][:1] + seeds()["NIfTI"][:1]:
        outcome(content)  # so that imports are in nobody's time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.flush()
    while size := sys.stdin.buffer.read(8):
        content = sys.stdin.buffer.read(int.from_bytes(size))
        start = time.process_time()
        found = outcome(content).encode().replace(b"\n", b" ")[:300]
        extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        sys.stdout.buffer.write(b"%f %d %s\n" % (time.process_time() - start, extra, found))
        sys.stdout.flush()


class _Reader:
    """The second process."""

    def __init__(self, seconds: float) -> None:
        command = [sys.executable, __file__, "--work"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self.seconds = seconds
        self._line(_STARTUP_SECONDS)

    def ask(self, content: bytes) -> tuple[float, int, str]:
        """Return the CPU seconds, the peak of extra megabytes so far, and the outcome."""
        assert self.process.stdin
        self.process.stdin.write(len(content).to_bytes(8) + content)
        line = self._line(10 * self.seconds)  # of the wall clock: the machine may be busy with something else
        if not line.endswith(b"\n"):
            self.process.kill()
            ended = self.process.wait()
            return 10 * self.seconds, 0, "hang" if ended == -signal.SIGKILL else f"crash ({ended})"
        taken, extra, found = line.decode().rstrip("\n").split(" ", 2)
        return float(taken), int(extra), f"slow ({taken} s)" if float(taken) > self.seconds else found

    def _line(self, seconds: float) -> bytes:
        assert self.process.stdout
        stream: BinaryIO = self.process.stdout  # type: ignore[assignment]
        line, deadline = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
                part = os.read(stream.fileno(), 4096)
                if not part:
                    self.process.wait()
                    break
                line += part
        return line

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()
        self.process.wait()


def fuzz(
    n: int, seed: int, seconds: float, keep: Path | None = None
) -> tuple[Counter[tuple[str, str]], list[tuple[float, str, int]]]:
    """Read `n` damaged files.

    Returns:
        How often each (format, outcome) came up; the CPU seconds, format and number of each file, slowest first. The
        peak of extra memory in MB is the last element's number, under the format `peak`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    times, peak, reader = [], 0, _Reader(seconds)
    for number, (kind, content) in enumerate(mutants(n, seed)):
        taken, extra, found = reader.ask(content)
        peak = max(peak, extra)
        counts[kind, found] += 1
        times.append((taken, kind, number))
        if found not in (READ, REFUSED) and keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{kind}-{seed}-{number}").write_bytes(content)
        if reader.process.poll() is not None:
            reader.close()
            reader = _Reader(seconds)
    reader.close()
    return counts, [*sorted(times, reverse=True), (0.0, "peak", peak)]


def main() -> None:
    """Print the outcomes by format, the slowest files and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="how many files (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time that a file may take (default: 2)")
    parser.add_argument("--keep", type=Path, help="folder for the files that were findings")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        _work()
        return
    counts, times = fuzz(arguments.n, arguments.seed, arguments.seconds, arguments.keep)
    print(f"{'format':8} {READ:>7} {REFUSED:>7}  findings")
    for kind in seeds():
        findings = sum(
            number for (one, found), number in counts.items() if one == kind and found not in (READ, REFUSED)
        )
        print(f"{kind:8} {counts[kind, READ]:7} {counts[kind, REFUSED]:7}  {findings}")
    found = {key: number for key, number in counts.items() if key[1] not in (READ, REFUSED)}
    for (kind, what), number in sorted(found.items()):
        print(f"finding: {kind}: {what} ({number} times)")
    print("slowest: " + ", ".join(f"{taken:.2f} s ({kind} {number})" for taken, kind, number in times[:5]))
    print(f"peak of extra memory: {times[-1][2]} MB")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
