from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from support.scans import placed, zipped
from support.space_server import grey, photograph, write_model

from brain_mri.errors import ConfigError, ImageError
from brain_mri.inference.__main__ import main
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import REASONS, Prediction, together
from brain_mri.inference.rule import Rule
from brain_mri.inference.thresholds import Thresholds
from brain_mri.labels import LABELS
from brain_mri.model_folder import CALIBRATION, GUARD, GUARD_TENSORS

_HEALTHY = {"glioma": 0.02, "meningioma": 0.02, "no_tumor": 0.95, "pituitary": 0.01}
_GLIOMA = {"glioma": 0.95, "meningioma": 0.02, "no_tumor": 0.02, "pituitary": 0.01}
_HINT = {"glioma": 0.5, "meningioma": 0.02, "no_tumor": 0.47, "pituitary": 0.01}
_RULE = Rule(threshold=0.9, all_clear_threshold=0.94)


def _slice(probabilities: dict[str, float], guard_score: float = 0.5, rule: Rule = _RULE) -> Prediction:
    verdict, reason = rule.of_slice(probabilities, guard_score)
    likely = (max(probabilities, key=probabilities.__getitem__),)
    return Prediction("a", verdict, reason, probabilities, likely, guard_score, 1.0, None, Image.new("RGB", (8, 8)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.mark.parametrize(
    ("probabilities", "guard_score", "verdict", "reason"),
    [
        (_GLIOMA, 1.0, "answer", None),
        (_GLIOMA, 1.01, "refused", "not_brain_mri"),
        (_GLIOMA, math.nan, "refused", "not_brain_mri"),
        (_HINT, 0.5, "unsure", "below_threshold"),
        (_HEALTHY, 0.5, "answer", None),
        (_HEALTHY | {"no_tumor": 0.93}, 0.5, "unsure", "below_threshold"),
        (_GLIOMA | {"glioma": 0.93}, 0.5, "answer", None),
    ],
)
def test_a_slice_is_answered_refused_or_unsure(
    probabilities: dict[str, float], guard_score: float, verdict: str, reason: str | None
) -> None:
    assert _RULE.of_slice(probabilities, guard_score) == (verdict, reason)


def test_the_healthy_class_of_another_set_has_the_threshold_of_its_own_too() -> None:
    assert Rule(0.5, 0.99).of_slice({"no": 0.95, "yes": 0.05}, 0.5) == ("unsure", "below_threshold")
    assert Rule(0.5, 0.99).of_slice({"no": 0.05, "yes": 0.95}, 0.5) == ("answer", None)


@pytest.mark.parametrize("said", [_slice(_HINT), _slice(_HEALTHY, 2.0), together([_slice(_HINT)] * 2, _RULE)])
def test_where_no_class_may_be_named_none_stands_anywhere(said: Prediction) -> None:
    assert said.label is said.score is None and not said.is_answered and said.explanation == REASONS[said.reason]
    assert not any(label in json.dumps(said.as_dict()) for label in LABELS)
    assert getattr(said, "prediction_set", ()) == ()


def test_refused_slices_count_for_nothing_and_too_many_refuse_the_whole() -> None:
    refused, tumour = _slice(_HEALTHY, 3.0), _slice(_GLIOMA)
    volume = together([refused, tumour, tumour], _RULE)
    assert volume.counted == 2 and volume.label == "glioma" and volume.probabilities == pytest.approx(_GLIOMA)
    most = together([refused, refused, tumour], _RULE)
    assert (most.verdict, most.reason, most.counted) == ("refused", "most_slices_refused", 1)
    none = together([refused, refused], _RULE)
    assert (none.verdict, none.reason, none.counted, none.probabilities) == ("refused", "no_slice_accepted", 0, {})


@pytest.mark.parametrize("tumour", [_GLIOMA, _HINT], ids=["sure", "not sure"])
def test_a_volume_is_no_all_clear_where_a_slice_points_to_a_tumour(tumour: dict[str, float]) -> None:
    volume = together([_slice(_HEALTHY)] * 40 + [_slice(tumour)], Rule(0.5, 0.5))
    assert (volume.verdict, volume.reason, volume.label) == ("unsure", "slices_disagree", None)
    assert together([_slice(_HEALTHY)] * 40, _RULE).label == "no_tumor"


def test_tumours_in_single_slices_are_counted_where_the_whole_gets_no_answer() -> None:
    mixed = together([_slice(_GLIOMA), _slice(_HEALTHY), _slice(_HINT), _slice(_GLIOMA, guard_score=2.0)], _RULE)
    assert mixed.verdict == "unsure" and mixed.tumors == mixed.as_dict()["slices_with_tumor"] == 1


def test_a_class_that_may_mean_no_tumour_is_not_counted_as_one() -> None:
    unknown = [
        _slice({"glioma": 0.1, "rien": 0.9}),
        _slice({"glioma": 0.9, "rien": 0.1}),
        _slice({"no": 0.1, "yes": 0.9}),
    ]
    assert [together([one], _RULE).tumors for one in unknown] == [0, 1, 1]
    assert [one.caveat is None for one in unknown] == [False, True, True], "it may be an all-clear"


def test_a_volume_is_no_all_clear_where_a_slice_was_refused() -> None:
    refused = _slice(_HEALTHY, 3.0)
    volume = together([_slice(_HEALTHY)] * 40 + [refused], _RULE)
    assert (volume.verdict, volume.reason, volume.label) == ("unsure", "slices_not_judged", None)
    assert together([_slice(_GLIOMA)] * 40 + [refused], _RULE).label == "glioma"


def test_every_answer_of_the_healthy_class_says_what_it_is_not() -> None:
    volume = together([_slice(_HEALTHY)], _RULE)
    for said in (_slice(_HEALTHY), volume):
        assert "bleeding" in said.caveat and said.as_dict()["caveat"] == said.caveat
    assert _slice(_GLIOMA).caveat is None


def _without_guard(folder: Path) -> None:
    (folder / GUARD).unlink()


def _endless_threshold(folder: Path) -> None:
    settings = json.loads((folder / GUARD).read_text())
    (folder / GUARD).write_text(json.dumps(settings | {"threshold": 1e9}))


def _guard_without_tables(folder: Path) -> None:
    (folder / GUARD_TENSORS).write_bytes(b"")


def _without_calibration(folder: Path) -> None:
    (folder / CALIBRATION).unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_without_guard, "no_guard"),
        (_endless_threshold, "no_guard"),
        (_guard_without_tables, "no_guard"),
        (_without_calibration, "no_calibration"),
    ],
)
def test_a_model_that_lacks_a_check_refuses_everything_unless_told_otherwise(
    damage, reason: str, model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    damage(folder)
    classifier = BrainMRIClassifier.from_pretrained(folder)
    one = classifier.predict(grey(0.375))
    assert (one.verdict, one.reason, one.label) == ("refused", reason, None)
    volume = classifier.summarize([one, one])
    assert (volume.verdict, volume.reason, volume.counted) == ("refused", reason, 0)
    assert BrainMRIClassifier.from_pretrained(folder, unchecked=True).predict(grey(0.375)).label == "meningioma"


@pytest.mark.parametrize(
    ("referral", "all_clear", "needed"),
    [
        ({"threshold": 0.5}, {}, 0.5),
        ({"threshold": 0.5, "healthy_threshold": 0.7}, {}, 0.7),
        ({"threshold": 0.5, "healthy_threshold": 0.7}, {"all_clear": {"threshold": 0.0}}, 0.7),
        ({"threshold": 0.5, "healthy_threshold": 0.7}, {"all_clear": {"threshold": 0.8}}, 0.8),
    ],
)
def test_the_healthy_class_needs_the_strictest_of_the_thresholds(
    referral: dict[str, float], all_clear: dict[str, Any], needed: float, model: Path, tmp_path: Path
) -> None:
    record = json.loads((model / CALIBRATION).read_text())
    record.pop("all_clear", None)
    path = tmp_path / CALIBRATION
    path.write_text(json.dumps(record | {"referral": referral} | all_clear))
    found = Thresholds.read(path)
    assert (found.referral, found.all_clear) == (0.5, needed)


@pytest.mark.parametrize(
    "record",
    ["{", "[]", "{}", '{"referral": {"threshold": NaN}}', '{"referral": {"threshold": "0.9"}}', "[" * 100_000],
)
def test_a_damaged_calibration_is_one_sentence(record: str, model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    (folder / CALIBRATION).write_text(record)
    with pytest.raises(Exception, match=CALIBRATION) as caught:
        BrainMRIClassifier.from_pretrained(folder)
    assert "\n" not in str(caught.value) and type(caught.value).__module__ == "brain_mri.errors"


def test_the_command_line_names_no_class_for_a_folder_of_pictures_that_show_no_brain(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph().save(tmp_path / "a.png")
    photograph().rotate(90).save(tmp_path / "b.png")
    main([str(tmp_path), "--model", str(model)])
    text = capsys.readouterr().out
    main([str(tmp_path), "--model", str(model), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert REASONS["no_slice_accepted"] in text and "together" not in text
    assert not any(label in text + json.dumps(record) for label in LABELS)
    assert (record["verdict"], record["reason"], record["slices_counted"]) == ("refused", "no_slice_accepted", 0)


def test_a_file_that_its_header_refuses_says_what_it_is_and_not_where_it_lies(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = Path(shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), tmp_path / "ct.dcm"))
    classifier = BrainMRIClassifier.from_pretrained(model)
    for found in (classifier.predict(ct), classifier.classify(ct), classifier.predict_volume(ct).slices[0]):
        assert (found.verdict, found.reason, found.name, found.image) == ("refused", "not_mri", "ct.dcm", None)
    main([str(ct), "--model", str(model), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert "CT" in record["notes"][0] and str(tmp_path) not in json.dumps(record)


def test_a_refused_picture_has_no_evidence_to_draw(model: Path) -> None:
    with pytest.raises(ConfigError, match="no evidence to draw"):
        BrainMRIClassifier.from_pretrained(model).predict(photograph()).overlay()


@pytest.mark.parametrize(("healthy", "likeliest"), [("no_tumor", "meningioma"), ("no", "yes"), ("left", "right")])
def test_the_suspect_is_the_likeliest_class_that_is_no_healthy_brain(healthy: str, likeliest: str) -> None:
    one = _slice({healthy: 0.6 if healthy != "left" else 0.1, likeliest: 0.3})
    assert one.suspect == likeliest


def test_the_picture_of_an_unsure_slice_shows_the_evidence_for_its_suspect(model: Path) -> None:
    unsure = BrainMRIClassifier.from_pretrained(model).predict(grey(0.5))
    assert unsure.verdict == "unsure"
    drawn = unsure.overlay().tobytes()
    assert drawn == unsure.overlay(unsure.suspect).tobytes() and drawn != unsure.overlay("no_tumor").tobytes()


def test_a_series_is_chosen_and_all_are_listed_by_the_command_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{uid}/{k}": placed(k, SeriesInstanceUID=f"1.{uid}", SeriesDescription=told, SliceThickness=5)
             for uid, told, count in (("1", "t2 tra", 5), ("2", "t1 km", 3)) for k in range(count)}  # fmt: skip
    (tmp_path / "study.zip").write_bytes(zipped(files))
    for options, chosen in (([], 2), (["--series", "1"], 1), (["--series", "1", "--plane", "axial"], 1)):
        main([str(tmp_path / "study.zip"), "--model", str(model), "--json", *options])
        found = json.loads(capsys.readouterr().out)
        assert [one["number"] for one in found["series"] if one["chosen"]] == [chosen]
        assert len(found["slices"]) == {1: 5, 2: 3}[chosen] and len(found["series"]) == 2
    with pytest.raises(ImageError, match="no series 3"):
        main([str(tmp_path / "study.zip"), "--model", str(model), "--series", "3"])


def test_one_slice_is_not_answered_for_a_stack(model: Path) -> None:
    pages = [Image.new("L", (32, 32), grey) for grey in (9, 99)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    classifier = BrainMRIClassifier.from_pretrained(model)
    with pytest.raises(ImageError, match="predict_volume"):
        classifier.predict(buffer.getvalue())
    assert len(classifier.predict_volume(buffer.getvalue()).slices) == 2
