"""Files and folders that are written whole or not at all; JSON records and CSV tables."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brain_mri.errors import DISK_FULL, ConfigError


def make_folder(folder: Path) -> Path:
    """Make a folder, and those above it, where they are missing.

    Raises:
        ConfigError: nothing can be made there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise ConfigError(f"{folder} can't be made ({error.strerror}): choose another folder.") from error
    return folder


@contextmanager
def written_whole(path: Path, folder: bool = False) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` when the block ends, or is removed when the block fails.

    It lies beside `path`, on the same file system, so nobody ever sees half of what is written.

    Args:
        path: a file, which is replaced if it exists, or a folder, which must not exist or be empty.
        folder: whether it is a folder; the one given is empty, whatever a killed process left there.
    """
    # two processes may write the same file at once
    partial = path.with_name(f".{path.name}.partial" if folder else f".{path.name}.{os.getpid()}.partial")
    make_folder(path.parent)
    _remove(partial)
    if folder:
        make_folder(partial)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def readable_as_usual(path: Path) -> None:
    """Give a file the mode that the user's new files have; safetensors writes its own for the owner alone."""
    usual = path.with_name(f".{path.name}.{os.getpid()}.mode")
    usual.touch()
    try:
        shutil.copymode(usual, path)
    finally:
        usual.unlink()


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all; missing folders are made."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all; missing folders are made."""
    with written_whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
