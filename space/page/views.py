"""From answers to HTML: every text from `texts/`, every mark-up from `templates/`, which escape what they are given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from brain_mri.errors import BrainMRIError
from brain_mri.inference.predictions import Prediction, VolumePrediction
from brain_mri.io.slices import Series
from brain_mri.labels import NO_TUMOR, is_healthy, is_tumor
from brain_mri.reporting.protocols import cleared_elsewhere, least_right_elsewhere, share_found
from page import examples, pictures
from page.curve import curve
from page.service import Answer, ExpiredError, Service
from page.table import csv_uri, row_of
from page.texts import Texts
from page.viewing import evidence_alt, evidence_note, shown_label, viewer_data

_TEMPLATES = Path(__file__).with_name("templates")
_MOST_CARDS = 8  # pictures that are shown in full; more are a table


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def render(template: str, t: Texts, **values: Any) -> str:
    """Fill in a template of `templates/` with a language's texts as `t`."""
    return _templates().get_template(f"{template}.html").render(t=t, **values)


def answer_html(service: Service, answer: Answer, t: Texts) -> str:
    """What is said of one picture, or of a volume."""
    if answer.series:
        listed = [(one, series_line(one, t)) for one in answer.series]
        return _answer(service, answer, t) + render("series", t, series=listed)
    return _answer(service, answer, t)


def _answer(service: Service, answer: Answer, t: Texts) -> str:
    if isinstance(answer, VolumePrediction):
        return _volume(service, answer, t)
    if answer.image is None:  # refused by its header alone
        text = " ".join([t["reasons"][answer.reason], t("notice"), t("notice_more")])
        return render("message", t, title=verdict_title(answer, t), text=text, by_program=_notes(answer))
    return _picture(service, answer, answer.image, t)


def series_line(one: Series, t: Texts) -> str:
    """A series in the page's language; its description has the file's own words."""
    parts = [t["sequences"].get(part, part) for part in one.sequence.split(", ") if part] or [
        t["sequences"]["sequence not known"]
    ]
    plane = [t["planes"][one.plane]] if one.plane else []
    count = t("series_slice") if one.slices == 1 else t("series_slices", count=one.slices)
    told = ", ".join([*parts, *plane, count])
    return f"{one.number}: {one.description} ({told})" if one.description else f"{one.number}: {told}"


def _notes(answer: Answer) -> list[str]:
    """What else a reader should know of the files; the package's own sentences are in English."""
    return [f"{note}." for note in answer.notes]


def error_text(service: Service, error: BrainMRIError, t: Texts) -> str:
    """One sentence on what can't be judged, in the package's own words."""
    return t("expired", name=str(error), minutes=service.minutes) if isinstance(error, ExpiredError) else str(error)


def error_html(service: Service, error: BrainMRIError, t: Texts) -> str:
    """The same for the page: in another language by the kind of fault, with the package's words below."""
    text = error_text(service, error, t)
    told = "" if isinstance(error, ExpiredError) else t["faults"][getattr(error, "fault", "other")]
    title = t("no_file" if getattr(error, "fault", "") == "no_file" else "error")
    return render("message", t, title=title, text=told or text, by_program=[text] if told else [])


def message_html(text: str, t: Texts) -> str:
    """A sentence in the place of an answer."""
    return render("message", t, title=t("error"), text=text, by_program=[])


def examples_html(t: Texts) -> str:
    """Buttons that put an example into the upload, in the browser."""
    offered = examples.offered()
    return render("examples", t, **vars(offered)) if offered.examples else ""


def _tone(answer: Answer) -> str:
    """The style of an answer: that no tumour was found is shown as carefully as that the model is unsure."""
    return "unsure" if answer.caveat else answer.verdict


