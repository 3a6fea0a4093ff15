from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hub_server import tiny_hub
from support.hub_state import fresh_environment, run_python

from brain_mri.hub.static_space import _SOURCE

pytestmark = pytest.mark.slow
_MODEL, _PAGE = "me/brain", "me/page"


@pytest.mark.skipif(
    not (_SOURCE / "node_modules").is_dir(), reason="its packages are not installed: npm ci in space_static/"
)
def test_one_command_publishes_the_model_and_the_page_that_runs_it(guided_model: Path, tmp_path: Path) -> None:
    with tiny_hub(tmp_path / "hub") as running:
        words = ["-m", "brain_mri.hub", "publish", str(guided_model), "--model", _MODEL, "--static_space", _PAGE]
        done = run_python(words, fresh_environment(tmp_path / "publisher", running.url, HF_TOKEN="hf_owner"))
        assert done.returncode == 0, done.stderr
        record = running.load("space", _PAGE)
        assert record["sdk"] == "static" and not record["variables"]
        files = running.content("space", _PAGE)
    for name in ("index.html", "sw.js", "words.json", "texts/de.json", "vendor/ort-wasm-simd-threaded.wasm.gz"):
        assert name in files
    assert {"model/guard.json", "model/guard.safetensors", "model/calibration.json"} <= set(files)
    assert f"models:\n- {_MODEL}" in files["README.md"].decode()
    listed = json.loads(files["files.json"])["files"]
    assert {"index.html", "worker.js", "model/model.json"} <= set(listed) <= {*files, "./"}
    assert not any(name.endswith((".py", "package.json")) or "node_modules" in name for name in files)
