"""The page in Debian's Chromium, driven by Playwright, for the tests that look at it as people do.

SPACE_SHOTS=<folder> keeps the screenshots; AXE_PATH names axe.min.js (`npm install --prefix <folder> axe-core`).
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from support.space_server import grey

_PATIENCE = 60_000  # milliseconds; on a machine that trains beside, a page takes its time
expect.set_options(timeout=_PATIENCE)
_SERIOUS = {"serious", "critical"}
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, without a window."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, url: str, size: dict[str, int], **options: Any) -> Iterator[Page]:
    """A page that has asked no other server and met no error of its own when the test is done."""
    context = browser.new_context(viewport=size, **options)
    context.set_default_timeout(_PATIENCE)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".bm-classify")
    yield page
    origin = "/".join(url.split("/")[:3])
    assert not [one for one in asked if not one.startswith((origin, "data:", "blob:"))], "calls another server"
    assert not errors
    context.close()


def judge(page: Page, *paths: Path) -> None:
    page.set_input_files(".bm-drop input", list(paths))
    expect(page.locator(".bm-chosen li")).to_have_count(min(len(paths), 7))
    page.click(".bm-classify")


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("SPACE_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


def slice_file(folder: Path, brightness: float = 0.375) -> Path:
    grey(brightness, size=192).save(folder / "slice.png")
    return folder / "slice.png"


def volume_file(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "slices.zip", "w") as archive:
        for i, shade in enumerate((0.6, 0.62, 0.5, 0.4, 0.375, 0.41, 0.6, 0.64)):
            grey(shade).save(folder / f"{i}.png")
            archive.write(folder / f"{i}.png", f"{i}.png")
    return folder / "slices.zip"


def findings(page: Page) -> list[str]:
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in _SERIOUS
        for node in one["nodes"]
    ]