def bars(probabilities: dict[str, float], t: Texts) -> list[dict[str, Any]]:
    """The classes with their probabilities, the most probable first."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return [{"name": t.label(label), "share": p, "text": t.percent(p)} for label, p in ranked]


def verdict_title(prediction: Prediction, t: Texts) -> str:
    """The answer of one picture in one sentence; a class only where it may be named."""
    if prediction.label is None:
        return str(t["reason_titles"][prediction.reason])
    return (
        t("verdict_title_healthy")
        if prediction.label == NO_TUMOR
        else t("verdict_title", label=t.label(prediction.label))
    )


def answers_html(service: Service, answers: Sequence[Answer], t: Texts) -> str:
    """What is said of several files that are not of one scan: of each for itself."""
    slices = [
        one for answer in answers for one in (answer.slices if isinstance(answer, VolumePrediction) else [answer])
    ]
    said = {"title": _counts(slices, t), "reasons": [t("apart")]}
    if len(answers) > _MOST_CARDS:
        return _table_of(service, slices, t, **said)
    first = render("counts", t, verdict="unsure", by_program=[], **said) if len(slices) > 1 else ""
    return first + "".join(_answer(service, answer, t) for answer in answers)  # whose series could not be told apart


def _counts(slices: Sequence[Prediction], t: Texts) -> str:
    """What several pictures were called, so that one tumour among many is not overlooked."""
    named = [(one.label, one.probabilities) for one in slices if one.label is not None]
    tumours = sum(is_tumor(label, labels) for label, labels in named)
    healthy = sum(is_healthy(label) for label, _ in named)
    # a class of unknown meaning is neither: no tumour is claimed of it, and no lack of one
    counts = {"tumours": tumours, "healthy": healthy, "unnamed": len(slices) - tumours - healthy}
    return t("apart_title", count=len(slices), **counts)


def _picture(service: Service, prediction: Prediction, image: Image.Image, t: Texts) -> str:
    title = verdict_title(prediction, t)
    reasons, notes = _reasons(service, prediction, t), _notes(prediction)
    label = shown_label(prediction)
    note = evidence_note(prediction, t)
    lines = [title + ".", *reasons, *notes, *([note] if label and not prediction.label else [])]
    lines += [t("notice") + " " + t("notice_more"), t("origin", name=prediction.name, model=service.model)]
    return render(
        "picture",
        t,
        verdict=_tone(prediction),
        label=prediction.label or "",
        title=title,
        reasons=reasons,
        by_program=notes,
        bars=bars(prediction.probabilities, t) if prediction.is_answered else [],
        name=prediction.name,
        size=image.size,
        slice=pictures.png_uri(pictures.shrunk(image, pictures.SHOWN)),
        layer=pictures.png_uri(pictures.evidence_layer(prediction, image, label)) if label else "",
        layer_alt=evidence_alt(prediction, label, t) if label else "",
        note=note,
        opacity=pictures.OPACITY,
        lines=lines,
        about_class=t["about_class"].get(prediction.label, ""),
        source=t["about_class_links"].get(prediction.label, ""),
        details=[*_details(service, prediction, t), t("timing", milliseconds=round(prediction.milliseconds))],
    )


def _reasons(service: Service, prediction: Prediction, t: Texts) -> list[str]:
    """What stands below the title: what the answer does not mean, and how often it is right; or why there is none."""
    if prediction.label is None or prediction.score is None:
        return [_reason(service, prediction, t)]
    if prediction.caveat:
        return [t("not_looked_for"), *_how_often_wrong(service, t)]
    name = t.label(prediction.label)
    return [t("not_a_finding", label=name), *_how_often_right(service, prediction.label, t)]


def _how_often_wrong(service: Service, t: Texts) -> list[str]:
    """How many slices of other sources that were answered so do show a tumour."""
    elsewhere = cleared_elsewhere(service.records) if service.records is not None else None
    return [] if elsewhere is None else [t("cleared_elsewhere", **elsewhere)]


def _how_often_right(service: Service, label: str, t: Texts) -> list[str]:
    """How many slices with a tumour are named rightly: of new patients, and of another source."""
    if service.records is None:
        return []
    found, elsewhere = share_found(service.records).get(label), least_right_elsewhere(service.records)
    lines = [] if found is None else [t("found_of_new", label=t.label(label), found=round(100 * found))]
    return lines + ([] if elsewhere is None else [t("found_elsewhere", found=round(100 * elsewhere))])


def _details(service: Service, prediction: Prediction, t: Texts) -> list[str]:
    """What is folded: the score and what it means, the classes that can't be ruled out, the guard's distance."""
    lines = []
    if prediction.score is not None:
        calibrated = t("verdict_uncalibrated" if service.coverage is None else "verdict_calibrated")
        lines = [f"{t('verdict_score', score=t.percent(prediction.score))} {calibrated}"]
        lines += _set_in_words(service, prediction, t)
    if prediction.guard_score is not None:
        lines.append(t("guard_distance", score=t.number(f"{prediction.guard_score:.2f}")))
    return lines


def _reason(service: Service, answer: Answer, t: Texts) -> str:
    """Why no class is named."""
    always = answer.reason == "below_threshold" and (service.threshold or 0) > 1
    text = str(t["reasons"]["always_below_threshold" if always else answer.reason])
    distance = getattr(answer, "guard_score", None)
    return text.format(
        score="" if distance is None else t.number(f"{distance:.2f}"), threshold=t.percent(service.threshold or 0)
    )


def _set_in_words(service: Service, prediction: Prediction, t: Texts) -> list[str]:
    if service.coverage is None or len(prediction.prediction_set) == 1:
        return []
    coverage = t.percent(service.coverage, 0)
    if len(prediction.prediction_set) == len(prediction.probabilities):
        return [t("set_all", coverage=coverage)]
    return [t("set_several", labels=t.either(prediction.prediction_set), coverage=coverage)]


def _volume(service: Service, volume: VolumePrediction, t: Texts) -> str:
    count, counted = len(volume.slices), volume.counted
    if volume.label is None or volume.score is None:
        # what single slices say stands first: "no class" alone reads as if nothing had been found
        title = t(
            "volume_title_tumours" if volume.tumors else "volume_title_unnamed", tumours=volume.tumors, count=count
        )
        reasons = [_reason(service, volume, t)]
        reasons += [t("volume_counted", counted=counted, count=count)] if counted else []
    else:
        title = t("volume_title_answer", count=count, label=t.label(volume.label))
        title = t("volume_title_healthy", count=count) if volume.label == NO_TUMOR else title
        caveat = t("not_looked_for") if volume.caveat else t("not_a_finding", label=t.label(volume.label))
        reasons = [caveat, t("volume_answer", counted=counted, score=t.percent(volume.score))]
        reasons += [t("volume_counted", counted=counted, count=count)] if counted < count else []
    named = any(p.is_answered for p in volume.slices)
    return _table_of(
        service,
        volume.slices,
        t,
        verdict=_tone(volume),
        title=title,
        reasons=reasons,
        by_program=_notes(volume),
        bars=bars(volume.probabilities, t) if volume.is_answered else [],
        curve=curve(service, volume, t) if named else None,
    )


def _table_of(service: Service, slices: Sequence[Prediction], t: Texts, **said: Any) -> str:
    """Slices in a viewer and as a table, below what is said of them."""
    named = any(p.is_answered for p in slices)
    values: dict[str, Any] = {"verdict": "unsure", "bars": [], "curve": None, "by_program": []} | said
    return render(
        "volume",
        t,
        labels=[t.label(label) for label in service.classifier.label_names] if named else [],
        rows=[row_of(service, p, named, t) for p in slices],
        viewer=viewer_data(slices, t, has_curve=bool(values["curve"])),
        csv=csv_uri(service, slices, t),
        **values,
    )
