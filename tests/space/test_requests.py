"""Requests that no page sends: each gets a sentence, and none of them a file, a traceback or the others' time."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from page import refusals, uploads
from support.space_server import ROOT, Server
from support.space_site import Site, call

from brain_mri.labels import LABELS

_BROKEN_OFF = (
    "POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900000\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    '--b\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
)
_META = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "payload", [{"path": "/etc/passwd"}, {"path": "/etc/passwd"} | _META, {"path": "../../etc/passwd"}, "x", None, []]
)
def test_no_path_of_the_server_is_read(server: Server, payload: Any) -> None:
    for endpoint, data in (("classify", payload), ("classify_volume", [payload])):
        said = call(server.url, endpoint, data)
        assert said.startswith("event: error") and "root:" not in said and "Traceback" not in said
        assert re.search(r'"error": "[^"]*(upload|no file)', said), said


def test_no_file_of_the_server_is_served_and_no_address_on_its_own_network_is_fetched(server: Server) -> None:
    for path in ("/etc/passwd", str(ROOT / "pyproject.toml"), str(server.model / "run.json")):
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code in (403, 404)
    said = call(server.url, "classify", {"path": f"{server.url}/config"} | _META)
    assert said.startswith("event: error") and "upload the file first" in said


def test_requests_that_no_page_sends_get_neither_a_traceback_nor_a_path(server: Server) -> None:
    before = len(server.log.read_text())
    for endpoint in ("call/nothing", "run/nothing"):
        assert httpx.post(f"{server.url}/gradio_api/{endpoint}", json={"data": []}).status_code == 404
    unknown = {"data": [], "fn_index": 999, "session_hash": "x"}
    assert httpx.post(f"{server.url}/gradio_api/queue/join", json=unknown).status_code == 404
    said = [call(server.url, "classify", {"path": path} | _META) for path in ("file:///etc/passwd", "no/such.png")]
    assert all("upload the file first" in one for one in said)
    logged = server.log.read_text()[before:]
    assert not [word for word in ("Traceback", "passwd", str(ROOT), "/tmp") if word in logged + "".join(said)], logged


@pytest.mark.slow
def test_the_two_thousandth_visitor_stops_the_page_for_nobody(server: Server, client: Client) -> None:
    """gradio forgets the oldest of many sessions, and on a request of it that waits, its loop ends for everybody."""
    config = httpx.get(f"{server.url}/config").json()
    number = next(one["id"] for one in config["dependencies"] if one["api_name"] == "classify")
    before = len(server.log.read_text())
    with httpx.Client(base_url=server.url) as http:
        for session in ("first", *map(str, range(1999)), *["first"] * 20, *(f"late {i}" for i in range(20))):
            asked = {"data": [None], "fn_index": number, "session_hash": session}
            http.post("/gradio_api/queue/join", json=asked).raise_for_status()
    assert client.predict(api_name="/about_model")["labels"] == list(LABELS)
    assert "upload the file first" in call(server.url, "classify", None)
    assert "Traceback" not in server.log.read_text()[before:]


def test_an_upload_that_is_broken_off_and_an_input_that_is_missing_leave_no_traceback(server: Server) -> None:
    before = len(server.log.read_text())
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as sending:
            sending.sendall(_BROKEN_OFF.format(host=host).encode() + bytes(5000))
    assert "an input is missing" in call(server.url, "classify")
    logged = server.log.read_text()[before:]
    assert not [word for word in ("Traceback", "ClientDisconnect", str(ROOT)) if word in logged], logged


@pytest.mark.slow
def test_an_upload_above_the_limit_is_refused(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "large.nii").open("wb") as large:
        large.truncate(129 * 2**20)
    with (tmp_path / "large.nii").open("rb") as large:
        assert httpx.post(f"{server.url}/gradio_api/upload", files={"files": large}, timeout=120).status_code == 413


_MANY_PARTS = b'{"data":[' + b"{}," * 5_000_000 + b"{}]}"  # 15 MB


@pytest.mark.parametrize("door", ["call/classify", "call/v2/classify", "queue/join", "run/classify", "mcp/", "cancel"])
@pytest.mark.parametrize("body", [_MANY_PARTS, _MANY_PARTS[:900_000], b"[" * 100_000], ids=["15 MB", "900 KB", "deep"])
def test_a_large_body_stops_the_page_for_nobody(server: Server, door: str, body: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        yield body

    for content in (body, pieces()):  # with its length, and without
        started = time.perf_counter()
        code = httpx.post(f"{server.url}/gradio_api/{door}", content=content, timeout=30).status_code
        assert code in (400, 404, 405, 413) and time.perf_counter() - started < 2
    assert httpx.get(f"{server.url}/config").elapsed.total_seconds() < 1


@pytest.mark.parametrize(
    "file",
    [
        {"path": "{upload}", "orig_name": ["ZEBRAFINCH"]},
        {"path": "{upload}", "orig_name": {"ZEBRAFINCH": 1}},
        {"path": "ZEBRAFINCH" * 500},
        {"path": "{upload}/" + "ZEBRAFINCH" * 50},
        {"path": ["ZEBRAFINCH"]},
        {"path": "{upload}", "orig_name": "ZEBRAFINCH" * 500, "size": "ZEBRAFINCH", "meta": "ZEBRAFINCH"},
    ],
)
def test_values_that_no_client_sends_are_neither_logged_nor_given_back(server: Server, file: dict[str, Any]) -> None:
    before = len(server.log.read_text())
    sent = httpx.post(f"{server.url}/gradio_api/upload", files={"files": ("a.png", b"no picture")}).json()[0]
    file = json.loads(json.dumps(file).replace("{upload}", sent))
    said = call(server.url, "classify", file) + call(server.url, "classify_volume", [file])
    assert said.count("event: error") == 2 and "Traceback" not in said
    assert "ZEBRAFINCH" * 5 not in said, "a file's name may be given back, shortened"
    assert not server.log.read_text()[before:]


@contextmanager
def _elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that is not the page, and what it was asked for."""
    asked: list[str] = []

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    other = HTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{other.server_port}/slice.png", asked
    other.shutdown()
    other.server_close()


