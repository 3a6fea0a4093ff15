"""Connections that ask for nothing end, and never keep others out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from page import connections
from page.connections import Connection

from brain_mri.errors import ConfigError


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "_PATIENCE", 0.5)
    monkeypatch.setattr(Connection, "most", 20)
    server = uvicorn.Server(uvicorn.Config(_app, port=0, lifespan="off", **connections.options()))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(10)


def _is_closed(sock: socket.socket) -> bool:
    sock.settimeout(3)
    try:
        return sock.recv(1000) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_request_that_is_not_finished_in_time_is_given_up(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as half:
        half.sendall(sent)
        started = time.perf_counter()
        assert _is_closed(half) and 0.2 < time.perf_counter() - started < 2


def test_a_second_request_on_the_same_connection_has_a_deadline_too(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok"):
            answer += one.recv(1000)
        one.sendall(b"GET / HT")
        assert _is_closed(one)


def test_drops_do_not_extend_the_deadline(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as one, pytest.raises(OSError):
        for letter in b"GET / HTTP/1.1" * 3:
            one.sendall(bytes([letter]))
            time.sleep(0.1)


def test_more_half_open_connections_than_there_is_room_for_keep_nobody_out(address: tuple[str, int]) -> None:
    half = [socket.create_connection(address) for _ in range(60)]
    assert httpx.get(f"http://{address[0]}:{address[1]}/").text == "ok"
    assert len(Connection.alive) <= Connection.most + 1
    for one in half:
        one.close()


def test_a_port_that_is_taken_is_said_in_a_sentence(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for port in (str(address[1]), "no port", "99999"):
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
        with pytest.raises(ConfigError, match="set GRADIO_SERVER_PORT"):
            connections.serve(_app, lambda _: None)
