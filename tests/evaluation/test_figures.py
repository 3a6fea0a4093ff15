from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from matplotlib.figure import Figure

from brain_mri.data.transforms import pack
from brain_mri.evaluation.figures import draw_mistakes
from brain_mri.evaluation.predict import Predictions
from brain_mri.labels import LABELS
from brain_mri.model_folder import WORST_MISTAKES


def test_the_sheet_counts_every_mistake_and_says_how_sure_each_answer_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **o: (drawn.append(self), save(self, *a, **o)))
    logits = np.zeros((20, 4), np.float32)
    logits[:, 2] = np.arange(20) / 4  # called no_tumor, the last ones most surely
    slices = [pack(np.full((3, 8, 8), i, np.uint8)) for i in range(20)]
    rows = Dataset.from_dict({"pixels": slices, "file_name": [f"test/{i}.png" for i in range(20)]})
    predictions = Predictions(logits, np.zeros(20, np.int64), logits)
    draw_mistakes(predictions, rows.select(range(20)), LABELS, 8, tmp_path)
    assert (tmp_path / WORST_MISTAKES).is_file()
    assert drawn[0].get_suptitle() == "The worst mistakes (n = 12 of 19 shown)"  # the first is a tie, and right
    sure = predictions.probabilities[19].max()
    assert drawn[0].axes[0].get_title() == f"19.png\nglioma, called no_tumor: {sure:.4f}"
