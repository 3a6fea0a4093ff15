"""The page in the browser against `BrainMRIClassifier`: how far their probabilities differ, and how many verdicts.

    python -m benchmarks.static_parity release --data_dir FOLDER [--images 1311]

Needs npm, Debian's Chromium and Playwright. The test images of a folder that train.py takes, evenly spread. Prints
Markdown: verdicts in rows by Python, in columns by the browser.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from brain_mri.data.image_folder import scan_folder
from brain_mri.hub.static_space import stage_static_space
from brain_mri.inference import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "space_static"))
from serve import listening

_AT_ONCE = 20
_VERDICTS = ("answer", "unsure", "refused")
_ANSWERS = """async (pictures) => {
  const [{ Classifier }, { readSlices }] = await Promise.all([import('./classifier.js'), import('./read.js')]);
  globalThis.model ??= await Classifier.load(new URL('./model/', location.href), 1);
  const words = await (await fetch('words.json')).json();
  const answers = [];
  for (const picture of pictures) {
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    const { slices } = await readSlices(new Blob([bytes]), words);
    const found = [];
    for (const slice of slices) found.push(await model.predict(slice));
    const whole = slices.length > 1 ? model.rule.ofVolume(found) : found[0];
    answers.push({ ...whole, evidence: null, slices: found.map(({ evidence, ...rest }) => rest) });
  }
  return answers;
}"""


def answers_in(page: Page, pictures: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the modules of a loaded page say of each file: verdict, reason, probabilities, guardScore, its slices."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(pictures), _AT_ONCE):
        some = [base64.b64encode(picture).decode() for picture in pictures[start : start + _AT_ONCE]]
        found += page.evaluate(_ANSWERS, some)
    return found


def differences(answers: Sequence[dict[str, Any]], known: Sequence[Prediction]) -> np.ndarray:
    """The largest difference of a probability, for each picture: (n,)."""
    return np.array(
        [
            max(abs(one["probabilities"][label] - p) for label, p in other.probabilities.items())
            for one, other in zip(answers, known, strict=True)
        ]
    )


def _table(answers: Sequence[dict[str, Any]], known: Sequence[Prediction]) -> str:
    off = differences(answers, known)
    pairs = Counter((other.verdict, one["verdict"]) for one, other in zip(answers, known, strict=True))
    rows = [[row, *(f"{pairs[row, column]:,}" for column in _VERDICTS)] for row in _VERDICTS]
    lines = ["| Python \\ browser | " + " | ".join(_VERDICTS) + " |", "|---|---:|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    share = f"{np.mean(off < 1e-3):.1%} below 0.001"
    return "\n".join(lines) + (
        f"\n\n{len(off):,} images; largest difference of a probability: median {np.median(off):.5f}, 95th percentile "
        f"{np.quantile(off, 0.95):.4f}, most {off.max():.3f}; {share}"
    )


def main() -> None:
    """Ask both of each image, and print how they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data_dir", required=True, help="folder of images; its test split is used")
    parser.add_argument("--images", type=int, default=0, help="how many (default: all)")
    options = parser.parse_args()
    paths = [image.path for image in scan_folder(options.data_dir).images if image.split == "test"]
    paths = paths[:: max(1, len(paths) // options.images)] if options.images else paths
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch) / "page"
        stage_static_space(folder, options.model)
        server = listening(folder, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        answers = answers_in(page, [path.read_bytes() for path in paths])
        browser.close()
        server.shutdown()
    print(_table(answers, BrainMRIClassifier.from_pretrained(options.model).predict(paths)))


if __name__ == "__main__":
    main()
