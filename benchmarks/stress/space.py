"""The page under fifty clients at once, good, clumsy and hostile ones, for ten minutes. Prints Markdown.

    python -m benchmarks.stress.space                                   on the model in release/
    python -m benchmarks.stress.space MODEL_FOLDER --users 5 --seconds 20

It starts the page itself and sends it, over loopback, pictures through the button and the API; files that are empty,
broken, no picture, or a scan that names a patient; uploads broken off midway; requests that are no requests; and asks
for files outside the app. Then it waits until the uploads' time is over. Ends with 1 if something that is to hold did
not: no answer with a 5xx code, no file of the machine in an answer, none of the uploads left, memory within a tenth,
neither paths nor names in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import re
import statistics
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydicom import dcmread
from pydicom.data import get_testdata_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.space_server import Server, serving  # noqa: E402

from benchmarks.stress.space_load import EXAMPLES, ask  # noqa: E402

NAME = "ZEBRAFINCH"  # the patient of all that is sent: to be found nowhere afterwards
_KEEP = 20  # seconds an upload is kept; short, so that its end can be waited for
_GROWTH = 0.10
_PATIENCE = 120  # seconds for the last requests to be answered
_SETTLED = 120  # seconds until memory is judged: before, what is used for the first time is still being loaded
_OUTSIDE = ["/etc/passwd", "/proc/self/environ", "/proc/self/maps", "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd"]
_OUTSIDE += ["%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd%00.png", "file:///etc/passwd", "....//....//etc/passwd"]
_DOORS = ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/gradio_api/stream/", "/"]
_SECRETS = re.compile(r"root:[^:]*:0:0|PATH=/|HOME=/|r-xp 0|\[build-system\]")  # as those files hold them
LEAKS = re.compile(rf"{NAME}|Traceback|(?<![\w.])/(?:tmp|proc|etc|home|root|var)/|gradio_api/file=")


@dataclass
class Seen:
    """What came back: requests by kind, what must not be, connections given up, (seconds, MiB resident)."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def judge(self, kind: str, answer: httpx.Response) -> httpx.Response:
        """Note a 5xx code, or a file of the machine."""
        if answer.status_code >= 500:
            self.wrong[f"{kind}: code {answer.status_code}"] += 1
        if _SECRETS.search(answer.text):
            self.wrong[f"{kind}: a file of the machine was shown"] += 1
        return answer


