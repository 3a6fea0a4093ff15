"""Gradio's addresses for programs, answered here: `/call/...` for plain HTTP, `/queue/...` for gradio_client.

What a program asks is kept until it fetches the answer, and judged while it listens: so no work is done for who went
away, no answer is kept, and nothing that a visitor sends reaches gradio.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from brain_mri.errors import BrainMRIError
from page.api import Endpoint
from page.jobs import BusyError, Jobs, Visitor
from page.refusals import BROKEN, RefusedError, note, read_object
from page.service import Service
from page.texts import texts
from page.uploads import UploadSpace
from page.views import error_text

_KEPT = 300  # questions whose answer nobody has fetched yet; the oldest are forgotten
_SESSION_LETTERS = 64


@dataclass
class Asked:
    """What a program wants to know."""

    endpoint: Endpoint
    inputs: list[Any]
    visitor: Visitor
    id: str = field(default_factory=lambda: secrets.token_hex(16))


class Programs:
    """The routes for programs.

    Args:
        service: the model.
        jobs: the line that its answers wait in.
        space: where uploads go.
        endpoints: by name.
        names: of the endpoints, by gradio's number for each.
    """

    def __init__(
        self,
        service: Service,
        jobs: Jobs,
        space: UploadSpace,
        endpoints: Mapping[str, Endpoint],
        names: Mapping[int, str],
    ) -> None:
        self.service, self.jobs, self.space = service, jobs, space
        self._endpoints, self._names = endpoints, names
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    async def upload(self, request: Request) -> Response:
        """Files of a form; the answer is where they lie, to be given back to an endpoint."""
        _, uploads = await self.space.receive(request)
        return JSONResponse([str(upload.path) for upload in uploads])

    async def call(self, request: Request) -> Response:
        """Ask by plain HTTP: `{"data": [...]}`."""
        body = await read_object(request)
        return self._keep(request.path_params["name"], body.get("data"), Visitor(_address(request)))

    async def fetch(self, request: Request) -> Response:
        """The answer to a call, as an event."""
        asked = self._asked.pop(request.path_params["event"], None)
        if asked is None:
            raise RefusedError(404, "no such question, or its answer was fetched before: ask again.")
        return _events(self._call_events(asked))

    async def join(self, request: Request) -> Response:
        """Ask as gradio_client does: `{"data": [...], "fn_index": 1, "session_hash": "..."}`."""
        body = await read_object(request)
        number, session = body.get("fn_index"), body.get("session_hash")
        if not isinstance(session, str) or not 0 < len(session) <= _SESSION_LETTERS:
            raise RefusedError(400, "the request has no session_hash.")
        name = self._names.get(number, "") if isinstance(number, int) else ""
        return self._keep(name, body.get("data"), Visitor(_address(request), session))

    async def listen(self, request: Request) -> Response:
        """The answers to what a session has asked, as they are ready, until there is none left."""
        visitor = Visitor(_address(request), request.query_params.get("session_hash", ""))
        return _events(self._session_events(visitor))

    async def cancel(self, request: Request) -> Response:
        """Forget a question; one that is being judged ends when its listener goes."""
        event = (await read_object(request)).get("event_id")
        return JSONResponse({"success": isinstance(event, str) and self._asked.pop(event, None) is not None})

    def _keep(self, name: str, inputs: Any, visitor: Visitor) -> Response:
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            raise RefusedError(404, "no such endpoint")
        if not isinstance(inputs, list):
            raise RefusedError(400, 'the request has no inputs: send {"data": [...]}.')
        asked = Asked(endpoint, inputs, visitor)
        self._asked[asked.id] = asked
        while len(self._asked) > _KEPT:
            self._asked.popitem(last=False)
        return JSONResponse({"event_id": asked.id})

    async def answer(self, asked: Asked) -> tuple[bool, Any]:
        """Whether it is an answer, and it; or the sentence that says why there is none."""
        if len(asked.inputs) < asked.endpoint.required:
            return False, "an input is missing: /info says what this endpoint takes."
        try:
            steps = asked.endpoint.steps(*asked.inputs[: asked.endpoint.inputs])
            return True, await self.jobs.run(asked.visitor, steps)
        except BusyError:
            return False, texts()("busy")
        except BrainMRIError as error:
            return False, error_text(self.service, error, texts())
        except Exception as error:  # whatever it is: its message may hold a visitor's words
            note(error)
            return False, BROKEN

    async def _call_events(self, asked: Asked) -> AsyncIterator[str]:
        good, said = await self.answer(asked)
        yield f"event: {'complete' if good else 'error'}\ndata: {json.dumps([said] if good else {'error': said})}\n\n"

    async def _session_events(self, visitor: Visitor) -> AsyncIterator[str]:
        """All questions of the session at once, also those that are asked meanwhile."""
        tasks: dict[asyncio.Task[tuple[bool, Any]], str] = {}
        try:
            while self._begin(visitor, tasks) or tasks:
                done, _ = await asyncio.wait(tasks, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield _completed(tasks.pop(task), *task.result())
            yield _message({"msg": "close_stream"})
        finally:
            for task in tasks:
                task.cancel()

    def _begin(self, visitor: Visitor, tasks: dict[asyncio.Task[tuple[bool, Any]], str]) -> bool:
        new = [asked for asked in self._asked.values() if asked.visitor == visitor]
        for asked in new:
            del self._asked[asked.id]
            tasks[asyncio.create_task(self.answer(asked))] = asked.id
        return bool(new)


def _completed(event: str, good: bool, said: Any) -> str:
    output = {"data": [said], "is_generating": False} if good else {"error": said}
    return _message({"msg": "process_completed", "event_id": event, "output": output, "success": good})


def _message(found: dict[str, Any]) -> str:
    return f"data: {json.dumps(found)}\n\n"


def _events(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
