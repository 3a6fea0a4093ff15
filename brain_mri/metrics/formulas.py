"""Every figure as one weighted formula, for any number of resamples at once.

Each function takes `Cases` of `n` images and `k` classes and weights `(r, n)`, and returns one row per resample:
`(r,)`, or `(r, k)` where the figure is per class. A weight of 2 means that the image counts twice. A figure that does
not exist (the sensitivity of a class that does not occur) is nan here; what is built on them leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brain_mri.metrics.cases import Cases, FloatArray, SortedScores

ECE_BINS = 15
"""Of the expected calibration error, for 150 images and more."""
_IMAGES_A_BIN = 10  # of fewer, a bin's accuracy is mostly chance, and every model looks badly calibrated
REFERRED_SHARES = (0.05, 0.10, 0.20)


def confusion_matrix(cases: Cases, weights: FloatArray) -> FloatArray:
    """Counts `(r, k, k)`: rows are the true classes, columns the predicted ones."""
    classes = cases.probabilities.shape[1]
    cells = np.eye(classes * classes)[cases.labels * classes + cases.predicted]
    return np.asarray((weights @ cells).reshape(-1, classes, classes), dtype=np.float64)


def accuracy(cases: Cases, weights: FloatArray) -> FloatArray:
    """Share `(r,)` of images whose most probable class is the true one."""
    return _mean(cases.correct, weights)


def balanced_accuracy(cases: Cases, weights: FloatArray) -> FloatArray:
    """Mean sensitivity `(r,)` over the classes that occur."""
    return macro(sensitivity(cases, weights))


def sensitivity(cases: Cases, weights: FloatArray) -> FloatArray:
    """Share `(r, k)` of each class' images that are given that class; also called recall."""
    counts = confusion_matrix(cases, weights)
    return _divide(_diagonal(counts), counts.sum(axis=2))


def specificity(cases: Cases, weights: FloatArray) -> FloatArray:
    """Share `(r, k)` of the other classes' images that are not given this class."""
    counts = confusion_matrix(cases, weights)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    others = counts.sum(axis=(1, 2))[:, None] - true
    false_positives = predicted - _diagonal(counts)
    return _where_present(_divide(others - false_positives, others), true)


def precision(cases: Cases, weights: FloatArray) -> FloatArray:
    """Share `(r, k)` of the images given a class that belong to it; 0 for a class that occurs but is never given."""
    counts = confusion_matrix(cases, weights)
    return _where_present(np.nan_to_num(_divide(_diagonal(counts), counts.sum(axis=1))), counts.sum(axis=2))


def f1(cases: Cases, weights: FloatArray) -> FloatArray:
    """Harmonic mean `(r, k)` of precision and sensitivity."""
    counts = confusion_matrix(cases, weights)
    true = counts.sum(axis=2)
    return _where_present(_divide(2 * _diagonal(counts), true + counts.sum(axis=1)), true)


def matthews(cases: Cases, weights: FloatArray) -> FloatArray:
    """Multiclass Matthews correlation `(r,)`, in `[-1, 1]` (Gorodkin 2004).

    0 where every image is given the same class; nan where only one class occurs.
    """
    counts = confusion_matrix(cases, weights)
    true, predicted, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    covariance = _diagonal(counts).sum(axis=1) * total - (true * predicted).sum(axis=1)
    spread_true = total**2 - (true**2).sum(axis=1)
    spread_predicted = total**2 - (predicted**2).sum(axis=1)
    coefficient = np.nan_to_num(_divide(covariance, np.sqrt(spread_true * spread_predicted)))
    return np.where(spread_true > 0, coefficient, np.nan)


def cohen_kappa(cases: Cases, weights: FloatArray) -> FloatArray:
    """Agreement beyond chance `(r,)`, at most 1 (Cohen 1960); nan where only one class occurs and is given."""
    counts = confusion_matrix(cases, weights)
    total = counts.sum(axis=(1, 2))
    by_chance = (counts.sum(axis=2) * counts.sum(axis=1)).sum(axis=1) / total
    return _divide(_diagonal(counts).sum(axis=1) - by_chance, total - by_chance)


def auroc(cases: Cases, weights: FloatArray) -> FloatArray:
    """Area under each class' one-vs-rest ROC curve `(r, k)`.

    It is the chance that an image of the class is given a higher probability of it than an image of another class,
    ties counting half (Hanley and McNeil 1982), which needs no curve.
    """
    return np.stack([_auroc_of(cases, weights, k) for k in range(cases.probabilities.shape[1])], axis=1)


def average_precision(cases: Cases, weights: FloatArray) -> FloatArray:
    """Each class' precision averaged over the steps in recall `(r, k)`, without interpolation."""
    return np.stack([_average_precision_of(cases, weights, k) for k in range(cases.probabilities.shape[1])], axis=1)


def brier(cases: Cases, weights: FloatArray) -> FloatArray:
    """Multiclass Brier score `(r,)` in `[0, 2]`: squared distance to the one-hot truth, summed over classes (1950)."""
    return _mean(((cases.probabilities - cases.one_hot) ** 2).sum(axis=1), weights)


def negative_log_likelihood(cases: Cases, weights: FloatArray) -> FloatArray:
    """Mean `-log p(true class)` `(r,)` in nats; a probability of 0 counts as the smallest normal double (708 nats)."""
    likelihood = cases.probabilities[np.arange(len(cases.labels)), cases.labels]
    return _mean(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)), weights)


