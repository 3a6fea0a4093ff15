from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from datasets import Dataset

from brain_mri.arguments import DataArguments, EvaluationArguments
from brain_mri.data.prepare import PreparedImages, prepare_images
from brain_mri.data.transforms import Preprocessing
from brain_mri.errors import DataError
from brain_mri.evaluation.predict import label_names_of, load_model, predict
from brain_mri.evaluation.results import figures
from brain_mri.evaluation.served import predict_served
from brain_mri.evaluation.test_images import (
    data_record,
    images_to_evaluate,
    only_part,
    output_files,
    with_model_labels,
)


@pytest.fixture
def elsewhere(phantoms: Path, tmp_path: Path) -> Path:
    """Two of the four classes, without splits, half of the patients in each part."""
    for name in ("glioma", "no_tumor"):
        shutil.copytree(phantoms / "test" / name, tmp_path / "elsewhere" / name)
    names = sorted(path.relative_to(tmp_path / "elsewhere").as_posix() for path in tmp_path.glob("elsewhere/*/*"))
    rows = [f"{name},p{i},{'choose' if i % 2 else 'report'}" for i, name in enumerate(names)]
    (tmp_path / "elsewhere" / "patients.csv").write_text("\n".join(["file_name,patient_group,part", *rows]) + "\n")
    return tmp_path / "elsewhere"


def _images(folder: Path, preprocessing: Preprocessing) -> PreparedImages:
    return prepare_images(DataArguments(str(folder)), preprocessing)


def test_only_the_part_asked_for_is_judged_and_its_figures_get_a_file_of_their_own(
    elsewhere: Path, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    images = _images(elsewhere, preprocessing)
    rows, _ = images_to_evaluate(images, DataArguments(str(elsewhere)), {"data_fingerprint": "another"})
    parts = {part: only_part(rows, str(elsewhere), part) for part in (None, "choose", "report")}
    assert len(parts[None]) == len(rows) == 12
    assert set(parts["choose"]["file_name"]) | set(parts["report"]["file_name"]) == set(rows["file_name"])
    assert len(parts["choose"]) == len(parts["report"]) == 6
    data = data_record(images, str(elsewhere), "choose")
    assert (data["name"], data["part"]) == ("elsewhere-choose", "choose")
    assert "part" not in data_record(images, str(elsewhere), None)
    _, path = output_files(EvaluationArguments(str(tmp_path)), data["name"])
    assert path.name == "external_elsewhere-choose.json"


def test_a_part_that_is_not_there_is_a_sentence_with_those_that_are(
    elsewhere: Path, phantoms: Path, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    rows = _images(elsewhere, preprocessing).rows
    with pytest.raises(DataError, match=r"--part test: .* are choose, report\.$"):
        only_part(rows, str(elsewhere), "test")
    with pytest.raises(DataError, match=r"patients\.csv: needs the columns file_name and part"):
        only_part(rows, str(phantoms), "choose")
    (elsewhere / "patients.csv").unlink()
    with pytest.raises(DataError, match="none: there is no such table"):
        only_part(rows, str(elsewhere), "choose")
    for other in ("someone/scans", str(tmp_path / "shards")):
        with pytest.raises(DataError, match="is no folder of images"):
            only_part(rows, other, "choose")


def test_a_source_with_two_of_the_four_classes_is_judged_for_its_false_all_clears(
    elsewhere: Path, guided_model: Path
) -> None:
    model, preprocessing = load_model(EvaluationArguments(str(guided_model)))
    images = _images(elsewhere, preprocessing)
    rows = with_model_labels(only_part(images.rows, str(elsewhere), "choose"), images.label_names, model)
    predictions = predict(model, rows, preprocessing)
    served = predict_served(guided_model, rows, preprocessing.size)
    found = figures(predictions, rows, label_names_of(model), str(guided_model), audited=False, served=served)
    tumors = sum(name.startswith("glioma") for name in rows["file_name"])
    assert found["safety"]["tumors"] == found["safety"]["false_all_clear"]["n"] == tumors > 0
    assert found["safety"]["unanswered"]["n"] == len(rows) and found["safety"]["n_groups"] == tumors
    assert "auroc" in found["scores"]["per_class"]["no_tumor"]
    assert "sensitivity" not in found["scores"]["per_class"]["pituitary"]


def test_classes_of_other_names_and_one_meaning_are_matched(guided_model: Path) -> None:
    model, _ = load_model(EvaluationArguments(str(guided_model)))
    rows = Dataset.from_dict({"label": [0, 1], "file_name": ["a", "b"]})
    assert with_model_labels(rows, ("healthy", "Gliom"), model)["label"][:] == [2, 0]
    with pytest.raises(DataError, match="cyst: no such class"):
        with_model_labels(rows, ("healthy", "cyst"), model)
