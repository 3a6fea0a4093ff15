"""The layer that the page in the browser draws is the package's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from brain_mri.inference.overlay import evidence_layer

_ROOT = Path(__file__).resolve().parents[2]
_DRAW = """
globalThis.ImageData = class {
  constructor(width, height) {
    Object.assign(this, { width, height, data: new Uint8ClampedArray(4 * width * height) });
  }
};
const { layer } = await import(process.argv[1]);
const { map, width, height } = JSON.parse(process.argv[2]);
console.log(JSON.stringify([...layer(map, width, height).data]));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(("peak", "level"), [((3, 9), 0.5), ((0, 0), 0.8), ((11, 4), 0.9), (None, 0.5)])
def test_the_layer_in_the_browser_is_the_package_s(peak: tuple[int, int] | None, level: float) -> None:
    evidence = np.random.default_rng(0).normal(-1 if peak else -9, 0.5, (12, 14)).astype(np.float32)
    if peak:
        evidence[peak] = 9
    width, height = 150, 120
    map_ = {"values": evidence.ravel().tolist(), "width": 14, "height": 12, "level": level}
    words = [
        (_ROOT / "space" / "viewer" / "overlay.js").as_uri(),
        json.dumps({"map": map_, "width": width, "height": height}),
    ]
    done = subprocess.run(
        ["node", "--input-type=module", "-e", _DRAW, *words], capture_output=True, text=True, check=True, timeout=60
    )
    drawn = np.array(json.loads(done.stdout)).reshape(height, width, 4)
    expected = np.asarray(evidence_layer(evidence, width, height, level).convert("RGBA")).astype(int)
    assert (expected[..., 3] > 0).any() is np.bool_(peak is not None)
    assert np.abs(drawn[..., 3] - expected[..., 3]).max() <= 2
    seen = expected[..., 3] > 20
    assert np.abs(drawn - expected)[seen].max(initial=0) <= 6
