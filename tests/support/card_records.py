"""Records as training and evaluation leave them, drawn or made up, for the tests of the card."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.data.file_features import FEATURES
from brain_mri.data.image_table import AuditTable
from brain_mri.inference.postprocess import softmax
from brain_mri.labels import LABELS
from brain_mri.leakage.audit import audit
from brain_mri.leakage.shortcut import shortcut_accuracy
from brain_mri.metrics.scores import score


def some_answers(seed: int, n: int, classes: int = 4, lift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += lift
    return softmax(logits), labels


@cache
def some_scores(seed: int, n: int = 120, **options: Any) -> dict[str, Any]:
    probabilities, labels = some_answers(seed, n, **options)
    return score(probabilities, labels, LABELS, groups=[f"p{i // 2}" for i in range(n)], resamples=50)


@cache
def some_audit() -> dict[str, Any]:
    """Test image 0 is the file of training image 0; test image 1 mirrors training image 1 under another label."""
    thumbnails = np.random.default_rng(0).integers(0, 256, (10, 48, 48), dtype=np.uint8)
    thumbnails[6], thumbnails[7] = thumbnails[0], thumbnails[1][:, ::-1]
    return audit(
        AuditTable(
            file_names=[f"{'train' if i < 6 else 'test'}/{i}.jpg" for i in range(10)],
            splits=["train"] * 6 + ["test"] * 4,
            labels=["glioma"] * 7 + ["meningioma"] * 3,
            digests=["same" if i in (0, 6) else str(i) for i in range(10)],
            thumbnails=thumbnails,
            patient_groups=["a", "a", "b", "b", None, None, "a", "b", "c", None],
        )
    )


def some_results(seed: int, **options: Any) -> dict[str, Any]:
    data = {"name": f"data{seed}", "fingerprint": f"{seed}" * 64}
    about = {"model": "somewhere/model", "images": "the test split", "data": data, "seconds": 12.0}
    return about | {"scores": some_scores(seed, **options)}


def full_results() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    names = [LABELS[i % 4] for i in range(60)]
    features = rng.normal(size=(60, len(FEATURES)))
    features[:, 0] += [LABELS.index(name) for name in names]
    return some_results(1) | {
        "leak_free": {"removed": 41, "scores": some_scores(2, n=79)},
        "before_calibration": {"negative_log_likelihood": 0.7123, "expected_calibration_error": 0.0823},
        "prediction_sets": {
            "target": 0.95,
            "coverage": 0.9412,
            "coverage_shown": 0.9634,
            "mean_size": 1.437,
            "empty": 0.0221,
        },
        "referral": {"threshold": 0.8765, "referred": 0.1534, "accuracy_kept": 0.9876},
        "shortcut": shortcut_accuracy(features[:40], names[:40], features[40:], names[40:]),
    }


def calibration() -> dict[str, Any]:
    before = {"negative_log_likelihood": 0.4321, "expected_calibration_error": 0.0512}
    after = {"negative_log_likelihood": 0.3987, "expected_calibration_error": 0.0123}
    return {
        "temperature": 1.2345,
        "n": 98,
        "validation": {"before": before, "after": after},
        "prediction_sets": {"coverage": 0.95, "threshold": 0.1234567, "method": "LAC"},
        "referral": {"accuracy": 0.99, "threshold": 0.87654321},
    }


def patient_wise() -> dict[str, Any]:
    metrics = {
        "accuracy": {"mean": 0.9137, "sd": 0.0213, "values": [0.8924, 0.935]},
        "macro_f1": {"mean": 0.9011, "sd": 0.0101, "values": [0.891, 0.9112]},
    }
    about = {"folds_by": "grouped", "n_folds": 5, "finished": [1, 2], "n": 1226, "guided": False}
    return about | {"metrics": metrics, "label_names": list(LABELS)}


def run_record(**model: Any) -> dict[str, Any]:
    counts = {split: dict.fromkeys(LABELS, n) for split, n in (("train", 90), ("validation", 24), ("test", 30))}
    training = {
        "num_train_epochs": 6.0, "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1,
        "optim": "adamw_torch_fused", "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.1,
        "weight_decay": 0.02, "label_smoothing_factor": 0.05, "load_best_model_at_end": True,
        "metric_for_best_model": "macro_f1", "seed": 42, "resume_from_checkpoint": None,
    }  # fmt: skip
    return {
        "data": asdict(DataArguments(data_dir="some/private/place/brain-scans")),
        "model": asdict(ModelArguments(**model)),
        "recipe": asdict(RecipeArguments(ema_decay=0.995)),
        "training": training,
        "data_fingerprint": "0123456789abcdef" * 4,
        "label_names": list(LABELS),
        "splits": counts,
        "best_metric": 0.8181,
        "global_step": 66,
        "log_history": [{"eval_accuracy": 0.8282, "epoch": 6.0}],
        "processes": 2,
        "hardware": {"cpu": "A Processor", "threads": 2, "gpus": [], "system": "Linux"},
        "versions": {"torch": "2.15.0", "transformers": "5.23.0"},
        "seconds": 4500.0,
        "finished": "2026-11-21T02:59:04Z",
    }


def timm_config() -> dict[str, Any]:
    return {"model_type": "timm_wrapper", "pretrained_cfg": {"license": "apache-2.0"}}


def save(folder: Path, **records: dict[str, Any]) -> Path:
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    for name, record in records.items():
        inside = name in ("results", "patient_wise") or name.startswith("external")
        (folder / ("evaluation" if inside else ".") / f"{name}.json").write_text(json.dumps(record))
    return folder


def evidence_figures(n: int, pointing: float) -> dict[str, Any]:
    """What localization() gives for `n` images of glioma."""
    figures = {name: {"value": 0.3, "low": 0.2, "high": 0.4} for name in ("mass_inside", "overlap")}
    figures |= {"pointing_game": {"value": pointing, "low": 0.7, "high": 0.9}, "box_area": {"value": 0.023}}
    summary = {"n": n, "n_groups": 31, **figures}
    return summary | {"per_class": {"glioma": summary}}
