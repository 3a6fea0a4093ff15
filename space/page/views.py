"""From answers to HTML: every text from `texts/`, every mark-up from `templates/`, which escape what they are given."""

from __future__ import annotations

import base64
import csv
import io
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from brain_mri.errors import BrainMRIError
from brain_mri.inference.predictions import Prediction, VolumePrediction
from page import examples, pictures
from page.curve import curve
from page.service import HEALTHY, Answer, ExpiredError, Service
from page.texts import Texts

_TEMPLATES = Path(__file__).with_name("templates")


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
    return _volume(service, answer, t) if isinstance(answer, VolumePrediction) else _picture(service, answer, t)


def error_text(service: Service, error: BrainMRIError, t: Texts) -> str:
    """One sentence on what can't be judged; the package's own are in English."""
    return t("expired", name=str(error), minutes=service.minutes) if isinstance(error, ExpiredError) else str(error)


def error_html(service: Service, error: BrainMRIError, t: Texts) -> str:
    """The same for the page."""
    return message_html(error_text(service, error, t), t)


def message_html(text: str, t: Texts) -> str:
    """A sentence in the place of an answer."""
    return render("message", t, title=t("error"), text=text)


def examples_html(t: Texts) -> str:
    """Buttons that put an example into the upload, in the browser."""
    offered = examples.offered()
    return render("examples", t, **vars(offered)) if offered.examples else ""


def bars(probabilities: dict[str, float], t: Texts) -> list[dict[str, Any]]:
    """The classes with their probabilities, the most probable first."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return [{"name": t.label(label), "share": p, "text": t.percent(p)} for label, p in ranked]


def verdict_title(service: Service, prediction: Prediction, t: Texts) -> str:
    """The answer of one picture in one sentence; a class only where it may be named."""
    verdict = service.verdict(prediction)
    return t("verdict_title", label=t.label(prediction.label)) if verdict == "answer" else t(f"{verdict}_title")


def _picture(service: Service, prediction: Prediction, t: Texts) -> str:
    verdict, title = service.verdict(prediction), verdict_title(service, prediction, t)
    reasons = _reasons(service, prediction, t)
    shown = verdict == "answer" and prediction.evidence is not None and prediction.label != HEALTHY
    label = prediction.label if shown else None
    lines = [title + ".", *reasons, t("notice") + " " + t("notice_more")]
    return render(
        "picture",
        t,
        verdict=verdict,
        title=title,
        reasons=reasons,
        bars=[] if verdict == "stranger" else bars(prediction.probabilities, t),
        name=prediction.name,
        size=prediction.image.size,
        slice=pictures.png_uri(pictures.shrunk(prediction.image, pictures.SHOWN)),
        layer=pictures.png_uri(pictures.evidence_layer(prediction, label)) if label else "",
        label=t.label(label) if label else "",
        place=t["places"][pictures.strongest_place(prediction, label)] if label else "",
        no_layer=_why_no_evidence(prediction, verdict, t),
        opacity=pictures.OPACITY,
        export=pictures.png_uri(pictures.exported(prediction, label, lines)),
        milliseconds=round(prediction.milliseconds),
    )


def _why_no_evidence(prediction: Prediction, verdict: str, t: Texts) -> str:
    if verdict != "answer":
        return ""
    if prediction.evidence is None:
        return t("evidence_none")
    return t("evidence_no_tumour") if prediction.label == HEALTHY else ""


def _reasons(service: Service, prediction: Prediction, t: Texts) -> list[str]:
    """What is said below the title: how sure, which classes are ruled out; or why no class is named."""
    verdict, score = service.verdict(prediction), t.percent(prediction.score)
    if verdict == "stranger":
        return [t("stranger_reason", score=t.number(f"{prediction.guard_score:.1f}"))]
    if verdict == "unsure":
        threshold = service.classifier.referral_threshold or 0
        always = threshold > 1
        reason = t("unsure_always") if always else t("unsure_reason", score=score, threshold=t.percent(threshold))
        return [reason, *_set_in_words(service, prediction, t, named=False)]
    reasons = [t("verdict_score", score=score)]
    reasons.append(t("verdict_uncalibrated" if service.coverage is None else "verdict_calibrated"))
    if prediction.label == HEALTHY:
        reasons.append(t("verdict_no_tumour"))
    return reasons + _set_in_words(service, prediction, t, named=True)


def _set_in_words(service: Service, prediction: Prediction, t: Texts, named: bool) -> list[str]:
    """The prediction set; a set of one names its class, so it is left out where none may be named."""
    if service.coverage is None or (len(prediction.prediction_set) == 1 and not named):
        return []
    coverage = t.percent(service.coverage, 0)
    if len(prediction.prediction_set) == len(prediction.probabilities):
        return [t("set_all", coverage=coverage)]
    if len(prediction.prediction_set) == 1:
        return [t("set_one", coverage=coverage)]
    return [t("set_several", labels=t.either(prediction.prediction_set), coverage=coverage)]


def _volume(service: Service, volume: VolumePrediction, t: Texts) -> str:
    verdict, count = service.verdict(volume), len(volume.slices)
    refused = sum(service.verdict(p) == "stranger" for p in volume.slices)
    score = t.percent(max(volume.probabilities.values()))
    reason = "volume_outvoted" if (tumours := service.outvoted(volume)) else f"volume_{verdict}"
    values = {"count": count, "counted": volume.counted, "refused": refused, "score": score}
    return render(
        "volume",
        t,
        verdict=verdict,
        title=t(f"volume_title_{verdict}", count=count, label=t.label(volume.label)),
        reason=t(reason, labels=t.either(tumours) if tumours else "", **values),
        bars=[] if verdict == "stranger" else bars(volume.probabilities, t),
        curve=curve(service, volume, t),
        labels=[t.label(label) for label in volume.probabilities],
        rows=[_row(service, p, t) for p in volume.slices],
        csv="data:text/csv;charset=utf-8;base64," + base64.b64encode(_csv(service, volume, t).encode()).decode(),
    )


def _row(service: Service, prediction: Prediction, t: Texts) -> dict[str, Any]:
    verdict = service.verdict(prediction)
    return {
        "verdict": verdict,
        "name": prediction.name,
        "picture": pictures.thumbnail_uri(prediction.image),
        "answer": t.label(prediction.label) if verdict == "answer" else t(f"cell_{verdict}"),
        "score": t.percent(prediction.score) if verdict == "answer" else "",
        "shares": [t.percent(p) if verdict != "stranger" else "" for p in prediction.probabilities.values()],
    }


def _csv(service: Service, volume: VolumePrediction, t: Texts) -> str:
    """A table for programs: labels as the model has them, a point in numbers, the notice in every row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    labels = list(volume.probabilities)
    writer.writerow(["number", "name", "answer", "confidence", *labels, "prediction_set", "guard_score", "notice"])
    for number, p in enumerate(volume.slices, 1):
        verdict = service.verdict(p)
        answer = (
            p.label if verdict == "answer" else {"unsure": "not sure enough", "stranger": "not a brain MRI"}[verdict]
        )
        shares = [f"{x:.6f}" if verdict != "stranger" else "" for x in p.probabilities.values()]
        labels_left = " ".join(p.prediction_set) if verdict != "stranger" else ""
        guard = "" if p.guard_score is None else f"{p.guard_score:.4f}"
        score = f"{p.score:.6f}" if verdict == "answer" else ""
        writer.writerow([number, _harmless(p.name), answer, score, *shares, labels_left, guard, t("notice")])
    return file.getvalue()


def _harmless(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name
