"""The files in a zip or a folder, one in memory at a time; nothing is ever unpacked to the disk. No torch."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from brain_mri.errors import ImageError
from brain_mri.io.untrusted import HEAD_BYTES, MAX_ARCHIVE_BYTES, MAX_MEMBERS, opened, parsing, printable

_READ = 2**16
_MAX_DEPTH = 16
_ENTRY_BYTES = 46 + 512  # of a zip's directory for a member: the fixed part, and a long path
_DIRECTORY_END = struct.Struct("<4s4H2IH")
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """A file in a zip or a folder.

    Attributes:
        name: its path inside, with `/`.
        size: in bytes, unpacked.
        read: a call that returns at most its first n bytes (n is the argument).
        is_link: whether it is a link that is not followed, and so has no bytes.
    """

    name: str
    size: int
    read: Callable[[int], bytes]
    is_link: bool = False

    @property
    def label(self) -> str:
        """The file's own name, for messages: folders on the way to it are often named after patients."""
        return printable(PurePosixPath(self.name).name)

    def head(self) -> bytes:
        """Return its first bytes."""
        return self.read(HEAD_BYTES)


def _link(name: str) -> Member:
    """A link that is not followed: what it leads to may be slices."""
    return Member(name, 0, lambda limit: b"", is_link=True)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which slice10 comes after slice9."""
    return [
        (0, int(part[:18]), "") if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
    ]


def _chosen(members: list[Member], label: str) -> list[Member]:
    """Sort by name and leave out what macOS adds. Other hidden files are files: they may be slices.

    Raises:
        ImageError: more than `MAX_MEMBERS` files or `MAX_ARCHIVE_BYTES`.
    """
    if len(members) > MAX_MEMBERS:
        raise ImageError(f"{label}: more than {MAX_MEMBERS:,} files; give one series of slices.", "too_large")
    if sum(member.size for member in members) > MAX_ARCHIVE_BYTES:
        raise ImageError(
            f"{label}: unpacks to more than {MAX_ARCHIVE_BYTES >> 20} MiB; give one series of slices.", "too_large"
        )
    return sorted((one for one in members if not _is_added(one.name)), key=lambda member: _natural(member.name))


def _is_added(name: str) -> bool:
    *folders, last = name.replace("\\", "/").split("/")
    return "__MACOSX" in folders or last.startswith("._") or last == ".DS_Store"


@contextmanager
def zip_members(file: BinaryIO, label: str) -> Iterator[list[Member]]:
    """List the files in a zip; they can be read inside the `with` block.

    Raises:
        ImageError: damaged, encrypted, too many or too large files, compressed by other ways than deflate, or paths
            that lead out of the folder into which the zip would be unpacked.
    """
    _check_directory(file, label)
    with parsing(label, "zip file"):
        archive = zipfile.ZipFile(file)
    with archive:
        # `is_dir` would fail on an empty name
        infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
        for info in infos:
            _check_member(info, label)
        yield _chosen(
            [
                _link(info.filename)
                if stat.S_ISLNK(info.external_attr >> 16)
                else Member(info.filename, info.file_size, _zip_reader(archive, info, label))
                for info in infos
            ],
            label,
        )


def _check_directory(file: BinaryIO, label: str) -> None:
    """Refuse a huge list of members before zipfile reads it: each entry of 46 bytes costs 1 KB of memory."""
    size = file.seek(0, os.SEEK_END)
    tail_start = max(0, size - _DIRECTORY_END.size - 2**16)
    file.seek(tail_start)
    tail = file.read()
    file.seek(0)
    if b"PK\6\7" in tail[-(2**16) :] and b"PK\6\6" in tail:
        raise ImageError(f"{label}: a zip in the format for huge ones (zip64); pack fewer files.", "variant")
    position = tail.rfind(b"PK\5\6")
    if position < 0 or len(tail) < position + _DIRECTORY_END.size:
        raise ImageError(f"{label}: broken zip file (its list of files is missing); pack or copy it again.")
    *_, count, directory_bytes, _, _ = _DIRECTORY_END.unpack_from(tail, position)
    if count > MAX_MEMBERS or directory_bytes > MAX_MEMBERS * _ENTRY_BYTES:
        raise ImageError(f"{label}: more than {MAX_MEMBERS:,} files; give one series of slices.", "too_large")


def _check_member(info: zipfile.ZipInfo, label: str) -> None:
    if info.flag_bits & 0x1:
        raise ImageError(f"{label}: encrypted; give a zip without a password.", "encrypted")
    if _ABSOLUTE.match(info.filename) or ".." in re.split(r"[/\\]", info.filename):
        raise ImageError(f"{label}: holds a path that leads outside of it; pack the folder of slices again.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ImageError(f"{label}: compressed in an unusual way; pack it again as an ordinary zip.", "variant")


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        with parsing(label, "zip file"), archive.open(info) as member:
            content = io.BytesIO()
            while len(part := member.read(min(_READ, limit - content.tell()))):  # zipfile stops at the listed size
                content.write(part)
            return content.getvalue()

    return read


def folder_members(folder: Path, label: str) -> list[Member]:
    """List the regular files in a folder and below it; symbolic links to files are followed, those to folders are not.

    Links that are not followed are listed without bytes, but for those to folders whose files are listed anyway.

    Raises:
        ImageError: it can't be listed, too many or too large files, or folders nested deeper than 16.
    """
    members: list[Member] = []
    waiting = [(folder, 0)]
    while waiting:
        current, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ImageError(
                f"{label}: folders nested deeper than {_MAX_DEPTH}; give the one that holds the slices.", "too_large"
            )
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((Path(entry.path), depth + 1))
                    elif member := _member_of(Path(entry.path), folder):
                        members.append(member)
                    if len(members) + len(waiting) > MAX_MEMBERS:
                        break
        except OSError as error:
            raise ImageError(f"{label}: can't be listed ({error.strerror}); check its permissions.") from error
        if len(members) + len(waiting) > MAX_MEMBERS:
            break
    return _chosen(members, label)


def _member_of(path: Path, folder: Path) -> Member | None:
    """A file, or a link that is not followed; None of pipes, devices and links to folders that are listed anyway."""
    name = path.relative_to(folder).as_posix()
    if os.path.isfile(path):
        return Member(name, path.stat().st_size, _file_reader(path, name))
    if not path.is_symlink():
        return None
    if os.path.isdir(path):
        return None if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) else _link(name)
    return None if os.path.exists(path) else _link(name)  # to nothing, or in a circle


def _file_reader(path: Path, name: str) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        with opened(path, printable(PurePosixPath(name).name)) as file:
            return file.read(limit)

    return read
