"""Files made to break, to fill or to hold up a reader; each is read in a process of its own, whose cost is measured."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom import dcmread
from support.dicom_files import as_mr
from support.hostile_files import UPLOADS, bundled, dicom, gzip_of, nested, nifti_header, noise, png

from benchmarks.stress.broken_files import seeds
from benchmarks.stress.fuzz_images import fuzz
from brain_mri.errors import ImageError
from brain_mri.io.images import read_image
from brain_mri.io.untrusted import MAX_PIXELS, opened, peek
from brain_mri.io.volumes import read_slices

_SECONDS, _MEGABYTES = 2.0, 500
_ROOT = Path(__file__).parents[2]
_REGRESSIONS = Path(__file__).parents[1] / "regressions"

# Reads each file in a fork of a process that has everything imported, so that a peak is the file's own; a limit on the
# address space keeps a failing test from taking the machine with it. CPU seconds, so that a busy machine doesn't fail.
_MEASURE = """
import json, os, resource, sys, time, warnings
import brain_mri.io.dicom, brain_mri.io.nifti, pydicom, nibabel, pydicom.pixels.decoders, nibabel.orientations
from brain_mri.errors import ImageError
from brain_mri.io.images import FORMATS, read_image
from brain_mri.io.volumes import read_slices
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


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path | str, str], dict[str, Any]]]:
    warm = tmp_path_factory.mktemp("warm") / "warm.dcm"
    warm.write_bytes(bundled("MR_small.dcm"))
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


@pytest.mark.slow
@pytest.mark.parametrize("name", UPLOADS)
def test_a_hostile_upload_gets_one_sentence_soon_and_cheaply(
    name: str, tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(UPLOADS[name]())
    _assert_refused(measure(path, "slices"))
    _assert_refused(measure(path, "image"))
    path.unlink()


_FRAME = b"\xff\xf7\0\x0b\x08"  # header of JPEG-LS: its length, and 8 bits
_LS_8, _LOSSLESS = "JPEGLSNearLossless_08.dcm", "SC_rgb_jpeg_gdcm.dcm"
_END_GDCM = {
    "a byte between segments": (_LOSSLESS, b"\xff\xc4", b"\0\xff\xc4"),
    "a restart before the pixels": (_LOSSLESS, b"\xff\xc4", b"\xff\xd4"),
    "a precision of 160 bits": (_LS_8, _FRAME, b"\xff\xf7\0\x0b\xa0"),
    "a frame header too long": (_LS_8, _FRAME, b"\xff\xf7\0\x86\xa0"),
}


def _changed(content: bytes, old: bytes, new: bytes) -> bytes:
    """Put one piece in the place of another, at the cost of the file's end if it is longer."""
    start = content.index(old)
    return (content[:start] + new + content[start + len(old) :])[: len(content)]


def test_a_stream_of_one_sample_where_the_header_says_three_is_refused(
    tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    dataset, path = dcmread(io.BytesIO(as_mr(_LS_8))), tmp_path / "it.dcm"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.save_as(path)
    _assert_refused(measure(path, "slices"))


@pytest.mark.parametrize("name", _END_GDCM)
def test_a_stream_that_gdcm_would_end_the_process_at_is_refused(
    name: str, tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    bundle, old, new = _END_GDCM[name]
    whole, path = as_mr(bundle), tmp_path / "it.dcm"
    path.write_bytes(_changed(whole, old, new))
    _assert_refused(measure(path, "slices"))
    path.write_bytes(whole)
    assert measure(path, "slices")["kind"] == "read"


def test_pixels_that_others_decode_are_not_given_to_gdcm(
    tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    """Of baseline JPEG it throws at whatever its JPEG library warns of; Pillow reads on."""
    path = tmp_path / "it.dcm"
    path.write_bytes(_changed(as_mr("SC_rgb_jpeg_dcmtk.dcm"), b"\xff\xc4", b"\0\xff\xc4"))
    assert measure(path, "slices")["kind"] in ("read", "ImageError")
    assert len(read_slices(as_mr("J2K_pixelrep_mismatch.dcm")).names) == 1, "which neither GDCM nor Pillow reads"


def test_nested_sequences_of_known_length_are_never_unfolded(
    tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    path = tmp_path / "nested.dcm"
    path.write_bytes(nested(2000, explicit=True))
    found = measure(path, "slices")
    assert found["cpu"] < _SECONDS and found["megabytes"] < _MEGABYTES and found["kind"] in ("read", "ImageError")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "nii", "dcm", "zip", "nii.gz"])
def test_a_file_of_a_hundred_gigabytes_of_nothing_is_not_read(
    suffix: str, tmp_path: Path, measure: Callable[[Path, str], dict[str, Any]]
) -> None:
    starts = {
        "png": png(9, 9)[:-20] + struct.pack(">I", 2**31 - 1) + b"tEXt",
        "nii": nifti_header(1000, 1000, 1000),
        "dcm": dicom(b"\x09\0\x10\0OB\0\0\xf0\xff\xff\xff"),
        "zip": b"PK\3\4",
        "nii.gz": gzip_of(b""),
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
    (tmp_path / "picture").write_bytes(noise("PNG"))
    (tmp_path / "link.png").symlink_to(tmp_path / "picture")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe")
    assert read_image(tmp_path / "link.png").size == (64, 64)
    assert read_slices(tmp_path).names == ("link.png", "picture")


@pytest.mark.slow
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


@pytest.mark.parametrize("walled", [False, True])
def test_mutated_files_of_every_format_are_read_or_refused(walled: bool) -> None:
    counts, _ = fuzz(300, seed=1, seconds=_SECONDS, walled=walled)
    assert sum(counts.values()) == 300
    assert {kind for kind, _ in counts} == set(seeds())
    assert {result for _, result in counts} <= {"read", "refused"}, counts


@pytest.mark.parametrize("path", sorted(_REGRESSIONS.glob("*.[!m]*")), ids=lambda path: path.name)  # not README.md
def test_what_the_fuzzer_once_found_stays_mended(path: Path, measure: Callable[[Path, str], dict[str, Any]]) -> None:
    _assert_refused(measure(path, "slices"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and can't be read")
def test_a_file_that_opens_and_can_not_be_read_is_one_sentence() -> None:
    with pytest.raises(ImageError), opened("/proc/self/mem", "it") as file:
        peek(file)
