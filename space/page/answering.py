"""The page's button: files in, the answer as a piece of the page out, and on the way how far it is.

One request for each answer, so that whoever closes the page or presses "Cancel" ends the work for it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from brain_mri.errors import BrainMRIError
from brain_mri.io.budget import Budget, BudgetError
from page.about import about_html
from page.jobs import BusyError, Done, Jobs, Steps, Visitor
from page.refusals import note
from page.service import Answer, Service
from page.texts import Texts, languages, texts
from page.uploads import UploadSpace
from page.views import answer_html, answers_html, error_html, message_html

_TAB_LETTERS = 40
_SERIES_DIGITS = 4


class Page:
    """The routes of the page itself: `answer` and `about`, each in the language that `?language=` names."""

    def __init__(self, service: Service, jobs: Jobs, space: UploadSpace) -> None:
        self.service, self.jobs, self.space = service, jobs, space
        self._about: dict[str, str] = {}

    async def about(self, request: Request) -> Response:
        """What the model card's figures say."""
        t = _language(request)
        if t.language not in self._about:
            self._about[t.language] = await run_in_threadpool(about_html, self.service, t)
        return HTMLResponse(self._about[t.language])

    async def answer(self, request: Request) -> Response:
        """Lines of JSON: `{"done": 8, "all": 300}` again and again, and at the end `{"html": "..."}`.

        With `?together=0` each file is answered for itself; else several are slices of one scan, and `?series=2` names
        which of the series in them is judged.
        """
        folder, uploads = await self.space.receive(request)
        files, t = [upload.described() for upload in uploads], _language(request)
        apart = request.query_params.get("together") == "0"
        steps = self._apart(files, t) if apart else self._steps(files, _series(request), t)
        lines = self._lines(_visitor(request), folder, steps, t)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    async def _lines(self, visitor: Visitor, folder: Path, steps: Steps[str], t: Texts) -> AsyncIterator[bytes]:
        try:
            async for step in self.jobs.stream(visitor, steps):
                yield _line({"html": step.value} if isinstance(step, Done) else {"done": step[0], "all": step[1]})
        except BusyError:
            yield _line({"html": message_html(t("busy"), t)})
        except Exception as error:  # whatever it is: its message may hold a visitor's words
            note(error)
            yield _line({"html": message_html(t("broken"), t)})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _steps(self, files: list[dict[str, str]], series: int | None, t: Texts) -> Steps[str]:
        try:
            answer = yield from self.service.judging(files, series=series)
        except BrainMRIError as error:
            return error_html(self.service, error, t)
        return answer_html(self.service, answer, t)

    def _apart(self, files: list[dict[str, str]], t: Texts) -> Steps[str]:
        """Each file for itself: several pictures are not always of one person."""
        answers: list[Answer] = []
        left = errors = ""
        budget = Budget()
        for done, file in enumerate(files):
            try:
                answers.append((yield from self.service.judging([file], budget=budget)))
            except BudgetError:  # first on the page: what was not looked at must not be missed
                left = message_html(t("apart_left", count=len(files) - done, all=len(files)), t)
                break
            except BrainMRIError as error:
                errors += error_html(self.service, error, t)
            yield done + 1, len(files)
        return left + answers_html(self.service, answers, t) + errors


def _line(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode() + b"\n"


def _language(request: Request) -> Texts:
    code = request.query_params.get("language", "")
    return texts(code) if code in languages() else texts()


def _series(request: Request) -> int | None:
    told = request.query_params.get("series", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= _SERIES_DIGITS else None


def _visitor(request: Request) -> Visitor:
    address = request.client.host if request.client else ""
    return Visitor(address, request.query_params.get("tab", "")[:_TAB_LETTERS])
