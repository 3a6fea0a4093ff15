"""A model in another format gives what its ONNX file gives, or it is not written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.doors import run_door

from brain_mri.cli import main as brain_mri
from brain_mri.errors import USER_ERROR_EXIT_CODE, ConfigError
from brain_mri.inference.guard import Guard, joined
from brain_mri.inference.onnx_model import OnnxModel
from brain_mri.labels import LABELS
from brain_mri.model_folder import ABOUT, FLOAT32_FILE, published_files
from brain_mri.models.portable import FORMATS, export_to
from brain_mri.training.finalize import discard_products

_NAMES = ["logits", "embedding", "evidence", "texture"]


@pytest.mark.parametrize("kind", ["openvino", pytest.param("litert", marks=pytest.mark.slow)])
def test_it_answers_as_the_onnx_file_does_and_so_does_the_guard(
    kind: str, model: Path, guided_model: Path, phantoms: Path
) -> None:
    form = FORMATS[kind]
    pytest.importorskip(form.module, reason=f"{form.package} is not installed")
    before = set(published_files(model))
    (model / form.path).parent.mkdir()
    (model / form.path).with_name("of_an_earlier_model").touch()
    done = run_door(brain_mri, "export", str(model), "--to", kind)
    assert not (model / form.path).with_name("of_an_earlier_model").exists()
    assert done.code == 0 and "Never diagnosis" in done.said, done.said
    onnx, guard = OnnxModel(guided_model / FLOAT32_FILE), Guard.load(model)
    assert guard is not None
    for picture in [*sorted((phantoms / "test").glob("*/*.png"))[::6]]:
        pixels = onnx.pixel_values(Image.open(picture))[None]
        found, expected = form.run(model / form.path, pixels, _NAMES), onnx.run(pixels)
        for name in _NAMES:
            assert np.allclose(found[name], expected[name], rtol=1e-3, atol=1e-3), name
        assert guard.score(joined(found)) == pytest.approx(guard.score(joined(expected)), rel=1e-3)
    about = json.loads((model / form.path).with_name(ABOUT).read_text())
    assert tuple(about["label_names"]) == LABELS and about["outputs"] == _NAMES and about["size"] == onnx.size
    assert set(published_files(model)) == before, "it is published only where somebody asks for it"
    discard_products(model)
    assert not (model / form.path).exists(), "a new training leaves no file of other weights"


def test_a_file_with_other_outputs_is_not_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = FORMATS["openvino"]
    pytest.importorskip(form.module, reason="openvino is not installed")

    def a_little_off(path: Path, picture: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
        found = form.run(path, picture, names)
        return found | {"evidence": found["evidence"] * 1.1}

    monkeypatch.setitem(FORMATS, "openvino", replace(form, run=a_little_off))
    with pytest.raises(RuntimeError, match="evidence differs"):
        export_to("openvino", str(model), model)
    assert not (model / form.path).parent.exists()


def test_a_missing_package_or_model_is_said_in_a_sentence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_door(brain_mri, "export", str(model / "onnx"), "--to", "openvino")
    assert done.code == USER_ERROR_EXIT_CODE and "Traceback" not in done.said
    monkeypatch.setattr("brain_mri.models.portable.find_spec", lambda name: None)
    for kind, form in FORMATS.items():
        with pytest.raises(ConfigError, match=f"pip install {form.package}"):
            export_to(kind, str(model), model)
