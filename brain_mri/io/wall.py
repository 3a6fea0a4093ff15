"""Reading files of strangers in processes with limits, so that no file can take a program down.

The checks of `brain_mri.io` look at what they know. A decoder may still take memory, seconds or the whole process for a
small file. `Wall` reads in worker processes (`wall_worker`) whose memory and processor time the system limits: a file
that needs more costs a worker, which is replaced, and gives one sentence. What a worker sends back is numbers and text,
never pickled objects, so that a worker that was taken over can only give a wrong picture. No torch.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from PIL import Image

import brain_mri
from brain_mri.errors import ConfigError, ImageError, ImageFault, NotMRIError
from brain_mri.io.budget import Budget, BudgetError
from brain_mri.io.slices import Series, SliceImages, Slices
from brain_mri.io.untrusted import MAX_ARCHIVE_BYTES, MAX_MEMBERS, MAX_SLICES, MAX_VOXELS, label_of
from brain_mri.io.windowing import Bytes

if TYPE_CHECKING:
    from brain_mri.io import wall_worker  # noqa: F401 (a Space gets what is imported, and this is started by name)

MEMORY = 2**29  # bytes a worker may take beyond what it needs when idle
LEAST_SECONDS = 2.0  # of processor time for a file
_BYTES_A_SECOND = 2**23  # of a file; a volume of 100 MB may take 12 s more
_FILES = 200  # read by a worker before it is replaced: what its decoders leak goes with it
_START = 30.0  # seconds until a new worker has to answer
_SLOWER = 4  # seconds on the clock for one of processor time, on a busy machine
_HEADER = struct.Struct("<Q")
_LONGEST_HEADER = 2**24
_CHUNK = 2**20
_CHANNELS = 3


class LostError(Exception):
    """A worker ended, hung, or sent what no worker sends."""


@dataclass
class _Pipe:
    """Frames over two file descriptors: the length of some JSON, the JSON, and bytes of a length that it names."""

    reading: int
    writing: int

    def send(self, record: dict[str, Any], content: bytes, deadline: float) -> None:
        text = json.dumps(record).encode()
        for part in (_HEADER.pack(len(text)) + text, content):
            left = memoryview(part)
            while left:
                self._wait(self.writing, deadline, writing=True)
                try:
                    left = left[os.write(self.writing, left[:_CHUNK]) :]
                except BlockingIOError:
                    continue

    def record(self, deadline: float) -> dict[str, Any]:
        (length,) = _HEADER.unpack(self.bytes(_HEADER.size, deadline))
        if length > _LONGEST_HEADER:
            raise LostError
        found = json.loads(bytes(self.bytes(length, deadline)))
        if not isinstance(found, dict):
            raise LostError
        return found

    def bytes(self, length: int, deadline: float) -> bytearray:
        content = bytearray(length)
        view, got = memoryview(content), 0
        while got < length:
            self._wait(self.reading, deadline, writing=False)
            count = os.readv(self.reading, [view[got : got + _CHUNK]])
            if not count:
                raise LostError
            got += count
        return content

    @staticmethod
    def _wait(descriptor: int, deadline: float, *, writing: bool) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT if writing else select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LostError


class _Worker:
    """One process, and the pipes to it. It ends when they are closed."""

    def __init__(self, memory: int) -> None:
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        os.set_blocking(ours_out, False)
        code = Path(brain_mri.__file__).parents[1]
        path = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "brain_mri.io.wall_worker", str(theirs_in), str(theirs_out), str(memory)]
        nothing = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                command,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                env=environment,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,  # Ctrl-C is the program's business
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._pipe, self.files = _Pipe(ours_in, ours_out), 0
        self._begun = time.monotonic()

    def ask(self, question: dict[str, Any], content: bytes, seconds: float) -> tuple[dict[str, Any], list[Bytes]]:
        starting = self._begun + _START if not self.files else 0.0
        deadline = max(time.monotonic(), starting) + _SLOWER * seconds
        self.files += 1
        try:
            self._pipe.send(question | {"seconds": seconds, "bytes": len(content)}, content, deadline)
            answer = self._pipe.record(deadline)
            return answer, [self._pixels(shape, deadline) for shape in _shapes(answer)]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise LostError from error

    def _pixels(self, shape: tuple[int, ...], deadline: float) -> Bytes:
        pixels: Bytes = np.frombuffer(self._pipe.bytes(math.prod(shape), deadline), np.uint8).reshape(shape)
        return pixels

    def end(self) -> None:
        for descriptor in (self._pipe.reading, self._pipe.writing):
            with suppress(OSError):
                os.close(descriptor)
        self._process.kill()
        self._process.wait()


def _shapes(answer: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the pictures that follow an answer, within the limits of `untrusted`."""
    shapes = [tuple(map(int, shape)) for shape in answer.get("shapes", [])]
    if len(shapes) > MAX_SLICES or sum(math.prod(shape[:2]) for shape in shapes) > MAX_VOXELS:
        raise LostError
    if any(len(s) not in (2, 3) or min(s) < 1 or (len(s) == 3 and s[2] != _CHANNELS) for s in shapes):
        raise LostError
    return shapes


