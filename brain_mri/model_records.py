"""What a model folder says of itself: its JSON files, and the protocols whose figures are in them. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brain_mri.errors import DataError

Record = dict[str, Any]

# None that shows the images themselves: a folder is published with its card, and its data may not be.
_PICTURES = (
    "training_curves.png",
    "evaluation/confusion_matrix.png",
    "evaluation/roc.png",
    "evaluation/reliability.png",
    "evaluation/referral.png",
)
_FOLDS = {"grouped": ("patient-wise", "Patient-wise"), "author": ("author-folds", "Author's folds")}


@dataclass(frozen=True)
class ModelRecords:
    """The JSON files of a model folder, parsed.

    Attributes:
        config: `config.json`.
        run: `run.json`.
        audit: `audit.json`; like every one below, None where it was not written.
        calibration: `calibration.json`.
        evidence: `evidence.json`, measured on validation images that have a box.
        guard: `guard.json`.
        guard_test: `evaluation/guard.json`, of `benchmarks/guard.py`.
        export: `export.json`.
        results: `evaluation/results.json`.
        patient_wise: `evaluation/patient_wise.json`, if a fold of it is finished.
        external: `evaluation/external_<name>.json`, by name.
        pictures: which of the plots are there, as paths relative to the folder.
    """

    config: Record
    run: Record
    audit: Record | None
    calibration: Record | None
    evidence: Record | None
    guard: Record | None
    guard_test: Record | None
    export: Record | None
    results: Record | None
    patient_wise: Record | None
    external: dict[str, Record]
    pictures: list[str]


@dataclass(frozen=True)
class Protocol:
    """One way of measuring the model: what it is called, on which data, and the figures of `scores.score`.

    For the patient-wise protocol `scores` is None: its figures are means over folds, not values with intervals.
    """

    key: str
    title: str
    data: Record
    scores: Record | None


def read_records(folder: str | Path) -> ModelRecords:
    """Read what a model folder says of itself.

    Raises:
        DataError: `config.json` or `run.json` is missing, or a file is no JSON object.
    """
    root = Path(folder)
    external = {p.stem.removeprefix("external_"): _read(p) for p in sorted(root.glob("evaluation/external_*.json"))}
    patient_wise = _read_if_there(root / "evaluation" / "patient_wise.json")
    return ModelRecords(
        config=_read(root / "config.json"),
        run=_read(root / "run.json"),
        audit=_read_if_there(root / "audit.json"),
        calibration=_read_if_there(root / "calibration.json"),
        evidence=_read_if_there(root / "evidence.json"),
        guard=_read_if_there(root / "guard.json"),
        guard_test=_read_if_there(root / "evaluation" / "guard.json"),
        export=_read_if_there(root / "export.json"),
        results=_read_if_there(root / "evaluation" / "results.json"),
        patient_wise=patient_wise if patient_wise and patient_wise["metrics"] else None,
        external=external,
        pictures=[name for name in _PICTURES if (root / name).is_file()],
    )


def _read_if_there(path: Path) -> Record | None:
    return (_read(path) or None) if path.exists() else None


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give the folder that a finished run of train.py left.") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read as JSON ({error}): write it again with the script it came from."
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object: write it again with the script it came from.")
    return record


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
