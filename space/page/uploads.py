"""Files on their way in: written as they arrive, within a limit for each request and one for all together."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, parse_options_header
from starlette.requests import Request

from page.refusals import RefusedError

MAX_UPLOAD_MB = 128  # of one request
MAX_FILES = 2048
ALL_UPLOADS_MB = 512  # what lies in the folder and what is on its way, of everybody
_MB = 2**20
_NAME_LETTERS = 100


@dataclass(frozen=True)
class Upload:
    """A file that arrived: where it lies, and what its owner calls it."""

    path: Path
    name: str

    def described(self) -> dict[str, str]:
        """As gradio's clients describe an upload."""
        return {"path": str(self.path), "orig_name": self.name}


class UploadSpace:
    """The folder that uploads come to, with a limit for all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arriving = 0

    @contextmanager
    def room(self, request: Request) -> Iterator[None]:
        """Reserve what a request says it will send.

        Raises:
            RefusedError: it does not say, or it is too much.
        """
        size = _length(request)
        if size > MAX_UPLOAD_MB * _MB:
            raise RefusedError(413, f"this is more than {MAX_UPLOAD_MB} MB: send less at a time.")
        if size + self._arriving + _bytes_in(self.folder) > ALL_UPLOADS_MB * _MB:
            raise RefusedError(507, "there is no room for uploads: wait a few minutes, then send it again.")
        self._arriving += size
        try:
            yield
        finally:
            self._arriving -= size

    async def receive(self, request: Request) -> tuple[Path, list[Upload]]:
        """The files of a multipart form, in a new folder; whoever asks for them removes it.

        Raises:
            RefusedError: no form, too many files, too large, or no room.
        """
        with self.room(request):
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            try:
                return folder, await _files(request, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise


async def _files(request: Request, folder: Path) -> list[Upload]:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RefusedError(400, "this is no form: send files as multipart/form-data.")
    found: list[Upload] = []

    def keep(file: File) -> None:
        if file.in_memory:  # an empty one
            file.flush_to_disk()
        file.close()
        found.append(_kept(file, folder, len(found)))

    config = {"UPLOAD_DIR": str(folder), "UPLOAD_DELETE_TMP": False, "MAX_MEMORY_FILE_SIZE": 0, "MAX_FIELD_SIZE": 1000}
    try:
        parser = python_multipart.FormParser(
            "multipart/form-data", lambda _: None, keep, boundary=options[b"boundary"], config=config
        )
        async for chunk in _chunks(request):
            parser.write(chunk)
            if len(found) > MAX_FILES:
                raise RefusedError(413, f"these are more than {MAX_FILES} files: put them into a zip.")
        parser.finalize()
    except FormParserError:
        raise RefusedError(400, "the form is broken: send it again.") from None
    return found


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces, so small that a piece of one-byte files is noticed early."""
    async for chunk in request.stream():
        for start in range(0, len(chunk), 65_536):
            yield chunk[start : start + 65_536]


def _kept(file: File, folder: Path, number: int) -> Upload:
    """Under the name that its owner gave it, as far as a file system of any kind takes it."""
    given = (file.file_name or b"").decode("utf-8", "replace")
    name = PurePosixPath(given.replace("\\", "/")).name
    safe = re.sub(r"[^\w.-]", "_", name)[-_NAME_LETTERS:].lstrip(".") or "file"
    safe = safe.encode()[-2 * _NAME_LETTERS :].decode(errors="ignore")
    target = folder / str(number) / safe
    target.parent.mkdir()
    os.replace(os.fsdecode(file.actual_file_name or b""), target)
    return Upload(target, name)


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise RefusedError(411, "the request does not say how long it is: send a Content-Length.")
    return int(length)


def _bytes_in(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:  # swept in the meantime
                continue
    return total
