"""The summary of a cross-validation's folds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.fold_records import write_results

from brain_mri.crossval import summary
from brain_mri.crossval.folds import Plan
from brain_mri.crossval.summary import format_table, summarise


def test_the_summary_is_of_the_finished_folds_with_the_sample_deviation(tmp_path: Path) -> None:
    plan = Plan({"a": 1, "b": 2, "c": 3}, 3, 1, 0)
    assert summarise(tmp_path, plan) == {"n_folds": 3, "finished": [], "metrics": {}}
    write_results(tmp_path, 1, 0.9, macro_f1=0.8)
    one = summarise(tmp_path, plan)
    assert one["metrics"] == {
        "accuracy": {"mean": 0.9, "values": [0.9]},
        "macro_f1": {"mean": 0.8, "values": [0.8]},
    }
    write_results(tmp_path, 3, 0.7)
    two = summarise(tmp_path, plan)
    assert two["finished"] == [1, 3] and two["n"] == 20 and two["n_folds"] == 3 and two["guided"] is False
    assert two["metrics"]["accuracy"]["sd"] == pytest.approx(np.std([0.9, 0.7], ddof=1))
    assert "macro_f1" not in two["metrics"], "a figure that one fold lacks has no mean over folds"
    assert two["pooled"] == {"accuracy": 16 / 20, "confusion_matrix": [[10, 0], [4, 6]]}
    assert [fold["fold"] for fold in two["folds"]] == [1, 3] and "pointing_game" not in two["folds"][0]
    lacking = {"n": 2, "label_names": ["no", "yes"], "confusion_matrix": [[1, 1], [0, 0]], "accuracy": {"value": 0.5}}
    assert summary._fold(1, lacking, {})["sensitivity"] == {"no": 0.5, "yes": None}, "no image, no share"
    assert two["folds"][1]["sensitivity"] == {"no": 1.0, "yes": 2 / 5} and two["folds"][1]["accuracy"] == {"value": 0.7}
    table = format_table(two, plan).splitlines()
    assert [line.split()[0] for line in table] == ["fold", "1", "3", "mean"] and "0.8000 +- 0.1414" in table[-1]


def test_the_contour_of_the_folds_stands_beside_the_peak(tmp_path: Path) -> None:
    plan = Plan({"a": 1, "b": 2}, 2, 1, 0)
    for number, overlap in ((1, 0.4), (2, 0.5)):
        write_results(tmp_path, number, 0.9)
        path = summary.results_file(tmp_path, number)
        located = {"pointing_game": 0.9, "mass_inside": 0.3, "overlap": overlap, "area_ratio": 1.25}
        evidence = {name: {"value": value} for name, value in located.items()}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"evidence": evidence}))
    found = summarise(tmp_path, plan)
    assert found["metrics"]["overlap"]["mean"] == pytest.approx(0.45)
    assert found["metrics"]["area_ratio"]["values"] == [1.25, 1.25]
    assert [fold["overlap"]["value"] for fold in found["folds"]] == [0.4, 0.5]


def test_a_recipe_with_guidance_is_said_to_be_guided(tmp_path: Path) -> None:
    write_results(tmp_path, 1, 0.9)
    (tmp_path / "fold1" / "model" / "run.json").write_text(json.dumps({"recipe": {"guidance": 0.3}, "boxed_images": 7}))
    assert summarise(tmp_path, Plan({"a": 1, "b": 2}, 2, 1, 0))["guided"] is True
