"""Reading a picture, DICOM, NIfTI, or a zip or folder of slices as a sequence of slices. No torch."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from brain_mri.errors import ImageError, NotMRIError
from brain_mri.io.archives import Member, folder_members, zip_members
from brain_mri.io.images import one_channel, read_image
from brain_mri.io.untrusted import (
    MAX_DICOM_BYTES,
    MAX_PICTURE_BYTES,
    MAX_VOXELS,
    check_size,
    kind_of,
    label_of,
    opened,
    peek,
    printable,
    unrecognised,
)
from brain_mri.io.windowing import Bytes

if TYPE_CHECKING:
    from brain_mri.io.dicom_header import Header
    from brain_mri.io.dicom_parsing import Place


class SliceImages(Sequence[Image.Image]):
    """Pictures stored with 1 byte a pixel (3 in colour) and returned in mode RGB, where Pillow needs 4."""

    def __init__(self, pixels: Sequence[Bytes]) -> None:
        self._pixels = tuple(pixels)

    def __len__(self) -> int:
        return len(self._pixels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> SliceImages: ...
    def __getitem__(self, index: int | slice) -> Image.Image | SliceImages:
        if isinstance(index, slice):
            return SliceImages(self._pixels[index])
        return Image.fromarray(self._pixels[index]).convert("RGB")


@dataclass(frozen=True)
class Slices:
    """The slices of a user's file or folder, in order.

    Attributes:
        images: a sequence of pictures in mode RGB, created at every access.
        names: of each slice: the file's own name for pictures, "slice 12 of 24" in a volume. None comes from a header,
            which may name patients.
        is_volume: whether there are several slices, assumed to be of one patient.
        kind: `picture`, `dicom`, `nifti` or `archive`.
        notes: what a reader of the answer should know of the files, a sentence each without its full stop: a sequence
            in which the model has seen no tumours, files that were left out. Nothing comes from a header but the fixed
            words of `dicom_header`.
    """

    images: SliceImages
    names: tuple[str, ...]
    is_volume: bool
    kind: str
    notes: tuple[str, ...] = ()


def read_slices(source: str | Path | bytes, name: str | None = None) -> Slices:
    """Read every slice of a file or folder, recognised by its content.

    - A picture, or a DICOM file of one frame: one slice, as `read_image` reads it.
    - A DICOM file of several frames: in the order of the file.
    - NIfTI: axial slices (`nifti.nifti_slices`).
    - A zip or a folder (and the folders in it): of DICOM files the series with the most slices, in the order of their
      positions along the normal, else of their instance numbers, else of their names; or the one NIfTI file; or the
      pictures, in the order of their names (2 before 10). DICOM comes first, and other files are ignored. DICOM files
      that are no MR of a head by their headers are left out, and counted in the notes.

    The slices of a volume share one window: the one stored in the middle slice, else the 1st to the 99th percentile.

    Raises:
        ImageError: none of these, no MR of a head by its header, damaged, hostile, or beyond the limits of
            `brain_mri.io.untrusted`.
    """
    label = label_of(source, name)
    if not isinstance(source, bytes) and _is_folder(source):
        return _archive(folder_members(Path(source), label), label)
    with opened(source, label) as file:
        head = peek(file)
        kind = kind_of(head)
        if kind == "zip":
            with zip_members(file, label) as members:
                return _archive(members, label)
        if kind == "nifti":
            from brain_mri.io.nifti import nifti_slices

            return _slices(nifti_slices(file, label), "nifti", label)
        if kind == "dicom":
            from brain_mri.io.dicom import all_slices

            pixels, notes = all_slices(file, label)
            return _slices(pixels, "dicom", label, notes=notes)
    if not kind:
        raise unrecognised(head, label)
    return _slices([_compact(read_image(source, label))], "picture", label)


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # an impossible path; opening it reports that
        return False


def _slices(
    pixels: Sequence[Bytes], kind: str, label: str, names: Sequence[str] = (), notes: Iterable[str] = ()
) -> Slices:
    """Name the slices of a volume by number, a single slice by its file."""
    count = len(pixels)
    numbered = [f"slice {i} of {count}" for i in range(1, count + 1)] if count > 1 else [_base(label)]
    return Slices(SliceImages(pixels), tuple(names or numbered), count > 1, kind, tuple(notes))


def _base(label: str) -> str:
    return printable(PurePosixPath(label.replace("\\", "/")).name or label)


def _compact(image: Image.Image) -> Bytes:
    """The picture's pixels, with one channel if all three are equal."""
    return np.asarray(one_channel(image))


