"""The figures of an evaluation: all images, those without a twin in training, those that no review lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import PartialState
from datasets import Dataset

from brain_mri.data.hub_dataset import side_column
from brain_mri.data.prepare import PreparedImages
from brain_mri.errors import ConfigError
from brain_mri.evaluation.predict import Predictions
from brain_mri.evaluation.served import ServedPredictions
from brain_mri.inference.postprocess import prediction_sets, softmax
from brain_mri.inference.thresholds import contour_levels
from brain_mri.labels import is_healthy
from brain_mri.leakage.shortcut import shortcut_accuracy
from brain_mri.metrics import calibration
from brain_mri.metrics.calibration import calibration_scores
from brain_mri.metrics.localization import localization
from brain_mri.metrics.safety import format_safety, safety
from brain_mri.metrics.scores import auroc_score, format_table, score
from brain_mri.model_folder import AUDIT, CALIBRATION, EVIDENCE, PATIENT_WISE, RUN, read_records
from brain_mri.reporting.cautions import cautions
from brain_mri.reporting.model_card import write_card
from brain_mri.utils.files import read_json, write_json


@dataclass(frozen=True)
class _Evaluated:
    """Images and all that is known of them, in one order."""

    predictions: Predictions
    rows: Dataset
    served: ServedPredictions | None

    def without(self, dropped: Sequence[bool]) -> _Evaluated | None:
        """Those that are not `dropped`; None if that is all of them, or none."""
        kept = [i for i, drop in enumerate(dropped) if not drop]
        if not 0 < len(kept) < len(self.rows):
            return None
        served = self.served and self.served.select(kept)
        return _Evaluated(self.predictions.select(kept), self.rows.select(kept), served)


def figures(
    predictions: Predictions,
    rows: Dataset,
    label_names: Sequence[str],
    model_dir: str,
    audited: bool,
    served: ServedPredictions | None = None,
) -> dict[str, Any]:
    """The figures of `results.json`.

    Args:
        predictions: the model's outputs.
        rows: the images, in the same order.
        label_names: the model's labels.
        model_dir: the model's folder.
        audited: whether the folder's `audit.json` is of these very images; another folder may use the same names.
        served: the predictions of the served file; None if the model was not exported.

    Returns:
        `scores` of all rows, and if it applies: `safety` (see `metrics.safety`), `symmetry`, how well the asymmetry
        tells tumours from the healthy class (see `inference.symmetry`), and `guard`, the share that its served file
        accepts, if exported; `leak_free`, scores, safety and symmetry of the rows without a twin in training;
        `before_calibration`, unless an earlier stage was calibrated; `prediction_sets` and `referral`; `evidence`, of
        the rows that have a box. If `review.csv` lists some of the rows, `reviewed`, what the model says of these,
        `{finding: {"n", "refused", "unsure", "answered": {label: n}}}`, and `without_review`: how many were `removed`,
        and every figure of the others.
    """
    twins = set(read_json(Path(model_dir) / AUDIT).get("test_with_twin", ())) if audited else set()
    evaluated = _Evaluated(predictions, rows, served)
    result = _measured(evaluated, label_names, model_dir, twins)
    findings = side_column(rows, "finding")
    if evaluated.served and any(findings):
        result["reviewed"] = {
            name: _counts(
                evaluated.served.select([i for i, finding in enumerate(findings) if finding == name]), label_names
            )
            for name in sorted(set(filter(None, findings)))
        }
    if others := evaluated.without([bool(finding) for finding in findings]):
        removed = {"removed": len(rows) - len(others.rows)}
        result["without_review"] = removed | _measured(others, label_names, model_dir, twins)
    return result


def _measured(evaluated: _Evaluated, label_names: Sequence[str], model_dir: str, twins: set[str]) -> dict[str, Any]:
    predictions, rows = evaluated.predictions, evaluated.rows
    result = _scored(evaluated, label_names)
    if new := evaluated.without([digest in twins for digest in rows["digest"][:]]):
        result["leak_free"] = {"removed": len(rows) - len(new.rows), **_scored(new, label_names)}
    if record := read_json(Path(model_dir) / CALIBRATION):
        result |= _calibrated(predictions, record)
    if evaluated.served is not None:
        result["guard"] = {"accepted": float(evaluated.served.accepted.mean()), "file": evaluated.served.file}
    levels = contour_levels(Path(model_dir) / EVIDENCE)
    if evidence := evidence_figures(predictions, rows, label_names, levels):
        result["evidence"] = evidence
    return result


def _scored(evaluated: _Evaluated, label_names: Sequence[str]) -> dict[str, Any]:
    """`scores`, and with a served file `safety` and `symmetry`."""
    labels, groups, served = evaluated.predictions.labels, evaluated.rows["patient_group"][:], evaluated.served
    result = {"scores": score(evaluated.predictions.probabilities, labels, label_names, groups=groups)}
    found = served and safety(served.probabilities, labels, label_names, served.accepted, served.answered, groups)
    if not served or not found:
        return result
    result["safety"] = found
    if served.asymmetries is not None:
        tumor = [not is_healthy(label_names[i]) for i in labels]
        if (auroc := auroc_score(served.asymmetries, tumor, groups)) is not None:
            result["symmetry"] = {"tumor_auroc": auroc}
    return result


def _counts(served: ServedPredictions, label_names: Sequence[str]) -> dict[str, Any]:
    named = np.bincount(served.probabilities[served.answered].argmax(axis=1), minlength=len(label_names))
    return {
        "n": len(served.answered),
        "refused": int((~served.accepted).sum()),
        "unsure": int((served.accepted & ~served.answered).sum()),
        "answered": dict(zip(label_names, named.tolist(), strict=True)),
    }


def in_words(found: dict[str, Any]) -> str:
    """`figures` for the console: false all-clears first, then the scores, then the images that a review lists."""
    parts = [format_safety(found.get("safety", {})), format_table(found["scores"])]
    for finding, counts in found.get("reviewed", {}).items():
        answers = ", ".join(f"{n:,} {label}" for label, n in counts["answered"].items() if n) or "none"
        unnamed = f"{counts['refused']:,} refused, {counts['unsure']:,} unsure"
        parts.append(f"{counts['n']:,} images listed in review.csv as {finding}: answered {answers}; {unnamed}")
    if others := found.get("without_review"):
        accuracy = others["scores"]["accuracy"]["value"]
        parts.append(
            f"without the {others['removed']:,} images listed in review.csv: accuracy {accuracy:.4f}\n"
            f"{format_safety(others.get('safety', {}))}"
        )
    return "\n\n".join(parts)


def shortcut(images: PreparedImages, rows: Dataset, label_names: Sequence[str]) -> dict[str, Any]:
    """The shortcut control: fitted on all images but `rows`, whose labels are `label_names`, and scored on `rows`.

    {} if there are no other images.
    """
    tested = set(rows["file_name"][:])
    known = zip(images.rows["file_name"][:], images.rows["finding"][:], strict=True)
    others = [i for i, (name, finding) in enumerate(known) if name not in tested and not finding]  # as training has it
    if not others:
        return {}
    train = images.rows.select(others)
    features = [np.asarray(part["shortcut"][:], dtype=np.float64) for part in (train, rows)]
    labels = [[images.label_names[i] for i in train["label"][:]], [label_names[i] for i in rows["label"][:]]]
    return shortcut_accuracy(features[0], labels[0], features[1], labels[1])


def _calibrated(predictions: Predictions, record: dict[str, Any]) -> dict[str, Any]:
    probabilities, labels = predictions.probabilities, predictions.labels
    uncalibrated = softmax(predictions.logits * record["temperature"])
    before = {} if record.get("earlier_stage") else {"before_calibration": calibration_scores(uncalibrated, labels)}
    return before | {
        "prediction_sets": _prediction_sets(probabilities, labels, record["prediction_sets"]),
        "referral": _referral(probabilities, labels, record["referral"]["threshold"]),
    }


def _prediction_sets(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], chosen: dict[str, Any]
) -> dict[str, float]:
    """Coverage in the sense of split-conformal prediction, and of the sets that users see, which are never empty."""
    strict = prediction_sets(probabilities, chosen["threshold"], allow_empty=True)
    shown = prediction_sets(probabilities, chosen["threshold"])
    return {
        "target": chosen["coverage"],
        "coverage": calibration.empirical_coverage(strict, labels),
        "coverage_shown": calibration.empirical_coverage(shown, labels),
        "mean_size": float(shown.sum(axis=1).mean()),
        "empty": float((~strict.any(axis=1)).mean()),
    }


def _referral(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], threshold: float
) -> dict[str, float]:
    kept = probabilities.max(axis=1) >= threshold
    result = {"threshold": threshold, "referred": float((~kept).mean())}
    if kept.any():
        result["accuracy_kept"] = float((probabilities[kept].argmax(axis=1) == labels[kept]).mean())
    return result


def evidence_figures(
    predictions: Predictions, rows: Dataset, label_names: Sequence[str], levels: Mapping[str, float]
) -> dict[str, Any]:
    """`localization` of the maps, for the rows that have a box; {} without maps or boxes."""
    if predictions.evidence is None:
        return {}
    groups = rows["patient_group"][:]
    return localization(predictions.evidence, predictions.labels, rows["box"][:], label_names, groups, levels)


def adopt_patient_wise(source: str | None, evaluation: Path) -> None:
    """Copy the figures of patient-wise cross-validation from the folder that `brain_mri.crossval` filled.

    Raises:
        ConfigError: no fold of it is finished.
    """
    if source is None:
        return
    path = Path(source) / PATIENT_WISE
    if not path.is_file():
        raise ConfigError(f"--patient_wise {source}: no {PATIENT_WISE} there; let brain_mri.crossval finish a fold.")
    write_json(read_json(path), evaluation / PATIENT_WISE)


def beware(folder: str | Path) -> str:
    """What makes the figures doubtful, a line each, see `reporting.cautions`; empty for a model from elsewhere."""
    found = cautions(read_records(folder)) if (Path(folder) / RUN).is_file() else []
    return "".join(f"BEWARE: {caution}\n" for caution in found) + ("\n" if found else "")


def write_model_card(folder: str | Path) -> None:
    """Write the model's card from its folder's records; a model from elsewhere, without `run.json`, keeps its own."""
    if PartialState().is_main_process and (Path(folder) / RUN).is_file():
        write_card(folder)
