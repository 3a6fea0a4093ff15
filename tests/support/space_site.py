"""The page inside the tests' own process, so that a test can hold its model up."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from support.space_server import grey


@dataclass
class Site:
    """A running page.

    Attributes:
        url: its address.
        service: its model and uploads.
        judged: how many slices have been judged.
    """

    url: str
    service: Any
    judged: int = 0

    def slow_down(self, seconds: float) -> None:
        """Let each slice take so long."""
        judge = self.service.classifier.predict_slices

        def slowly(slices: Any) -> Iterator[Any]:
            for prediction in judge(slices):
                time.sleep(seconds)
                self.judged += 1
                yield prediction

        self.service.classifier.predict_slices = slowly


@contextmanager
def within(model: Path, uploads: Path) -> Iterator[Site]:
    """Serve a model from a thread."""
    import app
    from page import api, connections, service
    from page.site import site

    judge = service.Service(str(model), uploads, 180)
    declared = api.endpoints(judge)
    server = uvicorn.Server(
        uvicorn.Config(site(judge, app.build(judge, declared), declared), port=0, **connections.options())
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the page did not start"
        time.sleep(0.02)
    try:
        yield Site(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", judge)
    finally:
        server.should_exit = True
        thread.join(10)


def call(url: str, endpoint: str, *data: Any) -> str:
    """The last event of a call over plain HTTP."""
    started = httpx.post(f"{url}/gradio_api/call/{endpoint}", json={"data": data}).raise_for_status()
    return httpx.get(f"{url}/gradio_api/call/{endpoint}/{started.json()['event_id']}", timeout=60).text


def finished(steps: Iterator[Any]) -> Any:
    """What a job returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def zipped(count: int) -> bytes:
    """A volume of so many slices."""
    picture, content = io.BytesIO(), io.BytesIO()
    grey(0.375).save(picture, "PNG")
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number:03}.png", picture.getvalue())
    return content.getvalue()
