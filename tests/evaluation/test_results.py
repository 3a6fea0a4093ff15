from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from brain_mri.evaluation.predict import Predictions
from brain_mri.evaluation.results import figures, in_words
from brain_mri.evaluation.served import ServedPredictions
from brain_mri.inference.postprocess import softmax
from brain_mri.labels import LABELS
from brain_mri.metrics import compute


def _rows(n: int, findings: dict[int, str] | None = None) -> Dataset:
    beside = {"patient_group": [None] * n, "finding": [(findings or {}).get(i) for i in range(n)]}
    return Dataset.from_dict(
        {"file_name": [f"{i}.png" for i in range(n)], "digest": [f"sha {i}" for i in range(n)], **beside}
    )


def _predictions(n: int, right: float, seed: int = 0) -> Predictions:
    """Logits that name the true class with the chance `right`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    said = np.where(rng.random(n) < right, labels, (labels + rng.integers(1, 4, n)) % 4)
    logits = rng.normal(size=(n, 4)).astype(np.float32)
    logits[np.arange(n), said] += 6
    return Predictions(logits, labels, embeddings=logits)


def test_the_images_with_a_twin_in_training_are_left_out_of_the_leak_free_figures(tmp_path: Path) -> None:
    predictions = _predictions(200, 0.5)
    wrong = predictions.logits.argmax(axis=1) != predictions.labels
    twins = [f"sha {i}" for i in np.flatnonzero(~wrong)]
    (tmp_path / "audit.json").write_text(json.dumps({"test_with_twin": [*twins, "of another set"]}))
    assert "leak_free" not in figures(predictions, _rows(200), LABELS, str(tmp_path), audited=False)
    result = figures(predictions, _rows(200), LABELS, str(tmp_path), audited=True)
    assert result["scores"]["accuracy"]["value"] == pytest.approx(1 - wrong.mean())
    assert result["leak_free"]["removed"] == len(twins)
    assert result["leak_free"]["scores"]["n"] == wrong.sum()
    assert result["leak_free"]["scores"]["accuracy"]["value"] == 0


def test_a_model_without_audit_or_calibration_has_no_such_figures(tmp_path: Path) -> None:
    assert set(figures(_predictions(40, 0.9), _rows(40), LABELS, str(tmp_path), audited=True)) == {"scores"}


def test_calibration_figures_are_those_of_the_logits_before_and_after(tmp_path: Path) -> None:
    record = {
        "temperature": 2.0,
        "prediction_sets": {"coverage": 0.95, "threshold": 0.4},
        "referral": {"threshold": 0.9},
    }
    (tmp_path / "calibration.json").write_text(json.dumps(record))
    predictions = _predictions(400, 0.9)
    result = figures(predictions, _rows(400), LABELS, str(tmp_path), audited=True)
    before = softmax(predictions.logits * 2)
    name = "expected_calibration_error"
    assert result["before_calibration"][name] == compute(name, before, predictions.labels)[name]
    sets = result["prediction_sets"]
    assert sets["coverage"] <= sets["coverage_shown"] and sets["mean_size"] >= 1
    referral = result["referral"]
    kept = predictions.probabilities.max(axis=1) >= 0.9
    assert referral["referred"] == pytest.approx(1 - kept.mean()) and 0.8 < referral["accuracy_kept"] <= 1


def test_shuffled_labels_bring_every_figure_to_chance(tmp_path: Path) -> None:
    predictions = _predictions(4000, 0.99)
    shuffled = Predictions(
        predictions.logits, np.random.default_rng(1).permutation(predictions.labels), predictions.logits
    )
    scores = figures(shuffled, _rows(4000), LABELS, str(tmp_path), audited=True)["scores"]
    assert scores["accuracy"]["low"] < 0.25 < scores["accuracy"]["high"]
    assert scores["matthews"]["low"] < 0 < scores["matthews"]["high"]
    assert abs(scores["macro_auroc"]["value"] - 0.5) < 0.03


@pytest.fixture
def answering(tmp_path: Path) -> tuple[str, Predictions, ServedPredictions]:
    """A calibrated model folder, 400 predictions, and what is said of them: every tenth is refused, some are unsure."""
    predictions = _predictions(400, 0.7)
    chosen = {"prediction_sets": {"coverage": 0.95, "threshold": 0.4}, "referral": {"threshold": 0.97}}
    (tmp_path / "calibration.json").write_text(json.dumps({"temperature": 1.0} | chosen))
    verdicts = np.where(predictions.probabilities.max(axis=1) >= 0.97, "answer", "unsure").astype("<U7")
    verdicts[::10] = "refused"
    unlike = np.where(predictions.labels == 2, 0.2, 0.7) + np.linspace(0, 0.6, 400)
    said = ServedPredictions(predictions.probabilities, verdicts, (None,) * 400, unlike, "model.onnx")
    return str(tmp_path), predictions, said


def test_a_false_all_clear_is_a_tumour_that_is_answered_with_no_tumor(
    answering: tuple[str, Predictions, ServedPredictions],
) -> None:
    folder, predictions, said = answering
    result = figures(predictions, _rows(400), LABELS, folder, audited=True, served=said)
    tumor, clear = predictions.labels != 2, predictions.probabilities.argmax(axis=1) == 2
    found = result["safety"]
    assert found["false_all_clear"]["count"] == (tumor & clear & (said.verdicts == "answer")).sum() > 0
    assert found["tumors"] == tumor.sum() == 300
    assert found["unanswered"]["refused"] == 40 and result["guard"]["accepted"] == 0.9
    assert found["unanswered"]["unsure"] == (said.verdicts == "unsure").sum() > 0
    assert in_words(result).index("FALSE ALL-CLEARS") < in_words(result).index("accuracy")


def test_how_well_the_asymmetry_tells_tumours_is_a_figure_of_its_own(
    answering: tuple[str, Predictions, ServedPredictions],
) -> None:
    folder, predictions, said = answering
    assert said.asymmetries is not None
    found = figures(predictions, _rows(400), LABELS, folder, audited=True, served=said)["symmetry"]["tumor_auroc"]
    pairs = said.asymmetries[predictions.labels != 2][:, None] - said.asymmetries[predictions.labels == 2][None]
    assert found["value"] == pytest.approx((pairs > 0).mean()) and found["low"] < found["value"] < found["high"] < 1
    blind = replace(said, asymmetries=None)  # of a model without evidence maps
    assert "symmetry" not in figures(predictions, _rows(400), LABELS, folder, audited=True, served=blind)


def test_of_a_model_that_was_not_exported_no_safety_is_claimed(
    answering: tuple[str, Predictions, ServedPredictions],
) -> None:
    folder, predictions, _ = answering
    result = figures(predictions, _rows(400), LABELS, folder, audited=True)
    assert "safety" not in result and in_words(result).startswith("false all-clears: not measured")


def test_every_figure_is_given_without_the_reviewed_images_too(
    answering: tuple[str, Predictions, ServedPredictions],
) -> None:
    folder, predictions, said = answering
    (Path(folder) / "audit.json").write_text(json.dumps({"test_with_twin": [f"sha {i}" for i in range(100)]}))
    listed = {i: "ct" if i < 200 else "lesion" for i in range(2, 400, 8)}  # of no_tumor
    result = figures(predictions, _rows(400, listed), LABELS, folder, audited=True, served=said)
    others = [i for i in range(400) if i not in listed]
    rows = _rows(400).select(others)
    alone = figures(predictions.select(others), rows, LABELS, folder, audited=True, served=said.select(others))
    assert result["without_review"] == {"removed": 50, **alone}
    assert {"scores", "safety", "leak_free", "referral", "guard"} <= set(alone)
    assert set(result) == set(alone) | {"reviewed", "without_review"}
    ct = result["reviewed"]["ct"]
    assert ct["n"] == 25 == ct["refused"] + ct["unsure"] + sum(ct["answered"].values())
    assert "25 images listed in review.csv as ct" in in_words(result)


def test_a_set_without_a_review_has_no_second_figures(answering: tuple[str, Predictions, ServedPredictions]) -> None:
    folder, predictions, _ = answering
    assert not {"reviewed", "without_review"} & set(figures(predictions, _rows(400), LABELS, folder, audited=True))
