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
        symmetry: `tumor_auroc`, how well the asymmetry tells tumours from healthy slices; None if not measured.
    """

    key: str
    title: str
    data: Record
    scores: Record | None
    safety: Record | None = None
    symmetry: Record | None = None

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
            Protocol(key, _TITLES[key], results["data"], part["scores"], part.get("safety"), part.get("symmetry"))
            for key, part in parts.items()
            if part
        ]
    if records.patient_wise:
        data = records.patient_wise.get("data", {"name": "cross-validation"})
        measured.append(Protocol(*_FOLDS[records.patient_wise["folds_by"]], data, None))
    for name, result in records.external.items():
        title = f"External: {result['data']['name']}"
        figures = (result["data"], result["scores"], result.get("safety"), result.get("symmetry"))
        measured.append(Protocol(f"external-{name}", title, *figures))
    return measured


def in_order(measured: list[Protocol]) -> list[Protocol]:
    """Patients never seen first, then other sources, the test without its copies, and last that whole test."""

    def rank(one: Protocol) -> int:
        return 0 if one.scores is None else 1 if one.is_external else 3 if one.key == "test" else 2

    return sorted(measured, key=rank)


def figure_of(key: str, protocol: Protocol, records: ModelRecords) -> dict[str, float] | None:
    """A figure of a protocol, `value` and where known `low` and `high`; None if it was not measured."""
    if protocol.scores is not None:
        entry = protocol.scores.get(key)
        return {name: entry[name] for name in ("value", "low", "high") if name in entry} if entry else None
    metric = records.patient_wise["metrics"].get(key) if records.patient_wise else None
    return {"value": metric["mean"]} if metric else None


def chosen_all_clear(records: ModelRecords) -> Record | None:
    """When "no tumour" is said; None if that was not chosen on other sources.

    Returns:
        `threshold`, the score from which on, `symmetric`, whether both sides of the head must be alike too, and the
        `sources` that it was chosen on.
    """
    chosen = records.calibration.get("all_clear") if records.calibration else None
    if not chosen or "earlier_stage" in chosen:
        return None
    rule = chosen.get("symmetry", chosen)
    sources = [source["name"] for source in chosen["sources"]]
    return {"threshold": rule["threshold"], "symmetric": "asymmetry" in rule, "sources": sources}


def safety_counts(protocol: Protocol) -> Record:
    """How the slices of a protocol are answered, as counts for a page; {} where that was not measured.

    Returns:
        `tumors`, how many slices show one, of `groups` patients or clusters: `right`, `other` (another tumour),
        `unanswered` and `count`, the false all-clears, add up to it; `value`, `low` and `high` are those as a share.
        `healthy`, how many slices show none: `cleared`, `healthy_unanswered` and `alarms` add up to it.
    """
    found = protocol.safety
    if not found:
        return {}
    clear, unanswered = found["false_all_clear"], found["tumors"] - found["tumors_answered"]["count"]
    counts = {name: clear[name] for name in ("count", "value", "low", "high") if name in clear}
    right, named = found["tumors_right"]["count"], found["tumors_named"]["count"]
    counts |= {"tumors": found["tumors"], "groups": found["n_groups"], "right": right, "other": named - right}
    counts["unanswered"] = unanswered
    alarm = found.get("false_alarm", {"n": 0, "count": 0})
    left = found["unanswered"]["count"] - unanswered
    cleared = alarm["n"] - alarm["count"] - left
    return counts | {"healthy": alarm["n"], "alarms": alarm["count"], "healthy_unanswered": left, "cleared": cleared}


def least_right_elsewhere(records: ModelRecords) -> float | None:
    """The share of slices with a tumour that are named rightly, at the other source where it is least; None without."""
    measured = [p.safety["tumors_right"]["value"] for p in protocols(records) if p.is_external and p.safety]
    return min(measured, default=None)


def cleared_elsewhere(records: ModelRecords) -> Record | None:
    """Of the slices of other sources that were answered as healthy, `said`, how many were `wrong`; None if none was.

    That none was is not for a page: of few slices it would reassure.
    """
    counts = [safety_counts(p) for p in protocols(records) if p.is_external and p.safety]
    wrong = sum(found["count"] for found in counts)
    said = wrong + sum(found["cleared"] for found in counts)
    return {"wrong": wrong, "said": said} if wrong else None


def share_found(records: ModelRecords) -> dict[str, float]:
    """Each class' sensitivity on slices of unseen patients, from counts added over the folds; {} without folds."""
    pooled = (records.patient_wise or {}).get("pooled")
    if not pooled or not records.patient_wise:
        return {}
    rows = zip(records.patient_wise["label_names"], pooled["confusion_matrix"], strict=True)
    return {name: row[i] / sum(row) for i, (name, row) in enumerate(rows) if sum(row)}
