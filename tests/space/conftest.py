"""The page for the tests of this folder: as a program of its own, and inside the tests' process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install -r space/requirements.txt")
pytest.importorskip("mcp", reason="mcp is not installed: pip install -r space/requirements.txt")

from gradio_client import Client
from support.space_server import SPACE, Server, serving, write_model
from support.space_site import Site, within

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sys.path.insert(0, str(SPACE))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(model, tmp_path_factory.mktemp("space")) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Client:
    return Client(server.url, verbose=False)


@pytest.fixture
def site(model: Path, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "uploads").mkdir()
    with within(model, tmp_path / "uploads") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    from support.space_browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture
def page(server: Server, browser: Browser) -> Iterator[Page]:
    from support.space_browser import DESKTOP, opened

    yield from opened(browser, server.url, DESKTOP)
