from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset

from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data.prepare import PreparedImages, prepare_images
from brain_mri.data.transforms import unpack
from brain_mri.errors import DataError
from brain_mri.evaluation import predict as predicting
from brain_mri.evaluation.predict import load_model, predict
from brain_mri.evaluation.test_images import images_to_evaluate, run_record, trained_split_options
from brain_mri.models.evidence import OnePass


def test_the_split_of_the_training_is_found_again_and_a_stream_is_judged_as_one() -> None:
    before = {"data_dir": "me/scans", "split_seed": 7, "validation_fraction": 0.3, "streaming": True}
    own = trained_split_options(DataArguments("me/scans"), {"data": before})
    assert (own.split_seed, own.validation_fraction, own.streaming) == (7, 0.3, True)
    other = trained_split_options(DataArguments("elsewhere"), {"data": before})
    assert other.split_seed == 7 and not other.streaming, "another folder is read as it is"
    assert trained_split_options(DataArguments("elsewhere"), {}) == DataArguments("elsewhere")


def test_a_folder_that_has_changed_since_the_training_is_not_judged_as_a_strange_one() -> None:
    rows = Dataset.from_dict({"split": ["all"], "file_name": ["a.png"], "digest": ["0"], "label": [0]})
    images = PreparedImages(rows, ("a",))
    args = DataArguments("mine")
    with pytest.raises(DataError, match="has changed since the training"):
        images_to_evaluate(images, args, {"data": {"data_dir": "mine"}, "data_fingerprint": "another"})
    judged, which = images_to_evaluate(images, args, {"data": {"data_dir": "other"}, "data_fingerprint": "another"})
    assert len(judged) == 1 and "another folder" in which


def test_what_is_judged_is_float32_whatever_the_launch_was_configured_for(
    guided_model: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, preprocessing = load_model(EvaluationArguments(str(guided_model)))
    rows = prepare_images(DataArguments(str(phantoms)), preprocessing).rows.select(range(8))
    expected = predict(model, rows, preprocessing).logits
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert np.array_equal(predict(model, rows, preprocessing).logits, expected)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_on_a_cpu_small_batches_go_through_a_fused_network(
    guided_model: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, preprocessing = load_model(EvaluationArguments(str(guided_model)))
    rows = prepare_images(DataArguments(str(phantoms)), preprocessing).rows.select(range(20))
    before, batches = copy.deepcopy(model.state_dict()), []

    class Watched(OnePass):
        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in self.modules())
            batches.append(len(pixel_values))
            return super().forward(pixel_values)

    monkeypatch.setattr(predicting, "OnePass", Watched)
    found = predict(model, rows, preprocessing).logits
    assert batches == [8, 8, 4]
    pixels = torch.from_numpy(np.stack([unpack(data, preprocessing.size) for data in rows["pixels"][:]]))
    with torch.no_grad():
        expected = model(pixel_values=preprocessing.normalize(pixels)).logits.numpy()
    assert np.allclose(found, expected, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_a_record_has_none(tmp_path: Path, guided_model: Path) -> None:
    assert run_record(str(tmp_path)) == {}
    shutil.copyfile(guided_model / "run.json", tmp_path / "run.json")
    assert run_record(str(tmp_path))["label_names"]
