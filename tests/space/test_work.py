"""Work is done for who waits for it: it ends with them, and nobody's delays the others' for long."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from page import jobs
from page.texts import texts
from support.space_server import grey
from support.space_site import Site, zipped

_SLICES = 200


def _uploaded(http: httpx.Client) -> dict[str, Any]:
    sent = http.post("/gradio_api/upload", files={"files": ("volume.zip", zipped(_SLICES))})
    return {"path": sent.raise_for_status().json()[0], "orig_name": "volume.zip"}


def _read_a_little(http: httpx.Client, method: str, path: str, **options: Any) -> None:
    """Begin to read an answer, then close the connection."""
    with pytest.raises(httpx.ReadTimeout), http.stream(method, path, timeout=0.5, **options) as answer:
        for _ in answer.iter_raw():
            time.sleep(0.5)
            raise httpx.ReadTimeout("enough")


def _page(http: httpx.Client) -> None:
    _read_a_little(http, "POST", "/answer", files={"files": ("volume.zip", zipped(_SLICES))})


def _call(http: httpx.Client) -> None:
    asked = http.post("/gradio_api/call/classify_volume", json={"data": [[_uploaded(http)]]}).json()
    _read_a_little(http, "GET", f"/gradio_api/call/classify_volume/{asked['event_id']}")


def _queue(http: httpx.Client) -> None:
    number = next(
        one["id"] for one in http.get("/config").json()["dependencies"] if one["api_name"] == "classify_volume"
    )
    asked = {"data": [[_uploaded(http)]], "fn_index": number, "session_hash": "s"}
    http.post("/gradio_api/queue/join", json=asked).raise_for_status()
    _read_a_little(http, "GET", "/gradio_api/queue/data?session_hash=s")


def _assistant(http: httpx.Client) -> None:
    files = ["data:application/zip;base64," + base64.b64encode(zipped(_SLICES)).decode()]
    params = {"name": "classify_volume", "arguments": {"files": files}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    accept = {"Accept": "application/json, text/event-stream"}
    _read_a_little(http, "POST", "/gradio_api/mcp/", json=asked, headers=accept)


@pytest.mark.parametrize("leave", [_page, _call, _queue, _assistant])
def test_work_ends_within_a_second_of_the_visitors_leaving(site: Site, leave: Callable[[httpx.Client], None]) -> None:
    site.slow_down(0.02)
    with httpx.Client(base_url=site.url) as http:
        leave(http)
    time.sleep(1)
    judged = site.judged
    assert 0 < judged < _SLICES
    time.sleep(0.5)
    assert site.judged == judged
    assert not [path for path in site.service.uploads.rglob("*.zip") if leave is _page], "their files went with them"


def test_a_picture_waits_for_a_step_of_the_volumes_before_it_and_says_how_far_they_are(
    site: Site, tmp_path: Any
) -> None:
    site.slow_down(0.02)
    grey(0.375).save(tmp_path / "slice.png")

    async def volume(http: httpx.AsyncClient, tab: int) -> list[dict[str, Any]]:
        said = await http.post(f"/answer?tab={tab}", files={"files": ("volume.zip", zipped(60))})
        return [json.loads(line) for line in said.text.splitlines()]

    async def everybody() -> tuple[float, list[dict[str, Any]]]:
        async with httpx.AsyncClient(base_url=site.url, timeout=60) as http:
            volumes = [asyncio.create_task(volume(http, tab)) for tab in range(4)]
            await asyncio.sleep(0.5)
            started = time.perf_counter()
            said = await http.post("/answer", files={"files": ("slice.png", (tmp_path / "slice.png").read_bytes())})
            waited = time.perf_counter() - started
            assert "bm-verdict" in said.text and not any(task.done() for task in volumes)
            return waited, await volumes[0]

    waited, lines = asyncio.run(everybody())
    assert waited < 1.5
    assert lines[0] == {"done": 8, "all": 60} and "bm-slices" in lines[-1]["html"]


def _steps(seconds: float, log: list[str], name: str) -> Any:
    log.append(name)
    time.sleep(seconds)
    yield 1, 2
    log.append(f"{name} ends")
    return name


def test_a_visitor_has_two_jobs_at_a_time_and_another_does_not_wait_for_the_third() -> None:
    async def everybody() -> list[str]:
        line, log = jobs.Jobs(), list[str]()
        tasks = [line.run(jobs.Visitor("a"), _steps(0.1, log, f"a{i}")) for i in range(4)]
        tasks.append(line.run(jobs.Visitor("b"), _steps(0.1, log, "b")))
        assert await asyncio.gather(*tasks) == ["a0", "a1", "a2", "a3", "b"]
        return log

    log = asyncio.run(everybody())
    assert log.index("b") < log.index("a2") and log.index("a0 ends") < log.index("a2")


def test_a_full_line_begins_nothing_more_and_one_address_cannot_fill_it() -> None:
    async def everybody() -> None:
        line, log = jobs.Jobs(), list[str]()
        tabs = [jobs.Visitor("a", str(i)) for i in range(jobs.OF_AN_ADDRESS)]
        tasks = [asyncio.create_task(line.run(tab, _steps(0.01, log, "a"))) for tab in tabs]
        await asyncio.sleep(0)
        with pytest.raises(jobs.BusyError):
            await line.run(jobs.Visitor("a"), _steps(0, log, "one too many"))
        assert await line.run(jobs.Visitor("b"), _steps(0, log, "b")) == "b"
        await asyncio.gather(*tasks)
        assert "one too many" not in log
        assert await line.run(jobs.Visitor("a"), _steps(0, log, "again")) == "again"

    asyncio.run(everybody())


def test_who_comes_to_a_full_line_is_told_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "IN_LINE", 0)
    with httpx.Client(base_url=site.url) as http:
        assert texts()("busy") in http.post("/answer", files={"files": b"x"}).json()["html"]
        asked = http.post("/gradio_api/call/about_model", json={"data": []}).json()
        assert texts()("busy") in http.get(f"/gradio_api/call/about_model/{asked['event_id']}").text
