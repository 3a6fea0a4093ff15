from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from brain_mri.errors import ConfigError
from brain_mri.inference import BrainMRIClassifier
from brain_mri.labels import LABELS
from brain_mri.release import copy_published


def test_what_is_published_shows_no_data_and_names_no_place(guided_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(guided_model, source)
    (source / "evaluation").mkdir(exist_ok=True)
    (source / "evaluation" / "worst_mistakes.png").write_bytes(b"slices")
    files = copy_published(source, tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in files}
    assert {"config.json", "model.safetensors", "onnx/model.onnx", "guard.json", "README.md", "run.json"} <= names
    assert not [name for name in names if "checkpoint" in name or "worst" in name]
    assert str(tmp_path.parent) not in (tmp_path / "out" / "run.json").read_text()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["data_dir"] == "synthetic"
    assert BrainMRIClassifier.from_pretrained(tmp_path / "out").label_names == LABELS
    copy_published(source, tmp_path / "out")  # a second time replaces it
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="holds no model"):
        copy_published(source, tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"no run\.json"):
        copy_published(tmp_path / "mine", tmp_path / "other")
