"""The figures of a cross-validation's finished folds together: `patient_wise.json`, and a table of it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from brain_mri.crossval.folds import Plan
from brain_mri.model_folder import EVALUATION, RESULTS, RUN
from brain_mri.utils.files import read_json

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "expected_calibration_error")
_EVIDENCE = ("pointing_game", "mass_inside", "overlap", "area_ratio")  # of the test images that have a box


def summarise(folder: Path, plan: Plan) -> dict[str, Any]:
    """Each metric's values over the finished folds, their mean and sample standard deviation; counts pooled.

    The folds share training images, so their spread is no standard error of the mean (Bengio and Grandvalet 2004).
    Counts add up over folds; probabilities of different models can't be ranked together (Forman and Scholz 2010).
    """
    finished = [number for number in plan.sizes if results_file(folder, number).exists()]
    records = [read_json(results_file(folder, number)) for number in finished]
    scores = [record["scores"] for record in records]
    summary: dict[str, Any] = {"n_folds": len(plan.sizes), "finished": finished, "metrics": {}}
    if not scores:
        return summary
    maps = [record.get("evidence", {}) for record in records]
    for name, sources in [*((name, scores) for name in METRICS), *((name, maps) for name in _EVIDENCE)]:
        values = [fold[name]["value"] for fold in sources if name in fold]
        if len(values) == len(scores):
            spread = {"sd": statistics.stdev(values)} if len(values) > 1 else {}
            summary["metrics"][name] = {"mean": statistics.fmean(values), **spread, "values": values}
            if len(values) == 1 and "low" in (only := sources[0][name]):
                summary["metrics"][name] |= {"low": only["low"], "high": only["high"]}  # the fold's own interval
    summary["folds"] = [_fold(*one) for one in zip(finished, scores, maps, strict=True)]
    confusion = np.sum([fold["confusion_matrix"] for fold in scores], axis=0)
    pooled = float(np.trace(confusion) / confusion.sum())
    summary["pooled"] = {"accuracy": pooled, "confusion_matrix": confusion.tolist()}
    first = read_json(folder / f"fold{finished[0]}" / "model" / RUN)
    asked = any(first["recipe"].get(name) for name in ("guidance", "guidance_extent"))
    summary["guided"] = bool(asked and first.get("boxed_images"))
    return summary | {"n": sum(fold["n"] for fold in scores), "label_names": scores[0]["label_names"]}


def _fold(number: int, scores: dict[str, Any], maps: dict[str, Any]) -> dict[str, Any]:
    """One fold: accuracy with its interval, the sensitivity of each class, and with boxes what the map has of them."""
    confusion = np.asarray(scores["confusion_matrix"])
    found = [row[i] / row.sum() if row.any() else None for i, row in enumerate(confusion)]  # a fold may lack a class
    located: dict[str, Any] = {name: maps[name] for name in ("pointing_game", "overlap", "area_ratio") if name in maps}
    sensitivity = dict(zip(scores["label_names"], found, strict=True))
    return {"fold": number, "n": scores["n"], "accuracy": scores["accuracy"], "sensitivity": sensitivity, **located}


def results_file(folder: Path, number: int) -> Path:
    """Where evaluate_model.py leaves the figures of fold `number`."""
    return folder / f"fold{number}" / "model" / EVALUATION / RESULTS


def format_table(summary: dict[str, Any], plan: Plan) -> str:
    """One row per finished fold, and the mean and standard deviation below."""
    metrics = summary["metrics"]
    rows = [["fold", "images", *(name.replace("_", " ") for name in metrics)]]
    for position, number in enumerate(summary["finished"]):
        values = [f"{figures['values'][position]:.4f}" for figures in metrics.values()]
        rows.append([str(number), f"{plan.sizes[number]:,}", *values])
    spread = [f"{m['mean']:.4f}" + (f" +- {m['sd']:.4f}" if "sd" in m else "") for m in metrics.values()]
    rows.append(["mean", f"{summary.get('n', 0):,}", *spread])
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    return "\n".join("".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