def expected_calibration_error(cases: Cases, weights: FloatArray, bins: int | None = None) -> FloatArray:
    """Top-label expected calibration error `(r,)` over equal-mass bins (Naeini et al. 2015; Nixon et al. 2019).

    `bins` is by default `ece_bins` of the images.
    """
    confidence, right = reliability_bins(cases, weights, bins)
    return np.asarray(np.abs(right - confidence).mean(axis=1), dtype=np.float64)


def ece_bins(n: int) -> int:
    """How many bins `n` images fill with 10 or more each: 1 to `ECE_BINS`."""
    return min(ECE_BINS, max(1, n // _IMAGES_A_BIN))


def reliability_bins(cases: Cases, weights: FloatArray, bins: int | None = None) -> tuple[FloatArray, FloatArray]:
    """Mean confidence and accuracy, each `(r, bins)`, from the most certain bin to the least.

    The images, sorted by confidence, are cut into `bins` parts of exactly equal mass. An image on a cut counts in both
    parts by the fraction that falls in each, and images of equal confidence are spread evenly, so that neither the
    order of the images nor an n that `bins` does not divide matters. `bins` is by default `ece_bins` of the images.
    """
    bins = bins or ece_bins(len(cases.labels))
    mass = _cumulative(cases.by_confidence, weights)
    cuts = np.linspace(0, 1, bins + 1)
    sums = (_cumulative(cases.by_confidence, weights * values) for values in (cases.confidence, cases.correct))
    confidence, right = (np.diff(_interpolate(cuts, mass, total), axis=1) for total in sums)
    return confidence * bins / mass[:, -1:], right * bins / mass[:, -1:]


def referral(cases: Cases, weights: FloatArray) -> FloatArray:
    """Accuracy `(r, 3)` of what is kept when the least certain 5, 10 and 20% are referred to a human.

    The image on the border is kept by the fraction that brings what is kept to exactly 95, 90 and 80%.
    """
    mass = _cumulative(cases.by_confidence, weights)
    correct = _cumulative(cases.by_confidence, weights * cases.correct)
    kept = 1 - np.asarray(REFERRED_SHARES)
    return _interpolate(kept, mass, correct) / (kept * mass[:, -1:])


def macro(per_class: FloatArray) -> FloatArray:
    """Unweighted mean `(r,)` of `(r, k)` over the classes whose figure exists; nan where none does."""
    exists = ~np.isnan(per_class)
    return _divide(np.where(exists, per_class, 0.0).sum(axis=1), exists.sum(axis=1).astype(np.float64))


def _auroc_of(cases: Cases, weights: FloatArray, number: int) -> FloatArray:
    return area_under_roc(cases.by_class_probability[number], cases.one_hot[:, number], weights)


def area_under_roc(ranking: SortedScores, member: FloatArray, weights: FloatArray) -> FloatArray:
    """The chance `(r,)` that a `member` `(n,)`, 1 or 0, ranks above another image; nan unless there are both."""
    positives, negatives = ranking.block_sums(weights * member), ranking.block_sums(weights * (1 - member))
    # Walking down the ranking, the negatives still below a block are those its positives beat.
    below = negatives.sum(axis=1, keepdims=True) - np.cumsum(negatives, axis=1)
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    return _divide(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def _average_precision_of(cases: Cases, weights: FloatArray, number: int) -> FloatArray:
    ranking, member = cases.by_class_probability[number], cases.one_hot[:, number]
    positives = ranking.block_sums(weights * member)
    given = np.cumsum(ranking.block_sums(weights), axis=1)
    precisions = np.divide(np.cumsum(positives, axis=1), given, out=np.zeros_like(given), where=given > 0)
    return _divide((positives * precisions).sum(axis=1), positives.sum(axis=1))


def _cumulative(ranking: SortedScores, values: FloatArray) -> FloatArray:
    """Running sums `(r, blocks + 1)` down the ranking, from 0."""
    sums = np.cumsum(ranking.block_sums(values), axis=1)
    return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def _interpolate(shares: FloatArray, mass: FloatArray, values: FloatArray) -> FloatArray:
    """The running sums `values` at the given shares of each row's total mass: `(r, len(shares))`."""
    rows = [np.interp(shares * row[-1], row, value) for row, value in zip(mass, values, strict=True)]
    return np.asarray(rows, dtype=np.float64)


def _mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(weights @ values / weights.sum(axis=1), dtype=np.float64)


def _diagonal(counts: FloatArray) -> FloatArray:
    return np.asarray(np.diagonal(counts, axis1=1, axis2=2), dtype=np.float64)


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient, nan where the denominator is 0."""
    missing = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=missing, where=denominator != 0), dtype=np.float64)


def _where_present(per_class: FloatArray, true: FloatArray) -> FloatArray:
    """Leaves out the classes without a single image."""
    return np.where(true > 0, per_class, np.nan)


Formula = Callable[[Cases, FloatArray], FloatArray]
SCALARS: dict[str, Formula] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "matthews": matthews,
    "cohen_kappa": cohen_kappa,
    "brier": brier,
    "negative_log_likelihood": negative_log_likelihood,
    "expected_calibration_error": expected_calibration_error,
}
PER_CLASS: dict[str, Formula] = {
    "precision": precision,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "f1": f1,
    "auroc": auroc,
    "average_precision": average_precision,
}
FORMULAS = SCALARS | PER_CLASS | {"referral": referral, "confusion_matrix": confusion_matrix}
