from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import evaluate
import numpy as np
import pytest
import sklearn.metrics as reference
from sklearn.preprocessing import label_binarize

from brain_mri import metrics
from brain_mri.metrics import METRIC_NAMES, compute, formulas, load_metric
from brain_mri.metrics.cases import Cases
from brain_mri.metrics.formulas import FORMULAS

CLASSES = [0, 1, 2, 3]
TOLERANCE = 1e-9


def random_cases(seed: int, n: int = 400) -> Cases:
    """Better than chance, with a third of the rows repeated so that scores tie across different labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1
    logits[: n // 3] = logits[n // 3 : 2 * (n // 3)]
    exponentials = np.exp(logits)
    return Cases.of(exponentials / exponentials.sum(axis=1, keepdims=True), labels)


def random_counts(seed: int, rows: int, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).poisson(1.0, size=(rows, n)).astype(float)


def per_class(function: Callable, **options: object) -> Callable:
    return lambda c, w: function(c.labels, c.predicted, sample_weight=w, average=None, zero_division=0, **options)


def ranked(function: Callable) -> Callable:
    def figure(c: Cases, w: np.ndarray) -> np.ndarray:
        truth = label_binarize(c.labels, classes=CLASSES)
        return np.array([function(truth[:, k], c.probabilities[:, k], sample_weight=w) for k in CLASSES])

    return figure


def specificity_by_sklearn(c: Cases, w: np.ndarray) -> np.ndarray:
    matrices = reference.multilabel_confusion_matrix(c.labels, c.predicted, sample_weight=w)
    return matrices[:, 0, 0] / matrices[:, 0].sum(axis=1)


def repeated(c: Cases, w: np.ndarray, times: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and correctness of every image listed as often as its weight says, sorted by confidence."""
    listed = np.repeat(np.arange(len(c.labels)), w.astype(int) * times)
    listed = listed[np.argsort(-c.probabilities[listed].max(axis=1), kind="stable")]
    return c.probabilities[listed].max(axis=1), c.predicted[listed] == c.labels[listed]


