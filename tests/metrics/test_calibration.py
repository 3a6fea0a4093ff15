from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax as reference_softmax

from brain_mri.inference.postprocess import prediction_sets, softmax
from brain_mri.metrics import formulas
from brain_mri.metrics.calibration import (
    REFER_EVERYTHING,
    TEMPERATURE_BOUNDS,
    conformal_threshold,
    empirical_coverage,
    fit_temperature,
    referral_threshold,
)
from brain_mri.metrics.cases import Cases


def calibrated(seed: int, n: int = 4000, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the very distribution that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * sharpness
    draws = rng.random((n, 1))
    return logits, (softmax(logits).cumsum(axis=1) < draws).sum(axis=1).clip(max=3)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int | None = None) -> float:
    cases = Cases.of(probabilities, labels)
    return float(formulas.expected_calibration_error(cases, cases.ones, bins)[0])


def test_softmax_equals_scipy_and_does_not_overflow() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)) * 500
    np.testing.assert_allclose(softmax(logits), reference_softmax(logits, axis=1), atol=1e-12)
    np.testing.assert_allclose(softmax([[1e5, 1e5]]), [[0.5, 0.5]])


def test_softmax_of_float32_logits_is_computed_in_double_precision() -> None:
    assert softmax(np.ones((2, 4), dtype=np.float32)).dtype == np.float64


def test_logits_of_a_diverged_training_are_refused() -> None:
    with pytest.raises(ValueError, match="diverged"):
        softmax([[np.nan, 1.0]])


@pytest.mark.parametrize("distortion", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_known_distortion(distortion: float) -> None:
    logits, labels = calibrated(1, n=20_000)
    assert fit_temperature(logits * distortion, labels) == pytest.approx(distortion, rel=0.03)


def test_no_other_temperature_has_a_lower_likelihood_loss() -> None:
    logits, labels = calibrated(2, n=500)
    best = fit_temperature(logits * 3, labels)
    smoothing = 1 / 502

    def loss(temperature: float) -> float:
        """The loss against Platt's targets, over the four classes one after the other."""
        true = nll(logits * 3 / temperature, labels)
        of_each = [nll(logits * 3 / temperature, np.full(500, label)) for label in range(4)]
        return (1 - smoothing) * true + smoothing / 3 * (sum(of_each) - true)

    for other in np.geomspace(*TEMPERATURE_BOUNDS, 400):
        assert loss(best) <= loss(other) + 1e-9
    assert nll(logits * 3 / best, labels) < nll(logits * 3 / 2.5, labels)


def test_a_temperature_changes_no_answer_and_lowers_the_calibration_error() -> None:
    logits, labels = calibrated(3)
    before, after = softmax(logits * 3), softmax(logits * 3 / fit_temperature(logits * 3, labels))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
    assert expected_calibration_error(after, labels) < 0.02 < 0.1 < expected_calibration_error(before, labels)


def test_a_shift_of_all_logits_does_not_change_the_temperature() -> None:
    logits, labels = calibrated(4, n=300)
    assert fit_temperature(logits + 1000, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-5)


def test_a_split_without_an_error_does_not_make_the_model_certain() -> None:
    logits, _ = calibrated(5, n=50)
    temperature = fit_temperature(logits, logits.argmax(axis=1))
    assert TEMPERATURE_BOUNDS[0] * 2 < temperature < 1
    assert softmax(logits / temperature).max(axis=1).mean() < 1 - 0.5 / 52


def test_the_calibration_error_of_a_calibrated_model_vanishes_with_n_and_of_a_sure_liar_is_one() -> None:
    logits, labels = calibrated(7, n=200_000)
    assert expected_calibration_error(softmax(logits), labels) < 0.005
    assert expected_calibration_error(np.tile([1.0, 0.0], (30, 1)), np.ones(30, dtype=int)) == pytest.approx(1.0)


def test_few_images_are_put_into_few_bins() -> None:
    assert [formulas.ece_bins(n) for n in (1, 24, 48, 150, 1311)] == [1, 2, 4, 15, 15]
    logits, labels = calibrated(7, n=24)
    assert expected_calibration_error(softmax(logits), labels) == expected_calibration_error(softmax(logits), labels, 2)


def test_fewer_bins_never_show_a_larger_error() -> None:
    logits, labels = calibrated(8, n=301)
    errors = [expected_calibration_error(softmax(logits * 2), labels, bins) for bins in (1, 3, 15, 60)]
    assert (np.diff(errors) > -1e-12).all()  # each set of cuts contains the one before


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_the_sets_keep_their_coverage_over_two_hundred_random_splits(coverage: float) -> None:
    logits, labels = calibrated(9, n=1500, sharpness=3.0)
    probabilities = softmax(logits * 2)  # overconfident: the guarantee needs no calibrated model
    rng = np.random.default_rng(10)
    covered = []
    for _ in range(200):
        shuffled = rng.permutation(len(labels))
        fit, held_out = shuffled[:500], shuffled[500:]
        threshold = conformal_threshold(probabilities[fit], labels[fit], coverage)
        sets = prediction_sets(probabilities[held_out], threshold, allow_empty=True)
        covered.append(empirical_coverage(sets, labels[held_out]))
    # Mean coverage lies in [coverage, coverage + 1/501]; its standard error here is below 0.0015.
    assert coverage - 0.004 < np.mean(covered) < coverage + 0.006


def test_the_threshold_is_the_exact_finite_sample_quantile() -> None:
    of_true_class = np.arange(1, 20) / 20  # 19 images: ceil(20 * 0.95) = 19 of 19 must be covered
    probabilities = np.stack([of_true_class, 1 - of_true_class], axis=1)
    labels = np.zeros(19, dtype=int)
    assert conformal_threshold(probabilities, labels, 0.95) == 0.05
    assert conformal_threshold(probabilities, labels, 0.90) == 0.10
    assert conformal_threshold(probabilities, labels, 0.50) == 0.50


def test_the_rounding_error_of_a_product_costs_no_rank() -> None:
    of_true_class = np.arange(1, 100) / 100
    probabilities = np.stack([of_true_class, 1 - of_true_class], axis=1)
    assert 100 * 0.55 > 55  # in floating point
    assert conformal_threshold(probabilities, np.zeros(99, dtype=int), 0.55) == 0.45


def test_too_few_images_for_the_coverage_put_every_class_in_every_set() -> None:
    probabilities, labels = np.tile([0.9, 0.1], (18, 1)), np.zeros(18, dtype=int)
    threshold = conformal_threshold(probabilities, labels, 0.95)
    assert threshold == 0.0
    assert prediction_sets(probabilities, threshold).all()


@pytest.mark.parametrize("coverage", [0.0, 1.0, 95.0])
def test_a_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage"):
        conformal_threshold([[0.5, 0.5]], [0], coverage)


def test_an_empty_set_falls_back_to_the_most_probable_class_unless_it_is_wanted() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.95, 0.04, 0.01]])
    assert prediction_sets(probabilities, 0.9).tolist() == [[True, False, False], [True, False, False]]
    assert prediction_sets(probabilities, 0.9, allow_empty=True).tolist() == [[False] * 3, [True, False, False]]
    assert prediction_sets(probabilities, 0.3)[0].tolist() == [True, True, False]


