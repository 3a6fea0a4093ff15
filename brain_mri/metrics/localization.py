"""How well evidence maps find the tumour, compared with boxes around it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.inference.overlay import enlarge, evidence_region
from brain_mri.metrics.scores import mean_score

Floats = npt.NDArray[np.floating[Any]]

SIDE = 224  # pixels; maps and boxes are compared at this size, whatever the model's own
_FIGURES = ("pointing_game", "mass_inside", "overlap", "box_area")


def score_map(evidence: Floats, box: Sequence[float]) -> dict[str, float]:
    """Compare one map (h, w) with the box of the tumour (center x, center y, width, height, fractions of the image).

    Returns:
        `pointing_game`: 1 if the map's peak lies in the box, else 0 (Zhang 2018); `mass_inside`: the share of the map's
        positive part that lies in it (the energy-based pointing game, Wang 2020); `overlap`: intersection over union
        of `evidence_region` and box; `box_area`: the share of the image that the box fills, which is also what a map
        without information gets in the first two.
    """
    enlarged = enlarge(evidence, SIDE, SIDE)
    x, y, width, height = box
    places = (np.arange(SIDE) + 0.5) / SIDE
    inside = (np.abs(places - y) <= height / 2)[:, None] & (np.abs(places - x) <= width / 2)[None, :]
    positive, region = np.maximum(enlarged, 0), evidence_region(enlarged)
    total, union = float(positive.sum()), int((region | inside).sum())
    return {
        "pointing_game": float(inside.flat[int(enlarged.argmax())]),
        "mass_inside": float(positive[inside].sum()) / total if total else 0.0,
        "overlap": int((region & inside).sum()) / union if union else 0.0,
        "box_area": float(inside.mean()),
    }


def localization(
    evidence: Floats,
    labels: npt.ArrayLike,
    boxes: npt.ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[str | None],
) -> dict[str, Any]:
    """The true class's maps compared with the boxes, with 95% bootstrap intervals that resample whole patients.

    Args:
        evidence: (n, k, h, w), one map per class.
        labels: (n,), the true classes.
        boxes: (n, 4), fractions of the image; images without one, NaN, are left out.
        label_names: the k class names.
        groups: (n,), the patient of each image; None if unknown, and the image is then its own group.

    Returns:
        `n`, the images with a box, `n_groups`, each figure of `score_map` as an `Interval`, and the same in `per_class`
        for each class that has boxes; {} if no image has one.
    """
    numbers, places = np.asarray(labels), np.asarray(boxes, dtype=np.float64)
    boxed = np.flatnonzero(~np.isnan(places).any(axis=1))
    if not len(boxed):
        return {}
    scored = [score_map(evidence[i, numbers[i]], places[i]) for i in boxed]
    values = {name: np.array([figures[name] for figures in scored]) for name in _FIGURES}
    known = [groups[int(i)] for i in boxed]
    of_class = {name: np.flatnonzero(numbers[boxed] == k) for k, name in enumerate(label_names)}
    return _summary(values, known, np.arange(len(boxed))) | {
        "per_class": {name: _summary(values, known, rows) for name, rows in of_class.items() if len(rows)}
    }


def _summary(values: dict[str, Floats], groups: Sequence[str | None], rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    chosen = [groups[i] for i in rows]
    alone = sum(group is None for group in chosen)
    figures = {name: mean_score(column[rows], chosen) for name, column in values.items()}
    return {"n": len(rows), "n_groups": alone + len({group for group in chosen if group is not None}), **figures}
