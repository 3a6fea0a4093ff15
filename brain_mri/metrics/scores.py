"""A model's scores: a few during training, all of them with intervals after it, and a table of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.inference.postprocess import softmax
from brain_mri.metrics import compute
from brain_mri.metrics.cases import Cases, FloatArray, IntArray, SortedScores
from brain_mri.metrics.formulas import (
    ECE_BINS,
    FORMULAS,
    PER_CLASS,
    REFERRED_SHARES,
    SCALARS,
    area_under_roc,
    ece_bins,
    macro,
)
from brain_mri.metrics.interval import Interval, show

Scores = dict[str, Any]

_QUICK = {
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "balanced_accuracy"),
    "macro_f1": ("f1", "macro_f1"),
    "nll": ("negative_log_likelihood", "negative_log_likelihood"),
}
LEVEL = 0.95  # of every interval
_CHUNK = 100  # resamples at once: a few matrices of (100, n) doubles, 80 MB each for a hundred thousand images


def quick_scores(logits: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro-F1 and negative log-likelihood (nats), to follow a training.

    Args:
        logits: `(n, k)`, any float type.
        labels: `(n,)` class numbers.

    Raises:
        ValueError: there is no image, the shapes disagree, a label is no class number, or a logit is not finite.
    """
    probabilities = softmax(logits)
    return {name: compute(metric, probabilities, labels)[key] for name, (metric, key) in _QUICK.items()}


