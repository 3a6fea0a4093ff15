"""Twenty people use the page at once for a minute: errors, time to an answer, answers per second, memory over time.

python space/app.py &                                                        the page, on two cores
python -m benchmarks.stress.space_load http://127.0.0.1:7860 --pid $!               in another terminal: the load

Each user does what the page's button does (send a picture, wait for the whole answer as HTML), at once
again and again, which is harsher than people are. Pictures are the page's examples. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import time
import uuid
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "space" / "examples").glob("*.png"))


@dataclass
class Log:
    """What was measured.

    Attributes:
        seconds: from sending a picture to its whole answer.
        errors: what went wrong, in words.
        memory: (seconds since the start, MiB resident).
    """

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, picture: Path) -> None:
    """Do once what the button does.

    Raises:
        RuntimeError: the page gave no answer.
    """
    sent = await client.post("/answer", files={"files": (picture.name, picture.read_bytes())})
    sent.raise_for_status()
    answer = json.loads(sent.text.splitlines()[-1]).get("html", "")
    if "bm-verdict" not in answer:
        raise RuntimeError(f"no answer: {answer[:200]}")


async def user(client: httpx.AsyncClient, first: int, until: float, log: Log) -> None:
    """Ask again and again."""
    for picture in cycle(EXAMPLES[first % len(EXAMPLES) :] + EXAMPLES[: first % len(EXAMPLES)]):
        started = time.perf_counter()
        if started > until:
            return
        try:
            await ask(client, picture)
            log.seconds.append(time.perf_counter() - started)
        except (httpx.HTTPError, RuntimeError) as error:
            log.errors.append(f"{type(error).__name__}: {error}")


async def leaver(client: httpx.AsyncClient, volume: bytes, until: float) -> None:
    """Send a volume, leave after two seconds, and do it again."""
    while time.perf_counter() < until:
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await client.post("/answer", params={"tab": uuid.uuid4().hex}, files={"files": ("volume.zip", volume)})


def volume_of(slices: int) -> bytes:
    """A zip of the examples, again and again."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number, picture in zip(range(slices), cycle(EXAMPLES)):
            archive.write(picture, f"{number:03}.png")
    return content.getvalue()


async def watch(pid: int | None, until: float, log: Log) -> None:
    """Read the page's memory every second."""
    started = time.perf_counter()
    while pid is not None and (now := time.perf_counter()) < until:
        resident = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])
        log.memory.append((now - started, resident / 1024))
        await asyncio.sleep(1)


async def measure(url: str, users: int, seconds: float, pid: int | None, leavers: int = 0) -> Log:
    """Warm up with one answer, then let all users loose, and those who do not wait for theirs."""
    limits = httpx.Limits(max_connections=3 * users, max_keepalive_connections=users)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await ask(client, EXAMPLES[0])
        log, until = Log(), time.perf_counter() + seconds
        crowd = [user(client, i, until, log) for i in range(users)]
        crowd += [leaver(client, volume_of(300), until) for _ in range(leavers)]
        await asyncio.gather(watch(pid, until, log), *crowd)
    return log


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of the running page")
    parser.add_argument("--users", type=int, default=20, help="people at once (default: 20)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument(
        "--leavers", type=int, default=0, help="people who send 300 slices and leave after 2 s, beside (default: 0)"
    )
    parser.add_argument("--pid", type=int, help="process of the page, to watch its memory (Linux)")
    options = parser.parse_args()
    log = asyncio.run(measure(options.url, options.users, options.seconds, options.pid, options.leavers))
    print("| users | seconds | answers | errors | answers per second | p50 | p95 | slowest |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    p50, p95, slowest = np.quantile(log.seconds or [np.nan], (0.5, 0.95, 1))
    done = f"{len(log.seconds)} | {len(log.errors)} | {len(log.seconds) / options.seconds:.1f}"
    print(f"| {options.users} | {options.seconds:.0f} | {done} | {p50:.2f} s | {p95:.2f} s | {slowest:.2f} s |")
    for error in sorted(set(log.errors)):
        print(f"\n{log.errors.count(error)} times {error}")
    if log.memory:
        every = max(1, len(log.memory) // 6)
        shown = ", ".join(f"{at:.0f} s {megabytes:.0f} MiB" for at, megabytes in log.memory[::every])
        print(f"\nMemory: {shown}; at most {max(m for _, m in log.memory):.0f} MiB.")


if __name__ == "__main__":
    main()
