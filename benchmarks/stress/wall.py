"""Files that pass every check and then take memory or time, read behind the wall: what each answers, and what it costs.

    python -m benchmarks.stress.wall [--without]

Prints a table: seconds of processor time, and the largest memory of the worker beyond that of an idle one. `--without`
reads them in a process of their own without limits (up to 4 GB each).
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from brain_mri.errors import ImageError
from brain_mri.io.volumes import read_slices
from brain_mri.io.wall import Wall

_KEPT = Path(__file__).parents[2] / "tests" / "regressions" / "wall"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" * 72)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _many_orientations() -> bytes:
    values = 2**25
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 274, 3, values, 26) + b"\0" * 4 + b"\0" * (2 * values)
    return _png((b"eXIf", exif))


def _tiff(*entries: tuple[int, int, int, int], after: bytes = b"") -> bytes:
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + b"\0" * 4 + after


def _many_offsets() -> bytes:
    values, harmless = 2**24, [(40000 + k, 4, 1, 0) for k in range(4097)]
    size = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1)]
    start = 8 + 2 + 12 * (len(harmless) + 5) + 4
    offsets = (273, 4, values, start)
    return _tiff(*size, offsets, *harmless, after=b"\0" * (4 * values))


def _float_tiff() -> bytes:
    side = 5700
    entries = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 32), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    entries += [(278, 4, 1, side), (339, 3, 1, 3)]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(273, 4, 1, start), (279, 4, 1, 4 * side * side)]
    return _tiff(*sorted(entries), after=np.zeros(side * side, np.float32).tobytes())


def _long_voxels() -> bytes:
    image = nibabel.Nifti1Image(np.zeros((32, 32, 32), np.uint8), np.diag([16.0, 1.0, 1.0, 1.0]))
    return bytes(image.to_bytes())


def _empty_elements() -> bytes:
    elements = b"".join(struct.pack("<HHI", 0x0009, k % 65536, 0) for k in range(20000))
    meta = b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    one = b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0" + struct.pack("<I", len(meta)) + meta + elements
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(100):
            archive.writestr(f"{k}.dcm", one)
    return file.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG 2000 with precincts of 1 x 1, 2.5 KB": (_KEPT / "j2k_precincts.dcm").read_bytes,
    "NIfTI of 32 KB, voxels 16 times longer on one side": _long_voxels,
    "PNG whose EXIF lists 33 million orientations": _many_orientations,
    "TIFF with 4,097 tags, then 16 million strip offsets": _many_offsets,
    "PNG of a million chunks": lambda: _png(*[(b"tEXt", b"")] * 2**20),
    "JPEG of 3 million comments": lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * (3 * 2**20) + b"\xff\xd9",
    "zip of 100 DICOM files with 20,000 empty elements": _empty_elements,
    "TIFF of float32, the allowed size": _float_tiff,
}


def read(name: str, wall: bool) -> str:
    """One row of the table."""
    content = BOMBS[name]()
    limited = Wall(1) if wall else None
    if limited:
        limited.read_image(_png())
    started = time.monotonic()
    try:
        found = (limited.read_slices if limited else read_slices)(content, "it")
        said = f"read, {len(found.names)} slices"
    except ImageError as error:
        said = str(error).removeprefix("it: ")
    seconds = time.monotonic() - started
    if limited:
        limited.close()
    who = resource.RUSAGE_CHILDREN if wall else resource.RUSAGE_SELF
    return f"| {name} | {seconds:.1f} s | {resource.getrusage(who).ru_maxrss >> 10} MB | {said} |"


def main() -> None:
    """Each file in a process of its own, so that the peaks are its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="store_true", help="no wall")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        if options.without:
            resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        print(read(options.only, not options.without), flush=True)
        return
    print("| file | time | largest memory | answer |\n|---|---:|---:|---|")
    for name in BOMBS:
        words = ["--without"] if options.without else []
        command = [sys.executable, "-m", "benchmarks.stress.wall", "--only", name, *words]
        subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
