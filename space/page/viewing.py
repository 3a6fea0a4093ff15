"""The viewer's slices as it takes them: `viewer/mount.js`. All of them come with the answer, none is kept here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from brain_mri.inference.predictions import Prediction
from brain_mri.labels import is_healthy
from page import pictures
from page.texts import Texts

_ALL_PIXELS = 2**25  # of one answer: 500 slices of 256 by 256, about 4 MB as JPEG
_STEPS = 2**15 - 1  # of the evidence's strength


def viewer_data(slices: Sequence[Prediction], t: Texts, has_curve: bool = False) -> dict[str, Any]:
    """Slices with their maps, and what is said of each; the most suspect is shown first, or else the middle one.

    Args:
        slices: in order.
        t: the page's language.
        has_curve: whether a curve of the slices stands below.
    """
    start = _most_suspect(slices)
    longest = min(pictures.SHOWN, int((_ALL_PIXELS / max(len(slices), 1)) ** 0.5))
    said = t["viewer"]
    told = [said["first"]] * (start is not None) + [said["help"], said["help_table"]]
    told += [said["help_curve"]] * has_curve
    texts = {**said, "help": " ".join(told), "progress": t["progress"], "strength": t("opacity")}
    return {
        "start": len(slices) // 2 if start is None else start,
        "texts": texts,
        "slices": [_slice(one, longest, t) for one in slices],
    }


def _most_suspect(slices: Sequence[Prediction]) -> int | None:
    """The slice in which one of the tumours is most probable, sure or not; None where all are refused."""
    known = {i: one.probabilities[one.suspect] for i, one in enumerate(slices) if one.verdict != "refused"}
    return max(known, key=known.__getitem__, default=None)


def said_of(prediction: Prediction, t: Texts) -> str:
    """The answer of one slice in a few words."""
    if prediction.label is None or prediction.score is None:
        return t(f"cell_{prediction.verdict}")
    return f"{t.label(prediction.label)} ({t.percent(prediction.score)})".replace("> ", ">\u00a0")


def shown_label(prediction: Prediction) -> str | None:
    """The class whose evidence is drawn: the tumour that is named; of an unsure slice the likeliest, unnamed."""
    if prediction.evidence is None or prediction.verdict == "refused":
        return None
    label = prediction.label or prediction.suspect
    return None if is_healthy(label) else label


def evidence_note(prediction: Prediction, t: Texts) -> str:
    """What the drawn evidence means, or why none is drawn."""
    if prediction.verdict == "refused":
        return t("evidence_refused")
    if prediction.evidence is None:
        return t("evidence_none")
    label, level = shown_label(prediction), ""
    if label is None:
        return t("evidence_no_tumour")
    level = t.percent(pictures.contour_level(prediction, label), 0)
    if prediction.label is None:
        return t("evidence_unsure", level=level)
    return t("evidence_caption", label=t.label(label), level=level)


def evidence_alt(prediction: Prediction, label: str, t: Texts) -> str:
    """The same in words for who cannot see it; an unsure slice's without the class."""
    place = t["places"][pictures.strongest_place(prediction, label)]
    return (
        t("evidence_alt_unsure", place=place)
        if prediction.label is None
        else t("evidence_alt", label=t.label(label), place=place)
    )


def _slice(prediction: Prediction, longest: int, t: Texts) -> dict[str, Any]:
    label, image, said = shown_label(prediction), prediction.image, said_of(prediction, t)
    return {
        "said": f"{said} \u00b7 {prediction.name}",
        "picture": pictures.jpeg_uri(image, longest) if image else "",
        "map": _map(prediction, label) if label else None,
        "alt": evidence_alt(prediction, label, t) if label else t("thumbnail_alt", name=prediction.name, answer=said),
        "note": " ".join([evidence_note(prediction, t), *([t("not_looked_for")] if prediction.caveat else [])]),
    }


def _map(prediction: Prediction, label: str) -> dict[str, Any]:
    assert prediction.evidence is not None  # the caller has asked
    values = prediction.evidence[label]
    whole = np.round(values * (_STEPS / max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))))
    height, width = values.shape
    return {
        "values": base64.b64encode(whole.astype("<i2").tobytes()).decode("ascii"),
        "width": width,
        "height": height,
        "level": pictures.contour_level(prediction, label),
    }
