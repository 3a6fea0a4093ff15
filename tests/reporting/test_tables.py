from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from brain_mri.errors import DataError
from brain_mri.reporting.tables import fold_table, keep, table
from brain_mri.utils.files import read_json

_ROOT = Path(__file__).parents[2]
_KEPT = [path for path in (_ROOT / "release", *sorted((_ROOT / "results").glob("*"))) if path.is_dir()]


def test_the_readme_s_table_is_what_the_records_say() -> None:
    assert table(_KEPT) in (_ROOT / "README.md").read_text(encoding="utf-8"), "paste the output of `make results`"


def test_the_readme_s_folds_are_those_of_the_records() -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    assert fold_table(read_json(_ROOT / "release/evaluation/patient_wise.json")) in readme
    tried = read_json(_ROOT / "results/efficientnet_full_size/evaluation/patient_wise_balanced.json")
    second, third = (f"{fold['accuracy']['value']:.2%}" for fold in tried["folds"])
    together = f"{tried['metrics']['accuracy']['mean']:.2%}"
    assert f"Fold 2 rises to {second}, fold 3 falls to {third}: together {together}" in " ".join(readme.split())
    unguided = read_json(_ROOT / "results/efficientnet/evaluation/patient_wise_unguided.json")["folds"][0]
    for figure in (unguided["accuracy"], unguided["pointing_game"]):
        shown = "{value:.1%} ({low:.1f} to {high:.1f})"
        low, high = (100 * figure[end] for end in ("low", "high"))
        assert shown.format(value=figure["value"], low=low, high=high) in " ".join(readme.split())


def test_a_class_that_no_fold_has_is_a_dash_and_a_record_without_folds_an_error() -> None:
    one = {"fold": 1, "n": 4, "accuracy": {"value": 0.75}, "sensitivity": {"glioma": 0.75, "pituitary": None}}
    pooled = {"accuracy": 0.75, "confusion_matrix": [[3, 1], [0, 0]]}
    folds = {"folds": [one], "label_names": ["glioma", "pituitary"], "n": 4, "pooled": pooled}
    folds["metrics"] = {"accuracy": {"mean": 0.75, "values": [0.75]}}
    assert fold_table(folds).splitlines()[-1] == "| all | 4 | 75.00% | 75.0% | - |"
    with pytest.raises(DataError, match="no finished fold"):
        fold_table({})


def test_the_readme_s_ensemble_is_that_of_the_record() -> None:
    less = read_json(_ROOT / "release/evaluation/ensemble.json")["gain"]
    value, nearest, furthest = (-100 * less[name] for name in ("value", "high", "low"))
    readme = " ".join((_ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{value:.2f} points below `release` ({furthest:.2f} to {nearest:.2f}, paired" in readme


def test_the_speeds_on_the_first_page_are_those_of_the_benchmarks() -> None:
    readme, measured = ((_ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "BENCHMARKS.md"))
    named = re.findall(r"\*\*It is fast.*?\n\n|- Speed on CPUs:.*?\n\n", readme, re.DOTALL)
    assert len(named) == 2
    speeds = re.findall(r"([\d.]+)(?= ms| s\b| MB| images/s|\))", "".join(named))
    assert len(speeds) > 9
    for speed in speeds:
        assert re.search(rf"(?<![\d.]){re.escape(speed)}(?![\d.])", measured), f"{speed}: not in BENCHMARKS.md"


def test_the_records_in_git_hold_no_weights_no_pictures_and_no_place() -> None:
    for path in (_ROOT / "results").rglob("*"):
        assert path.is_dir() or path.suffix == ".json", path
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not [word for word in json.dumps(json.loads(text)).split('"') if word.startswith("/")], path


def test_a_row_says_what_was_measured_and_a_dash_what_was_not(guided_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    shutil.copytree(guided_model, model, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(DataError, match=r"holds no evaluation/results\.json"):
        table([model])
    accuracy = {"value": 0.8765, "low": 0.8012, "high": 0.9123}
    scores = {"accuracy": accuracy, "expected_calibration_error": {"value": 0.0321}}
    (model / "evaluation").mkdir()
    (model / "evaluation" / "results.json").write_text(json.dumps({"scores": scores, "data": {"name": "synthetic"}}))
    keep(model, tmp_path / "kept")
    row = table([tmp_path / "kept"]).splitlines()[2]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["`kept`: resnet18, random weights, 96 px", "87.65% (80.12 to 91.23)", "-", "-", "0.0321"]
    assert cells[-1].startswith("12 epochs, ")
    assert "log_history" not in json.loads((tmp_path / "kept" / "run.json").read_text())
    assert not list((tmp_path / "kept").rglob("*.safetensors"))
    with pytest.raises(DataError, match="no record: name a folder for this model alone"):
        keep(model, model)
    keep(model, tmp_path / "all" / "tiny")
    with pytest.raises(DataError, match="records of other models"):
        keep(model, tmp_path / "all")
    assert (model / "model.safetensors").is_file() and (tmp_path / "kept" / "run.json").is_file()
