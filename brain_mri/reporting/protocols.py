"""The protocols that a model was measured with, as columns of card and page."""

from __future__ import annotations

from dataclasses import dataclass

from brain_mri.model_folder import ModelRecords, Record

_FOLDS = {"grouped": ("patient-wise", "Patient-wise"), "author": ("author-folds", "Author's folds")}


@dataclass(frozen=True)
class Protocol:
    """One way of measuring the model: what it is called, on which data, and the figures of `scores.score`.

    For the patient-wise protocol `scores` is None: its figures are means over folds, not values with intervals.
    """

    key: str
    title: str
    data: Record
    scores: Record | None


def protocols(records: ModelRecords) -> list[Protocol]:
    """The protocols that were measured, in the order of the card's columns."""
    measured = []
    if results := records.results:
        measured.append(Protocol("test", "Test split", results["data"], results["scores"]))
        if "leak_free" in results:
            measured.append(Protocol("leak-free", "Leak-free", results["data"], results["leak_free"]["scores"]))
    if records.patient_wise:
        data = records.patient_wise.get("data", {"name": "cross-validation"})
        measured.append(Protocol(*_FOLDS[records.patient_wise["folds_by"]], data, None))
    for name, result in records.external.items():
        title = f"External: {result['data']['name']}"
        measured.append(Protocol(f"external-{name}", title, result["data"], result["scores"]))
    return measured


def share_found(records: ModelRecords) -> dict[str, float]:
    """Of each class, the share of the slices of unseen patients that are given it; {} where no fold was measured.

    Counts are added over the finished folds, each of another model.
    """
    pooled = (records.patient_wise or {}).get("pooled")
    if not pooled or not records.patient_wise:
        return {}
    rows = zip(records.patient_wise["label_names"], pooled["confusion_matrix"], strict=True)
    return {name: row[i] / sum(row) for i, (name, row) in enumerate(rows) if sum(row)}