def _archive(members: list[Member], label: str) -> Slices:
    found: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        found[kind_of(member.head())].append(member)
    if found["zip"]:
        raise ImageError(
            f"{label}: holds another zip ({found['zip'][0].label}); unpack that one and give its contents."
        )
    if found["dicom"] and (series := _dicom_series(found["dicom"], label)) is not None:
        return series
    if found["nifti"]:
        return _single_nifti(found["nifti"], label)
    if found["picture"]:
        return _pictures(found["picture"], label)
    raise ImageError(f"{label}: holds no picture, no DICOM slice with pixels and no NIfTI volume; give one that does.")


def _single_nifti(members: list[Member], label: str) -> Slices:
    from brain_mri.io.nifti import nifti_slices

    if len(members) > 1:
        raise ImageError(f"{label}: holds {len(members)} volumes; give one of them.")
    content = io.BytesIO(members[0].read(members[0].size))
    return _slices(nifti_slices(content, f"{label}: {members[0].label}"), "archive", label)


def _pictures(members: list[Member], label: str) -> Slices:
    check_size(1, 1, label, len(members))
    pixels: list[Bytes] = []
    for member in members:
        pixels.append(_compact(read_image(member.read(MAX_PICTURE_BYTES + 1), f"{label}: {member.label}")))
        if sum(one.size for one in pixels) > MAX_VOXELS:
            raise ImageError(
                f"{label}: its pictures have more than {MAX_VOXELS:,} pixels in all; give smaller or fewer."
            )
    return _slices(pixels, "archive", label, [member.label for member in members])


@dataclass(frozen=True)
class _DicomFile:
    """A DICOM file of an archive, with what was read of it before its pixels."""

    member: Member
    place: Place
    header: Header


def _dicom_series(members: list[Member], label: str) -> Slices | None:
    """Read the largest series among the DICOM files that may be MR of a head; None if no file has pixels."""
    from brain_mri.io.dicom import Volume
    from brain_mri.io.dicom_parsing import parse_with_pixels

    series, foreign = _by_series(members, label)
    if not series:
        if foreign:
            raise NotMRIError(f"{label}: holds {_counted(foreign)}, but no MR of a head by the headers; give that.")
        return None
    largest = _in_order(max(series, key=lambda files: sum(file.place.frames for file in files)))
    total = sum(file.place.frames for file in largest)
    for file in largest:
        check_size(file.place.size[0], file.place.size[1], label, total)
    order = [(i, frame) for i, file in enumerate(largest) for frame in range(file.place.frames)]

    def opened_later(member: Member) -> tuple[str, Callable[[], Any]]:
        known = f"{label}: {member.label}"
        return known, lambda: parse_with_pixels(_content(member, known), known)[0]

    notes = [note for file in largest for note in file.header.notes]
    if len(series) > 1:
        notes.append(f"of {len(series)} series the one with the most slices is read")
    if foreign:
        notes.append(f"left out, since by the headers it is no MR of a head: {_counted(foreign)}")
    pixels = Volume([opened_later(file.member) for file in largest], order).slices()
    return _slices(pixels, "archive", label, notes=dict.fromkeys(notes))


def _by_series(members: list[Member], label: str) -> tuple[list[list[_DicomFile]], Counter[str]]:
    """Sort the DICOM files with pixels: the series of those that may be MR of a head, and what the others are."""
    from brain_mri.io.dicom_header import read_header
    from brain_mri.io.dicom_parsing import parse, place_of

    series: dict[str, list[_DicomFile]] = defaultdict(list)
    foreign: Counter[str] = Counter()
    for member in members:
        known = f"{label}: {member.label}"
        dataset = parse(_content(member, known), known, pixels=False)
        place = place_of(dataset, known)
        if not place.frames:
            continue
        header = read_header(dataset, known)
        if header.foreign is None:
            series[place.series].append(_DicomFile(member, place, header))
        else:
            foreign[header.foreign] += 1
    return list(series.values()), foreign


def _counted(foreign: Counter[str]) -> str:
    """`{"a CT picture (Modality CT)": 3}` as "a CT picture (Modality CT) in 3 files", the most frequent first."""
    return ", ".join(f"{what} in {n} file{'s' if n > 1 else ''}" for what, n in foreign.most_common())


def _content(member: Member, label: str) -> bytes:
    if member.size > MAX_DICOM_BYTES:
        raise ImageError(f"{label}: larger than {MAX_DICOM_BYTES >> 20} MiB; give a smaller file.")
    return member.read(MAX_DICOM_BYTES)


def _in_order(files: list[_DicomFile]) -> list[_DicomFile]:
    """Sort by position where all have one, else by number where all have one; equal ones stay in order of name."""
    positions, numbers = [file.place.position for file in files], [file.place.number for file in files]
    if None not in positions:
        return sorted(files, key=lambda file: (round(file.place.position or 0.0, 3), file.place.number or 0))
    return sorted(files, key=lambda file: file.place.number or 0) if None not in numbers else files
