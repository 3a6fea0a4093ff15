from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from support.space_server import write_model

from brain_mri.errors import ConfigError
from brain_mri.inference.onnx_model import METADATA, OnnxModel
from brain_mri.model_folder import FLOAT32_FILE


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("toy") / "model") / FLOAT32_FILE


def _with_metadata(network: Path, target: Path, text: str) -> Path:
    proto = onnx.load(network)
    helper.set_model_props(proto, {METADATA: text})
    onnx.save(proto, target)
    return target


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": 1_000_000},
        {"size": "32"},
        {"label_names": ["a"]},
        {"label_names": ["a", "a"]},
        {"label_names": [1, 2]},
        {"mean": [0, 0]},
        {"std": [1, 1, 0]},
        {"mean": [0, 0, "x"]},
        {"resample": 99},
        {"resample": None},
    ],
    ids=str,
)
def test_metadata_that_makes_no_sense_is_one_sentence(change: dict[str, Any], network: Path, tmp_path: Path) -> None:
    about = json.loads({p.key: p.value for p in onnx.load(network).metadata_props}[METADATA])
    broken = _with_metadata(network, tmp_path / "broken.onnx", json.dumps(about | change))
    with pytest.raises(ConfigError, match="export") as caught:
        OnnxModel(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_metadata_that_is_no_json_object_is_one_sentence(text: str, network: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="export the model again"):
        OnnxModel(_with_metadata(network, tmp_path / "broken.onnx", text))


def test_a_file_whose_labels_or_weights_do_not_fit_says_so_before_the_first_picture(
    network: Path, tmp_path: Path
) -> None:
    about = json.loads({p.key: p.value for p in onnx.load(network).metadata_props}[METADATA])
    more = _with_metadata(network, tmp_path / "more.onnx", json.dumps(about | {"label_names": ["a", "b"]}))
    with pytest.raises(ConfigError, match="one logit for each"):
        OnnxModel(more).blank()
    proto = onnx.load(network)
    for tensor in proto.graph.initializer:
        if tensor.name == "offsets":
            tensor.raw_data = b"\xff" * len(tensor.raw_data)  # NaN
    onnx.save(proto, tmp_path / "nan.onnx")
    with pytest.raises(ConfigError, match="not finite"):
        OnnxModel(tmp_path / "nan.onnx").blank()


def test_onnxruntime_is_told_to_report_nothing(network: Path, tmp_path: Path) -> None:
    """Where it reports, it leaves a file with the number of its session."""
    code = "import sys\nfrom brain_mri.inference.onnx_model import OnnxModel\nOnnxModel(sys.argv[1], 1).blank()"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", code, str(network)],
        env=environment | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert not list(tmp_path.iterdir())
