"""What holds for any images, labels and probabilities: metrics, calibration, guard; tried by hypothesis."""

from __future__ import annotations

import copy
import tempfile
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.properties import tried
from transformers import PreTrainedModel

from brain_mri.arguments import ModelArguments
from brain_mri.inference.guard import Guard
from brain_mri.inference.postprocess import prediction_sets, softmax
from brain_mri.labels import LABELS
from brain_mri.metrics import METRIC_NAMES
from brain_mri.metrics.calibration import (
    TEMPERATURE_BOUNDS,
    conformal_threshold,
    empirical_coverage,
    referral_threshold,
)
from brain_mri.metrics.cases import Cases
from brain_mri.metrics.formulas import FORMULAS
from brain_mri.metrics.scores import mean_score, score
from brain_mri.models.build import build_config, build_model
from brain_mri.models.layers import fold_temperature

# metrics

_RANGES = defaultdict(lambda: (0.0, 1.0)) | {
    "matthews": (-1.0, 1.0),
    "cohen_kappa": (-1.0, 1.0),
    "brier": (0.0, 2.0),
    "negative_log_likelihood": (0.0, 709.0),
    "confusion_matrix": (0.0, 40.0),
}


@st.composite
def scored(draw: st.DrawFn, classes: int = 3) -> Cases:
    """A few images whose probabilities are small fractions, so that many of them tie."""
    n = draw(st.integers(1, 40))
    shares = draw(arrays(np.int64, (n, classes), elements=st.integers(0, 3)))
    shares[shares.sum(axis=1) == 0] = 1
    labels = draw(arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    return Cases.of(shares / shares.sum(axis=1, keepdims=True), labels)


@tried(40)
@given(scored(), st.randoms(use_true_random=False))
def test_every_figure_is_in_its_range_and_knows_no_order_of_the_images(cases: Cases, random: Any) -> None:
    order = np.array(random.sample(range(len(cases.labels)), len(cases.labels)))
    shuffled, ones = Cases.of(cases.probabilities[order], cases.labels[order]), np.ones((1, len(order)))
    for name in METRIC_NAMES:
        formula, (low, high) = FORMULAS[name], _RANGES[name]
        values = formula(cases, ones)
        there = values[~np.isnan(values)]
        assert (there >= low - 1e-12).all() and (there <= high + 1e-12).all(), name
        np.testing.assert_allclose(formula(shuffled, ones), values, atol=1e-9, err_msg=name)


@tried(40)
@given(scored())
def test_rankings_full_of_ties_agree_with_scikit_learn(cases: Cases) -> None:
    assume(len(set(cases.labels.tolist())) == 3)
    ones = np.ones((1, len(cases.labels)))
    pairs = {"auroc": reference.roc_auc_score, "average_precision": reference.average_precision_score}
    for name, function in pairs.items():
        expected = [function(cases.labels == k, cases.probabilities[:, k]) for k in range(3)]
        np.testing.assert_allclose(FORMULAS[name](cases, ones)[0], expected, atol=1e-9, err_msg=name)


@tried(6)
@given(scored(), st.randoms(use_true_random=False))
def test_an_interval_is_ordered_in_range_and_the_same_whatever_the_groups_are_called(cases: Cases, random: Any) -> None:
    assume(len(cases.labels) > 1)
    groups = [random.randrange(6) for _ in cases.labels]
    names = [f"patient {g * 7}" for g in groups]
    found, renamed = (score(cases.probabilities, cases.labels, "abc", g, resamples=40) for g in (groups, names))
    assert found == renamed
    for name, figure in found.items():
        if isinstance(figure, dict) and "low" in figure:
            low, high = _RANGES[name]
            assert low - 1e-12 <= figure["low"] <= figure["high"] <= high + 1e-12, name


@tried(30)
@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_the_interval_of_an_accuracy_contains_it(right: list[bool]) -> None:
    """Resampled counts are binomial with a whole mean, which then is their median; other figures have no such law."""
    found = mean_score(right, list(range(len(right))), resamples=200)
    assert found["low"] <= found["value"] <= found["high"]


@tried(30)
@given(st.floats(-5, 5), st.lists(st.integers(0, 4), min_size=2, max_size=30))
def test_where_all_images_are_alike_the_interval_is_the_value(value: float, groups: list[int]) -> None:
    found = mean_score([value] * len(groups), groups, resamples=40)
    assert all(figure == pytest.approx(value) for figure in found.values())
    assert ("low" in found) == (len(set(groups)) > 1)


# calibration

_LOGITS = arrays(np.int64, st.tuples(st.integers(1, 20), st.just(4)), elements=st.integers(-2000, 2000))


@tried(60)
@given(_LOGITS, st.floats(*TEMPERATURE_BOUNDS))
def test_no_temperature_changes_an_answer(steps: np.ndarray, temperature: float) -> None:
    logits = steps / 64  # apart by more than rounding, or equal; between logits that rounding joins, no order is kept
    assert (softmax(logits / temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.fixture(scope="module")
def network() -> PreTrainedModel:
    layers = '{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}'
    args = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=32, model_args=layers)
    torch.manual_seed(0)
    return build_model(build_config(args), args, LABELS).eval()


@tried(8)
@given(st.floats(*TEMPERATURE_BOUNDS), st.integers(0, 2**31))
def test_a_folded_temperature_divides_the_logits(network: PreTrainedModel, temperature: float, seed: int) -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    folded = copy.deepcopy(network)
    fold_temperature(folded, temperature)
    with torch.no_grad():
        before, after = (model(pixel_values=pixels).logits for model in (network, folded))
    torch.testing.assert_close(after, before / temperature, rtol=1e-4, atol=1e-5)


@tried(40)
@given(scored(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_only_takes_classes_away_and_never_the_last(cases: Cases, one: float, two: float) -> None:
    larger, smaller = (prediction_sets(cases.probabilities, threshold) for threshold in sorted((one, two)))
    assert not (smaller & ~larger).any() and smaller.any(axis=1).all()
    bare = prediction_sets(cases.probabilities, max(one, two), allow_empty=True)
    assert not (bare & ~smaller).any(), "what the theorem's sets hold is kept"


@tried(40)
@given(scored(), st.floats(0.05, 0.99), st.floats(0.05, 0.99))
def test_more_coverage_asks_for_larger_sets_and_gets_them_where_it_was_fitted(
    cases: Cases, one: float, two: float
) -> None:
    thresholds = [conformal_threshold(cases.probabilities, cases.labels, c) for c in sorted((one, two))]
    assert thresholds[0] >= thresholds[1] >= 0
    sets = prediction_sets(cases.probabilities, thresholds[1], allow_empty=True)
    assert empirical_coverage(sets, cases.labels) >= max(one, two) - 1e-9


@tried(40)
@given(scored(), st.floats(0.05, 1))
def test_what_is_kept_reaches_the_accuracy_asked_for(cases: Cases, accuracy: float) -> None:
    kept = cases.confidence >= referral_threshold(cases.probabilities, cases.labels, accuracy)
    assert not kept.any() or cases.correct[kept].mean() >= accuracy - 1e-9


# guard


@tried(12)
@given(st.integers(0, 2**31), st.lists(st.integers(2, 9), min_size=1, max_size=3), st.floats(0.5, 0.999))
def test_a_guard_that_was_saved_scores_as_before(seed: int, widths: list[int], acceptance: float) -> None:
    rng = np.random.default_rng(seed)
    train, validation, new = (rng.normal(size=(n, sum(widths))) * rng.uniform(0.1, 9) for n in (40, 30, 20))
    guard = Guard.fit(train, np.arange(40) % 3, validation, acceptance=acceptance, widths=widths)
    with tempfile.TemporaryDirectory() as folder:
        guard.save(folder)
        loaded = Guard.load(folder)
    np.testing.assert_array_equal(loaded.score(new), guard.score(new))
    assert (guard.score(new) >= 0).all() and guard.accepts(validation).mean() >= acceptance
    assert (guard.accepts(new) == (guard.score(new) <= 1)).all()
