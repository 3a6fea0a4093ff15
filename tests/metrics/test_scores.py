from __future__ import annotations

import json
import time

import numpy as np
import pytest
import sklearn.metrics as reference

from brain_mri.inference.postprocess import softmax
from brain_mri.metrics.scores import auroc_score, format_table, quick_scores, score, worst_mistakes

NAMES = ["glioma", "meningioma", "no_tumor", "pituitary"]
PER_CLASS = {"precision", "sensitivity", "specificity", "f1", "auroc", "average_precision"}
SCALARS = [
    "accuracy",
    "balanced_accuracy",
    "matthews",
    "cohen_kappa",
    "brier",
    "negative_log_likelihood",
    "expected_calibration_error",
    *(f"macro_{name}" for name in PER_CLASS),
]


def logits_and_labels(seed: int, n: int = 300, lift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += lift
    return logits, labels


def test_quick_scores_equal_sklearn() -> None:
    logits, labels = logits_and_labels(0)
    predicted = logits.argmax(axis=1)
    assert quick_scores(logits, labels) == {
        "accuracy": pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-9),
        "balanced_accuracy": pytest.approx(reference.balanced_accuracy_score(labels, predicted), abs=1e-9),
        "macro_f1": pytest.approx(reference.f1_score(labels, predicted, average="macro"), abs=1e-9),
        "nll": pytest.approx(reference.log_loss(labels, softmax(logits)), abs=1e-9),
    }


def test_quick_scores_take_the_float32_logits_of_a_trainer() -> None:
    logits, labels = logits_and_labels(1)
    assert all(type(value) is float for value in quick_scores(logits.astype(np.float32), labels).values())


def test_shuffled_labels_score_at_chance() -> None:
    logits, labels = logits_and_labels(2, n=4000, lift=8.0)
    scores = score(softmax(logits), np.random.default_rng(3).permutation(labels), NAMES, resamples=200)
    assert scores["accuracy"]["low"] < 0.25 < scores["accuracy"]["high"]
    assert scores["macro_auroc"]["low"] < 0.5 < scores["macro_auroc"]["high"]
    assert scores["cohen_kappa"]["low"] < 0 < scores["cohen_kappa"]["high"]


def test_every_scalar_has_an_interval_around_it_and_all_of_it_is_json() -> None:
    logits, labels = logits_and_labels(4)
    scores = score(softmax(logits), labels, NAMES, resamples=200)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    figures = [scores[name] for name in SCALARS if name != "expected_calibration_error"]
    figures += [figure for per_class in scores["per_class"].values() for figure in per_class.values()]
    figures += scores["referral"].values()
    for figure in figures:
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["low"] < figure["high"]
    assert all(set(per_class) == PER_CLASS for per_class in scores["per_class"].values())
    assert scores["macro_over"] == {key: NAMES for key in PER_CLASS}
    assert list(scores["referral"]) == ["5%", "10%", "20%"]


def test_the_scores_say_what_they_are_computed_from() -> None:
    logits, labels = logits_and_labels(5, n=40)
    scores = score(softmax(logits), labels, NAMES, groups=["a", "b", None, None] * 10, resamples=50, seed=3)
    assert (scores["n"], scores["n_groups"]) == (40, 22)
    assert scores["bootstrap"] == {
        "kind": "percentile", "level": 0.95, "resamples": 50, "seed": 3, "resampled": "groups",
    }  # fmt: skip
    assert list(scores["support"].values()) == np.bincount(labels, minlength=4).tolist()
    assert scores["confusion_matrix"] == reference.confusion_matrix(labels, logits.argmax(axis=1)).tolist()


def test_the_interval_of_the_accuracy_is_that_of_a_plain_bootstrap() -> None:
    logits, labels = logits_and_labels(6, n=200)
    interval = score(softmax(logits), labels, NAMES, resamples=4000)["accuracy"]
    correct = logits.argmax(axis=1) == labels
    drawn = np.random.default_rng(7).integers(0, 200, size=(4000, 200))
    low, high = np.quantile(correct[drawn].mean(axis=1), [0.025, 0.975])
    assert interval["low"] == pytest.approx(low, abs=0.011)
    assert interval["high"] == pytest.approx(high, abs=0.011)


