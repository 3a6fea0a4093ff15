"""Publishing that is broken off: the revision before stays whole, and the same command completes the new one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hub_state import TinyHub
from support.hub_state import fresh_environment as _environment

from brain_mri.errors import ConfigError
from brain_mri.hub.publish import Destination, publish

# huggingface_hub's own call of its HTTP library
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

_ROOT = Path(__file__).parents[2]
_TOKEN = "hf_owner"
_MODEL = "me/brain"


def _change(model: Path) -> None:
    """A model as after another training: new small and large files."""
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes() + b"\0")
    record = json.loads((model / "run.json").read_text())
    (model / "run.json").write_text(json.dumps(record | {"seconds": record["seconds"] + 1}))


def _published_then_changed(hub: TinyHub, model: Path) -> dict[str, bytes]:
    """The files of the published revision, which those on disk are no longer."""
    publish(model, Destination(_MODEL))
    published = hub.content("model", _MODEL)
    _change(model)
    return published


def test_a_connection_cut_in_the_middle_of_the_commit_leaves_the_old_revision_and_a_rerun_completes(
    hub: TinyHub, at: Callable[..., None], model: Path
) -> None:
    at(hub.url)
    old = _published_then_changed(hub, model)
    hub.faults = {r"POST /api/models/me/brain/commit/main": "drop"}
    with pytest.raises(ConfigError, match=r"broke off .* run the same command again"):
        publish(model, Destination(_MODEL))
    assert hub.content("model", _MODEL) == old and len(hub.commits("model", _MODEL)) == 2
    hub.faults = {}
    hub.log.clear()
    publish(model, Destination(_MODEL))
    assert not [line for line in hub.log if line.startswith("PUT")]  # the large file is there from the first time
    weights = (model / "model.safetensors").read_bytes()
    assert hub.content("model", _MODEL)["model.safetensors"] == weights and len(hub.commits("model", _MODEL)) == 3


def test_a_publisher_killed_in_the_middle_of_an_upload_leaves_the_old_revision_and_a_rerun_completes(
    hub: TinyHub, at: Callable[..., None], model: Path, tmp_path: Path
) -> None:
    at(hub.url)
    old = _published_then_changed(hub, model)
    hub.faults = {r"PUT /lfs/.*": "hang"}
    process = subprocess.Popen(
        [sys.executable, "-m", "brain_mri.hub", "publish", str(model), "--model", _MODEL],
        cwd=_ROOT,
        env=_environment(tmp_path / "home", hub.url, HF_TOKEN=_TOKEN, TMPDIR=str(tmp_path)),  # it can't tidy up
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert hub.held.wait(120)
    finally:
        process.kill()
    assert process.wait(30) == -signal.SIGKILL
    hub.released.set()
    assert hub.content("model", _MODEL) == old
    hub.faults = {}
    publish(model, Destination(_MODEL))
    weights = (model / "model.safetensors").read_bytes()
    assert hub.content("model", _MODEL)["model.safetensors"] == weights and len(hub.commits("model", _MODEL)) == 3
