"""The same endpoints as tools for assistants (MCP): a picture comes inside the request, never from an address."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from page.api import Endpoint
from page.jobs import Visitor
from page.programs import Asked, Programs
from page.refusals import RefusedError, read_body

MAX_REQUEST_MB = 16
_NO_REQUEST = "this is no request of an assistant (MCP)."
_DATA = re.compile(r"data:[\w.+/-]*(?:;[\w.=+-]+)*;base64,", re.ASCII)
_PICTURE = {"type": "string", "description": "the file itself as a data: address, `data:image/png;base64,...`"}
_SERIES = {"type": "integer", "description": "which of several series, by its number in the answer; 0: by the rule"}
_INPUTS: dict[str, dict[str, Any]] = {
    "classify": {"file": _PICTURE},
    "classify_volume": {"files": {"type": "array", "items": _PICTURE}, "series": _SERIES},
    "about_model": {},
}


class Assistants:
    """The MCP server, as an ASGI application for one address. It keeps no sessions."""

    def __init__(self, programs: Programs, endpoints: Mapping[str, Endpoint], uploads: Path) -> None:
        self._programs, self._endpoints, self._uploads = programs, endpoints, uploads
        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # its warnings hold a visitor's words
        self._server: Server[Any, Request] = Server("brain_mri")
        self._server.list_tools()(self._tools)  # type: ignore[no-untyped-call]
        self._server.call_tool(validate_input=False)(self._call)
        self._sessions = StreamableHTTPSessionManager(self._server, stateless=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the page is."""
        async with self._sessions.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what the library says of one that it does not understand repeats the request."""
        request = Request(scope, receive)
        if request.method != "POST":
            raise RefusedError(405, "this address is for assistants (MCP): they POST to it.")
        unread = [_understood(await read_body(request, MAX_REQUEST_MB * 2**20))]

        async def again() -> Message:
            return {"type": "http.request", "body": unread.pop()} if unread else await receive()

        async def checked(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                raise RefusedError(message["status"], _NO_REQUEST)
            await send(message)

        await self._sessions.handle_request(scope, again, checked)

    async def _tools(self) -> list[types.Tool]:
        return [_described(endpoint) for endpoint in self._endpoints.values()]

    async def _call(self, name: str, arguments: dict[str, Any]) -> list[types.TextContent]:
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            raise ValueError("no such tool")
        request = self._server.request_context.request
        visitor = Visitor(request.client.host if request and request.client else "")
        folder = Path(tempfile.mkdtemp(dir=self._uploads))
        try:
            inputs = [
                arguments.get(key, 0) if kind is _SERIES else _saved(arguments.get(key), folder)
                for key, kind in _INPUTS[name].items()
            ]
            good, said = await self._programs.answer(Asked(endpoint, inputs, visitor))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not good:
            raise ValueError(said)
        return [types.TextContent(type="text", text=json.dumps(said))]


def _understood(body: bytes) -> bytes:
    """A message that the library understands; it would write any other into the log.

    Raises:
        RefusedError: it is none.
    """
    try:
        message = types.JSONRPCMessage.model_validate_json(body).root
        if isinstance(message, types.JSONRPCRequest):
            types.ClientRequest.model_validate(message.model_dump(by_alias=True, exclude_none=True))
        elif isinstance(message, types.JSONRPCNotification):
            types.ClientNotification.model_validate(message.model_dump(by_alias=True, exclude_none=True))
    except ValueError:
        raise RefusedError(400, _NO_REQUEST) from None
    return body


def _described(endpoint: Endpoint) -> types.Tool:
    inputs = _INPUTS[endpoint.name]
    schema = {"type": "object", "properties": inputs, "required": list(inputs)[: endpoint.required]}
    about = (endpoint.declared.__doc__ or "").split("Args:")[0].strip()
    return types.Tool(name=endpoint.name, description=about, inputSchema=schema)


def _saved(given: Any, folder: Path) -> Any:
    """A `data:` address, or a list of them, as uploads.

    Raises:
        ValueError: anything else.
    """
    if isinstance(given, list):
        return [_saved(one, folder) for one in given]
    head = _DATA.match(given) if isinstance(given, str) else None
    if head is None:
        raise ValueError(
            "a file must be a data: address, `data:image/png;base64,...`: nothing is fetched from the web."
        )
    path = folder / f"file{len(list(folder.iterdir())) or ''}"
    try:
        path.write_bytes(base64.b64decode(given[head.end() :], validate=True))
    except binascii.Error:
        raise ValueError("a data: address is broken: its base64 can't be read.") from None
    return {"path": str(path)}
