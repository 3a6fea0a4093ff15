"""The whole application: our routes, and gradio behind them, which draws the page and is sent nothing."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from page.answering import Page
from page.api import Endpoint
from page.assistants import Assistants
from page.jobs import Jobs
from page.programs import Programs
from page.refusals import BROKEN, Front, RefusedError
from page.service import Service
from page.startup import gr
from page.texts import FIRST, languages
from page.uploads import MAX_UPLOAD_MB, UploadSpace

_API = "/gradio_api"
# What a browser and gradio_client get of gradio. All else of it is neither needed nor reached.
_DRAWN = [
    *("config", "theme.css", "favicon.ico", "robots.txt", "manifest.json", "gradio_api/theme.css"),
    *("gradio_api/info", "gradio_api/openapi.json", "gradio_api/startup-events", "gradio_api/app_id"),
]
_VIEWER = Path(__file__).resolve().parents[1] / "viewer"
_FOLDERS = re.compile(r"/(?:assets|static|svelte)/[\w./@+-]+", re.ASCII)


def public_address() -> str | None:
    """Where visitors find the page: PUBLIC_URL, in a Space its own address; else whatever they have asked for."""
    host = os.environ.get("SPACE_HOST")
    return os.environ.get("PUBLIC_URL") or (f"https://{host}" if host else None)


def site(service: Service, demo: gr.Blocks, endpoints: list[Endpoint], **look: Any) -> ASGIApp:
    """The application to serve.

    Args:
        service: the model.
        demo: the page and the declared endpoints.
        endpoints: what they do.
        look: further options of `gr.mount_gradio_app`.
    """
    drawn = _drawn(demo, **look)
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    numbers = {one["id"]: one["api_name"] for one in demo.config["dependencies"]}
    jobs, space = Jobs(), UploadSpace(service.uploads)
    page, programs = Page(service, jobs, space), Programs(service, jobs, space, by_name, numbers)
    assistants = Assistants(programs, by_name, service.uploads)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with drawn.router.lifespan_context(drawn), assistants.running():
            yield

    routes = [
        Route("/answer", page.answer, methods=["POST"]),
        Route("/about", page.about),
        Route(f"{_API}/upload", programs.upload, methods=["POST"]),
        Route(f"{_API}/call/{{name}}", programs.call, methods=["POST"]),
        Route(f"{_API}/call/{{name}}/{{event}}", programs.fetch),
        Route(f"{_API}/queue/join", programs.join, methods=["POST"]),
        Route(f"{_API}/queue/data", programs.listen),
        Route(f"{_API}/cancel", programs.cancel, methods=["POST"]),
        Mount(f"{_API}/mcp", assistants),
        Mount("/viewer", _Scripts(directory=_VIEWER)),
        Mount("/", _Drawn(drawn)),
    ]
    return Front(Starlette(routes=routes, lifespan=lifespan, exception_handlers={RefusedError: _refused, 500: _broken}))


def _drawn(demo: gr.Blocks, **look: Any) -> fastapi.FastAPI:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode")  # said of pages in several languages, asked for or not
        drawn: fastapi.FastAPI = gr.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None),
            demo,
            path="/",
            root_path=public_address(),
            max_file_size=f"{MAX_UPLOAD_MB}mb",
            footer_links=["api"],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            **look,
        )
    return drawn


async def _refused(_: Any, error: Exception) -> Any:
    assert isinstance(error, RefusedError)
    return error.response()


async def _broken(_: Any, __: Exception) -> Any:
    """`Front` writes down what broke."""
    return RefusedError(500, BROKEN).response()


class _Scripts(StaticFiles):
    """The viewer's modules; a browser asks each time whether they are still the same."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """A file that is kept only as long as it is the newest."""
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Drawn:
    """Gradio, as far as it draws the page: it gets neither bodies nor queries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._pages = {"/", *(f"/{code}" for code in languages() if code != FIRST), *(f"/{name}" for name in _DRAWN)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a part of the page."""
        path = scope["path"]
        known = path in self._pages or path.rstrip("/") in self._pages or _FOLDERS.fullmatch(path)
        if scope["method"] not in ("GET", "HEAD") or not known or ".." in path:
            raise RefusedError(404, "there is nothing at this address.")
        unread = [{"type": "http.request", "body": b"", "more_body": False}]

        async def nothing() -> Message:
            return unread.pop() if unread else await receive()

        await self.app({**scope, "query_string": b""}, nothing, send)
