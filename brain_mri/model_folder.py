"""What a model folder says of itself: its JSON files, and the protocols whose figures are in them. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
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
        guard_test: `evaluation/guard.json`, of `benchmarks/ood/guard.py`.
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


CALIBRATION = "calibration.json"
EVIDENCE = "evidence.json"

PATIENT_WISE = "patient_wise.json"  # what cross-validation leaves, and a model's card reads

_PUBLISHED = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "run.json",
    "audit.json",
    "calibration.json",
    "evidence.json",
    "export.json",
    "guard.json",
    "guard.safetensors",
    "training_curves.png",
    "onnx/*.onnx",
    "evaluation/*.json",
    "evaluation/confusion_matrix.png",
    "evaluation/roc.png",
    "evaluation/reliability.png",
    "evaluation/referral.png",
)


def is_published(name: str) -> bool:
    """Whether a file, by its path within a model folder, is published; none of these shows the data."""
    return any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in _PUBLISHED)


def published_files(folder: Path) -> list[Path]:
    """The files of a model folder that are published, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and is_published(p.relative_to(folder).as_posix()))


def without_paths(value: Any) -> Any:
    """A record in which every absolute path is only a name."""
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


PREDICTIONS = "predictions.csv"
CALIBRATION_FILE = "calibration.json"

RUN = "run.json"  # written last

SETTINGS = "guard.json"
STATISTICS = "guard.safetensors"

CHECKPOINTS = "checkpoints"

FLOAT32_FILE = "onnx/model.onnx"
INT8_FILE = "onnx/model_quantized.onnx"  # the name that Transformers.js looks for


def served_file(folder: Path, names: Sequence[str] = (INT8_FILE, FLOAT32_FILE)) -> Path | None:
    """The first of `names` that a model folder has; None without any."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