def _hostile_files() -> dict[str, bytes]:
    scan = Path(str(get_testdata_file("MR_small.dcm", download=False)))
    named = _named(scan)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../slice.png", bytes(50_000_000))
    picture = EXAMPLES[0].read_bytes()
    return {
        "empty": b"",
        "text": b"no picture\n" * 50,
        "html": b"<script>alert(1)</script>",
        "cut off": picture[: len(picture) // 2],
        "noise": random.Random(0).randbytes(20_000),
        "zip bomb": bomb.getvalue(),
        "large": picture[:16] + b"\0\1\x86\xa0\0\1\x86\xa0" + picture[24:],
        "scan": named,
        "scan cut off": named[: len(named) * 2 // 3],
        "pickle": b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x07exit 42\x85R.",
    }


def _named(scan: Path) -> bytes:
    content, data = io.BytesIO(), dcmread(scan)
    data.PatientName, data.PatientID = f"{NAME}^JANE", f"{NAME}-4711"
    data.save_as(content)
    return content.getvalue()


class Crowd:
    """Clients of one page, and what they do.

    Args:
        http: to the page.
        seen: where to note what came back.
        draw: what decides who does what.
    """

    def __init__(self, http: httpx.AsyncClient, seen: Seen, draw: random.Random) -> None:
        self.http, self.seen, self.draw = http, seen, draw
        self.files = _hostile_files()
        self.deeds: dict[Callable[[], Awaitable[None]], int] = {
            self.good: 6,
            self.good_by_program: 3,
            self.hostile_file: 5,
            self.outside: 4,
            self.path_of_the_server: 2,
            self.no_request: 3,
            self.broken_off: 2,
        }

    async def user(self, until: float) -> None:
        """Do one thing after the other."""
        while time.perf_counter() < until:
            (deed,) = self.draw.choices(list(self.deeds), list(self.deeds.values()))
            name = deed.__name__.replace("_", " ")
            self.seen.done[name] += 1
            try:
                await deed()
            except httpx.HTTPStatusError as error:
                self.seen.judge(name, error.response)
                if error.response.status_code < 500:
                    self.seen.wrong[f"{name}: refused with {error.response.status_code}"] += 1
            except httpx.TransportError as error:
                self.seen.lost[f"{name}: {type(error).__name__}"] += 1
            except RuntimeError as error:
                self.seen.wrong[f"{name}: {str(error)[:150]}"] += 1

    async def good(self) -> None:
        """What the page's button does."""
        await ask(self.http, self.draw.choice(EXAMPLES))

    async def good_by_program(self) -> None:
        """What the README shows."""
        said = await self._classify(await self._upload(self.draw.choice(EXAMPLES).read_bytes(), "slice.png"))
        if "event: complete" not in said:
            raise RuntimeError(f"no answer: {said[:100]}")

    async def hostile_file(self) -> None:
        """A file that is no picture, or one that names its patient."""
        kind, content = self.draw.choice(list(self.files.items()))
        said = await self._classify(await self._upload(content, f"{NAME}_{kind}.dcm"))
        if (kind == "scan") != ("event: complete" in said):
            raise RuntimeError(f"{kind}: {said[:100]}")
        if "Traceback" in said or f"{NAME}^" in said or f"{NAME}-4711" in said:
            raise RuntimeError(f"{kind}: says too much")

    async def outside(self) -> None:
        """A file outside the app."""
        target = urlsplit(str(self.http.base_url))
        path = self.draw.choice(_DOORS) + self.draw.choice(_OUTSIDE)
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:  # httpx would tidy the path up
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {target.netloc}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            said = (await asyncio.wait_for(reader.read(200_000), 60)).decode("utf-8", "replace")
        finally:
            writer.close()
        code = int(said.split(" ")[1]) if said.startswith("HTTP/") else 0
        self.seen.judge("outside", httpx.Response(code or 599, text=said))
        if code == 200 and "<html" not in said.lower():
            self.seen.wrong[f"outside: {path} was answered"] += 1

    async def path_of_the_server(self) -> None:
        """An upload that is none."""
        said = await self._classify(self.draw.choice(_OUTSIDE))
        if "event: error" not in said:
            raise RuntimeError(f"a path of the server was taken: {said[:100]}")
        if str(ROOT) in said:
            raise RuntimeError("says where on the machine the page lies")

    async def no_request(self) -> None:
        """What no client of the page would send."""
        path, body = self.draw.choice(
            [
                ("/gradio_api/queue/join", b"{"),
                ("/gradio_api/queue/join", b'{"data": [1], "fn_index": 99999, "session_hash": "x"}'),
                ("/gradio_api/queue/join", b'{"data": [], "fn_index": 0, "session_hash": "x"}'),
                ("/gradio_api/call/classify", b'{"data": [' + b"{}," * 5_000_000 + b"{}]}"),
                ("/answer", b"no form"),
                ("/gradio_api/call/classify", b'{"data": "' + b"a" * 100_000 + b'"}'),
                ("/gradio_api/call/no_such_thing", b'{"data": []}'),
                ("/gradio_api/upload", b"no form"),
            ]
        )
        answer = await self.http.post(path, content=body, headers={"Content-Type": "application/json"})
        self.seen.judge(f"no request: {path} {body[:40].decode()}", answer)

    async def broken_off(self) -> None:
        """An upload that ends midway."""
        target = urlsplit(str(self.http.base_url))
        _, writer = await asyncio.open_connection(target.hostname, target.port)
        head = "POST /gradio_api/upload HTTP/1.1\r\nContent-Length: 900000\r\n"
        head += f"Host: {target.netloc}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        part = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{NAME}.dcm"\r\n\r\n'
        writer.write((head + part).encode() + bytes(50_000))
        await writer.drain()
        writer.close()

    async def _upload(self, content: bytes, name: str) -> str:
        sent = await self.http.post("/gradio_api/upload", files={"files": (name, content)})
        path: str = self.seen.judge("upload", sent).raise_for_status().json()[0]
        return path

    async def _classify(self, path: str) -> str:
        file: dict[str, Any] = {"path": path, "orig_name": f"{NAME}.png", "meta": {"_type": "gradio.FileData"}}
        asked = await self.http.post("/gradio_api/call/classify", json={"data": [file]})
        event = self.seen.judge("classify", asked).raise_for_status().json()["event_id"]
        answer = await self.http.get(f"/gradio_api/call/classify/{event}")
        return self.seen.judge("classify", answer).text


async def measure(server: Server, users: int, seconds: float, seed: int) -> Seen:
    """Warm up, let everybody loose, and read the page's memory every second."""
    # The page closes idle connections after 5 s; one that was just closed must not be taken again.
    limits = httpx.Limits(max_connections=3 * users, max_keepalive_connections=users, keepalive_expiry=1)
    seen = Seen()
    async with httpx.AsyncClient(base_url=server.url, timeout=180, limits=limits) as http:
        crowd = Crowd(http, seen, random.Random(seed))
        await crowd.good()
        until = (started := time.perf_counter()) + seconds

        async def watch() -> None:
            while (now := time.perf_counter()) < until:
                seen.memory.append((now - started, server.resident_megabytes()))
                await asyncio.sleep(1)

        everybody = asyncio.gather(watch(), *(crowd.user(until) for _ in range(users)))
        try:
            await asyncio.wait_for(everybody, seconds + _PATIENCE)
        except TimeoutError:
            seen.wrong[f"some clients waited {_PATIENCE} s after the end and got no answer"] += 1
    return seen


def files_left(uploads: Path, patience: float) -> list[str]:
    """What lies in the uploads' folder when everything's time is over."""
    until = time.monotonic() + patience
    while (left := [p.name for p in uploads.rglob("*") if p.is_file()]) and time.monotonic() < until:
        time.sleep(1)
    return left


def growth(memory: list[tuple[float, float]]) -> tuple[float, float]:
    """Median MiB of the second tenth of the time, when everything has been done once, and of the last."""
    tenth = max(1, len(memory) // 10)
    resident = [megabytes for _, megabytes in memory]
    return statistics.median(resident[tenth : 2 * tenth] or resident), statistics.median(resident[-tenth:])


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(ROOT / "release"), help="model folder (default: release/)")
    parser.add_argument("--users", type=int, default=50, help="clients at once (default: 50)")
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of who does what (default: 0)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="stress-space-") as folder,
        serving(Path(options.model).resolve(), Path(folder), UPLOAD_SECONDS=str(_KEEP), OMP_NUM_THREADS="2") as server,
    ):
        seen = asyncio.run(measure(server, options.users, options.seconds, options.seed))
        left = files_left(server.uploads, 6 * _KEEP)
        log = server.log.read_text()
    early, late = growth(seen.memory)
    leaks = sorted({line[:150] for line in log.splitlines() if LEAKS.search(line)})
    grown = "-" if options.seconds < _SETTLED else late <= early * (1 + _GROWTH)
    rows = [
        (f"{sum(seen.done.values())} requests of {options.users} clients in {options.seconds:.0f} s", not seen.wrong),
        (f"memory: {early:.0f} MiB at first, {late:.0f} at last", grown),
        (f"files left {_KEEP} s and a sweep later: {len(left)}", not left),
        (f"lines of the log with a path, a name or a traceback: {len(leaks)} of {log.count(chr(10))}", not leaks),
    ]
    print("| what | holds |\n|---|---|")
    words = {True: "yes", False: "NO", "-": "not judged: too short"}
    print("\n".join(f"| {what} | {words[holds]} |" for what, holds in rows))
    print(f"\nDone: {', '.join(f'{name} {n}' for name, n in seen.done.most_common())}.")
    for title, found in (("Wrong", seen.wrong), ("Connections given up", seen.lost)):
        print("".join(f"\n{title}: {n} times {what}" for what, n in found.most_common()))
    print(json.dumps(leaks, indent=1) if leaks else "")
    sys.exit(not all(holds for _, holds in rows))


if __name__ == "__main__":
    main()
