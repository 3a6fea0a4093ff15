from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.card_records import calibration, full_results, run_record, save, some_audit, timm_config

from brain_mri.labels import LABELS
from brain_mri.metrics.calibration import REFER_EVERYTHING, TEMPERATURE_BOUNDS
from brain_mri.model_folder import read_records
from brain_mri.reporting.cautions import cautions
from brain_mri.reporting.model_card import write_card

GUARD = {"method": "m", "threshold": 1.0, "acceptance": 0.99, "statistics": "s", "parts": []}

INT8 = {"kept": False, "accuracy": [0.9, 0.8], "same_label": 0.8, "n": 400}


def _cautions(folder: Path, **records: dict[str, Any]) -> list[str]:
    large = {"config": timm_config(), "run": run_record() | {"global_step": 500}}
    found = {"calibration": calibration() | {"n": 400}, "guard": GUARD, "export": {"int8": INT8}}
    return cautions(read_records(save(folder, **(large | found | records))))


def _calibration(**changes: Any) -> dict[str, Any]:
    return calibration() | {"n": 400} | changes


def _renamed(healthy: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(run_record()).replace("no_tumor", healthy))
    return record


def _audit(leaked: int = 0, contrary: int = 0) -> dict[str, Any]:
    """Of 400 images, 40 of them for test."""
    found = some_audit()
    splits = found["splits"] | {"test": found["splits"]["test"] | {"images": 40}}
    changed = {"test_with_twin": ["0"] * leaked, "different_labels": [{"labels": ["a", "b"]}] * contrary}
    return found | {"images": 400, "splits": splits} | changed


def test_a_model_with_nothing_doubtful_has_no_caution(tmp_path: Path) -> None:
    results = full_results()
    results["shortcut"]["accuracy"] = results["scores"]["accuracy"]["value"] - 0.1
    assert _cautions(tmp_path, results=results) == []


def test_a_model_no_better_than_the_control_without_a_brain_is_told_so(tmp_path: Path) -> None:
    results = full_results()
    results["shortcut"]["accuracy"] = results["scores"]["accuracy"]["value"]
    (caution,) = _cautions(tmp_path, results=results)
    assert "sees no brain" in caution and f"{results['shortcut']['accuracy']:.1%}" in caution


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({"run": _renamed("rien") | {"global_step": 500}}, "no_tumor"),
        ({"audit": _audit(leaked=33)}, "33 of 40 test images"),
        ({"audit": _audit(contrary=8)}, "8 groups of near-copies"),
        ({"calibration": _calibration(temperature=TEMPERATURE_BOUNDS[1] * 0.9999)}, "bound"),
        ({"calibration": _calibration(temperature=TEMPERATURE_BOUNDS[0] * 1.0001)}, "bound"),
        ({"run": run_record() | {"global_step": 12}}, "12 steps"),
        (
            {
                "run": run_record()
                | {"global_step": 500, "splits": {"train": dict.fromkeys(LABELS, 90) | {"glioma": 38}}}
            },
            "glioma 38",
        ),
        ({"calibration": _calibration(n=32)}, "guard's were set on 32"),
        ({"guard": {}}, "no guard"),
        ({"calibration": _calibration(prediction_sets={"coverage": 0.95, "threshold": 0.0, "method": "LAC"})}, "95%"),
        ({"calibration": _calibration(referral={"accuracy": 0.99, "threshold": REFER_EVERYTHING})}, "is unsure"),
    ],
)
def test_what_makes_figures_doubtful_is_said_and_stands_above_them_in_the_card(
    tmp_path: Path, records: dict[str, Any], said: str
) -> None:
    (caution,) = _cautions(tmp_path, **records)
    assert said in caution
    card = write_card(tmp_path).read_text()
    assert card.index("NOT FOR DIAGNOSIS") < card.index(caution) < card.index("## ")
