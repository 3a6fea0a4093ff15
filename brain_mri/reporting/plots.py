"""Plots of a training and of a model's scores: each function takes data and a path, and writes one PNG.

`probabilities` are (n, k), `labels` (n,) class numbers, `label_names` the k class names; `path` is the PNG to write,
whose folder is made. Colour is never the only difference: lines differ in style and marker too, and a matrix has a
scale from light to dark and its numbers. Figures are drawn without pyplot, so any thread may draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from brain_mri.metrics import formulas
from brain_mri.metrics.cases import Cases, FloatArray, SortedScores
from brain_mri.utils.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

_DPI = 150
# Okabe and Ito's colours, which colour-blind readers can distinguish, each with its own line style and marker.
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#CC79A7", "linestyle": ":", "marker": "D"},
    {"color": "#000000", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
)
MISTAKES_SHOWN = 12
_NAME_HEIGHT = 0.09  # of a panel: the distance of two names


def training_curves(
    log_history: Sequence[Mapping[str, Any]], path: str | Path, earlier: Sequence[Sequence[Mapping[str, Any]]] = ()
) -> Path:
    """Draws losses, validation scores, if there are any, and learning rate of a `Trainer.state.log_history`.

    Those of `earlier` training stages stand before it, with a line between; a stage whose log is empty is left out.
    """
    logs = [log for log in (*earlier, log_history) if log]
    ends = list(accumulate(_epochs(log) for log in logs))
    starts = [0.0, *ends[:-1]]
    log_history = [
        {**entry, "epoch": start + entry.get("epoch", 0.0)}
        for start, log in zip(starts, logs, strict=False)
        for entry in log
    ]
    shown = {
        "loss": {"loss": "training", "eval_loss": "validation"},
        "validation score": {"eval_accuracy": "accuracy", "eval_macro_f1": "macro F1"},
        "learning rate": {"learning_rate": "learning rate"},
    }
    if not any(key in entry for entry in log_history for key in shown["validation score"]):
        del shown["validation score"]  # in a last stage, which trains on the validation images too
    heights = [2 if name == "learning rate" else 3 for name in shown]
    figure = _figure(8, 1 + sum(heights))
    panels = figure.subplots(len(shown), 1, sharex=True, height_ratios=heights)
    for panel, (name, curves) in zip(panels, shown.items(), strict=True):
        _curves(panel, log_history, curves)
        panel.set_ylabel(name)
        for start in starts[1:]:
            panel.axvline(start, color="grey", linewidth=0.8)
    figure.align_ylabels(panels)
    panels[-1].set_xlabel("epoch")
    panels[-1].ticklabel_format(axis="y", scilimits=(-2, 2))
    evaluations = sum("eval_loss" in entry for entry in log_history)
    stages = f"; {len(logs)} of {len(earlier) + 1} stages" if earlier else ""
    panels[0].set_title(f"Training curves (n = {_epochs(log_history):g} epochs, {evaluations} evaluations{stages})")
    return _save(figure, path)


def _epochs(log_history: Sequence[Mapping[str, Any]]) -> float:
    return max((float(entry.get("epoch", 0)) for entry in log_history), default=0.0)


def search_trials(values: Sequence[float], higher_is_better: bool, name: str, path: str | Path) -> Path:
    """Draws the score `name` of each trial of a search, in order, and the best so far; what is infinite is left out."""
    scores = np.asarray(values, dtype=float)
    best = (np.maximum if higher_is_better else np.minimum).accumulate(scores)
    figure = _figure(8, 4)
    axes = figure.subplots()
    numbers = np.arange(1, len(scores) + 1)
    axes.plot(numbers, np.where(np.isfinite(scores), scores, np.nan), "o", color=_STYLES[0]["color"], label="trial")
    axes.step(numbers, np.where(np.isfinite(best), best, np.nan), where="post", color=_STYLES[1]["color"], label="best")
    axes.set(xlabel="trial", ylabel=name, title=f"Hyper-parameter search (n = {len(scores)} trials)")
    axes.legend()
    return _save(figure, path)


def confusion_matrix(matrix: npt.ArrayLike, label_names: Sequence[str], path: str | Path) -> Path:
    """Draws counts `matrix` (k, k) and row percentages; rows are the true classes, columns the predicted ones."""
    counts = np.asarray(matrix, dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = 1.6 + 1.1 * len(label_names)
    figure = _figure(side + 1.2, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        shade = "white" if shares[row, column] > 0.5 else "black"
        share = f"\n{shares[row, column]:.1%}" if totals[row, 0] else ""
        axes.text(column, row, f"{count}{share}", ha="center", va="center", color=shade)
    axes.set_xticks(range(len(label_names)), label_names, rotation=30, ha="right", rotation_mode="anchor")
    rows = [f"{name} (n = {total})" for name, total in zip(label_names, totals[:, 0], strict=True)]
    axes.set_yticks(range(len(label_names)), rows)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(
        f"Confusion matrix (n = {counts.sum()} images)\nimages, and their share of the true class", fontsize="large"
    )
    return _save(figure, path)


def roc_curves(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, label_names: Sequence[str], path: str | Path
) -> Path:
    """Draws each class' one-vs-rest ROC curve, whole, and its upper left corner enlarged.

    A class without images, or without images of others, has no curve.
    """
    cases = Cases.of(probabilities, labels)
    areas = formulas.auroc(cases, cases.ones)[0]
    figure = _figure(11, 5.4)
    whole, corner = figure.subplots(1, 2)
    for number, (name, area) in enumerate(zip(label_names, areas, strict=True)):
        if not np.isnan(area):
            false_rate, true_rate = _roc(cases, number)
            for panel in (whole, corner):
                panel.plot(false_rate, true_rate, label=f"{name} ({area:.4f})", **_sparse(number))
    whole.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    whole.legend(title="class (AUROC)", loc="lower right")
    corner.set(xlim=(-0.003, 0.1), ylim=(0.9, 1.003))
    titles = (f"ROC, one class against the rest (n = {len(cases.labels)} images)", "the same, upper left corner")
    for panel, title in zip((whole, corner), titles, strict=True):
        panel.set(xlabel="1 - specificity", ylabel="sensitivity", title=title)
        _clean(panel)
    return _save(figure, path)


def reliability_diagram(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, path: str | Path, before: npt.ArrayLike | None = None
) -> Path:
    """Draws accuracy against confidence over equal-mass bins, and a histogram of the confidences.

    A second curve shows `before` (n, k), the probabilities before calibration.
    """
    shown = {"calibrated" if before is not None else "model": probabilities}
    if before is not None:
        shown["before calibration"] = before
    figure = _figure(6.5, 7.5)
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    errors, bins = [], formulas.ece_bins(len(np.asarray(labels)))
    for (name, values), style in zip(shown.items(), _STYLES, strict=False):
        cases = Cases.of(values, labels)
        confidence, right = (row[0] for row in formulas.reliability_bins(cases, cases.ones, bins))
        errors.append(f"{np.abs(right - confidence).mean():.4f} {name}")
        curve.plot(confidence, right, label=name, markersize=5, **style)
        outline = {"color": style["color"], "linestyle": style["linestyle"]}
        histogram.hist(cases.confidence, bins=np.linspace(0, 1, 51), histtype="step", **outline)
    floor = min(0.9, np.floor(10 * min(curve.dataLim.min)) / 10)
    curve.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="perfect calibration")
    curve.set(xlim=(floor, 1.005), ylim=(floor, 1.005), ylabel="accuracy")
    curve.legend(loc="upper left")
    histogram.set(xlabel="confidence", ylabel="images", yscale="log")
    curve.set_title(f"Reliability (n = {len(cases.labels)} images, {bins} equal-mass bins)\nECE: {', '.join(errors)}")
    for panel in (curve, histogram):
        _clean(panel)
    return _save(figure, path)


def referral_curve(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, path: str | Path, threshold: float | None = None
) -> Path:
    """Draws the accuracy of the images kept against the share referred, least certain first.

    The share that a confidence below `threshold` refers is marked.
    """
    cases = Cases.of(probabilities, labels)
    n, ones = len(cases.labels), cases.ones
    kept, right = (cases.by_confidence.block_sums(values)[0].cumsum() for values in (ones, ones * cases.correct))
    accuracies = right / kept
    figure = _figure(7.5, 5)
    panel = figure.subplots()
    panel.plot(1 - kept / n, accuracies, color=_STYLES[0]["color"])
    for share, accuracy in zip(formulas.REFERRED_SHARES, formulas.referral(cases, ones)[0], strict=True):
        panel.plot(share, accuracy, color="black", marker="o")
        panel.annotate(f"{share:.0%}: {accuracy:.2%}", (share, accuracy), (4, -14), textcoords="offset points")
    referred = 0.0 if threshold is None else float((cases.confidence < threshold).mean())
    if threshold is not None:
        panel.axvline(referred, color=_STYLES[1]["color"], linestyle="--")
        reason = f"confidence below {threshold:.4f}" if threshold <= 1 else "no confidence suffices"
        side: Literal["left", "right"] = "left" if referred < 0.4 else "right"
        panel.text(referred, 0.02, f" {reason} ", ha=side, transform=panel.get_xaxis_transform())
    panel.set(xlim=(-0.01, max(0.5, referred + 0.01)), ylim=(min(accuracies[kept >= n / 2].min(), 0.98) - 0.01, 1.002))
    panel.set(xlabel="share of images referred to a human", ylabel="accuracy of the images kept")
    panel.set_title(f"Referring the least certain (n = {n} images)")
    _clean(panel)
    return _save(figure, path)


def worst_mistakes(images: Sequence[Image.Image], captions: Sequence[str], total: int, path: str | Path) -> Path:
    """Draws the worst of `total` mistakes, at most `MISTAKES_SHOWN`, each under a caption of a line or two."""
    shown = list(zip(images, captions, strict=True))[:MISTAKES_SHOWN]
    rows = max(1, -(-len(shown) // 4))
    figure = _figure(12, 0.6 + 3.4 * rows)
    panels = figure.subplots(rows, 4, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (image, caption) in zip(panels, shown, strict=False):
        panel.imshow(np.asarray(image.convert("L")), cmap="gray", vmin=0, vmax=255)
        panel.set_title(caption, fontsize="small")
    figure.suptitle(f"The worst mistakes (n = {len(shown)} of {total} shown)" if shown else "No mistakes (n = 0)")
    return _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    target = Path(path)
    with written_whole(target) as partial:
        figure.savefig(partial, dpi=_DPI, format="png")
    return target


def _curves(panel: Axes, log_history: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """One line per logged quantity, against the epoch, with its name at its end."""
    for (key, name), style in zip(names.items(), _STYLES, strict=False):
        points = [(entry["epoch"], entry[key]) for entry in log_history if key in entry]
        if points:
            epochs, values = zip(*points, strict=True)
            panel.plot(epochs, values, label=name, markersize=4, markevery=max(1, len(points) // 20), **style)
    _name_ends(panel)
    _clean(panel)


def _name_ends(panel: Axes) -> None:
    """Writes each line's name beside its last point, pushed apart where the ends are close."""
    low, high = panel.get_ylim()
    ends = {line: (float(np.asarray(line.get_ydata())[-1]) - low) / (high - low) for line in panel.lines}
    lines = sorted(panel.lines, key=ends.__getitem__)
    for lower, upper in pairwise(lines):
        ends[upper] = max(ends[upper], ends[lower] + _NAME_HEIGHT)
    above = max(0.0, max(ends.values(), default=0.0) - 1)
    for line, height in ends.items():
        color = line.get_color()
        panel.text(1.01, height - above, str(line.get_label()), color=color, va="center", transform=panel.transAxes)


def _roc(cases: Cases, number: int) -> tuple[FloatArray, FloatArray]:
    """False and true positive rate at every distinct probability of the class, from (0, 0) to (1, 1)."""
    ranking: SortedScores = cases.by_class_probability[number]
    member = cases.one_hot[None, :, number]
    rates = []
    for counted in (1 - member, member):
        running = np.cumsum(ranking.block_sums(counted)[0])
        rates.append(np.concatenate([[0.0], running / running[-1]]))
    return rates[0], rates[1]


def _sparse(number: int) -> dict[str, Any]:
    """The style of line `number`, with markers a tenth of the panel apart, at other places than the other lines'."""
    return _STYLES[number % len(_STYLES)] | {"markersize": 5, "markevery": (0.02 * number, 0.1), "linewidth": 1.5}


def _clean(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=0.3)
