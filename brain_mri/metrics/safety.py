"""False all-clears: slices that show a tumour and are answered with the healthy class. No torch.

This error does the most harm, and accuracy does not show it: a model may be right for nearly all images of its own
source and answer every second tumour of another one with "no tumour".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.labels import is_healthy
from brain_mri.metrics.cases import BoolArray, Cases
from brain_mri.metrics.scores import LEVEL, mean_score

Figure = dict[str, Any]
Patients = Sequence[str | int | None]


def safety(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    label_names: Sequence[str],
    accepted: npt.ArrayLike,
    answered: npt.ArrayLike,
    groups: Patients | None = None,
) -> dict[str, Any]:
    """How slices that show a tumour (any class but the healthy one) are answered, and how many are not.

    A figure is `{"value", "low", "high", "n", "count"}`: `count` of `n` slices, and the 95% interval of
    `scores.mean_score`, which resamples whole patients. Where that interval can have no width, because the count is 0
    or n, it is the exact one of as many independent patients (Clopper and Pearson 1934): no event among 20 patients
    does not mean that there will be none among the next.

    Args:
        probabilities: `(n, k)`, every row summing to 1.
        labels: `(n,)` class numbers.
        label_names: the k classes.
        accepted: `(n,)`, whether the guard takes the image for a brain MRI.
        answered: `(n,)`, whether a class is named: accepted, and above the thresholds.
        groups: `(n,)` the patient of each image; None if unknown, and the image is then its own group.

    Returns:
        `tumors`: how many slices show one; `n_groups`: of how many patients.
        `false_all_clear`: those answered with the healthy class; `false_all_clear_of_answered`: as a share of the
            tumours that are answered, absent where none is.
        `tumors_answered`, `tumors_named` (with any tumour class) and `tumors_right` (with the right one).
        `unanswered`: of all images; besides, how many are `refused` by the guard and how many `unsure`.
        `false_alarm`: healthy slices answered with a tumour; absent without a healthy slice.
        {} where no class is the healthy one, or no slice shows a tumour.

    Raises:
        ValueError: the inputs are not probabilities, class numbers, names and masks of matching sizes, or an image is
            answered that is not accepted.
    """
    cases = Cases.of(probabilities, labels)
    taken, named = (_mask(mask, len(cases.labels)) for mask in (accepted, answered))
    if len(label_names) != cases.probabilities.shape[1]:
        raise ValueError(f"{cases.probabilities.shape[1]} classes need as many names, got {list(label_names)}")
    if (named & ~taken).any():
        raise ValueError("an image that the guard refuses can't be answered")
    patients: Patients = [None] * len(named) if groups is None else groups
    healthy = np.array([is_healthy(name) for name in label_names])
    tumor = ~healthy[cases.labels]
    if not healthy.any() or not tumor.any():
        return {}
    figures = _figures(tumor, taken, named, named & healthy[cases.predicted], named & (cases.correct == 1), patients)
    known = {name: figure for name, figure in figures.items() if figure}
    return {"tumors": int(tumor.sum()), "n_groups": _groups(patients, tumor), **known}


def _figures(
    tumor: BoolArray, taken: BoolArray, named: BoolArray, cleared: BoolArray, right: BoolArray, patients: Patients
) -> dict[str, Figure]:
    unanswered = {"refused": int((~taken).sum()), "unsure": int((taken & ~named).sum())}
    return {
        "false_all_clear": _share(cleared, tumor, patients),
        "false_all_clear_of_answered": _share(cleared, tumor & named, patients),
        "tumors_answered": _share(named, tumor, patients),
        "tumors_named": _share(named & ~cleared, tumor, patients),
        "tumors_right": _share(right, tumor, patients),
        "unanswered": _share(~named, np.ones_like(named), patients) | unanswered,
        "false_alarm": _share(named & ~cleared, ~tumor, patients),
    }


def _mask(values: npt.ArrayLike, n: int) -> BoolArray:
    mask = np.asarray(values)
    if mask.shape != (n,) or mask.dtype != np.bool_:
        raise ValueError(f"{n} images need a mask of as many booleans, got {mask.dtype} of shape {mask.shape}")
    return mask


def _groups(patients: Patients, chosen: BoolArray) -> int:
    known = [patients[int(i)] for i in np.flatnonzero(chosen)]
    return known.count(None) + len(set(known) - {None})


def _share(event: BoolArray, among: BoolArray, patients: Patients) -> Figure:
    """The share of the images `among` with the `event`; {} where there are none."""
    rows = np.flatnonzero(among)
    if not len(rows):
        return {}
    figure: Figure = {**mean_score(event[rows].astype(np.float64), [patients[int(i)] for i in rows])}
    count = int(event[rows].sum())
    if "low" in figure and count in (0, len(rows)):
        beyond = float(((1 - LEVEL) / 2) ** (1 / _groups(patients, among)))
        figure |= {"high": 1 - beyond} if count == 0 else {"low": beyond}
    return figure | {"n": len(rows), "count": count}


def format_safety(found: dict[str, Any]) -> str:
    """`safety` as text for the console."""
    if not found:
        return "false all-clears: not measured"
    clear, unanswered = found["false_all_clear"], found["unanswered"]
    lines = [
        f"FALSE ALL-CLEARS: {_of(clear)} slices with a tumour, in {found['n_groups']:,} groups, answered as healthy",
        f"tumours: {_of(found['tumors_named'])} answered with a tumour, {found['tumors_right']['count']:,} with the "
        f"right one; {found['tumors'] - found['tumors_answered']['count']:,} not answered",
        f"not answered: {_of(unanswered)} images ({unanswered['refused']:,} refused, {unanswered['unsure']:,} unsure)",
    ]
    if "false_alarm" in found:
        lines.append(f"false alarms: {_of(found['false_alarm'])} healthy slices answered with a tumour")
    return "\n".join(lines)


def _of(figure: Figure) -> str:
    interval = f", {figure['low']:.1%} to {figure['high']:.1%}" if "low" in figure else ""
    return f"{figure['count']:,} of {figure['n']:,} ({figure['value']:.1%}{interval})"
