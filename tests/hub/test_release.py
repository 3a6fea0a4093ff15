from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from transformers import pipeline

from benchmarks.inference import ways_to_answer
from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import ConfigError
from brain_mri.hub.release import copy_card, copy_published
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction
from brain_mri.labels import LABELS
from brain_mri.model_folder import published_files
from brain_mri.phantom.dataset import draw_phantom
from brain_mri.reporting.model_card import write_card

_ROOT = Path(__file__).parents[2]
_RELEASE = _ROOT / "release"


def test_what_is_published_shows_no_data_and_names_no_place(guided_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(guided_model, source)
    (source / "evaluation").mkdir(exist_ok=True)
    (source / "evaluation" / "worst_mistakes.png").write_bytes(b"slices")
    files = copy_published(source, tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in files}
    assert {"config.json", "model.safetensors", "guard.json", "README.md", "run.json"} <= names
    small = (source / "onnx/model_quantized.onnx").is_file()
    assert ("onnx/model_quantized.onnx" in names, "onnx/model.onnx" in names) == (small, not small), "what is served"
    assert not [name for name in names if "checkpoint" in name or "worst" in name]
    assert str(tmp_path.parent) not in (tmp_path / "out" / "run.json").read_text()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data"]["data_dir"] == "synthetic"
    assert BrainMRIClassifier.from_pretrained(tmp_path / "out").label_names == LABELS
    copy_published(source, tmp_path / "out")  # a second time replaces it
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="holds no model"):
        copy_published(source, tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"no run\.json"):
        copy_published(tmp_path / "mine", tmp_path / "other")


def test_an_audit_that_names_files_is_not_published(guided_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    shutil.copytree(guided_model, source)
    audit = json.loads((source / "audit.json").read_text()) | {"worst_pairs": [{"images": ["train/glioma/Jane/1.png"]}]}
    (source / "audit.json").write_text(json.dumps(audit))
    with pytest.raises(ConfigError, match=r"audit\.json names files"):
        copy_published(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_release_is_small_and_holds_nothing_but_what_may_be_published() -> None:
    files = {path for path in _RELEASE.rglob("*") if path.is_file()}
    assert files == {*published_files(_RELEASE), _RELEASE / "README.md"}
    assert sum(path.stat().st_size for path in files) < 30e6


def test_the_release_s_card_and_the_one_on_the_first_page_are_what_its_records_say(tmp_path: Path) -> None:
    shutil.copytree(_RELEASE, tmp_path / "release")
    assert write_card(tmp_path / "release").read_text() == (_RELEASE / "README.md").read_text()
    copy_card(tmp_path / "release", tmp_path / "model_card.md")
    card = (_ROOT / "model_card.md").read_text()
    assert card == (tmp_path / "model_card.md").read_text()
    assert [link for link in re.findall(r"\]\((release/[^)]*)\)", card) if not (_ROOT / link).is_file()] == []


def test_pipeline_and_the_torch_free_classifier_load_the_release() -> None:
    picture = draw_phantom("glioma", seed=0, size=256).image
    answers = pipeline("image-classification", model=str(_RELEASE), device="cpu")(picture, top_k=4)
    onnx = BrainMRIClassifier.from_pretrained(_RELEASE)
    found = onnx.predict(picture)
    assert {answer["label"] for answer in answers} == set(found.probabilities) == set(LABELS)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.guard_score is not None and onnx.thresholds is not None
    assert found.evidence is not None and found.evidence["glioma"].shape == (14, 14)


def _most_likely(answer: Prediction) -> str:
    """The class that the network holds for likeliest, whether it may be named or not: accuracy is of these."""
    return max(answer.probabilities, key=answer.probabilities.__getitem__)


@pytest.mark.slow
def test_what_is_served_says_what_pipeline_says_of_real_slices(real_data: Path) -> None:
    files = sorted((real_data / "brain-tumor-mri" / "Testing").glob("*/*.jpg"))[::13]
    classify = pipeline("image-classification", model=str(_RELEASE), device="cpu")
    onnx = BrainMRIClassifier.from_pretrained(_RELEASE)
    said = [answers[0]["label"] for answers in classify([str(path) for path in files])]
    same = sum(_most_likely(onnx.predict(path)) == label for path, label in zip(files, said, strict=True))
    assert len(files) == 101 and same >= 99


@pytest.mark.slow
def test_the_release_still_reaches_what_its_card_claims(real_data: Path) -> None:
    claimed = json.loads((_RELEASE / "evaluation" / "results.json").read_text())["scores"]
    layout = scan_folder(str(real_data / "brain-tumor-mri"))
    test = [image for image in layout.images if image.split == "test"]
    assert len(test) == claimed["n"]
    classifier = BrainMRIClassifier.from_pretrained(_RELEASE)
    answers = [classifier.predict(image.path) for image in test]
    right = sum(_most_likely(answer) == image.label for answer, image in zip(answers, test, strict=True))
    assert right / len(test) >= claimed["accuracy"]["low"]
    assert sum(answer.verdict != "refused" for answer in answers) / len(test) > 0.95


def test_the_benchmark_of_inference_takes_the_release() -> None:
    ways = ways_to_answer(str(_RELEASE), 1)
    assert list(ways) == ["pipeline, eager", "ONNX int8"]
