"""The server below the application: connections that ask for nothing end, and never use up the file descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from brain_mri.errors import ConfigError

_PATIENCE = 10.0  # seconds from the first byte of a request, or from the connection, to the end of its headers
_MOST = 1000  # connections; fewer where few file descriptors are allowed
_AT_A_TIME = 128  # connections taken before any of them is looked at; asyncio takes as many as the backlog
_GOODBYE = 3  # seconds for answers in the making when the page is ended


class Connection(H11Protocol):
    """A connection whose request has to come in time, and which gives way to newer ones when there are too many."""

    most = _MOST
    alive: ClassVar[dict[Connection, None]] = {}  # of this process, the oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, and wait for a request."""
        self._deadline: asyncio.TimerHandle | None = None
        if len(self.alive) >= self.most:
            unfinished = (one for one in self.alive if not one.is_whole)
            next(unfinished, next(iter(self.alive))).give_up()
        super().connection_made(transport)
        self.alive[self] = None
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.alive.pop(self, None)
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a request: from its first byte to the end of its headers there is a deadline."""
        if not self.is_answering:
            self._expect()
        super().data_received(data)
        if self.is_answering:
            self._relax()

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered; its body may still be on its way."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_whole(self) -> bool:
        """Whether a request has come as a whole and waits for its answer."""
        return self.is_answering and not self.cycle.more_body

    def give_up(self) -> None:
        """End it at once."""
        self.alive.pop(self, None)
        if self.transport is not None:
            self.transport.abort()

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(_PATIENCE, self.give_up)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def serve(app: ASGIApp, ready: Callable[[str], object]) -> None:
    """Serve where GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say, until interrupted.

    Args:
        app: the application.
        ready: is called with the page's address.

    Raises:
        ConfigError: the port is taken, or is no port.
    """
    host, port = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), os.environ.get("GRADIO_SERVER_PORT", "7860")
    Connection.most = min(_MOST, _descriptors() // 3)  # each may have a file open, too
    server = uvicorn.Server(uvicorn.Config(app, **options()))
    with _listening(host.strip("[]"), port) as listening:
        ready(f"http://{host}:{listening.getsockname()[1]}")
        server.run([listening])


def options() -> dict[str, Any]:
    """For uvicorn."""
    return {
        "http": Connection,
        "ws": "none",
        "backlog": _AT_A_TIME,
        "log_level": "error",
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": _GOODBYE,
        "forwarded_allow_ips": os.environ.get("FORWARDED_ALLOW_IPS", ""),
    }


def _descriptors() -> int:
    """How many files this process may have open; as many as the system lets it ask for."""
    if sys.platform == "win32":
        return 2 * _MOST
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * _MOST if hard == resource.RLIM_INFINITY else min(hard, 4 * _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return 4 * _MOST if soft == resource.RLIM_INFINITY else soft


def _listening(host: str, port: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=_AT_A_TIME)
    except (OSError, ValueError, OverflowError):
        raise ConfigError(
            f"{host}:{port} can't be listened on: set GRADIO_SERVER_PORT to a port that is free."
        ) from None
