"""What the page in the browser costs: bytes until it is ready, seconds to the first answer, milliseconds a slice.

    python -m benchmarks.static_page release slice.png

Needs npm, Debian's Chromium and Playwright. Bytes are those of the files as they lie, and as a host that packs by gzip
sends them.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from brain_mri.hub.static_space import stage_static_space

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "space_static"))
from serve import listening

_TIMES = 20
_PARTS = {
    "the model": "model/*.onnx",
    "the guard": "model/guard.*",
    "onnxruntime-web": "vendor/ort*",
    "all else": "**/*",
}


def _sizes(folder: Path) -> None:
    counted: set[Path] = set()
    print("| part | bytes | packed by gzip |\n|---|---:|---:|")
    for part, pattern in _PARTS.items():
        paths = {p for p in folder.glob(pattern) if p.is_file() and "examples" not in p.parts} - counted
        counted |= paths
        packed = sum(min(p.stat().st_size, len(gzip.compress(p.read_bytes(), 9))) for p in paths)
        print(f"| {part} | {sum(p.stat().st_size for p in paths):,} | {packed:,} |")


def _answered(page: Page, path: Path) -> float:
    started = time.perf_counter()
    page.set_input_files("#files", path)
    page.wait_for_selector("#answers .card")
    seconds = time.perf_counter() - started
    page.evaluate("document.getElementById('answers').replaceChildren()")
    return seconds


def main() -> None:
    """Measure the page of a model folder with one slice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("slice", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch) / "page"
        stage_static_space(folder, options.model)
        _sizes(folder)
        server = listening(folder, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page, started = browser.new_page(), time.perf_counter()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        page.wait_for_selector("body[data-ready]", timeout=120_000)
        ready = time.perf_counter() - started
        first = _answered(page, options.slice)
        times = [_answered(page, options.slice) for _ in range(_TIMES)]
        then = 1000 * statistics.median(times)
        print(f"\nready after {ready:.1f} s, first answer {first:.2f} s later, then {then:.0f} ms")
        print(f"(median of {_TIMES}, from the choice of the file to its answer on the page)")
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
