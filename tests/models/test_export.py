from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from brain_mri.arguments import DataArguments, ModelArguments
from brain_mri.data.prepare import batches, prepare_images
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import ConfigError
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.onnx_model import METADATA, OnnxModel
from brain_mri.labels import LABELS
from brain_mri.model_folder import FLOAT32_FILE, INT8_FILE
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.models.evidence import OnePass
from brain_mri.models.export import PARITY, export_onnx, quantize
from brain_mri.training.finalize import save_model


def _untrained(
    name: str, size: int, folder: Path, model_args: str | None = None
) -> tuple[torch.nn.Module, Preprocessing]:
    torch.manual_seed(0)
    args = ModelArguments(name, pretrained=False, image_size=size, model_args=model_args)
    config = build_config(args)
    preprocessing = Preprocessing.of(build_processor(config, args))
    model = build_model(config, args, LABELS).eval()
    save_model(model, preprocessing, folder)
    return model, preprocessing


def test_the_file_gives_the_network_s_own_outputs_for_any_batch(guided_model: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(guided_model).eval()
    exported = OnnxModel(guided_model / FLOAT32_FILE)
    for n in (1, 5):
        pixel_values = torch.rand(n, 3, 96, 96)
        with torch.no_grad():
            expected = OnePass(model)(pixel_values)
        found = exported.run(pixel_values.numpy())
        assert list(found) == ["logits", "embedding", "evidence", "texture"]
        for name, values in zip(found, expected, strict=True):
            assert np.allclose(found[name], values.numpy(), atol=PARITY), name


def test_a_model_without_exact_maps_says_so_in_its_file(tmp_path: Path) -> None:
    model, preprocessing = _untrained("timm/convnext_atto.d2_in1k", 64, tmp_path, '{"depths": [1, 1, 1, 1]}')
    exported = OnnxModel(export_onnx(model, preprocessing, tmp_path))
    assert not exported.has_evidence
    about = onnx.load(tmp_path / FLOAT32_FILE, load_external_data=False).metadata_props
    assert json.loads(next(entry.value for entry in about if entry.key == METADATA))["evidence"].startswith("none")
    answer = BrainMRIClassifier.from_pretrained(tmp_path, unchecked=True).predict(Image.new("RGB", (50, 40)))
    assert answer.evidence is None and answer.guard_score is None and answer.is_answered
    with pytest.raises(ConfigError, match="has no evidence maps"):
        answer.overlay()


@pytest.mark.parametrize("size", [(31, 77), (200, 120), (96, 96), (1000, 1300)])
def test_preprocessing_is_the_processor_s_bit_for_bit(guided_model: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    expected = AutoImageProcessor.from_pretrained(guided_model)(picture, return_tensors="pt")["pixel_values"][0]
    assert np.array_equal(OnnxModel(guided_model / FLOAT32_FILE).pixel_values(picture), expected.numpy())


def test_int8_is_kept_only_if_it_costs_no_accuracy(
    guided_model: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((guided_model / "export.json").read_text())["int8"]
    assert record["kept"] is (record["accuracy"][0] - record["accuracy"][1] <= 0.002)
    assert (guided_model / INT8_FILE).exists() is record["kept"]
    preprocessing = Preprocessing.of(AutoImageProcessor.from_pretrained(guided_model))
    rows = prepare_images(DataArguments(data_dir=str(phantoms)), preprocessing).rows.select(range(24))
    (tmp_path / "onnx").mkdir()
    (tmp_path / FLOAT32_FILE).write_bytes((guided_model / FLOAT32_FILE).read_bytes())
    monkeypatch.setattr("brain_mri.models.export._MOST_ACCURACY_LOST", -2.0)  # nothing is that good
    assert not quantize(tmp_path, rows, preprocessing).kept
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"], "and nothing else is left behind"
    monkeypatch.undo()
    assert quantize(tmp_path, rows, preprocessing).kept
    assert (tmp_path / INT8_FILE).stat().st_size < 0.5 * (tmp_path / FLOAT32_FILE).stat().st_size


def test_a_file_that_is_no_model_of_ours_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(ConfigError, match="no ONNX file that can be loaded"):
        OnnxModel(tmp_path / "broken.onnx")


def _real_rows(real_data: Path, preprocessing: Preprocessing, tmp_path: Path, n: int) -> tuple[Dataset, Path]:
    """`n` test images as a folder of links, so that not all 7,023 have to be read."""
    files = sorted((real_data / "brain-tumor-mri" / "Testing").glob("*/*.jpg"))
    for path in files[:: len(files) // n][:n]:
        target = tmp_path / "data" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    folder = tmp_path / "data"
    return prepare_images(DataArguments(data_dir=str(folder)), preprocessing).rows, folder


def _wake(model: torch.nn.Module, pixel_values: np.ndarray) -> None:
    """Let batch norm meet real pictures: with its first statistics, random weights fade to nothing layer by layer."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean over all batches seen, which is one
    with torch.no_grad():
        model.train()(torch.from_numpy(pixel_values))
        model.eval()
        model.timm_model.classifier.weight.mul_(30)


@pytest.mark.slow
def test_on_200_real_images_the_onnx_file_answers_as_pipeline_does(real_data: Path, tmp_path: Path) -> None:
    model, preprocessing = _untrained("timm/tf_efficientnet_lite0.in1k", 224, tmp_path / "model")
    rows, folder = _real_rows(real_data, preprocessing, tmp_path, 200)
    _wake(model, next(batches(rows.select(range(0, 200, 10)), preprocessing)))
    save_model(model, preprocessing, tmp_path / "model")
    export_onnx(model, preprocessing, tmp_path / "model")
    classify = pipeline("image-classification", model=str(tmp_path / "model"), device="cpu")
    onnx = BrainMRIClassifier.from_pretrained(tmp_path / "model")
    found = np.concatenate([onnx._model.run(batch)["logits"] for batch in batches(rows, preprocessing)])
    files = [str(folder / name) for name in rows["file_name"]]
    assert len(files) == 200
    assert found.std(axis=0).min() > 10 * PARITY, "logits that do not answer to the picture would agree in any case"
    for path, logits, answers in zip(
        files, found, classify(files, function_to_apply="none", top_k=4, batch_size=8), strict=True
    ):
        expected = {answer["label"]: answer["score"] for answer in answers}
        assert np.allclose(logits, [expected[label] for label in LABELS], atol=PARITY), path
        probabilities = onnx.predict(path).probabilities
        assert max(probabilities, key=probabilities.__getitem__) == answers[0]["label"], path
