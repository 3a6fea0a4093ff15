"""The pictures in a folder and below it, recognised by their first bytes, and what else lies there. No torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from brain_mri.errors import DataError
from brain_mri.io.untrusted import HEAD_BYTES, kind_of, printable, unrecognised

_DEEPEST = 6  # class/patient/study/series and a little more; a link back to the top would have no end
_MOST_REFUSED = 200  # a folder with so many files that are no pictures is not the folder that was meant
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "dicomdir", "icon\r"})
_DOCUMENTS = frozenset(
    {".csv", ".tsv", ".txt", ".md", ".json", ".xml", ".html", ".htm", ".yaml", ".yml", ".log", ".pdf", ".doc",
     ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".ini", ".sha256", ".md5"}
)  # fmt: skip
_MASK = ("_mask", "-mask", "_seg", "_segmentation")
_VOLUME = "a volume (NIfTI), and each image must be one slice: export its slices as pictures, or move it away"
_ZIP = "a zip: unpack it, or move it away"


@dataclass(frozen=True)
class FoundFile:
    """A picture or a DICOM file: its `path`, its path below the folder with `/`, and its `kind`."""

    path: Path
    inner: str
    kind: str


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
        images: pictures and DICOM files, sorted by their path.
        documents: paths, below the folder, of texts and tables, which are left out.
        problems: every other file, a sentence each.
    """

    images: list[FoundFile] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones and those that systems add are left out.

    Raises:
        DataError: it can't be listed.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(Path(entry.path) for entry in found if _is_class(entry))
    except OSError as error:
        raise DataError(f"{folder}: can't be listed ({error.strerror}): check its permissions.") from error


def has_picture(folder: Path) -> bool:
    """Whether a picture lies in the folder itself."""
    return bool(list_files(folder, "", deepest=0).images)


def list_files(folder: Path, name: str, deepest: int = _DEEPEST) -> Listing:
    """List the files of a folder and of the folders in it, down to `deepest` folders below.

    Only the first `HEAD_BYTES` bytes of a file are read. Hidden files and those that systems add are left out.

    Args:
        folder: where to look.
        name: how problems call it, with a `/` at the end unless it is empty.
        deepest: 0 lists the folder alone.
    """
    listing = Listing()
    for entry, inner in _entries(folder, name, "", deepest, listing.problems):
        if len(listing.problems) > _MOST_REFUSED:
            listing.problems.append(f"more such files in {name or folder}: is this the folder of images?")
            break
        _sort_in(entry, inner, name, listing)
    listing.images.sort(key=lambda file: file.inner)
    listing.problems += _masks(listing.images, name)
    return listing


def _entries(
    folder: Path, name: str, inner: str, deeper: int, problems: list[str]
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """The files in a folder and below, with their path in it."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        problems.append(f"{name}{inner} can't be listed ({error.strerror}): check its permissions")
        return
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if not _is_folder(entry):
            yield entry, inner + entry.name
        elif _leads_back(entry):
            problems.append(f"{name}{inner}{entry.name} is a link to a folder that it lies in: remove it")
        elif deeper > 0:
            yield from _entries(Path(entry.path), name, f"{inner}{entry.name}/", deeper - 1, problems)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where nobody may look; reading it as a file says so
        return False


def _is_class(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) and not _is_hidden(entry.name) and not _leads_back(entry)


def _leads_back(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder that holds it, so that whoever follows it comes by again and again."""
    return entry.is_symlink() and Path(os.path.realpath(os.path.dirname(entry.path))).is_relative_to(
        os.path.realpath(entry.path)
    )


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name.lower() in _SYSTEM_FILES


def _sort_in(entry: os.DirEntry[str], inner: str, name: str, listing: Listing) -> None:
    """Put a file where it belongs in the listing."""
    shown = name + inner
    if not inner.isprintable():
        listing.problems.append(f"{printable(shown)} has a name that can't be stored or shown: rename it")
        return
    try:
        about = entry.stat()
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for its writer
            listing.problems.append(f"{shown} is a pipe or a device, not a file: remove it")
            return
        head = _head(entry.path) if about.st_size else b""
    except OSError as error:
        listing.problems.append(f"{shown} can't be read ({error.strerror}): check its permissions, or remove it")
        return
    kind = kind_of(head)
    if kind in ("picture", "dicom"):
        listing.images.append(FoundFile(Path(entry.path), inner, kind))
    elif os.path.splitext(entry.name)[1].lower() in _DOCUMENTS:
        listing.documents.append(inner)
    elif kind:
        listing.problems.append(f"{shown} is {_VOLUME if kind == 'nifti' else _ZIP}")
    else:
        listing.problems.append(str(unrecognised(head, shown)).rstrip("."))


def _head(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, HEAD_BYTES)
    finally:
        os.close(file)


def _masks(images: list[FoundFile], name: str) -> list[str]:
    """A problem where outlines of tumours lie beside the slices, which a model would learn as slices."""
    stems = {os.path.splitext(file.inner)[0] for file in images}
    masks = sorted(s for s in stems if any(s.endswith(end) and s.removesuffix(end) in stems for end in _MASK))
    if not masks:
        return []
    return [f"{len(masks)} masks lie beside their images in {name} ({masks[0]} ...): move them away"]
