"""A model folder: the names of its files, which of them are published, and what its JSON records hold. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from brain_mri.errors import ConfigError, DataError

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"  # of a transformers-native model; timm's is in the configuration
WEIGHTS = "model.safetensors"
RUN = "run.json"  # train.py writes it last: without it the folder is not finished
AUDIT = "audit.json"
BEGUN = "begun.json"  # what a run was begun with, see training.identity
SEARCH = "search.db"  # Optuna's study of --search_trials
SEARCH_PLOT = "search.png"
STREAM = "stream.json"
CALIBRATION = "calibration.json"
EVIDENCE = "evidence.json"
EXPORT = "export.json"
GUARD = "guard.json"
GUARD_TENSORS = "guard.safetensors"
TRAINING_CURVES = "training_curves.png"
CARD = "README.md"
CHECKPOINTS = "checkpoints"
SECONDS = f"{CHECKPOINTS}/seconds.json"

ONNX = "onnx"
FLOAT32_FILE = f"{ONNX}/model.onnx"
INT8_FILE = f"{ONNX}/model_quantized.onnx"  # the name that Transformers.js looks for

OPENVINO_FILE = "openvino/openvino_model.xml"  # of `brain-mri export`, and the name that Optimum looks for
LITERT_FILE = "litert/model.tflite"
ABOUT = "model.json"  # beside either: labels and preprocessing

EVALUATION = "evaluation"
# In it, or for other data than the model's own test split in a folder within it:
RESULTS = "results.json"
PREDICTIONS = "predictions.csv"
PATIENT_WISE = "patient_wise.json"  # cross-validation writes it
GUARD_TEST = "guard.json"  # benchmarks/ood/guard.py writes it
LATENCY = "latency.json"  # benchmarks/inference.py writes it
ENSEMBLE = "ensemble.json"  # evaluation/ensemble.py writes it
CONFUSION_MATRIX = "confusion_matrix.png"
ROC = "roc.png"
RELIABILITY = "reliability.png"
REFERRAL = "referral.png"
WORST_MISTAKES = "worst_mistakes.png"  # shows the data

RECORDS = (CONFIG, RUN, AUDIT, CALIBRATION, EVIDENCE, EXPORT, GUARD)
# None shows the images themselves: a folder is published with its card, and its data may not be.
_PICTURES = (TRAINING_CURVES, *(f"{EVALUATION}/{name}" for name in (CONFUSION_MATRIX, ROC, RELIABILITY, REFERRAL)))
DESCRIPTION = (*RECORDS, f"{EVALUATION}/*.json", *_PICTURES)
"""Patterns of the files that `read_records` and the page's "About" show; none shows the data."""
_PUBLISHED = (*DESCRIPTION, PROCESSOR, WEIGHTS, GUARD_TENSORS, f"{ONNX}/*.onnx")

Record = dict[str, Any]


class PredictionSets(TypedDict):
    """How prediction sets are made: the `coverage` asked for, and the probability from which a class is in."""

    coverage: float
    threshold: float
    method: str


class Referral(TypedDict):
    """The confidence below which a human should look, and the `accuracy` asked of what lies above it.

    More is asked of the healthy class, whose false answers hurt most: `healthy_accuracy`, reached from
    `healthy_threshold` on. A model of an earlier version lacks both.
    """

    accuracy: float
    threshold: float
    healthy_accuracy: NotRequired[float]
    healthy_threshold: NotRequired[float]


class Calibration(TypedDict):
    """`calibration.json`: fitted on the `n` validation images, whose scores `before` and `after` are in `validation`.

    `earlier_stage` marks one that was taken over from the model that this one goes on from.
    """

    temperature: float
    n: int
    validation: dict[str, dict[str, float]]
    prediction_sets: PredictionSets
    referral: Referral
    all_clear: NotRequired[Record]
    earlier_stage: NotRequired[bool]


