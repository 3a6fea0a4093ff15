"""The code on a model's card, run as a visitor of the Hub would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A grey picture that is not square."""
    values = np.random.default_rng(0).integers(0, 255, (70, 50), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "slice.png")
    return tmp_path / "slice.png"


def _run(model: Path, scan: Path, imports: str) -> dict[str, Any]:
    """What the block of code that imports this leaves behind."""
    blocks = re.findall(r"```python\n(.*?)```", (model / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if imports in block)
    for name in ("<this folder, or its id on the Hub>", "<this folder>"):
        code = code.replace(name, str(model))
    known: dict[str, Any] = {}
    exec(code.replace("slice.png", str(scan)), known)
    return known


def test_timm_alone_gives_the_probabilities_of_pipeline(guided_model: Path, scan: Path) -> None:
    known = _run(guided_model, scan, "import timm")
    names = known["network"].pretrained_cfg["label_names"]
    found = dict(zip(names, known["probabilities"].tolist(), strict=True))
    answers = pipeline("image-classification", model=str(guided_model))(str(scan), top_k=4)
    assert found == pytest.approx({answer["label"]: answer["score"] for answer in answers}, abs=1e-3)


def test_pipeline_answers_and_refers(guided_model: Path, scan: Path) -> None:
    known = _run(guided_model, scan, "import pipeline")
    assert len(known["answers"]) == 4 and known["prediction_set"]
