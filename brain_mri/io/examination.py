"""The files of a zip or a folder, sorted into series, of which one is read. No torch."""

from __future__ import annotations

import io
from collections import defaultdict
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from brain_mri.errors import ImageError
from brain_mri.io.archives import Member
from brain_mri.io.entries import Choice, Entry, Loaded, named_entry, read_chosen, without_masks
from brain_mri.io.formats import PAIRED, VOLUMES, format_of, not_read, unpack
from brain_mri.io.images import read_picture
from brain_mri.io.lost import may_be_slice, told
from brain_mri.io.slices import Slices
from brain_mri.io.untrusted import (
    MAX_ARCHIVE_BYTES,
    MAX_DICOM_BYTES,
    MAX_PICTURE_BYTES,
    MAX_SLICES,
    MAX_VOXELS,
    printable,
)
from brain_mri.io.windowing import Bytes

if TYPE_CHECKING:
    from pydicom import Dataset

    from brain_mri.io.dicom_series import DicomFiles


def base_of(label: str) -> str:
    """The last part of a path, for messages."""
    return printable(PurePosixPath(label.replace("\\", "/")).name or label)


def stem_of(name: str) -> str:
    """A file's name without its ending, in lower case: the two files of a pair have one."""
    return name.lower().removesuffix(".gz").rpartition(".")[0]


def read_archive(members: list[Member], label: str, choice: Choice) -> Slices:
    """Read one of the series in the files of a zip or a folder; see `volumes.read_slices`, and so for the errors."""
    found, others, unread = _by_kind(members, label)
    if found["zip"]:
        raise ImageError(
            f"{label}: holds another zip ({found['zip'][0].label}); unpack that one and give its contents.", "no_scan"
        )
    files = _dicom_files(found["dicom"], label)
    entries = files.entries(choice, label) if files else []
    pairs = {one.label: _partner_of(one, kind, others) for kind in PAIRED for one in found[kind]}
    alone = [name for name, partner in pairs.items() if partner is None]
    volumes = sorted(
        (_volume_entry(kind, one, pairs.get(one.label), label, choice) for kind in VOLUMES for one in found[kind]),
        key=lambda entry: entry.description,
    )
    whole, masks = without_masks([one for one in volumes if one.description not in alone])
    entries += whole
    if files and not entries and (problem := files.problem(label)):
        raise problem
    entries += _picture_entry(found["picture"], label)
    notes = files.notes() if files else []
    if alone and entries:
        notes.append(f"left out, since the file of its voxels is missing: {', '.join(sorted(alone))}")
    entries = entries or volumes  # reading one says what is missing
    partners = {id(one) for one in pairs.values()}
    left = [one.name for one in others if id(one) not in partners]
    lost = sum(name in unread for name in left)
    if passed := len(left) - lost:
        notes.append(f"passed over: {passed} file{'s that are' if passed > 1 else ' that is'} no scan")
    lost += len(alone) + (files.lost if files else 0)
    if not entries:
        raise _nothing(others, label)
    said = [*masks, *notes, *([told(lost)] if lost else [])]
    return read_chosen(entries, choice, "archive", label, base_of(label), said, lost)


def _nothing(others: list[Member], label: str) -> ImageError:
    if len(others) == 1 and not others[0].is_link:  # its name and its format say more
        return not_read(others[0].head(), f"{label}: {others[0].label}")
    return ImageError(
        f"{label}: holds no picture, no DICOM slice with pixels and no volume; give one that does.", "no_scan"
    )


def _by_kind(members: list[Member], label: str) -> tuple[dict[str, list[Member]], list[Member], set[str]]:
    """Members by what they are, those that are of no known kind, and the names of those among these that may be slices.

    A link that is not followed may be a folder of slices.
    """
    unpacked = _Unpacked(label)
    found: dict[str, list[Member]] = defaultdict(list)
    unread: set[str] = set()
    for member in members:
        head = member.head()
        kind = format_of(head)
        if kind == "gzip":
            member = unpacked.member(member)
            head = member.head()
            kind = format_of(head)
        if kind in ("", "gzip"):
            unread |= {member.name} if may_be_slice(member.name, head) else set()
            kind = ""
        found[kind].append(member)
    return found, found.pop("", []), unread