class GuardSettings(TypedDict):
    """`guard.json`: the `threshold` that the share `acceptance` of validation keeps, and numbers of each part."""

    method: str
    threshold: float
    acceptance: float
    statistics: str
    parts: list[dict[str, float]]


class Results(TypedDict):
    """The main parts of `evaluation/results.json`; see `evaluation.results.figures`."""

    data: dict[str, str]
    scores: Record
    safety: NotRequired[Record]
    symmetry: NotRequired[Record]
    leak_free: NotRequired[Record]
    reviewed: NotRequired[Record]
    without_review: NotRequired[Record]
    before_calibration: NotRequired[dict[str, float]]
    prediction_sets: NotRequired[dict[str, float]]
    referral: NotRequired[dict[str, float]]
    guard: NotRequired[dict[str, float]]
    evidence: NotRequired[Record]
    shortcut: NotRequired[Record]


@dataclass(frozen=True)
class ModelRecords:
    """The JSON files of a model folder, parsed.

    Each is the file of that name, None if it was not written; besides, `guard_test` is `evaluation/guard.json`,
    `patient_wise` has at least one finished fold, `external` are `evaluation/external_<name>.json` by name, and
    `pictures` the plots that exist, as paths within the folder.
    """

    config: Record
    run: Record
    audit: Record | None
    calibration: Calibration | None
    evidence: Record | None
    guard: GuardSettings | None
    guard_test: Record | None
    export: Record | None
    results: Results | None
    patient_wise: Record | None
    external: dict[str, Results]
    pictures: list[str]


def read_records(folder: str | Path) -> ModelRecords:
    """Read the records of a model folder.

    Raises:
        DataError: `config.json` or `run.json` is missing, or a file is no JSON object.
    """
    root, evaluation = Path(folder), Path(folder) / EVALUATION
    patient_wise = _read_if_there(evaluation / PATIENT_WISE)
    external = {p.stem.removeprefix("external_"): read_record(p) for p in sorted(evaluation.glob("external_*.json"))}
    return ModelRecords(
        config=read_record(root / CONFIG),
        run=read_record(root / RUN),
        audit=_read_if_there(root / AUDIT),
        calibration=cast(Calibration | None, _read_if_there(root / CALIBRATION)),
        evidence=_read_if_there(root / EVIDENCE),
        guard=cast(GuardSettings | None, _read_if_there(root / GUARD)),
        guard_test=_read_if_there(evaluation / GUARD_TEST),
        export=_read_if_there(root / EXPORT),
        results=cast(Results | None, _read_if_there(evaluation / RESULTS)),
        patient_wise=patient_wise if patient_wise and patient_wise["metrics"] else None,
        external=cast(dict[str, Results], external),
        pictures=[name for name in _PICTURES if (root / name).is_file()],
    )


def _read_if_there(path: Path) -> Record | None:
    return (read_record(path) or None) if path.exists() else None


def read_record(path: Path) -> Record:
    """A JSON object of a model folder.

    Raises:
        DataError: the file is missing, or no JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: give the folder that a finished run of train.py left.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): write it again with the script that made it.") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object: write it again with the script that made it.")
    return record


def check_named(model: str) -> None:
    """Check that a model's name can be one: a finished folder, or else an id on the Hub, which is not looked up.

    Raises:
        ConfigError: it is neither.
    """
    path = Path(model)
    if path.is_dir() and not (path / CONFIG).is_file():
        raise ConfigError(f"{model} has no {CONFIG}: it is no model folder, or its training has not finished.")
    if not path.is_dir() and (path.exists() or not _HUB_ID.fullmatch(model)):
        raise ConfigError(f"{model}: no such model folder, and no id of a model on the Hub (USER/NAME).")


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


def served_file(folder: Path, names: Sequence[str] = (INT8_FILE, FLOAT32_FILE)) -> Path | None:
    """The first of `names` that a model folder has; None without any."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
