"""Reading a picture, DICOM, NIfTI and its kin, or a zip or folder of them as a sequence of slices. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from brain_mri.errors import ImageError
from brain_mri.io.archives import folder_members, zip_members
from brain_mri.io.entries import Choice, Entry, named_entry, read_chosen
from brain_mri.io.examination import base_of, load_picture, load_volume, read_archive, stem_of
from brain_mri.io.formats import PAIRED, VOLUMES, format_of, not_read, unpack
from brain_mri.io.slices import PLANE_CHOICES, Series, SliceImages, Slices
from brain_mri.io.untrusted import (
    MAX_DICOM_BYTES,
    MAX_PICTURE_BYTES,
    label_of,
    opened,
    peek,
    printable,
    read_all,
)

__all__ = ["PLANE_CHOICES", "Series", "SliceImages", "Slices", "read_slices"]


def read_slices(
    source: str | Path | bytes, name: str | None = None, *, series: int | None = None, plane: str = "auto"
) -> Slices:
    """Read every slice of a file or folder, recognised by its content.

    - A picture: one slice; a TIFF, GIF, WebP or PNG of several pages or frames: each of them.
    - DICOM: magnitude pictures alone, in the order of their positions along the normal, else of their instance numbers,
      else of their names; a Siemens mosaic cut into its tiles. Each echo, diffusion weight and sort of picture is a
      series of its own, and of repeats one is read.
    - NIfTI, FreeSurfer, Analyze, MINC 1, PAR/REC: the first volume, cut as `planes.cut` says.
    - A zip or a folder (and the folders in it): one of its series, by the rule of `entries.chosen`: DICOM, volumes, and
      the pictures, in the order of their names (2 before 10).

    What is not read is said in the notes, and other series are listed; files that may be slices, but can't be read, are
    counted. The slices of a volume share one window: the stored one, else the 1st to the 99th percentile.

    Args:
        source: a path, or the bytes of a file.
        name: what it is called, where `source` does not say.
        series: the number of the series to read; default: by the rule.
        plane: one of `PLANE_CHOICES`.

    Raises:
        ImageError: none of these, no MR of a head by its header, no such series or plane, damaged, hostile, or beyond
            the limits of `brain_mri.io.untrusted`.
    """
    label = label_of(source, name)
    choice = Choice(series, plane)
    if plane not in PLANE_CHOICES:
        raise ImageError(f"plane {printable(plane)!r}: choose one of {', '.join(PLANE_CHOICES)}.")
    if not isinstance(source, bytes) and _is_folder(source):
        return read_archive(folder_members(Path(source), label), label, choice)
    with opened(source, label) as file:
        kind = format_of(peek(file))
        if kind == "gzip":
            content = unpack(file, label)
            with opened(content, label) as unpacked:
                return _file(unpacked, source, label, choice)
        return _file(file, source, label, choice)


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # an impossible path; opening it reports that
        return False


def _file(file: BinaryIO, source: str | Path | bytes, label: str, choice: Choice) -> Slices:
    head = peek(file)
    kind = format_of(head)
    if kind == "zip":
        with zip_members(file, label) as members:
            return read_archive(members, label, choice)
    if kind == "picture":
        return _picture(read_all(file, MAX_PICTURE_BYTES, label), label, choice)
    if kind == "dicom":
        return _dicom(read_all(file, MAX_DICOM_BYTES, label), label, choice)
    if kind in VOLUMES:
        with _partner(source, kind, label) as partner:
            entry = named_entry(base_of(label), "", 0, partial(load_volume, kind, file, label, partner, choice))
            return read_chosen([entry], choice, "nifti", label, base_of(label))
    if header := _header_beside(source):
        return read_slices(header, series=choice.series, plane=choice.plane)
    raise not_read(head, label)


def _picture(content: bytes, label: str, choice: Choice) -> Slices:
    entry = Entry("", None, False, "", 0, lambda: load_picture(content, label))
    return read_chosen([entry], choice, "picture", label, base_of(label))


def _dicom(content: bytes, label: str, choice: Choice) -> Slices:
    from brain_mri.io.dicom_parsing import parse_with_pixels
    from brain_mri.io.dicom_series import DicomFiles

    dataset, _ = parse_with_pixels(content, label)
    files = DicomFiles()
    files.add(dataset, True, label, lambda: dataset)
    entries = files.entries(choice, label)
    if not entries and (problem := files.problem(label)):
        raise problem
    return read_chosen(entries, choice, "dicom", label, base_of(label), files.notes(), files.lost)


def _beside(path: Path, endings: tuple[str, ...]) -> Path | None:
    """A file of the same name with one of these endings, whatever their case; None without one."""
    stem = stem_of(path.name)
    try:
        names = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return None
    return next(
        (path.parent / name for name in names if stem_of(name) == stem and name.lower().endswith(endings)), None
    )


@contextmanager
def _partner(source: str | Path | bytes, kind: str, label: str) -> Iterator[BinaryIO | None]:
    """The second file of a pair, which lies beside the first; None where there is none."""
    endings = (PAIRED[kind], PAIRED[kind] + ".gz") if kind in PAIRED else ()
    path = _beside(Path(source), endings) if endings and not isinstance(source, bytes) else None
    if path is None:
        yield None
        return
    with opened(path, label) as file:
        yield file


def _header_beside(source: str | Path | bytes) -> Path | None:
    """The header beside the second file of a pair that a user names."""
    headers = {".img": (".hdr", ".hdr.gz"), ".rec": (".par", ".par.gz")}
    if isinstance(source, bytes):
        return None
    ending = Path(Path(source).name.lower().removesuffix(".gz")).suffix
    return _beside(Path(source), headers[ending]) if ending in headers else None
