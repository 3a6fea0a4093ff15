from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from brain_mri.arguments import EvaluationArguments
from brain_mri.data.prepare import evenly_spread
from brain_mri.evaluation.predict import Predictions, load_model
from brain_mri.inference.thresholds import Thresholds
from brain_mri.training.finalize import calibrate, discard_products, save_model


@pytest.fixture
def folder(guided_model: Path, tmp_path: Path) -> Path:
    """A model folder, evaluated."""
    copy = tmp_path / "model"
    shutil.copytree(guided_model, copy, ignore=shutil.ignore_patterns("checkpoints"))
    (copy / "evaluation").mkdir()
    (copy / "evaluation" / "results.json").write_text("{}")
    return copy


def test_what_an_earlier_training_left_to_be_served_goes_before_another_one_s_is_made(folder: Path) -> None:
    assert (folder / "onnx").is_dir() and (folder / "guard.json").is_file() and (folder / "run.json").is_file()
    discard_products(folder)
    left = {path.name for path in folder.iterdir()}
    assert not left & {"onnx", "guard.json", "guard.safetensors", "calibration.json", "evidence.json", "run.json"}
    assert {"config.json", "model.safetensors", "evaluation"} <= left


def test_of_many_images_the_guard_is_fitted_on_some_that_are_evenly_spread() -> None:
    rows = Dataset.from_dict({"number": list(range(11))})
    assert evenly_spread(rows, 20)["number"][:] == list(range(11))
    assert evenly_spread(rows, 3)["number"][:] == [0, 5, 10]


def test_figures_stay_with_the_weights_that_they_are_of(folder: Path) -> None:
    model, preprocessing = load_model(EvaluationArguments(str(folder)))
    save_model(model, preprocessing, folder)
    assert (folder / "evaluation" / "results.json").is_file()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save_model(model, preprocessing, folder)
    assert not (folder / "evaluation").exists()


def test_more_is_asked_of_the_healthy_class_than_of_a_tumour(folder: Path) -> None:
    """2% of these are wrong, and all of those among the less certain half."""
    sure = np.linspace(3, 8, 1000, dtype=np.float32)
    labels = np.zeros(1000, dtype=np.int64)
    labels[:500:25] = 1
    logits = np.stack([sure, *np.zeros((3, 1000), dtype=np.float32)], axis=1)
    model, _ = load_model(EvaluationArguments(str(folder)))
    calibrate(model, Predictions(logits, labels, np.zeros((1000, 1), dtype=np.float32)), folder)
    found = Thresholds.read(folder / "calibration.json")
    assert found.referral < found.all_clear < 1