def _ask_as_assistant(url: str, name: str, **arguments: Any) -> httpx.Response:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    accept = {"Accept": "application/json, text/event-stream"}
    return httpx.post(f"{url}/gradio_api/mcp/", json=asked, headers=accept, timeout=30)


def test_no_address_in_a_request_is_fetched(server: Server) -> None:
    with _elsewhere() as (address, asked):
        for file in ({"path": address}, {"path": address, "url": address} | _META, {"url": address}, address):
            assert call(server.url, "classify", file).startswith("event: error")
        for given in (address, [address], {"path": address}, {"url": address} | _META, None, 1):
            said = _ask_as_assistant(server.url, "classify", file=given).text
            assert '"isError":true' in said and "data: address" in said
        host = address.split("/")[2]
        httpx.get(f"{server.url}/gradio_api/proxy={address}", headers={"Host": host})
        _ask_as_assistant(server.url, "about_model")
        assert not asked


def test_an_assistant_that_asks_for_nonsense_is_not_repeated(server: Server) -> None:
    before = len(server.log.read_text())
    said = [_ask_as_assistant(server.url, "ZEBRAFINCH").text, _ask_as_assistant(server.url, "classify").text]
    accept = {"Accept": "application/json, text/event-stream"}
    for body in ({"ZEBRAFINCH": 1}, "ZEBRAFINCH", {"jsonrpc": "2.0", "id": 1, "method": "ZEBRAFINCH"}):
        said.append(httpx.post(f"{server.url}/gradio_api/mcp/", json=body, headers=accept).text)
    assert "no such tool" in said[0]
    assert not re.search("ZEBRAFINCH|Traceback", "".join(said) + server.log.read_text()[before:])


def test_a_host_that_a_header_names_is_not_repeated(server: Server) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json", "/de", "/theme.css"):
        answer = httpx.get(f"{server.url}{path}", headers=forged | {"X-Forwarded-Prefix": "/evil.example"})
        assert answer.status_code == 200 and "evil.example" not in answer.text + str(answer.headers)
        assert f"https://{server.url.split('/')[2]}" not in answer.text


def test_gradio_is_given_nothing_but_requests_for_the_page(server: Server) -> None:
    for path in (
        "heartbeat/x",
        "proxy=http://a/",
        "deep_link",
        "stream/x",
        "user",
        "runs",
        "upload_progress?upload_id=x",
    ):
        assert httpx.get(f"{server.url}/gradio_api/{path}").status_code == 404
    for path in ("/monitoring", "/login", "/docs", "/pwa_icon", "/assets/../../etc/passwd"):
        assert httpx.get(f"{server.url}{path}").status_code == 404
    for path in ("/", "/config", "/gradio_api/reset", "/gradio_api/process_recording", "/gradio_api/component_server"):
        assert httpx.post(f"{server.url}{path}", json={}).status_code in (404, 405)