def score(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[str | int | None] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Every figure of `brain_mri.metrics`, each scalar with a 95% percentile bootstrap interval (Efron 1979).

    Slices of one patient are alike, so whole groups are resampled, not images (the cluster bootstrap, Field and Welsh
    2007). A figure that does not exist is left out; so is the interval where there is only one group. The percentile
    interval of the expected calibration error leans upward: resampling adds noise, and noise adds to an absolute error.

    Args:
        probabilities: `(n, k)`.
        labels: `(n,)` class numbers.
        label_names: the `k` class names.
        groups: `(n,)` the patient of each image; None if unknown, and the image is then its own group.
        resamples: how many bootstrap resamples.
        seed: of the resampling.

    Returns:
        Ready for JSON; `{...}` stands for `{"value": v, "low": l, "high": h}`::

            n, n_groups, label_names, support {name: images}, bootstrap {kind, level, resamples, seed, resampled}
            accuracy {...}, balanced_accuracy {...}, matthews, cohen_kappa, brier,
            negative_log_likelihood, expected_calibration_error
            macro_precision {...}, macro_sensitivity, macro_specificity, macro_f1, macro_auroc, macro_average_precision
            macro_over {figure: [names of the classes averaged]}
            per_class {name: {precision {...}, sensitivity, specificity, f1, auroc, average_precision}}
            referral {"5%": {...}, "10%", "20%"}
            ece_bins, confusion_matrix [[count]]: rows true, columns predicted

    Raises:
        ValueError: the inputs are not probabilities, class numbers, names and groups of matching sizes.
    """
    cases = Cases.of(probabilities, labels)
    if len(label_names) != cases.probabilities.shape[1]:
        raise ValueError(f"{cases.probabilities.shape[1]} classes need as many names, got {list(label_names)}")
    n_groups = int((numbers := _group_numbers(groups, len(cases.labels))).max()) + 1
    figures = _figures(cases, numbers, resamples if n_groups > 1 else 0, seed)
    return {
        "n": len(cases.labels),
        "n_groups": n_groups,
        "label_names": list(label_names),
        "support": dict(zip(label_names, np.bincount(cases.labels, minlength=len(label_names)).tolist(), strict=True)),
        "bootstrap": {
            "kind": "percentile",
            "level": LEVEL,
            "resamples": resamples,
            "seed": seed,
            "resampled": "images" if n_groups == len(cases.labels) else "groups",
        },
        **_intervals({name: figures[name] for name in SCALARS}),
        **_class_scores(figures, label_names),
        "referral": _intervals({f"{s:.0%}": x for s, x in zip(REFERRED_SHARES, figures["referral"].T, strict=True)}),
        "ece_bins": ece_bins(len(cases.labels)),
        "confusion_matrix": FORMULAS["confusion_matrix"](cases, cases.ones)[0].astype(int).tolist(),
    }


def mean_score(
    values: npt.ArrayLike,
    groups: Sequence[str | int | None],
    resamples: int = 1000,
    seed: int = 0,
    per: npt.ArrayLike | None = None,
) -> Interval:
    """The mean of `values` (n,), its interval that of `score`: whole groups resampled.

    With `per` (n,), positive: the sum of `values` as a multiple of the sum of `per`.
    """
    column, numbers = np.asarray(values, dtype=np.float64), _group_numbers(groups, len(np.asarray(values)))
    units = np.ones(len(column)) if per is None else np.asarray(per, dtype=np.float64)
    drawn = _weights(numbers, resamples if numbers.max() > 0 else 0, seed)
    return _interval(np.concatenate([weights @ column / (weights @ units) for weights in drawn]))


def auroc_score(
    values: npt.ArrayLike,
    positive: npt.ArrayLike,
    groups: Sequence[str | int | None],
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """How well `values` (n,) rank the `positive` (n,) images above the others, its interval that of `score`.

    None unless there are images of both kinds.
    """
    ranking = SortedScores.descending(np.asarray(values, dtype=np.float64))
    member, numbers = np.asarray(positive, dtype=np.float64), _group_numbers(groups, len(np.asarray(values)))
    if not 0 < member.sum() < len(member):
        return None
    drawn = _weights(numbers, resamples if numbers.max() > 0 else 0, seed)
    return _interval(np.concatenate([area_under_roc(ranking, member, weights) for weights in drawn]))


def worst_mistakes(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> IntArray:
    """Positions of all wrong predictions, the most confident first.

    Args:
        probabilities: `(n, k)`.
        labels: `(n,)` class numbers.
    """
    cases = Cases.of(probabilities, labels)
    ranked = cases.by_confidence.order
    return np.asarray(ranked[cases.correct[ranked] == 0], dtype=np.int64)


def format_table(scores: Scores) -> str:
    """The scores as a table for the console."""
    level, groups = scores["bootstrap"]["level"], scores["n_groups"]
    lines = [f"{scores['n']} images in {groups} groups; {level:.0%} intervals from {_origin(scores)}", ""]
    names = [name for name in (*SCALARS, *(f"macro_{name}" for name in PER_CLASS)) if name in scores]
    lines += [f"{name.replace('_', ' '):<28}{show(scores[name])}{_bins(name, scores)}" for name in names]
    lines += [f"{f'accuracy, {share} referred':<28}{show(figure)}" for share, figure in scores["referral"].items()]
    return "\n".join([*lines, "", *_class_lines(scores)])


def _bins(name: str, scores: Scores) -> str:
    """How many bins a calibration error has, where few images make them fewer than usual."""
    bins = scores.get("ece_bins", ECE_BINS)
    return f", {bins} bins" if name == "expected_calibration_error" and bins < ECE_BINS else ""


def _class_lines(scores: Scores) -> list[str]:
    """One row per figure, one column per class."""
    rows = [["", *(f"{name} (n = {images})" for name, images in scores["support"].items())]]
    for key in PER_CLASS:
        cells = [show(figures[key], ".3f") if key in figures else "absent" for figures in scores["per_class"].values()]
        rows.append([key.replace("_", " "), *cells])
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _origin(scores: Scores) -> str:
    bootstrap = scores["bootstrap"]
    return f"{bootstrap['resamples']} {bootstrap['kind']} bootstrap resamples of whole {bootstrap['resampled']}"


def _group_numbers(groups: Sequence[str | int | None] | None, n: int) -> IntArray:
    """Numbers the groups from 0; every None is a group of its own."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"{n} images need as many groups, got {len(groups)}")
    seen: dict[Any, int] = {}
    keys = [("alone", position) if group is None else ("known", group) for position, group in enumerate(groups)]
    return np.asarray([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def _figures(cases: Cases, numbers: IntArray, resamples: int, seed: int) -> dict[str, FloatArray]:
    """Each figure of all images, then of each resample: `(1 + resamples,)` or `(1 + resamples, columns)`."""
    formulas = {name: formula for name, formula in FORMULAS.items() if name != "confusion_matrix"}
    chunks: dict[str, list[FloatArray]] = {name: [] for name in formulas}
    for weights in _weights(numbers, resamples, seed):
        for name, formula in formulas.items():
            chunks[name].append(formula(cases, weights))
    return {name: np.concatenate(figures) for name, figures in chunks.items()}


def _weights(numbers: IntArray, resamples: int, seed: int) -> Iterator[FloatArray]:
    """First every image once, `(1, n)`; then how often each is in a draw of groups with replacement, `(chunk, n)`."""
    yield np.ones((1, len(numbers)))
    rng = np.random.default_rng(seed)
    n_groups = int(numbers.max()) + 1
    for start in range(0, resamples, _CHUNK):
        drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=min(_CHUNK, resamples - start))
        yield drawn[:, numbers].astype(np.float64)


def _interval(figures: FloatArray) -> Interval:
    """The first figure with the middle 95% of the others; resamples in which the figure does not exist are left out."""
    value, resampled = float(figures[0]), figures[1:]
    if np.isnan(resampled).all():
        return {"value": value}
    low, high = np.nanquantile(resampled, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {"value": value, "low": float(low), "high": float(high)}


def _intervals(columns: dict[str, FloatArray]) -> dict[str, Interval]:
    """Those of the figures that exist for the images as they are."""
    return {name: _interval(column) for name, column in columns.items() if not np.isnan(column[0])}


def _class_scores(figures: dict[str, FloatArray], label_names: Sequence[str]) -> Scores:
    columns = [{key: figures[key][:, k] for key in PER_CLASS} for k in range(len(label_names))]
    per_class = {name: _intervals(column) for name, column in zip(label_names, columns, strict=True)}
    averaged = {key: [name for name in label_names if key in per_class[name]] for key in PER_CLASS}
    return {
        "per_class": per_class,
        "macro_over": {key: names for key, names in averaged.items() if names},
        **_intervals({f"macro_{key}": macro(figures[key]) for key in PER_CLASS}),
    }
