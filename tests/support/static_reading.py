"""The modules of the page, run in a browser or in node: what they read of a file, beside what the package reads."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from brain_mri.errors import ImageError
from brain_mri.hub.static_space import _SOURCE, stage_static_space
from brain_mri.io.volumes import read_slices

if TYPE_CHECKING:
    from playwright.sync_api import Page

_ROOT = Path(__file__).resolve().parents[2]
_READ = """
import { readFileSync } from 'node:fs';
globalThis.createImageBitmap = async () => { throw new Error('node decodes no pictures'); };
const { readSlices } = await import('./read.js');
try {
  const words = JSON.parse(readFileSync('words.json'));
  const { slices, notes, foreign } = await readSlices(new Blob([readFileSync(0)]), words);
  const shown = slices.map(({ data, ...size }) => ({ ...size, data: Buffer.from(data).toString('base64') }));
  console.log(JSON.stringify({ slices: shown, notes, foreign }));
} catch (error) {
  console.log(JSON.stringify({ error: error.code ?? String(error) }));
}
"""


def staged(folder: Path) -> Path:
    """The page in a new folder, as node runs it; skips the test where node or the page's packages are missing."""
    if shutil.which("node") is None or not (_SOURCE / "node_modules").is_dir():
        pytest.skip("node or the page's packages are not installed: npm ci in space_static/")
    stage_static_space(folder, _ROOT / "release")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "read_file.js").write_text(_READ, encoding="utf-8")
    return folder


def in_javascript(page: Path, content: bytes) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "read_file.js"], cwd=page, input=content, capture_output=True, check=True, timeout=60
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


_READ_THERE = """async (content) => {
  const { readSlices } = await import('./read.js');
  const words = await (await fetch('words.json')).json();
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const packed = (data) => btoa(Array.from(data, (value) => String.fromCharCode(value)).join(''));
  try {
    const { slices, notes, foreign } = await readSlices(new Blob([bytes]), words);
    return { slices: slices.map(({ data, ...size }) => ({ ...size, data: packed(data) })), notes, foreign };
  } catch (error) {
    return { error: error.code ?? String(error) };
  }
}"""


def in_browser(page: Page, content: bytes) -> dict[str, Any]:
    """As `in_javascript`, in a browser, which decodes pictures."""
    said: dict[str, Any] = page.evaluate(_READ_THERE, base64.b64encode(content).decode())
    return said


def agree(page: Path | Page, content: bytes) -> str:
    """Both read the same pixels and say the same of them, or both refuse; the page's reason, empty where it reads."""
    here = in_javascript(page, content) if isinstance(page, Path) else in_browser(page, content)
    try:
        there = read_slices(content)
    except ImageError as error:
        assert not here.get("slices"), f"the page judges what the package refuses: {error}"
        return str(here.get("error") or here["foreign"])
    assert "error" not in here, f"the page refuses ({here['error']}) what the package reads"
    assert here["notes"] == list(there.notes)
    assert len(here["slices"]) == len(there.images)
    for one, known in zip(here["slices"], there.images.pixels, strict=True):
        pixels = np.frombuffer(base64.b64decode(one["data"]), np.uint8)
        assert np.abs(pixels.reshape(known.shape).astype(int) - known).max() <= 1
    return ""
