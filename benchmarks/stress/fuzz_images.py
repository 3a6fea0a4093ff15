"""Whether any broken file gets past the reading rooms: mutated pictures, DICOM, NIfTI and zip files.

    python -m benchmarks.stress.fuzz_images [--n 10000] [--seed 0] [--seconds 2] [--keep FOLDER]
    python -m benchmarks.stress.fuzz_images --wall --minutes 10 --kinds DICOM,NIfTI,nii.gz,TIFF

The files are those of `broken_files.py`. Each is read by `read_slices` in a second process, which is ended when it
takes longer than --seconds, and started again; with --wall by `io.wall.Wall`, as the page reads uploads, whose limits
then are those that hold. Everything but a result or an `ImageError` of one line is a finding: --keep writes those
files. Prints the outcomes by format, the slowest inputs and the peak of memory, and exits with 1 if there was a
finding. The same --n, --kinds and --seed give the same files.
"""

from __future__ import annotations

import argparse
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from benchmarks.stress.broken_files import mutants, seeds
from brain_mri.errors import ImageError
from brain_mri.io.slices import Slices
from brain_mri.io.volumes import read_slices
from brain_mri.io.wall import LostError, Wall

READ, REFUSED, ENDED = "read", "refused", "ended by the wall"
_FINE = (READ, REFUSED, ENDED)
_ADDRESS_SPACE = 3 * 2**30  # what the reading process may map: a bomb becomes a MemoryError, not a machine without any
_STARTUP_SECONDS = 60.0
_ENDLESS = 2**31  # files


def outcome(content: bytes, read: Callable[[bytes, str], Slices] = read_slices) -> str:
    """Read a file: `read`, `refused`, `ended by the wall`, or what went wrong."""
    try:
        slices = read(content, "upload")
        modes = {image.mode for image in slices.images}
    except ImageError as error:
        message = str(error)
        ended = isinstance(error.__context__, LostError)
        fine = ENDED if ended else REFUSED
        return fine if message.startswith("upload: ") and message.isprintable() and message[-1] == "." else message
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return READ if modes == {"RGB"} and len(slices.names) == len(slices.images) else f"modes {modes}"


def _work() -> None:
    """Read length-prefixed files from stdin and write their outcomes, until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    for content in seeds()["DICOM"][:1] + seeds()["NIfTI"][:1]:
        outcome(content)  # so that imports are in nobody's time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.flush()
    while size := sys.stdin.buffer.read(8):
        content = sys.stdin.buffer.read(int.from_bytes(size))
        start = time.process_time()
        found = outcome(content).encode().replace(b"\n", b" ")[:300]
        extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        sys.stdout.buffer.write(b"%f %d %s\n" % (time.process_time() - start, extra, found))
        sys.stdout.flush()


class _Reader:
    """The second process."""

    def __init__(self, seconds: float) -> None:
        command = [sys.executable, "-m", "benchmarks.stress.fuzz_images", "--work"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self.seconds = seconds
        self._line(_STARTUP_SECONDS)

    def ask(self, content: bytes) -> tuple[float, int, str]:
        """Return the CPU seconds, the peak of extra megabytes so far, and the outcome."""
        assert self.process.stdin
        self.process.stdin.write(len(content).to_bytes(8) + content)
        line = self._line(10 * self.seconds)  # of the wall clock: the machine may be busy with something else
        if not line.endswith(b"\n"):
            self.process.kill()
            ended = self.process.wait()
            return 10 * self.seconds, 0, "hang" if ended == -signal.SIGKILL else f"crash ({ended})"
        taken, extra, found = line.decode().rstrip("\n").split(" ", 2)
        return float(taken), int(extra), f"slow ({taken} s)" if float(taken) > self.seconds else found

    def _line(self, seconds: float) -> bytes:
        assert self.process.stdout
        stream: BinaryIO = self.process.stdout  # type: ignore[assignment]
        line, deadline = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
                part = os.read(stream.fileno(), 4096)
                if not part:
                    self.process.wait()
                    break
                line += part
        return line

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()
        self.process.wait()


class _Walled:
    """The wall, with one worker."""

    def __init__(self) -> None:
        self.wall = Wall(1)

    def ask(self, content: bytes) -> tuple[float, int, str]:
        """Return the seconds on the clock, 0 (a worker's memory is limited by the system), and the outcome."""
        started = time.perf_counter()
        found = outcome(content, self.wall.read_slices)
        return time.perf_counter() - started, 0, found

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        self.wall.close()


def fuzz(
    n: int,
    seed: int,
    seconds: float,
    keep: Path | None = None,
    kinds: Sequence[str] = (),
    walled: bool = False,
    minutes: float = 1e6,
) -> tuple[Counter[tuple[str, str]], list[tuple[float, str, int]]]:
    """Read `n` damaged files of some kinds (default: all), or as many as there is time for.

    Returns:
        How often each (format, outcome) came up; the seconds, format and number of each file, slowest first. The peak
        of extra memory in MB is the last element's number, under the format `peak`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    times, peak, until = [], 0, time.monotonic() + 60 * minutes
    reader = _Walled() if walled else _Reader(seconds)
    for number, (kind, content) in enumerate(mutants(n, seed, kinds)):
        taken, extra, found = reader.ask(content)
        peak = max(peak, extra)
        counts[kind, found] += 1
        times.append((taken, kind, number))
        if found not in (READ, REFUSED) and keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{kind}-{seed}-{number}").write_bytes(content)
        if not reader.is_alive():
            reader.close()
            reader = _Reader(seconds)
        if time.monotonic() > until:
            break
    reader.close()
    return counts, [*sorted(times, reverse=True), (0.0, "peak", peak)]


def main() -> None:
    """Print the outcomes by format, the slowest files and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="how many files (default: 10000; with --minutes: no end)")
    parser.add_argument("--minutes", type=float, help="for how long (default: until all files are read)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time that a file may take (default: 2)")
    parser.add_argument("--kinds", help="formats with commas (default: all)")
    parser.add_argument("--wall", action="store_true", help="read as the page does, in processes with limits")
    parser.add_argument("--keep", type=Path, help="folder for the files that were findings or that the wall ended")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        _work()
        return
    kinds = given.kinds.split(",") if given.kinds else list(seeds())
    n = given.n or (10_000 if given.minutes is None else _ENDLESS)
    counts, times = fuzz(n, given.seed, given.seconds, given.keep, kinds, given.wall, given.minutes or 1e6)
    print(f"{'format':8} {READ:>7} {REFUSED:>7} {'ended':>7}  findings")
    for kind in kinds:
        findings = sum(number for (one, found), number in counts.items() if one == kind and found not in _FINE)
        print(f"{kind:8} {counts[kind, READ]:7} {counts[kind, REFUSED]:7} {counts[kind, ENDED]:7}  {findings}")
    print(f"{'all':8} {sum(counts.values())} files")
    found = {key: number for key, number in counts.items() if key[1] not in _FINE}
    for (kind, what), number in sorted(found.items()):
        print(f"finding: {kind}: {what} ({number} times)")
    print("slowest: " + ", ".join(f"{taken:.2f} s ({kind} {number})" for taken, kind, number in times[:5]))
    if not given.wall:
        print(f"peak of extra memory: {times[-1][2]} MB")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