class Wall:
    """`images.read_image` and `volumes.read_slices` in worker processes. Calls from threads are safe.

    The workers start with the first file, stay, and end with `close`, with the wall, or with this process, however that
    ends.
    """

    def __init__(self, workers: int | None = None, memory: int = MEMORY, least_seconds: float = LEAST_SECONDS) -> None:
        """Set the limits.

        Args:
            workers: how many files are read at the same time; default: one for each core that this process may use.
            memory: bytes that a worker may take beyond what it needs when idle.
            least_seconds: of processor time for any file; larger ones get a second more for every 8 MiB.

        Raises:
            ConfigError: this system can't limit a process (Windows).
        """
        if sys.platform == "win32":
            raise ConfigError("reading files in limited processes needs Linux or macOS: leave the option out.")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._memory, self._least = memory, least_seconds
        self._free = threading.Semaphore(workers or cores)
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _end_all, self._idle)

    def close(self) -> None:
        """End the workers; the next file starts new ones."""
        with self._lock:
            _end_all(self._idle)

    def read_image(self, source: str | Path | bytes, name: str | None = None, *, single: bool = False) -> Image.Image:
        """As `images.read_image`, of a path or bytes; also raises ImageError for what is beyond the limits."""
        question = {"what": "image", "single": single}
        _, (pixels,) = self._read(source, name, question)
        return Image.fromarray(pixels).convert("RGB")

    def read_slices(
        self,
        source: str | Path | bytes,
        name: str | None = None,
        *,
        series: int | None = None,
        plane: str = "auto",
        budget: Budget | None = None,
    ) -> Slices:
        """As `volumes.read_slices`; also raises ImageError beyond a file's limits, BudgetError beyond the budget."""
        answer, pixels = self._read(source, name, {"what": "slices", "series": series, "plane": plane}, budget)
        listed = tuple(Series(**one) for one in answer["series"])
        names, notes = tuple(map(str, answer["names"])), tuple(map(str, answer["notes"]))
        is_volume, kind, lost = bool(answer["is_volume"]), str(answer["kind"]), int(answer["lost"])
        return Slices(SliceImages(pixels), names, is_volume, kind, notes, listed, lost)

    def _read(
        self, source: str | Path | bytes, name: str | None, question: dict[str, Any], budget: Budget | None = None
    ) -> tuple[dict[str, Any], list[Bytes]]:
        content = source if isinstance(source, bytes) else b""
        question |= {"path": None if isinstance(source, bytes) else str(Path(source).absolute()), "name": name}
        question["name"] = label_of(source, name)
        own = self._least + min(len(content) or _size(source), MAX_ARCHIVE_BYTES) / _BYTES_A_SECOND
        budget = budget or Budget(own)
        budget.check()
        seconds = min(own, budget.seconds)
        try:
            with self._worker() as worker:
                answer, pixels = worker.ask(question, content, seconds)
            budget.spend(_took(answer, seconds))
        except LostError:
            budget.spend(seconds)
            if seconds < own:
                raise BudgetError("time") from None
            raise ImageError(
                f"{question['name']}: reading it takes more time or memory than a file of its size may take, or breaks "
                "the reader; give another file, or its slices one by one.",
                "too_large",
            ) from None
        if "error" in answer:
            faults: tuple[ImageFault, ...] = get_args(ImageFault)
            fault = next((one for one in faults if one == answer.get("fault")), faults[0])
            raise (NotMRIError if answer.get("not_mri") else ImageError)(str(answer["error"]), fault)
        return answer, pixels

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        """A worker for one file; one that fails is ended, and another takes its place at once."""
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            worker = worker or _Worker(self._memory)
            try:
                yield worker
            except BaseException:
                worker.end()
                worker = _Worker(self._memory)
                raise
            finally:
                if worker.files >= _FILES:
                    worker.end()
                    worker = _Worker(self._memory)
                with self._lock:
                    self._idle.append(worker)


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


def _took(answer: dict[str, Any], most: float) -> float:
    """Seconds of processor time as the worker tells them, if they can be true."""
    took = answer.get("took")
    return took if isinstance(took, float) and 0 <= took <= most else most


def _size(source: str | Path | bytes) -> int:
    """Bytes of a file, or of the files in a folder; 0 of what can't be read, which the worker says."""
    try:
        path = Path(os.fsdecode(source))
        if path.is_dir():  # of more than the worker reads, it says so at once
            return sum(_size(one) for one in islice(path.rglob("*"), MAX_MEMBERS) if one.is_file())
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
