"""Work is done for who waits for it: it ends with them, and nobody's delays the others' for long."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from page import answering, jobs, service
from page.texts import texts
from support.space_server import grey
from support.space_site import Site, finished, zipped

from brain_mri.errors import ImageError
from brain_mri.io.budget import Budget

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


def _of(site: Site, name: str, content: bytes) -> list[dict[str, str]]:
    path = site.service.uploads / name
    path.write_bytes(content)
    return [{"path": str(path), "orig_name": name}]


def test_files_of_one_request_share_a_budget_and_what_is_left_out_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = io.BytesIO()
    grey(0.375).save(picture, "PNG")
    files = [("files", (f"{k}.png", picture.getvalue())) for k in range(5)]
    for budget in (Budget(slices=3), Budget(pixels=3 * 64 * 64)):
        monkeypatch.setattr(answering, "Budget", lambda budget=budget: budget)
        said = httpx.post(f"{site.url}/answer?together=0", files=files).text.splitlines()[-1]
        html = json.loads(said)["html"]
        assert texts()("apart_left", count=2, all=5) in html
        assert "2.png" in html and "3.png" not in html and html.count('class="bm-verdict"') == 4


def test_a_request_has_a_limit_of_files_and_an_upload_counts_once(site: Site) -> None:
    (file,) = _of(site, "a.zip", zipped(3))
    with pytest.raises(ImageError):
        finished(site.service.judging([file] * 3000))
    assert len(finished(site.service.judging([file] * 5)).slices) == 3


def test_volumes_that_are_judged_at_a_time_have_a_limit_of_pixels_together(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MOST_PIXELS", 100 * 64 * 64)
    files = _of(site, "a.zip", zipped(60))
    first = site.service.judging(files)
    assert next(first) == (8, 60)
    with pytest.raises(jobs.BusyError):
        finished(site.service.judging(files))
    assert finished(site.service.judging(_of(site, "b.zip", zipped(40)))).slices, "there is room for less"
    del first  # as when its visitor leaves
    assert len(finished(site.service.judging(files)).slices) == 60


def test_the_slices_of_a_volume_are_kept_with_a_byte_a_pixel(site: Site) -> None:
    answer = finished(site.service.judging(_of(site, "a.zip", zipped(3))))
    assert {one.image.mode for one in answer.slices} == {"L"}
