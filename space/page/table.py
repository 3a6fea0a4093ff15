"""The slices of an answer as a table: its rows on the page, and the CSV to download."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from brain_mri.inference.predictions import Prediction
from page import pictures
from page.service import Service
from page.texts import Texts


def row_of(service: Service, prediction: Prediction, named: bool, t: Texts) -> dict[str, Any]:
    """A slice's row of the table on the page."""
    label, score = prediction.label, prediction.score
    return {
        "verdict": prediction.verdict,
        "name": prediction.name,
        "answer": t(f"cell_{prediction.verdict}") if label is None else t.label(label),
        "score": "" if score is None else t.percent(score),
        "shares": _shares(service, prediction, t.percent) if named else [],
    }


def _shares(service: Service, prediction: Prediction, shown: Callable[[float], str]) -> list[str]:
    """The probabilities of an answer in the model's order; empty cells where no class may be named."""
    names = service.classifier.label_names
    return [shown(prediction.probabilities[name]) if prediction.is_answered else "" for name in names]


def csv_uri(service: Service, slices: Sequence[Prediction], t: Texts) -> str:
    """The table for programs as a `data:` address."""
    return pictures.data_uri(_csv(service, slices, t).encode(), "text/csv;charset=utf-8")


def _csv(service: Service, slices: Sequence[Prediction], t: Texts) -> str:
    """Labels as the model has them, a point in numbers; the model and the notice in every row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    columns = ["number", "name", "verdict", "reason", "label", "score", *service.classifier.label_names]
    writer.writerow(map(_harmless, [*columns, "prediction_set", "guard_score", "model", "notice"]))
    for number, p in enumerate(slices, 1):
        score = "" if p.score is None else f"{p.score:.6f}"
        guard = "" if p.guard_score is None else f"{p.guard_score:.4f}"
        row = [number, p.name, p.verdict, p.reason or "", p.label or "", score]
        row += _shares(service, p, "{:.6f}".format)
        caveat = [t("not_looked_for")] if p.caveat else []
        row += [" ".join(p.prediction_set), guard, service.model, " ".join([t("notice"), *caveat])]
        writer.writerow(map(_harmless, row))
    return file.getvalue()


def _harmless(cell: object) -> str:
    """A cell that a spreadsheet takes for a text or a number, never for a formula or for several cells.

    As it is only what begins with a letter or a digit: what else may begin a formula differs between programs. The
    separators of other locales would end the cell there, and begin a new one with what follows.
    """
    text = re.sub(r"[;|\t\r\n]", "_", str(cell))
    return text if not text or text[0].isalnum() else f"'{text}"