def ece_by_hand(c: Cases, w: np.ndarray) -> float:
    """Listing everything as often as there are bins makes parts of whole images."""
    bins = max(1, min(15, len(c.labels) // 10))
    parts = zip(*(np.split(values, bins) for values in repeated(c, w, times=bins)), strict=True)
    return float(np.mean([abs(confidence.mean() - correct.mean()) for confidence, correct in parts]))


def referral_by_hand(c: Cases, w: np.ndarray) -> np.ndarray:
    """Listing everything 20 times makes 80, 90 and 95% whole numbers of images."""
    _, correct = repeated(c, w, times=20)
    return np.array([correct[: len(correct) * kept // 100].mean() for kept in (95, 90, 80)])


REFERENCES: dict[str, Callable[[Cases, np.ndarray], object]] = {
    "accuracy": lambda c, w: reference.accuracy_score(c.labels, c.predicted, sample_weight=w),
    "balanced_accuracy": lambda c, w: reference.balanced_accuracy_score(c.labels, c.predicted, sample_weight=w),
    "precision": per_class(reference.precision_score),
    "sensitivity": per_class(reference.recall_score),
    "specificity": specificity_by_sklearn,
    "f1": per_class(reference.f1_score),
    "auroc": ranked(reference.roc_auc_score),
    "average_precision": ranked(reference.average_precision_score),
    "matthews": lambda c, w: reference.matthews_corrcoef(c.labels, c.predicted, sample_weight=w),
    "cohen_kappa": lambda c, w: reference.cohen_kappa_score(c.labels, c.predicted, sample_weight=w),
    "brier": lambda c, w: reference.brier_score_loss(
        c.labels, c.probabilities, sample_weight=w, labels=CLASSES, scale_by_half=False
    ),
    "negative_log_likelihood": lambda c, w: reference.log_loss(c.labels, c.probabilities, sample_weight=w),
    "expected_calibration_error": ece_by_hand,
    "referral": referral_by_hand,
    "confusion_matrix": lambda c, w: reference.confusion_matrix(c.labels, c.predicted, sample_weight=w),
}


def without_ties(c: Cases) -> Cases:
    """The written references cut tied images in the order they are listed; the formulas spread them evenly."""
    _, first = np.unique(c.confidence, return_index=True)
    return Cases.of(c.probabilities[first], c.labels[first])


def cases_for(name: str, seed: int) -> Cases:
    cases = random_cases(seed)
    return without_ties(cases) if name in ("expected_calibration_error", "referral") else cases


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_module_equals_its_reference(name: str, seed: int) -> None:
    cases = cases_for(name, seed)
    answer = compute(name, cases.probabilities, cases.labels)[name]
    values = list(answer.values()) if isinstance(answer, dict) else answer
    np.testing.assert_allclose(values, REFERENCES[name](cases, np.ones(len(cases.labels))), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_weighted_formula_equals_its_reference_on_every_resample(name: str) -> None:
    cases = cases_for(name, seed=7)
    weights = random_counts(8, rows=5, n=len(cases.labels))
    got = FORMULAS[name](cases, weights)
    assert len(got) == 5
    for row, weight in zip(got, weights, strict=True):
        np.testing.assert_allclose(row, REFERENCES[name](cases, weight), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_weight_means_listing_the_image_that_often(name: str) -> None:
    cases = random_cases(3)
    weights = random_counts(4, rows=1)
    listed = np.repeat(np.arange(len(cases.labels)), weights[0].astype(int))
    same = Cases.of(cases.probabilities[listed], cases.labels[listed])
    formula = FORMULAS[name]
    np.testing.assert_allclose(formula(cases, weights), formula(same, np.ones((1, len(listed)))), atol=TOLERANCE)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_the_order_of_the_images_does_not_matter_even_where_scores_tie(name: str) -> None:
    cases = random_cases(5)
    shuffled = np.random.default_rng(6).permutation(len(cases.labels))
    ones = np.ones((1, len(cases.labels)))
    formula = FORMULAS[name]
    again = formula(Cases.of(cases.probabilities[shuffled], cases.labels[shuffled]), ones)
    np.testing.assert_allclose(formula(cases, ones), again, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["precision", "sensitivity", "specificity", "f1", "auroc", "average_precision"])
def test_a_class_that_does_not_occur_is_absent_and_the_macro_says_so(name: str) -> None:
    cases = random_cases(9)
    kept = cases.labels != 2
    answer = compute(name, cases.probabilities[kept], cases.labels[kept], label_names=["a", "b", "c", "d"])
    assert list(answer[name]) == answer["classes"] == ["a", "b", "d"]
    assert answer[f"macro_{name}"] == pytest.approx(np.mean(list(answer[name].values())), abs=TOLERANCE)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_a_single_class_gives_no_nan(name: str) -> None:
    answer = compute(name, np.tile([0.7, 0.1, 0.1, 0.1], (5, 1)), np.zeros(5, dtype=int))
    assert "nan" not in str(answer)


@pytest.mark.parametrize("name", ["matthews", "cohen_kappa"])
def test_agreement_beyond_chance_does_not_exist_for_a_single_class(name: str) -> None:
    assert compute(name, np.tile([0.7, 0.1, 0.1, 0.1], (5, 1)), np.zeros(5, dtype=int)) == {}


@pytest.mark.parametrize("name", ["auroc", "specificity"])
def test_a_figure_that_needs_other_classes_is_absent_without_them(name: str) -> None:
    assert compute(name, np.tile([0.7, 0.3], (5, 1)), np.zeros(5, dtype=int)) == {name: {}, "classes": []}


def test_balanced_accuracy_leaves_out_the_class_that_does_not_occur() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 1]]
    assert compute("balanced_accuracy", probabilities, [0, 0, 0, 1])["balanced_accuracy"] == pytest.approx(5 / 6)


def test_a_class_that_is_never_given_has_precision_zero() -> None:
    assert compute("precision", np.eye(2)[[0, 0]], [0, 1])["precision"] == {"0": 0.5, "1": 0.0}


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_every_configuration_loads_from_the_path_of_the_module(name: str) -> None:
    module = evaluate.load(str(Path(metrics.__file__).with_name("metric.py")), name, keep_in_memory=True)
    assert isinstance(module, evaluate.Metric)
    answer = module.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1])
    assert answer == compute(name, [[0.9, 0.1], [0.2, 0.8]], [0, 1])
    assert name in answer


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        ([[2.0, -1.0]], [0], "softmax"),
        ([[0.6, 0.6]], [0], "sum to 1"),
        ([[np.nan, np.nan]], [0], "sum to 1"),
        ([[0.5, 0.5]], [2], "0..1"),
        ([[0.5, 0.5]], [-1], "0..1"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, 0.5]], [0, 1], "shape"),
        ([0.5, 0.5], [0, 1], "shape"),
        (np.empty((0, 2)), np.empty(0, dtype=int), "shape"),
    ],
)
def test_what_is_not_probabilities_and_classes_is_refused(probabilities: object, labels: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Cases.of(probabilities, labels)


def test_a_refused_call_leaves_nothing_behind() -> None:
    cases = random_cases(1)
    before = compute("accuracy", cases.probabilities, cases.labels)
    for broken in (cases.labels[:-1], cases.labels + 4):
        with pytest.raises(ValueError):
            compute("accuracy", cases.probabilities, broken)
        assert compute("accuracy", cases.probabilities, cases.labels) == before


def test_an_unknown_metric_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'recal'.*sensitivity"):
        load_metric("recal")


def test_a_call_on_the_test_split_takes_under_half_a_second() -> None:
    cases = random_cases(2, n=1311)
    for name in METRIC_NAMES:
        load_metric(name)
        started = time.process_time()
        compute(name, cases.probabilities, cases.labels)
        assert time.process_time() - started < 0.5, name


def test_one_ece_bin_is_the_gap_between_mean_confidence_and_accuracy() -> None:
    cases = random_cases(10)
    ones = np.ones((1, len(cases.labels)))
    gap = abs(cases.confidence.mean() - cases.correct.mean())
    assert formulas.expected_calibration_error(cases, ones, bins=1)[0] == pytest.approx(gap, abs=TOLERANCE)


@pytest.mark.slow
def test_two_processes_that_score_at_once_do_not_meet(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np; from brain_mri.metrics import METRIC_NAMES, compute\n"
        "share = int(sys.argv[1]); labels = np.zeros(10, dtype=int); labels[:share] = 1\n"
        "probabilities = np.tile([0.9, 0.1], (10, 1))\n"
        "for _ in range(5):\n"
        "    for name in METRIC_NAMES: compute(name, probabilities, labels)\n"
        "    assert compute('accuracy', probabilities, labels) == {'accuracy': 1 - share / 10}\n"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    # An empty HF_HOME: the two also race to write the modules that evaluate imports.
    runs = [subprocess.Popen([sys.executable, "-c", script, share], env=environment) for share in ("1", "5")]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
