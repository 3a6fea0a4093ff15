"""One run at a time in a folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from brain_mri.errors import ConfigError
from brain_mri.utils.files import make_folder

logger = logging.getLogger(__name__)

LOCK = "run.lock"
_TURN = ".turn.lock"
_ATTEMPTS = 100  # to lock a file that others remove as they end
_TAKEN = (errno.EACCES, errno.EAGAIN)

_held: dict[Path, IO[str]] = {}


def hold(folder: str | Path) -> None:
    """Lock a folder until this process ends, so that no other can `hold` it; a missing folder is created.

    The lock is POSIX's (`fcntl.lockf`), which belongs to one process alone. A `flock`, which the package filelock
    takes, would live on in the data loader's workers after a kill and block the resumed run. Windows gets no lock.

    Raises:
        ConfigError: another process holds it, or nothing can be written there.
    """
    try:
        folder = Path(folder).resolve()
        if sys.platform == "win32" or folder in _held:
            return
        file = _opened(folder)
    except OSError as error:
        raise ConfigError(f"{folder} can't be written to ({error.strerror}): choose another --output_dir.") from error
    _held[folder] = file
    file.truncate(0)
    file.write(f"{os.getpid()} on {platform.node()}")
    file.flush()
    atexit.register(_release, folder, os.getpid())


@contextmanager
def waiting(folder: str | Path) -> Iterator[None]:
    """Let one process at a time into this block for a folder; the others wait. Windows gets no lock."""
    folder = make_folder(Path(folder))
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / _TURN).open("a") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _opened(folder: Path) -> IO[str]:
    """The lock file, locked: anew where its last holder removed it, or its folder, in the meantime.

    Raises:
        OSError: it can't be written, however often it is tried.
    """
    for attempt in range(_ATTEMPTS):
        make_folder(folder)
        try:
            file = (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:  # /proc/self is a folder, and takes no file
                raise
            continue
        _lock(file, folder)
        if _is_at(file, folder / LOCK):
            return file
        file.close()
    raise OSError(errno.EAGAIN, "its lock file goes away again and again")


def _lock(file: IO[str], folder: Path) -> None:
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _TAKEN:
            logger.warning("%s: this file system has no locks: do not start a second run there.", folder)
            return
        file.seek(0)
        holder = file.read() or "unknown"
        file.close()
        raise ConfigError(
            f"{folder} is being written by another run (process {holder}): wait for it, or choose another --output_dir."
        ) from error


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _release(folder: Path, process: int) -> None:
    """Remove the lock file, and the folder if it is empty, once; a forked child leaves both alone."""
    if os.getpid() != process or folder not in _held:
        return
    file = _held.pop(folder)
    (folder / LOCK).unlink(missing_ok=True)
    file.close()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
