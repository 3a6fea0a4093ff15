"""Files that may be slices, but can't be read, are counted; those that are something else are not."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from pydicom.uid import UID
from support.scans import dicom, head, placed, zipped

from brain_mri.errors import ImageError
from brain_mri.io.lost import may_be_slice
from brain_mri.io.slices import Slices
from brain_mri.io.volumes import read_slices
from brain_mri.io.wall import Wall

_RESOURCE_FORK = b"\0\5\x16\7\0\2\0\0Mac OS X        "
_PRIVATE = UID("1.3.12.2.1107.5.9.1")


def _picture(kind: str = "PNG", grey: int = 90) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), grey).save(buffer, kind)
    return buffer.getvalue()


_PICTURES = {f"s{k}.png": _picture() for k in range(3)}
_SERIES = {f"IM{k}": placed(k) for k in range(3)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s9.jpg", b""),
        ("s9", b""),
        ("s9.jpg", b"\0\0" + _picture("JPEG")[2:]),
        ("s9", b"\0\0" + _picture("JPEG")[2:]),
        ("s9.jp2", _picture("JPEG2000")),
        ("s9", _picture("JPEG2000")),
        ("s9.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("s9.pgm", _picture("PPM")),
        ("s9", b"P2\n2 2\n255\n0 1 2 3\n"),
        ("s9.jpg", b"<html>not found</html>"),
        ("s9.dcm", b"version https://git-lfs.github.com/spec/v1\n"),
        ("s9.png.gz", gzip.compress(gzip.compress(_picture()))),
        ("IM9", b"\0" * 100),
        ("IM9", placed(9)[:120]),
    ],
)
def test_what_may_be_a_slice_is_counted_and_said(name: str, content: bytes) -> None:
    slices = read_slices(zipped(_PICTURES | {name: content}))
    assert (len(slices.names), slices.lost) == (3, 1)
    assert "could not be read: 1 file that may be a slice" in slices.notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"words"),
        ("notes", "Größe".encode()),
        ("empty.txt", b""),
        ("report.pdf", b"%PDF-1.7\n\x80\x81"),
        ("report", b"%PDF-1.7\n\x80\x81"),
        ("patients.csv", b"a,b\n"),
        ("scan.json", b"{}"),
        ("scan.json.gz", gzip.compress(b"{}")),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\0\0"),
        ("viewer/start.exe", b"MZ\x90\0\3"),
        ("s9.jpg", _RESOURCE_FORK),
        ("._s9.jpg", _RESOURCE_FORK),
        (".DS_Store", b"\0\0\0\1Bud1"),
        ("DS_Store", b"\0\0\0\1Bud1"),
        ("__MACOSX/s9.jpg", _RESOURCE_FORK),
        ("DICOMDIR", dicom(None, SOPClassUID=UID("1.2.840.10008.1.3.10"), Modality="")),
        ("report.dcm", dicom(None, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.11"), Modality="SR")),
        ("raw.dcm", dicom(None, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.66"))),
        ("private.dcm", dicom(None, SOPClassUID=_PRIVATE)),
        ("knee.dcm", dicom(None, BodyPartExamined="KNEE")),
    ],
)
def test_what_is_clearly_something_else_is_not_lost(name: str, content: bytes) -> None:
    slices = read_slices(zipped(_PICTURES | {name: content}))
    assert (len(slices.names), slices.lost) == (3, 0)


def test_text_is_known_though_its_first_bytes_end_within_a_letter() -> None:
    assert not may_be_slice("notes", "ä".encode() * 5 + b"\xc3")
    assert may_be_slice("notes", b"\xff\xd8")


def test_mr_cut_off_anywhere_before_its_pixels_is_lost_or_refuses_the_whole() -> None:
    whole = placed(9, SeriesDescription="t1 +c")
    for end in range(0, whole.find(b"\xe0\x7f\x10\0") + 1, 7):
        try:
            slices = read_slices(zipped(_SERIES | {"IM9": whole[:end]}))
        except ImageError:
            continue
        assert (len(slices.names), slices.lost) == (3, 1), end


def test_mr_cut_off_in_its_pixels_refuses_the_whole() -> None:
    with pytest.raises(ImageError, match="IM9"):
        read_slices(zipped(_SERIES | {"IM9": placed(9)[:-2000]}))


def test_pictures_without_pixels_are_lost_also_of_a_vendors_own_kind() -> None:
    odd = {
        "capture": dicom(None, SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.7"), Modality="OT"),
        "private": dicom(None, SOPClassUID=_PRIVATE, Rows=64, Columns=64),
        "unknown": dicom(None, Rows=64, Columns=64),
    }
    assert read_slices(zipped(_SERIES | odd)).lost == 3


@pytest.mark.parametrize("agent", [{}, {"SeriesDescription": "t1 +c"}])
def test_a_slice_at_a_place_that_is_taken_is_lost_and_the_note_says_which_repeat_is_read(agent: dict[str, str]) -> None:
    files = {f"IM{k}": placed(k, **agent) for k in range(3)}
    slices = read_slices(zipped(files | {"IM9": placed(1, head(mark=900), **agent)}))
    assert (len(slices.names), slices.lost) == (3, 1)
    said = " ".join(slices.notes)
    assert "of 2 repeats the only whole one is read" in said and "1 slice at a place" in said


def test_whole_repeats_are_not_lost() -> None:
    files = {f"{t}{k}": placed(k, AcquisitionNumber=t) for t in (1, 2) for k in range(3)}
    assert read_slices(zipped(files)).lost == 0


def test_a_header_without_its_voxels_and_voxels_without_their_header_are_lost() -> None:
    header = bytearray(348)
    header[:4], header[40:48] = (348).to_bytes(4, "little"), b"\3\0\4\0\4\0\4\0"
    assert read_slices(zipped(_PICTURES | {"a.img": b"\0" * 64})).lost == 1
    assert read_slices(zipped(_PICTURES | {"a.hdr": bytes(header)})).lost == 1


def _folder(path: Path) -> Path:
    path.mkdir()
    for name, content in _PICTURES.items():
        (path / name).write_bytes(content)
    return path


def test_links_that_are_not_followed_are_lost(tmp_path: Path) -> None:
    given, other = _folder(tmp_path / "given"), _folder(tmp_path / "other")
    (given / "link.png").symlink_to(other / "s0.png")
    assert (len(read_slices(given).names), read_slices(given).lost) == (4, 0), "a link to a file is followed"
    (given / "more").symlink_to(other)
    (given / "gone.png").symlink_to(tmp_path / "nowhere")
    (given / "circle.png").symlink_to(given / "circle.png")
    (given / "up").symlink_to(tmp_path)
    (given / "notes.txt").symlink_to(tmp_path / "nowhere")
    assert (len(read_slices(given).names), read_slices(given).lost) == (4, 4)


def test_a_link_to_a_folder_that_is_read_anyway_is_not_lost(tmp_path: Path) -> None:
    given = _folder(tmp_path / "given")
    inside = _folder(given / "inside")
    (given / "again").symlink_to(inside)
    (inside / "up").symlink_to(given)
    assert (len(read_slices(given).names), read_slices(given).lost) == (6, 0)


def test_a_folder_of_nothing_but_a_link_is_not_called_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "more").symlink_to(_folder(tmp_path / "other"))
    with pytest.raises(ImageError, match="holds no picture"):
        read_slices(tmp_path / "given")


def test_a_link_in_a_zip_is_lost() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in _PICTURES.items():
            archive.writestr(name, content)
        link = zipfile.ZipInfo("more")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../more")
    assert read_slices(buffer.getvalue()).lost == 1


def test_hidden_files_are_read_but_for_those_that_macos_adds(tmp_path: Path) -> None:
    hidden = {".s9.png": _picture(), ".more/s8.png": _picture()}
    added = {"._s0.png": _picture(), ".DS_Store": b"\0", "__MACOSX/s1.png": _picture(), "a/__MACOSX/b/s.png": b""}
    (tmp_path / ".more").mkdir()
    for name, content in (_PICTURES | hidden).items():
        (tmp_path / name).write_bytes(content)
    for slices in (read_slices(tmp_path), read_slices(zipped(_PICTURES | hidden | added))):
        assert (len(slices.names), slices.lost) == (5, 0)


def _fields(slices: Slices) -> tuple[object, ...]:
    return slices.names, slices.is_volume, slices.notes, slices.lost


def test_one_slice_beside_lost_files_is_a_volume_and_the_wall_says_the_same() -> None:
    given = zipped({"s0.png": _picture(), "s1.png": b"", "s2.jp2": _picture("JPEG2000")})
    here = read_slices(given)
    assert here.is_volume and here.lost == 2 and not read_slices(zipped({"s0.png": _picture()})).is_volume
    wall = Wall(workers=1)
    try:
        assert _fields(wall.read_slices(given)) == _fields(here)
    finally:
        wall.close()
