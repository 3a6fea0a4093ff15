"""Requests that no page sends: gradio would answer them with a traceback in the log, or with a path of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from page.startup import gr

_GRADIOS_CHECK = gr.processing_utils._check_allowed


def _not_uploaded(path: str | Path, check_in_upload_folder: bool) -> None:
    """Gradio's check that a file was uploaded; its own message names folders of the server."""
    try:
        _GRADIOS_CHECK(path, check_in_upload_folder)
    except gr.exceptions.InvalidPathError:
        raise gr.Error("no such upload: send the file first.", print_exception=False) from None


def refuse_quietly() -> None:
    """Let files that were not uploaded be refused in a sentence without a path, and without a traceback."""
    gr.processing_utils._check_allowed = _not_uploaded


async def _absent(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, KeyError) and not request.url.path.endswith("/queue/join"):
        raise error  # one of ours, which has to be seen
    return JSONResponse({"detail": "no such endpoint"}, 404)


# For `launch(app_kwargs=...)`: an unknown name or number of an endpoint is 404, not 500.
APP: dict[str, Any] = {"exception_handlers": {KeyError: _absent, gr.route_utils.FnIndexInferError: _absent}}
