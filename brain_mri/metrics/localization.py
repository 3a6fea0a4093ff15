"""How well evidence maps find the tumour, compared with boxes around it. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.inference.overlay import LEVEL, enlarge, evidence_region
from brain_mri.metrics.scores import mean_score

Floats = npt.NDArray[np.floating[Any]]

SIDE = 224  # pixels; maps and boxes are compared at this size, whatever the model's own
_LEVELS = np.arange(0.05, 1, 0.05).round(2)  # of the contour, to choose from
_FIGURES = ("pointing_game", "mass_inside", "overlap", "box_area")


def score_map(evidence: Floats, box: Sequence[float], level: float = LEVEL) -> dict[str, float]:
    """Compare one map (h, w) with the box of the tumour (center x, center y, width, height, fractions of the image).

    Returns:
        `pointing_game`: 1 if the map's peak lies in the box, else 0 (Zhang 2018); `mass_inside`: the share of the map's
        positive part that lies in it (the energy-based pointing game, Wang 2020); `overlap`: intersection over union
        of box and contour, the `evidence_region` at `level`; `region_area` and `box_area`: the shares of the image that
        contour and box fill. A map without information gets `box_area` in the first two.
    """
    enlarged, inside = enlarge(evidence, SIDE, SIDE), _inside(box)
    positive, region = np.maximum(enlarged, 0), evidence_region(enlarged, level)
    total = float(positive.sum())
    return {
        "pointing_game": float(inside.flat[int(enlarged.argmax())]),
        "mass_inside": float(positive[inside].sum()) / total if total else 0.0,
        "overlap": _overlap(region, inside),
        "region_area": float(region.mean()),
        "box_area": float(inside.mean()),
    }


def _inside(box: Sequence[float]) -> npt.NDArray[np.bool_]:
    x, y, width, height = box
    places = (np.arange(SIDE) + 0.5) / SIDE
    inside: npt.NDArray[np.bool_] = (np.abs(places - y) <= height / 2)[:, None] & (np.abs(places - x) <= width / 2)
    return inside


def _overlap(region: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    union = int((region | inside).sum())
    return int((region & inside).sum()) / union if union else 0.0


def choose_levels(
    evidence: Floats, labels: npt.ArrayLike, boxes: npt.ArrayLike, label_names: Sequence[str]
) -> dict[str, float]:
    """For each class with boxes, the level of the contour whose mean overlap with the boxes is largest.

    A level is a share of the map's peak, in twentieths. One for each class: small tumours need a higher one, as a map
    can't be finer than its places. Args as of `localization`; to choose on validation images.
    """
    numbers, places = np.asarray(labels), np.asarray(boxes, dtype=np.float64)
    boxed = ~np.isnan(places).any(axis=1)
    chosen = {}
    for k, name in enumerate(label_names):
        if len(rows := np.flatnonzero(boxed & (numbers == k))):
            mean = np.mean([_overlaps(evidence[i, k], places[i]) for i in rows], axis=0)
            chosen[name] = float(_LEVELS[int(mean.argmax())])
    return chosen


def _overlaps(evidence: Floats, box: Sequence[float]) -> list[float]:
    """The overlap of a map with its box, at each of `_LEVELS`."""
    enlarged, inside = enlarge(evidence, SIDE, SIDE), _inside(box)
    return [_overlap(evidence_region(enlarged, level), inside) for level in _LEVELS]


def localization(
    evidence: Floats,
    labels: npt.ArrayLike,
    boxes: npt.ArrayLike,
    label_names: Sequence[str],
    groups: Sequence[str | None],
    levels: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The true class's maps compared with the boxes, with 95% bootstrap intervals that resample whole patients.

    Args:
        evidence: (n, k, h, w), one map per class.
        labels: (n,), the true classes.
        boxes: (n, 4), fractions of the image; images without one, NaN, are left out.
        label_names: the k class names.
        groups: (n,), the patient of each image; None if unknown, and the image is then its own group.
        levels: of the contour, for each class by name; default: `LEVEL`.

    Returns:
        `n`, the images with a box, `n_groups`, `pointing_game`, `mass_inside`, `overlap` and `box_area` of `score_map`
        as `Interval`s, `area_ratio`, the area of all contours as a multiple of that of all boxes, and the same in
        `per_class` for each class that has boxes; `levels`, if given. {} if no image has a box.
    """
    chosen = levels or {}
    numbers, places = np.asarray(labels), np.asarray(boxes, dtype=np.float64)
    boxed = np.flatnonzero(~np.isnan(places).any(axis=1))
    if not len(boxed):
        return {}
    used = [chosen.get(name, LEVEL) for name in label_names]
    scored = [score_map(evidence[i, numbers[i]], places[i], used[numbers[i]]) for i in boxed]
    values = {name: np.array([figures[name] for figures in scored]) for name in scored[0]}
    known = [groups[int(i)] for i in boxed]
    of_class = {name: np.flatnonzero(numbers[boxed] == k) for k, name in enumerate(label_names)}
    per_class = {name: _summary(values, known, rows) for name, rows in of_class.items() if len(rows)}
    said = {"levels": dict(chosen)} if chosen else {}
    return _summary(values, known, np.arange(len(boxed))) | {"per_class": per_class} | said


def _summary(values: dict[str, Floats], groups: Sequence[str | None], rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    chosen = [groups[i] for i in rows]
    alone = sum(group is None for group in chosen)
    figures = {name: mean_score(values[name][rows], chosen) for name in _FIGURES}
    box_area = np.maximum(values["box_area"][rows], SIDE**-2)  # at least a pixel
    figures["area_ratio"] = mean_score(values["region_area"][rows], chosen, per=box_area)
    return {"n": len(rows), "n_groups": alone + len({group for group in chosen if group is not None}), **figures}
