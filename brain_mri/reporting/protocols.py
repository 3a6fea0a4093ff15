"""The protocols that a model was measured with, as columns of card and page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from brain_mri.model_folder import ModelRecords, Record

_TITLES = {"test": "Test split", "leak-free": "Leak-free", "without-review": "Without reviewed images"}
_FOLDS = {"grouped": ("patient-wise", "Patient-wise"), "author": ("author-folds", "Author's folds")}


@dataclass(frozen=True)
class Protocol:
    """One way of measuring the model: its name, its data, and its figures.

    Attributes:
        key: its name for programs.
        title: its name for people.
        data: `name` and `fingerprint`.
        scores: the figures of `scores.score`; None for the patient-wise protocol, whose figures are means over folds,
            not values with intervals.
        safety: those of `metrics.safety`; None if not measured.
    """

    key: str
    title: str
    data: Record
    scores: Record | None
    safety: Record | None = None

    @property
    def is_external(self) -> bool:
        """Whether the images are of another folder than that of the training."""
        return self.key.startswith("external-")


def protocols(records: ModelRecords) -> list[Protocol]:
    """The protocols that were measured, in the order of the card's columns."""
    measured = []
    if results := records.results:
        parts: dict[str, Any] = {
            "test": results,
            "leak-free": results.get("leak_free"),
            "without-review": results.get("without_review"),
        }
        measured = [
            Protocol(key, _TITLES[key], results["data"], part["scores"], part.get("safety"))
            for key, part in parts.items()
            if part
        ]
    if records.patient_wise:
        data = records.patient_wise.get("data", {"name": "cross-validation"})
        measured.append(Protocol(*_FOLDS[records.patient_wise["folds_by"]], data, None))
    for name, result in records.external.items():
        title = f"External: {result['data']['name']}"
        measured.append(Protocol(f"external-{name}", title, result["data"], result["scores"], result.get("safety")))
    return measured


def share_found(records: ModelRecords) -> dict[str, float]:
    """Each class' sensitivity on slices of unseen patients, from counts added over the folds; {} without folds."""
    pooled = (records.patient_wise or {}).get("pooled")
    if not pooled or not records.patient_wise:
        return {}
    rows = zip(records.patient_wise["label_names"], pooled["confusion_matrix"], strict=True)
    return {name: row[i] / sum(row) for i, (name, row) in enumerate(rows) if sum(row)}
