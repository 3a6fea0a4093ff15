"""Requests that no page sends, which gradio would answer with a traceback, a path of the server, or never again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from page.startup import gr

_GRADIOS_CHECK = gr.processing_utils._check_allowed
_GRADIOS_COUNT = gr.blocks.Blocks.validate_inputs
_GRADIOS_QUEUE = gr.queueing.Queue.__init__
_GRADIOS_SEND = gr.queueing.Queue.send_message
_SESSIONS = 500  # whose answers are kept until they are fetched
_UNREAD = 20  # messages of a session


def _not_uploaded(path: str | Path, check_in_upload_folder: bool) -> None:
    """Gradio's check that a file was uploaded; its own message names folders of the server."""
    try:
        _GRADIOS_CHECK(path, check_in_upload_folder)
    except gr.exceptions.InvalidPathError:
        raise gr.Error("no such upload: send the file first.", print_exception=False) from None


def _counted(blocks: Any, *given: Any) -> None:
    """Gradio's check that no input is missing; its own message is a traceback in the log."""
    try:
        _GRADIOS_COUNT(blocks, *given)
    except ValueError:
        raise gr.Error("an input is missing: /info says what this endpoint takes.", print_exception=False) from None


def _begun(queue: Any, *given: Any, **options: Any) -> None:
    """Gradio's queue, with less room for what nobody fetches: 2,000 answers with their pictures are a gigabyte."""
    _GRADIOS_QUEUE(queue, *given, **options)
    queue.pending_messages_per_session.max_size = _SESSIONS


def _sent(queue: Any, event: Any, message: Any) -> None:
    """Gradio's message to a session, unless the session is forgotten, or is told its place and hasn't read the last.

    Gradio 6.31 forgets the oldest session when it has too many, then fails with a KeyError on telling a waiting request
    of it its place, and that ends the loop that starts everybody's requests, for good.
    """
    waiting = queue.pending_messages_per_session.get(event.session_hash)
    if waiting is None:
        return
    if isinstance(message, gr.server_messages.EstimationMessage) and waiting.qsize() > _UNREAD:
        return
    _GRADIOS_SEND(queue, event, message)


def refuse_quietly() -> None:
    """Let such requests be refused in a sentence without path or traceback, and let all others be answered on."""
    gr.processing_utils._check_allowed = _not_uploaded
    gr.blocks.Blocks.validate_inputs = _counted
    gr.queueing.Queue.__init__ = _begun
    gr.queueing.Queue.send_message = _sent


async def _absent(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, KeyError) and not request.url.path.endswith("/queue/join"):
        raise error  # one of ours, which has to be seen
    return JSONResponse({"detail": "no such endpoint"}, 404)


async def _broken_off(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the upload was broken off"}, 400)


# For `launch(app_kwargs=...)`: an unknown name or number of an endpoint is 404, not 500; who goes away is no error.
APP: dict[str, Any] = {
    "exception_handlers": {
        KeyError: _absent,
        gr.route_utils.FnIndexInferError: _absent,
        ClientDisconnect: _broken_off,
    }
}
