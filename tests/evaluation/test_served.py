from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from support.space_server import SIZE, grey, photograph, write_model

from brain_mri.data.transforms import pack
from brain_mri.evaluation.served import predict_served
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.model_folder import CALIBRATION, FLOAT32_FILE, GUARD

_PICTURES = [grey(0.375, size=SIZE), grey(0.25, size=SIZE), photograph(SIZE), grey(0.625, size=SIZE)] * 10


@pytest.fixture
def rows() -> Dataset:
    return Dataset.from_dict({"pixels": [pack(np.asarray(image).transpose(2, 0, 1)) for image in _PICTURES]})


def test_the_verdicts_are_those_that_people_get(rows: Dataset, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    found = predict_served(model, rows, SIZE)
    expected = BrainMRIClassifier.from_pretrained(model).predict(list(_PICTURES))
    assert found.verdicts.tolist() == [p.verdict for p in expected]
    assert set(found.verdicts) == {"answer", "unsure", "refused"}
    assert found.reasons == tuple(p.reason for p in expected) and found.file == "model.onnx"
    assert np.allclose(found.probabilities, [list(p.probabilities.values()) for p in expected], atol=1e-6)
    assert found.accepted.mean() == 0.75 and found.answered.mean() == 0.5
    assert found.select([2, 0]).verdicts.tolist() == ["refused", "answer"]


@pytest.mark.parametrize("missing", [FLOAT32_FILE, GUARD, CALIBRATION])
def test_a_model_that_answers_nothing_is_not_measured(missing: str, rows: Dataset, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (model / missing).unlink()
    assert predict_served(model, rows, SIZE) is None
