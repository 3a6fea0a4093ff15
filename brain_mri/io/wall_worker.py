"""The process behind `wall.Wall`: reads one file after another within limits. Started by it, never by hand.

    python -m brain_mri.io.wall_worker READING WRITING MEMORY

Two file descriptors, and the bytes of memory that it may take beyond what it has. It ends when the pipe closes.
"""

from __future__ import annotations

import json
import math
import os
import resource
import struct
import sys
import time
from typing import Any, BinaryIO

import numpy as np

from brain_mri.errors import ImageError, NotMRIError
from brain_mri.io import dicom_series, images, neuro, pages, volumes  # noqa: F401 (loaded before the limits hold)
from brain_mri.io.windowing import Bytes

_HEADER = struct.Struct("<Q")
_TOO_MUCH = "needs more memory than a file of its size may take; give another file, or its slices one by one."


def limit(memory: int) -> None:
    """Keep this process within its present memory and `memory` bytes; no file is written, no core left."""
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:
        words = file.read().split()
    held = int(words[0]) * resource.getpagesize() if words else 2**31
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow(seconds: float) -> None:
    """Let this process compute for so many more seconds; then the system ends it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), hard))


def answer(question: dict[str, Any], content: bytes) -> tuple[dict[str, Any], list[Bytes]]:
    """What `wall.Wall` asked for, as JSON and pictures (H, W) or (H, W, 3)."""
    source, name = content if question["path"] is None else question["path"], question["name"]
    try:
        if question["what"] == "image":
            image = images.one_channel(images.read_image(source, name, single=question["single"]))
            return _with([np.asarray(image)])
        found = volumes.read_slices(source, name, series=question["series"], plane=question["plane"])
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):
            return _too_much(name)
        return {"error": str(error), "fault": error.fault, "not_mri": isinstance(error, NotMRIError)}, []
    except MemoryError:
        return _too_much(name)
    told = {name: getattr(found, name) for name in ("names", "is_volume", "kind", "notes", "lost")}
    return _with(list(found.images.pixels), series=[one.as_dict() for one in found.series], **told)


def _too_much(name: str) -> tuple[dict[str, Any], list[Bytes]]:
    return {"error": f"{name}: {_TOO_MUCH}", "fault": "too_large"}, []


def _with(pixels: list[Bytes], **told: Any) -> tuple[dict[str, Any], list[Bytes]]:
    return {"shapes": [one.shape for one in pixels], **told}, pixels


def serve(reading: BinaryIO, writing: BinaryIO) -> None:
    """Answer until the pipe closes."""
    while header := reading.read(_HEADER.size):
        question = json.loads(reading.read(_HEADER.unpack(header)[0]))
        content = reading.read(question["bytes"])
        allow(question["seconds"])
        started = time.process_time()
        record, pixels = answer(question, content)
        text = json.dumps(record | {"took": time.process_time() - started}).encode()
        writing.write(_HEADER.pack(len(text)) + text)
        for one in pixels:
            writing.write(np.ascontiguousarray(one).data)
        writing.flush()


def main() -> None:
    """Limit this process, and serve."""
    reading, writing, memory = map(int, sys.argv[1:])
    limit(memory)
    with open(reading, "rb") as source, open(writing, "wb") as target:
        serve(source, target)


if __name__ == "__main__":
    main()
