"""What stands between a visitor and all else: requests too large or too slow, and errors, get a sentence.

Plain ASGI, so that it holds for every route: ours, the assistants' and gradio's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BROKEN = "something is broken here, and it has been noted: try it again later."

_LOG = logging.getLogger("brain_mri.page")
_JSON_BYTES = 2**20  # of a request; 2,048 uploads take half of it
_JSON_PARTS = 40_000  # brackets, commas and colons: what takes time to parse and to check
_STRUCTURE = (b"{", b"[", b",", b":")
_BODY = "brain_mri.body"  # of a scope
_LINGER = 10.0  # seconds in which the rest of a refused body is read and thrown away
_PAUSE = 15.0  # seconds without a byte of a body that is not complete
_GRACE, _SLOWEST = 20.0, 32_768  # seconds, and bytes per second after them
_FORWARDED = [f"x-forwarded-{what}" for what in ("host", "proto", "port", "prefix", "for", "server", "path")]
_FORWARDED += ["forwarded", "x-real-ip", "x-original-url", "x-rewrite-url"]


class RefusedError(Exception):
    """A request that is not answered, with the HTTP code and a sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def response(self) -> JSONResponse:
        """The answer in its place."""
        return _Refusal({"error": str(self), "detail": str(self)}, self.status, {"Connection": "close"})


class _Refusal(JSONResponse):
    """An answer that is sent before the body has come, and still reaches who is sending it.

    If the connection ended with bytes unread, the system would throw the answer away (RFC 9112, 9.6).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        body: _Paced = scope[_BODY]
        with suppress(TimeoutError, RefusedError):
            async with asyncio.timeout(_LINGER):
                while not body.is_whole:
                    await body()
        await send({"type": "http.response.body", "body": b""})


class Front:
    """Around the whole application: paces bodies, drops headers that anybody can forge, and hides errors.

    What a proxy in front may say of its visitors is uvicorn's to decide (FORWARDED_ALLOW_IPS), before this.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        for name in _FORWARDED:
            del headers[name]
        answer = _Answer(send)
        try:
            scope[_BODY] = body = _Paced(scope, receive)
            await self.app(scope, body, answer)
        except RefusedError as error:
            await answer.instead(error, scope, receive)
        except ClientDisconnect:
            return  # there is nobody to answer
        except Exception as error:  # a visitor's words may be in it: only its kind and place are written down
            note(error)
            await answer.instead(RefusedError(500, BROKEN), scope, receive)


class _Answer:
    """What is sent, and whether anything has been."""

    def __init__(self, send: Send) -> None:
        self._send, self._begun = send, False

    async def __call__(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    async def instead(self, error: RefusedError, scope: Scope, receive: Receive) -> None:
        if not self._begun:
            await error.response()(scope, receive, self._send)


class _Paced:
    """A request's body, as long as it comes."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        length = Headers(scope=scope).get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else 0
        self._receive, self.is_whole = receive, False
        self._end = time.monotonic() + _GRACE + size / _SLOWEST

    async def __call__(self) -> Message:
        if self.is_whole:  # what comes next is the visitor's leaving, whenever that is
            return await self._receive()
        try:
            async with asyncio.timeout(min(_PAUSE, self._end - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise RefusedError(408, "the request came too slowly: send it again.") from None
        self.is_whole = not message.get("more_body", False)
        return message


async def read_body(request: Request, most: int = _JSON_BYTES) -> bytes:
    """A body of JSON, unread if it is longer than `most` bytes.

    Raises:
        RefusedError: it is longer, or has more parts than any request of the page or of a program.
    """
    body, too_much = bytearray(), RefusedError(413, "the request is too large: upload files first, and name them.")
    if int(length if (length := request.headers.get("content-length", "0")).isdigit() else 0) > most:
        raise too_much
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise too_much
    if sum(body.count(part) for part in _STRUCTURE) > _JSON_PARTS:
        raise too_much
    return bytes(body)


async def read_object(request: Request) -> dict[str, Any]:
    """A body that is a JSON object.

    Raises:
        RefusedError: it is none.
    """
    try:
        found = json.loads(await read_body(request))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "the request is no JSON object.")
    return found


def note(error: BaseException) -> None:
    """Write down what broke and where, without a word of the message, in which a visitor's may be."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    _LOG.error("%s in %s", type(error).__name__, " > ".join(places[-4:]))