def test_all_uploads_together_have_a_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "ALL_UPLOADS_MB", 2)
    large = {"files": ("large.nii", bytes(900_000))}
    codes = [httpx.post(f"{site.url}/gradio_api/upload", files=large).status_code for _ in range(4)]
    assert codes == [200, 200, 507, 507]
    assert httpx.post(f"{site.url}/answer", files=large).status_code == 507
    for path in list(site.service.uploads.rglob("*.nii")):
        path.unlink()
    assert httpx.post(f"{site.url}/answer", files=large).status_code == 200
    assert not list(site.service.uploads.rglob("*.nii")), "the page's uploads leave with its answer"


def test_a_form_has_a_limit_of_files_and_a_length(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILES", 20)
    many = [("files", (f"{i}.png", b"x")) for i in range(30)]
    assert httpx.post(f"{site.url}/gradio_api/upload", files=many).status_code == 413
    assert httpx.post(f"{site.url}/gradio_api/upload", content=iter([b"x"])).status_code == 411
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=b",
        "text/plain",
        "multipart/form-data; boundary=",
    ):
        sent = httpx.post(f"{site.url}/gradio_api/upload", content=b"--c", headers={"Content-Type": kind})
        assert sent.status_code == 400
    assert not [path for path in site.service.uploads.rglob("*") if path.is_file()]


def test_an_upload_keeps_its_name_as_far_as_a_file_may_have_it(site: Site) -> None:
    names = ["slice.png", "../../etc/passwd", "a/b.dcm", "..", "\u4e2d" * 200 + ".nii.gz", ""]
    files = [("files", (name or "x", b"x")) for name in names[:-1]]
    paths = [Path(path) for path in httpx.post(f"{site.url}/gradio_api/upload", files=files).json()]
    assert [path.name for path in paths[:4]] == ["slice.png", "passwd", "b.dcm", "file"]
    assert paths[4].name.endswith(".nii.gz") and all(path.is_relative_to(site.service.uploads) for path in paths)


def test_a_body_that_stops_coming_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_PAUSE", 0.3)
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sending:
        sending.sendall(_BROKEN_OFF.format(host=host).encode() + bytes(5000))
        assert b" 408 " in sending.recv(1000)
    assert not [path for path in site.service.uploads.rglob("*") if path.is_file()]


def test_who_is_refused_midway_is_told_so_and_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD_MB", 1)
    large = {"files": ("large.nii", bytes(8_000_000))}
    for door in ("/answer", "/gradio_api/upload", "/gradio_api/call/classify", "/gradio_api/mcp/nothing", "/nothing"):
        started = time.perf_counter()
        refused = httpx.post(f"{site.url}{door}", files=large)
        assert refused.status_code in (400, 404, 413) and refused.json()["error"]
        assert time.perf_counter() - started < 2
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=2) as asking:
        asking.sendall(b"POST /gradio_api/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]")
        answer = b"".join(iter(lambda: asking.recv(1000), b""))  # to its end
    assert b" 400 " in answer and b"no JSON object" in answer


def test_what_breaks_is_noted_without_a_visitors_words(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any) -> Any:
        raise KeyError("ZEBRAFINCH")

    monkeypatch.setattr(site.service.classifier, "predict_slices", breaks)
    sent = httpx.post(f"{site.url}/gradio_api/upload", files={"files": ("a.png", _PICTURE)}).json()[0]
    said = call(site.url, "classify", {"path": sent})
    said += httpx.post(f"{site.url}/answer", files={"files": ("a.png", _PICTURE)}).text
    monkeypatch.setattr("page.answering.about_html", breaks)
    answer = httpx.get(f"{site.url}/about")
    assert answer.status_code == 500
    said += answer.text
    assert said.lower().count("something is broken here") == 4  # the last one as error and as detail
    assert "KeyError in" in caplog.text and "ZEBRAFINCH" not in said + caplog.text


_PICTURE = (ROOT / "space" / "examples" / "example_1.png").read_bytes()