def test_copies_of_a_patient_do_not_narrow_the_interval_once_they_are_grouped() -> None:
    logits, labels = logits_and_labels(8, n=100)
    patients = [f"patient {i}" for i in range(100)] * 9
    once = score(softmax(logits), labels, NAMES)["accuracy"]
    copies = softmax(np.tile(logits, (9, 1))), np.tile(labels, 9), NAMES
    grouped, ungrouped = score(*copies, groups=patients)["accuracy"], score(*copies)["accuracy"]
    width = once["high"] - once["low"]
    assert grouped["high"] - grouped["low"] == pytest.approx(width, abs=1e-9)
    assert ungrouped["high"] - ungrouped["low"] < width / 2


def test_images_of_unknown_patients_are_groups_of_their_own() -> None:
    logits, labels = logits_and_labels(9, n=60)
    assert score(softmax(logits), labels, NAMES, groups=[None] * 60) == score(softmax(logits), labels, NAMES)


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    logits, labels = logits_and_labels(10, n=100)
    first, again, other = (score(softmax(logits), labels, NAMES, resamples=150, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["brier"] != other["brier"]


def test_a_class_that_does_not_occur_has_no_figure_and_is_in_no_average() -> None:
    logits, labels = logits_and_labels(11)
    kept = labels != 1
    scores = score(softmax(logits[kept]), labels[kept], NAMES, resamples=50)
    assert scores["per_class"]["meningioma"] == {}
    assert scores["support"]["meningioma"] == 0
    assert scores["macro_over"] == {key: ["glioma", "no_tumor", "pituitary"] for key in PER_CLASS}
    assert "absent" in format_table(scores)


def test_a_class_rarer_than_the_resamples_can_hold_still_has_finite_intervals() -> None:
    logits, labels = logits_and_labels(12, n=60)
    labels[labels == 1] = 0
    labels[0] = 1
    scores = score(softmax(logits), labels, NAMES, resamples=100)
    json.dumps(scores, allow_nan=False)
    assert "low" in scores["per_class"]["meningioma"]["auroc"]


def test_a_figure_that_no_resample_has_is_given_without_an_interval() -> None:
    logits, labels = logits_and_labels(12, n=60)
    labels[labels == 1] = 0
    labels[0] = 1
    draws = [score(softmax(logits), labels, NAMES, resamples=1, seed=seed) for seed in range(6)]
    json.dumps(draws, allow_nan=False)
    assert {"low" in scores["per_class"]["meningioma"]["f1"] for scores in draws} == {True, False}


def test_one_patient_alone_has_figures_without_intervals() -> None:
    logits, labels = logits_and_labels(13, n=50)
    scores = score(softmax(logits), labels, NAMES, groups=["a"] * 50)
    assert (
        set(scores["accuracy"])
        == set(scores["per_class"]["glioma"]["f1"])
        == set(scores["referral"]["5%"])
        == {"value"}
    )
    format_table(scores)


def test_names_and_groups_of_the_wrong_number_are_refused() -> None:
    logits, labels = logits_and_labels(14, n=20)
    with pytest.raises(ValueError, match="names"):
        score(softmax(logits), labels, NAMES[:3])
    with pytest.raises(ValueError, match="groups"):
        score(softmax(logits), labels, NAMES, groups=["a"])


def test_a_thousand_resamples_of_the_test_split_take_seconds() -> None:
    logits, labels = logits_and_labels(15, n=1311)
    started = time.process_time()
    score(softmax(logits), labels, NAMES)
    assert time.process_time() - started < 15


def test_any_score_has_the_auroc_that_sklearn_gives_it_and_an_interval_by_patient() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.4
    values = np.round(rng.normal(size=300) + positive, 1)  # with ties
    groups = [str(i // 10) for i in range(300)]
    found = auroc_score(values, positive, groups)
    assert found is not None
    assert found["value"] == pytest.approx(reference.roc_auc_score(positive, values))
    assert found["low"] < found["value"] < found["high"]
    assert auroc_score(values, np.ones(300), groups) is None


def test_the_worst_mistakes_are_the_most_confident_ones() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.45, 0.55]])
    assert worst_mistakes(probabilities, [0, 0, 0, 0]).tolist() == [2, 1, 3]
    assert worst_mistakes(probabilities, [0, 1, 1, 1]).tolist() == []


def test_the_table_shows_every_figure_with_its_interval() -> None:
    logits, labels = logits_and_labels(16)
    scores = score(softmax(logits), labels, NAMES, resamples=50)
    table = format_table(scores)
    for name in SCALARS:
        figure = scores[name]
        line = f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"
        assert any(row.startswith(name.replace("_", " ")) and line in row for row in table.splitlines()), name
    assert "300 images" in table
    for name in NAMES:
        assert f"{name} (n = {scores['support'][name]})" in table
