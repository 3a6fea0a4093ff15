"""Thousands of broken files sent to the page: is each one a sentence or an answer, and does its memory stay flat?

    python -m benchmarks.stress.broken_uploads [MODEL_FOLDER] [--n 5000] [--users 4] [--seed 0]

It starts the page itself and sends it, as its button does, the files of `broken_files.py`, every tenth one of the
files made to break a reader of `tests/support/hostile_files.py`, and every fiftieth one a good picture. Prints the
memory of the page and of its worker processes over time, and what was replied. Ends with 1 if something that is to
hold did not: no 5xx code, no reply but an answer or a sentence, no path, name or traceback in replies or log, no file
left, memory of page and workers within a tenth from the second tenth of the files to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.stress.broken_files import mutants
from benchmarks.stress.space import LEAKS, NAME, ROOT, files_left, growth
from benchmarks.stress.space_load import EXAMPLES

sys.path.insert(0, str(ROOT / "tests"))

from support.hostile_files import UPLOADS
from support.space_server import Server, serving

_KEEP = 20  # seconds an upload of a program is kept; the page's own go with the answer
_EVERY, _GOOD = 10, 50  # which file is one made to break a reader, and which a good picture
_BROKEN = "something is broken here"  # the page's words for an error that nobody thought of
_SHOWN = 12  # rows of memory
_PAGE_SHARE = 2**20  # bytes of a reply that are searched for leaks


@dataclass
class Seen:
    """Replies by kind, what must not be, sizes in MiB after so many files: of the page, and of each of its workers."""

    replies: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    page: list[tuple[float, float]] = field(default_factory=list)
    workers: list[list[float]] = field(default_factory=list)


def files_to_send(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield `n` pairs of a kind and a file."""
    hostile, good, broken = itertools.cycle(UPLOADS), itertools.cycle(EXAMPLES), mutants(n, seed)
    for i in range(n):
        if i % _GOOD == 0:
            yield "good", next(good).read_bytes()
        elif i % _EVERY == 0:
            yield "hostile", UPLOADS[next(hostile)]()
        else:
            yield next(broken)


def memory_of_workers(pid: int) -> list[float]:
    """MiB resident of each process that a process started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:  # it has ended
            continue
        if f"\nPPid:\t{pid}\n" in text and "VmRSS:" in text:
            found.append(int(text.split("VmRSS:")[1].split()[0]) / 1024)
    return found


def judge(seen: Seen, kind: str, reply: httpx.Response) -> None:
    """Note what a reply is: an answer, one sentence, refused by code, or something that must not be."""
    try:
        html = json.loads(reply.text.splitlines()[-1]).get("html", "") if reply.status_code == 200 else ""
    except (ValueError, IndexError):
        html = ""
    told = "answered" if "bm-verdict" in html else "one sentence" if "bm-message" in html else str(reply.status_code)
    told = f"refused with {told}" if reply.status_code in (400, 411, 413) else told
    seen.replies[told] += 1
    if reply.status_code >= 500 or told == "200" or _BROKEN in html:
        seen.wrong[f"{kind}: code {reply.status_code} {re.sub('<[^>]*>', ' ', html)[:150]}"] += 1
    if kind == "good" and told != "answered":
        seen.wrong[f"a good picture: {told}"] += 1
    if leak := LEAKS.search(reply.text[:_PAGE_SHARE].replace(f"{NAME}_", "")):
        seen.wrong[f"{kind}: the reply says {leak[0]}"] += 1


async def _client(http: httpx.AsyncClient, files: Iterator[tuple[int, tuple[str, bytes]]], seen: Seen) -> None:
    for number, (kind, content) in files:
        try:
            judge(seen, kind, await http.post("/answer", files={"files": (f"{NAME}_{number}.dcm", content)}))
        except httpx.TransportError as error:
            seen.wrong[f"{kind}: {type(error).__name__}"] += 1


async def send(server: Server, n: int, users: int, seed: int) -> Seen:
    """Send the files, so many at a time, and read the memory after every hundredth of them."""
    seen, files, step = Seen(), enumerate(files_to_send(n, seed)), max(1, n // 100)

    async def watch() -> None:
        while (done := seen.replies.total()) < n and not all(client.done() for client in clients):
            if done >= step * len(seen.page):
                seen.page.append((done, server.resident_megabytes()))
                seen.workers.append(memory_of_workers(server.pid))
            await asyncio.sleep(0.2)

    async with httpx.AsyncClient(base_url=server.url, timeout=300) as http:
        clients = [asyncio.create_task(_client(http, files, seen)) for _ in range(users)]
        await asyncio.gather(watch(), *clients)
    return seen


def table(seen: Seen) -> str:
    """Memory over time; of the workers, which are replaced again and again, the most of each stretch."""
    rows = ["| files | page, MiB | workers | largest worker, MiB |", "|---:|---:|---:|---:|"]
    step = max(1, len(seen.page) // _SHOWN)
    for start in range(0, len(seen.page), step):
        stretch = seen.page[start : start + step]
        workers = [size for sizes in seen.workers[start : start + step] for size in sizes]
        many = max(map(len, seen.workers[start : start + step]))
        rows.append(
            f"| {stretch[-1][0]:.0f} | {max(m for _, m in stretch):.0f} | {many} | {max(workers, default=0):.0f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Send, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(ROOT / "release"), help="model folder (default: release/)")
    parser.add_argument("--n", type=int, default=5000, help="how many files (default: 5000)")
    parser.add_argument("--users", type=int, default=4, help="how many at a time (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    options = parser.parse_args()
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="stress-space-") as folder,
        serving(Path(options.model).resolve(), Path(folder), UPLOAD_SECONDS=str(_KEEP)) as server,
    ):
        seen = asyncio.run(send(server, options.n, options.users, options.seed))
        left = files_left(server.uploads, 6 * _KEEP)
        left += [p.name for p in Path(folder).rglob("*") if p.is_file() and p != server.log]
        log = server.log.read_text()
    (early, late), sizes = growth(seen.page), [(0.0, max(sizes, default=0.0)) for sizes in seen.workers]
    first, last = growth(sizes)
    leaks = sorted({line[:150] for line in log.splitlines() if LEAKS.search(line)})
    rows = [
        (
            f"{options.n} files in {time.monotonic() - started:.0f} s: {dict(seen.replies.most_common())}",
            not seen.wrong,
        ),
        (f"memory of the page: {early:.0f} MiB at first, {late:.0f} at last", late <= early * 1.1),
        (f"of the largest worker: {first:.0f} MiB at first, {last:.0f} at last", last <= first * 1.1),
        (f"files left: {len(left)} {' '.join(left[:5])}".rstrip(), not left),
        (f"lines of the log with a path, a name or a traceback: {len(leaks)} of {log.count(chr(10))}", not leaks),
    ]
    print(f"{table(seen)}\n\n| what | holds |\n|---|---|")
    print("\n".join(f"| {what} | {'yes' if holds else 'NO'} |" for what, holds in rows))
    print("".join(f"\nWrong: {n} times {what}" for what, n in seen.wrong.most_common()))
    print(json.dumps(leaks, indent=1) if leaks else "")
    sys.exit(not all(holds for _, holds in rows))


if __name__ == "__main__":
    main()