class _Unpacked:
    """Members of an archive that are gzip files, unpacked when they are read; all together have a limit."""

    def __init__(self, label: str) -> None:
        self.label, self.total = label, 0

    def member(self, member: Member) -> Member:
        """The file inside a gzip file."""
        most = MAX_DICOM_BYTES  # how many it has is known when it is unpacked
        return Member(member.name.removesuffix(".gz"), most, lambda limit: self._read(member, limit))

    def _read(self, member: Member, limit: int) -> bytes:
        content = unpack(io.BytesIO(member.read(member.size)), f"{self.label}: {member.label}")
        self.total += len(content)
        if self.total > 2 * MAX_ARCHIVE_BYTES:  # headers and pixels are read one after the other
            raise ImageError(
                f"{self.label}: its gzip files hold more than {MAX_ARCHIVE_BYTES >> 20} MiB; give fewer.", "too_large"
            )
        return content[:limit]


def _dicom_files(members: list[Member], label: str) -> DicomFiles | None:
    """The DICOM files by their headers; None without any, which saves a quarter of a second."""
    if not members:
        return None
    from brain_mri.io.dicom_parsing import parse_header
    from brain_mri.io.dicom_series import DicomFiles

    files = DicomFiles()
    for member in members:
        known = f"{label}: {member.label}"
        dataset, has_pixels = parse_header(_content(member, known), known)
        files.add(dataset, has_pixels, known, partial(_parsed, member, known))
    return files


def _parsed(member: Member, label: str) -> Dataset:
    from brain_mri.io.dicom_parsing import parse_with_pixels

    return parse_with_pixels(_content(member, label), label)[0]


def _content(member: Member, label: str) -> bytes:
    if member.size > MAX_DICOM_BYTES:
        raise ImageError(f"{label}: larger than {MAX_DICOM_BYTES >> 20} MiB; give a smaller file.", "too_large")
    return member.read(MAX_DICOM_BYTES)


def _partner_of(member: Member, kind: str, others: list[Member]) -> Member | None:
    same = [one for one in others if stem_of(one.name) == stem_of(member.name)]
    endings = (PAIRED[kind], PAIRED[kind] + ".gz")
    return next((one for one in same if one.name.lower().endswith(endings)), None)


def _volume_entry(kind: str, member: Member, partner: Member | None, label: str, choice: Choice) -> Entry:
    from brain_mri.io.neuro import outline

    known = f"{label}: {member.label}"

    def load() -> Loaded:
        second = None if partner is None else io.BytesIO(partner.read(partner.size))
        return load_volume(kind, io.BytesIO(member.read(member.size)), known, second, choice)

    plane, slices = outline(kind, member.head())
    return named_entry(member.label, plane, slices, load)


def load_volume(kind: str, file: BinaryIO, label: str, partner: BinaryIO | None, choice: Choice) -> Loaded:
    """Read a volume of one of the kinds `formats.VOLUMES`, and cut it. Errors as `neuro.read_volume`, `planes.cut`."""
    from brain_mri.io.neuro import read_volume
    from brain_mri.io.planes import cut

    grid, notes = read_volume(kind, file, label, partner)
    found = cut(grid, choice.plane, label)
    return Loaded(found.pixels, found.names, [*notes, *found.notes])


def load_picture(content: bytes, label: str) -> Loaded:
    """Read all pages of a picture. Errors as `images.read_picture`."""
    pages, left_out = read_picture(content, label)
    return Loaded(pages, (), _copies(left_out))


def _copies(left_out: int) -> list[str]:
    return [f"left out: {left_out} pages that are smaller copies or masks of others"] if left_out else []


def _picture_entry(members: list[Member], label: str) -> list[Entry]:
    if not members:
        return []
    return [Entry("pictures", None, False, "", len(members), lambda: _pictures(members, label))]


def _check_count(pictures: int, label: str) -> None:
    if pictures > MAX_SLICES:
        raise ImageError(
            f"{label}: {pictures:,} pictures are more than {MAX_SLICES:,}; give one series of slices.", "too_large"
        )


def _pictures(members: list[Member], label: str) -> Loaded:
    _check_count(len(members), label)
    pixels: list[Bytes] = []
    names: list[str] = []
    left_out = 0
    for member in members:
        pages, copies = read_picture(member.read(MAX_PICTURE_BYTES + 1), f"{label}: {member.label}")
        left_out += copies
        pixels += pages
        several = len(pages) > 1
        names += [f"{member.label} page {i}" if several else member.label for i in range(1, len(pages) + 1)]
        _check_count(len(pixels), label)
        if sum(one.size for one in pixels) > MAX_VOXELS:
            raise ImageError(
                f"{label}: its pictures have more than {MAX_VOXELS:,} pixels in all; give smaller or fewer.",
                "too_large",
            )
    return Loaded(pixels, names, _copies(left_out))