def test_sets_with_the_top_class_cover_at_least_the_accuracy() -> None:
    logits, labels = calibrated(11, n=500, sharpness=5.0)
    probabilities = softmax(logits)
    sets = prediction_sets(probabilities, conformal_threshold(probabilities, labels, 0.5))
    assert sets.any(axis=1).all()
    assert empirical_coverage(sets, labels) >= (probabilities.argmax(axis=1) == labels).mean()


def test_coverage_is_the_share_of_sets_with_the_true_class() -> None:
    assert empirical_coverage(np.array([[True, False], [True, True], [False, True]]), [0, 1, 0]) == pytest.approx(2 / 3)


def test_what_is_kept_above_the_referral_threshold_has_the_accuracy_and_no_more_could_be_kept() -> None:
    logits, labels = calibrated(12, n=800)
    probabilities = softmax(logits)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    threshold = referral_threshold(probabilities, labels, 0.9)
    assert correct[confidence >= threshold].mean() >= 0.9
    assert all(correct[confidence >= lower].mean() < 0.9 for lower in confidence[confidence < threshold])
    assert 0 < (confidence >= threshold).mean() < 1


def test_a_model_that_is_good_enough_refers_nothing() -> None:
    logits, _ = calibrated(13, n=100)
    probabilities = softmax(logits)
    threshold = referral_threshold(probabilities, probabilities.argmax(axis=1), 1.0)
    assert threshold == probabilities.max(axis=1).min()


def test_a_model_that_is_never_good_enough_refers_everything() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    threshold = referral_threshold(probabilities, [1, 0], 0.99)
    assert threshold == REFER_EVERYTHING
    assert not (probabilities.max(axis=1) >= threshold).any()


def test_images_of_equal_confidence_are_kept_or_referred_together() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    assert referral_threshold(probabilities, [0, 1, 0], 0.9) == REFER_EVERYTHING
    assert referral_threshold(probabilities, [0, 1, 0], 0.5) == 0.6


@pytest.mark.parametrize("accuracy", [0.0, 99.0])
def test_an_accuracy_that_is_no_share_is_refused(accuracy: float) -> None:
    with pytest.raises(ValueError, match="accuracy"):
        referral_threshold([[0.5, 0.5]], [0], accuracy)
