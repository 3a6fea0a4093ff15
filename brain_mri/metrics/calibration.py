"""Calibration: a temperature, prediction sets, and a confidence below which an image is referred to a human.

All are fitted on the validation split, with `logits` or `probabilities` (n, k) and class numbers `labels` (n,), and
only measured on the test split. Nothing is random. Wrong shapes or values raise a `ValueError`, see `Cases.of`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from brain_mri.inference.postprocess import softmax
from brain_mri.metrics import compute
from brain_mri.metrics.cases import BoolArray, Cases, SortedScores

TEMPERATURE_BOUNDS = (0.05, 20.0)
REFER_EVERYTHING = 2.0
"""A referral threshold that no confidence reaches."""


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature T whose `softmax(logits / T)` has the lowest negative log-likelihood (Guo et al. 2017).

    T above 1 softens an overconfident model; the predicted classes stay the same whatever T is. Searched on log T
    within `TEMPERATURE_BOUNDS`, where the likelihood has one optimum. The targets are smoothed by 1 / (n + 2), as Platt
    (1999) does: otherwise a split without a single error would drive T to zero and the model to certainty.
    """
    from scipy.optimize import minimize_scalar

    cases = Cases.of(softmax(logits), labels)
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values[np.arange(len(cases.labels)), cases.labels][:, None]

    smoothing = 1 / (len(cases.labels) + 2)
    others = smoothing / max(values.shape[1] - 1, 1) * shifted.sum(axis=1)

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return float((np.logaddexp.reduce(shifted / temperature, axis=1) - others / temperature).mean())

    low, high = (math.log(bound) for bound in TEMPERATURE_BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    return math.exp(float(found.x))


def conformal_threshold(probabilities: npt.ArrayLike, labels: npt.ArrayLike, coverage: float = 0.95) -> float:
    """The probability from which a class belongs to the prediction set: split conformal, LAC (Sadinle et al. 2019).

    The sets `{class: probability >= threshold}` contain the true class of a new image with probability at least
    `coverage`, in (0, 1), and, without ties, at most `coverage + 1 / (n + 1)`, on average over images exchangeable with
    these (Vovk et al. 2005; the finite-sample quantile as in Angelopoulos and Bates 2021). LAC gives the smallest sets
    of that coverage; APS (Romano et al. 2020) needs random numbers to be exact.

    Returns:
        A probability in `[0, 1]`; 0, so that every set holds every class, if n is too small for the coverage.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie strictly between 0 and 1, got {coverage}")
    cases = Cases.of(probabilities, labels)
    n = len(cases.labels)
    needed = math.ceil((n + 1) * coverage - 1e-9)  # the rounding error of a product must not cost a whole rank
    if needed > n:
        return 0.0
    of_true_class = cases.probabilities[np.arange(n), cases.labels]
    return float(np.sort(of_true_class)[n - needed])


def empirical_coverage(sets: BoolArray, labels: npt.ArrayLike) -> float:
    """Share of images whose set `(n, k)` contains the true class `(n,)`, in `[0, 1]`."""
    numbers = np.asarray(labels)
    return float(sets[np.arange(len(numbers)), numbers].mean())


def referral_threshold(probabilities: npt.ArrayLike, labels: npt.ArrayLike, accuracy: float = 0.99) -> float:
    """The lowest confidence such that the images at or above it are classified with `accuracy`, in (0, 1].

    Images below it go to a human. The accuracy is that of the validation split; for new images it is not guaranteed
    (selective classification, Geifman and El-Yaniv 2017).

    Returns:
        A confidence in `[0, 1]`, the lowest seen if all images may be kept; `REFER_EVERYTHING` if none may.
    """
    if not 0 < accuracy <= 1:
        raise ValueError(f"accuracy must lie in (0, 1], got {accuracy}")
    cases = Cases.of(probabilities, labels)
    ranking: SortedScores = cases.by_confidence
    kept = np.cumsum(ranking.block_sums(cases.ones)[0])
    right = np.cumsum(ranking.block_sums(cases.ones * cases.correct)[0])
    reached = np.flatnonzero(right >= accuracy * kept - 1e-9)
    if len(reached) == 0:
        return REFER_EVERYTHING
    return float(cases.confidence[ranking.order[ranking.starts[reached[-1]]]])


def all_clear_threshold(scores: npt.ArrayLike, tumours: int, rate: float) -> float:
    """The lowest score at which few enough tumours are answered with the healthy class.

    Args:
        scores: `(m,)`, the higher, the more the healthy class is believed, such as its probability: of the slices that
            show a tumour and that would be answered with the healthy class if only the other checks counted.
        tumours: how many slices show a tumour, at least m.
        rate: the largest share of these that may be answered with the healthy class, in [0, 1).

    Returns:
        A score, above that of the first tumour too many; negative infinity if there are none too many.

    Raises:
        ValueError: `rate` is out of range, or there are fewer tumours than scores.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    if not 0 <= rate < 1 or tumours < max(1, len(values)):
        raise ValueError(f"a rate of {rate} among {tumours} tumours, {len(values)} of them called healthy")
    allowed = math.floor(rate * tumours + 1e-9)
    if allowed >= len(values):
        return -math.inf
    return float(np.nextafter(values[allowed], math.inf))


def calibration_scores(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """The two figures that a temperature moves: negative log-likelihood (nats) and expected calibration error."""
    names = ("negative_log_likelihood", "expected_calibration_error")
    return {name: compute(name, probabilities, labels)[name] for name in names}
