from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import DataError
from brain_mri.model_folder import GUARD
from brain_mri.training import finalize


def test_a_folder_too_small_for_a_guard_does_not_cost_the_training(
    tmp_path: Path, preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alike = np.ones((2, 8), np.float32)  # embeddings that do not differ: no guard can be fitted to them
    monkeypatch.setattr(finalize, "OnnxModel", lambda path: None)
    monkeypatch.setattr(finalize, "_embeddings", lambda *_: (alike, (8,)))
    rows = Dataset.from_dict({"file_name": ["a", "b"], "label": [0, 1]})
    others = Dataset.from_dict({"file_name": ["c", "d"], "label": [0, 1]})
    with pytest.raises(DataError):
        finalize.fit_guard(rows, others, preprocessing, tmp_path)
    with caplog.at_level(logging.WARNING):
        finalize.guard_if_possible(rows, others, preprocessing, tmp_path)
    assert "refuses every picture" in caplog.text and not (tmp_path / GUARD).exists()
