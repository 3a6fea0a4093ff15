"""Records of a fold that nobody trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_results(folder: Path, number: int, accuracy: float, **more: float) -> None:
    """As evaluate_model.py and train.py leave them: 10 images of two classes, `number` of the second mistaken."""
    scores: dict[str, Any] = {name: {"value": value} for name, value in {"accuracy": accuracy, **more}.items()}
    scores |= {"n": 10, "label_names": ["no", "yes"], "confusion_matrix": [[5, 0], [number, 5 - number]]}
    model = folder / f"fold{number}" / "model"
    (model / "evaluation").mkdir(parents=True)
    (model / "evaluation" / "results.json").write_text(json.dumps({"scores": scores}))
    (model / "run.json").write_text(json.dumps({"recipe": {"rotation": 15.0}}))
