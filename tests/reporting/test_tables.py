from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from brain_mri.errors import DataError
from brain_mri.reporting.tables import FIRST_PAGE, RUNS, fold_table, keep, main, page, table
from brain_mri.utils.files import read_json

_ROOT = Path(__file__).parents[2]
_RELEASE, _KEPT = _ROOT / "release", sorted(path for path in (_ROOT / "results").glob("*") if path.is_dir())


def test_the_page_of_results_is_what_the_records_say() -> None:
    assert (_ROOT / "docs/results.md").read_text(encoding="utf-8") == page(_RELEASE, _KEPT), "run `make results`"


def test_the_readme_s_row_is_what_the_records_say() -> None:
    assert table([_RELEASE], FIRST_PAGE) in (_ROOT / "README.md").read_text(encoding="utf-8"), (
        "paste what `make results` prints"
    )


def test_make_results_writes_that_page(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--page", str(_RELEASE), *map(str, _KEPT)])
    assert capsys.readouterr().out == page(_RELEASE, _KEPT)


def test_the_page_shows_other_sources_where_they_were_judged(tmp_path: Path) -> None:
    model = tmp_path / "release"
    shutil.copytree(_RELEASE, model, ignore=shutil.ignore_patterns("*.safetensors", "*.onnx", "*.png"))
    scores = {"n": 50, "label_names": ["glioma", "no_tumor"], "confusion_matrix": [[30, 10], [2, 8]]}
    scores["per_class"] = {"glioma": {}, "no_tumor": {"auroc": {"value": 0.71, "low": 0.6, "high": 0.8}}}
    elsewhere = {"scores": scores | {"accuracy": {"value": 0.76, "low": 0.61, "high": 0.88}}}
    sides = {"symmetry": {"tumor_auroc": {"value": 0.83, "low": 0.7, "high": 0.9}}}
    row = "| elsewhere | 50 | 76.00% (61.00 to 88.00) | 10 of 40 (25.0%) | 0.71 (0.60 to 0.80) |"
    for measured, shown in (({}, "- |"), (sides, "0.83 (0.70 to 0.90) |")):
        (model / "evaluation" / "external_elsewhere.json").write_text(json.dumps(elsewhere | measured))
        assert f"{row} {shown}" in page(model, [])
    assert "| elsewhere |" not in page(_RELEASE, [])


def test_a_page_of_the_least_records_says_what_was_not_measured(tmp_path: Path) -> None:
    model = tmp_path / "release"
    for name in ("config.json", "run.json", "evaluation/results.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_RELEASE / name, model / name)
    bare = page(model, [])
    accuracy = read_json(model / "evaluation/results.json")["scores"]["accuracy"]["value"]
    folds = read_json(_RELEASE / "evaluation/patient_wise.json")["metrics"]["accuracy"]["mean"]
    assert f"{accuracy:.2%}" in bare and f"{folds:.2%}" not in bare
    assert "Patients never seen: not measured" in bare and "Not measured in the stored records" in bare
    results = read_json(model / "evaluation/results.json")
    del results["shortcut"]["recall"]
    (model / "evaluation/results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match="recall"):
        page(model, [])


def test_what_was_tried_stands_beside_the_same_folds_unchanged() -> None:
    folds = read_json(_RELEASE / "evaluation/patient_wise.json")["folds"][1:2]
    tried = read_json(_ROOT / "results/efficientnet_short/evaluation/patient_wise_plain.json")["folds"]
    both = [some[0]["accuracy"]["value"] for some in (tried, folds)]
    line = next(line for line in page(_RELEASE, _KEPT).splitlines() if line.startswith("| plain |"))
    assert line.startswith(f"| plain | 2 | {both[0]:.1%} | {both[1]:.1%} |")


def test_a_class_that_no_fold_has_is_a_dash_and_a_record_without_folds_an_error() -> None:
    one = {"fold": 1, "n": 4, "accuracy": {"value": 0.75}, "sensitivity": {"glioma": 0.75, "pituitary": None}}
    pooled = {"accuracy": 0.75, "confusion_matrix": [[3, 1], [0, 0]]}
    folds = {"folds": [one], "label_names": ["glioma", "pituitary"], "n": 4, "pooled": pooled}
    folds["metrics"] = {"accuracy": {"mean": 0.75, "values": [0.75]}}
    assert fold_table(folds).splitlines()[-1] == "| all | 4 | 75.00% | 75.0% | - |"
    with pytest.raises(DataError, match="no finished fold"):
        fold_table({})


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
    figures, run = (table([tmp_path / "kept"], *columns).splitlines()[2] for columns in ((), (RUNS,)))
    known = "| `kept` | - | - | - | 87.65% (80.12 to 91.23) | 0.0321 | "
    assert figures == known + " | ".join(figures.split(" | ")[-2:])
    assert run.startswith("| `kept` | resnet18 | random | - | 96 | ") and "| 12 epochs, " in run
    assert "log_history" not in (tmp_path / "kept" / "run.json").read_text(), "nor those of earlier stages"
    assert not list((tmp_path / "kept").rglob("*.safetensors"))
    with pytest.raises(DataError, match="no record: name a folder for this model alone"):
        keep(model, model)
    keep(model, tmp_path / "all" / "tiny")
    with pytest.raises(DataError, match="records of other models"):
        keep(model, tmp_path / "all")
    assert (model / "model.safetensors").is_file() and (tmp_path / "kept" / "run.json").is_file()


def test_a_row_says_who_taught_the_model_and_what_that_took(tmp_path: Path) -> None:
    student = tmp_path / "student"
    for name in ("config.json", "run.json", "evaluation/results.json"):
        (student / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_KEPT[-1] / name, student / name)
    run, teacher = read_json(student / "run.json"), read_json(_RELEASE / "run.json")
    run["teacher"] = {
        "model": "some/where/release",
        "stages": [{"epochs": 11, "seconds": 9000.0}, teacher["stages"][0]],
    }
    run["stages"] = []
    run["weights"] = {"file": "some/where/backbone.safetensors"}
    run["model"]["pretrained"] = False
    (student / "run.json").write_text(json.dumps(run))
    cells = dict(
        zip(RUNS, (cell.strip() for cell in table([student], RUNS).splitlines()[2].split("|")[1:]), strict=False)
    )
    assert cells["teacher"] == "`release`" and cells["first weights"] == "random, some from `backbone.safetensors`"
    first = teacher["stages"][0]
    expected = f"; teacher {11 + first['epochs']:g} epochs, {(9000 + first['seconds']) / 3600:.1f} h"
    assert cells["training"].endswith(expected)
    run["stages"] = [first | {"teacher": run.pop("teacher")}]
    (student / "run.json").write_text(json.dumps(run))
    assert "| `release` |" in table([student], RUNS), "of an earlier stage too"
