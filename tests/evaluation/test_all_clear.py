from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.space_server import grey, halves, write_model

from brain_mri.errors import ConfigError, DataError
from brain_mri.evaluation.all_clear import Source, limit_asymmetry, limit_probability, main
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction
from brain_mri.model_folder import CALIBRATION, GUARD

# what the toy model takes for healthy (0.6 to 0.65) and for a tumour (0.375)
_TUMOURS = [0.375, 0.375, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    lines = ["file_name,patient_group,part"]
    for label, shades in {"glioma": _TUMOURS, "no_tumor": [0.625]}.items():
        (folder / label).mkdir(parents=True)
        for i, shade in enumerate(shades):
            grey(shade).save(folder / label / f"{i}.png")
            lines.append(f"{label}/{i}.png,p{i},{'choose' if i % 2 == 0 else 'report'}")
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    return folder


def _false_all_clears(model: Path, source: Path) -> int:
    classifier = BrainMRIClassifier.from_pretrained(model)
    return sum(p.label == "no_tumor" for p in classifier.predict(sorted((source / "glioma").glob("*.png"))))


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_at_most_the_rate_asked_for_is_still_answered_as_healthy(rate: float, model: Path, source: Path) -> None:
    before = _false_all_clears(model, source)
    assert before > rate * len(_TUMOURS)
    main([str(model), "--data_dir", str(source), "--rate", str(rate)])
    assert _false_all_clears(model, source) <= rate * len(_TUMOURS)
    record = json.loads((model / CALIBRATION).read_text())
    (found,) = record["all_clear"]["sources"]
    assert found["false_all_clears"] == {"before": before, "after": _false_all_clears(model, source)}
    assert record["referral"]["threshold"] == 0.9, "the other thresholds stay"


def test_what_validation_asks_of_the_healthy_class_is_never_given_up(model: Path, source: Path) -> None:
    record = json.loads((model / CALIBRATION).read_text())
    record["referral"] |= {"healthy_accuracy": 0.99, "healthy_threshold": 1.5}
    (model / CALIBRATION).write_text(json.dumps(record))
    main([str(model), "--data_dir", str(source), "--rate", "0.5"])
    assert _false_all_clears(model, source) == 0


def test_unlike_sides_are_chosen_by_where_more_healthy_slices_are_answered_so(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "sides"  # all of one mean brightness, so that probabilities tell nothing
    for label, unlike in {"glioma": [0.1, 0.12, 0.14, 0.04], "no_tumor": [0.0, 0.02, 0.06]}.items():
        (source / label).mkdir(parents=True)
        for i, difference in enumerate(unlike):
            halves(0.625 - difference / 2, 0.625 + difference / 2).save(source / label / f"{i}.png")
    main([str(model), "--data_dir", str(source), "--rate", "0"])
    chosen = json.loads((model / CALIBRATION).read_text())["all_clear"]
    assert chosen["symmetry"]["threshold"] == 0.9 and chosen["threshold"] > 0.9, "for pipeline, which knows no sides"
    (counts,) = chosen["sources"]
    assert counts["false_all_clears"] == {"before": 4, "after": 0} and counts["healthy"] == 3
    assert counts["all_clears"] == {"before": 3, "after": 2}
    answers = BrainMRIClassifier.from_pretrained(model).predict(sorted((source / "no_tumor").glob("*.png")))
    assert [p.label for p in answers] == ["no_tumor", "no_tumor", None]


def test_in_every_field_of_view_the_limits_hold() -> None:
    def seen(probability: float, asymmetry: float) -> Prediction:
        probabilities = {"glioma": 1 - probability, "no_tumor": probability}
        return Prediction("s", "unsure", None, probabilities, (), 0.5, 1, None, None, asymmetry=asymmetry)

    tumours, framed = [seen(0.9, 3.0), seen(0.1, 5.0)], [seen(0.85, 2.0), seen(0.95, 4.0)]
    source = Source("elsewhere", tumours, [], [framed])
    for rate, least, most in ((0.0, 0.95, 2.0), (0.5, 0.85, 4.0)):
        threshold = limit_probability(0.8, [source], rate).threshold
        asymmetry = limit_asymmetry(0.8, [source], rate).asymmetry
        assert least < threshold < least + 0.001 and asymmetry == pytest.approx(0.9 * most), "with a margin"


def test_of_two_sources_the_one_that_needs_more_decides(model: Path, tmp_path: Path) -> None:
    limits = []
    for name, unlike in (("strict", 0.06), ("loose", 0.12)):
        for label, shade, difference in (("glioma", 0.625, unlike), ("no_tumor", 0.64, 0.0)):
            (tmp_path / name / label).mkdir(parents=True)
            halves(shade - difference / 2, shade + difference / 2).save(tmp_path / name / label / "0.png")
    for order in (["strict", "loose"], ["loose", "strict"], ["strict"]):
        main([str(model), "--data_dir", *(str(tmp_path / name) for name in order), "--rate", "0"])
        limits.append(json.loads((model / CALIBRATION).read_text())["all_clear"]["symmetry"]["asymmetry"])
    assert limits[0] == limits[1] == limits[2], "nor does what was chosen before have a say"


@pytest.mark.parametrize(("shades", "rate"), [([0.375] * 4, 0), ([0.625], 0.9)])
def test_where_no_limit_is_needed_none_is_written_and_what_validation_asks_stays(
    shades: list[float], rate: float, model: Path, tmp_path: Path
) -> None:
    record = json.loads((model / CALIBRATION).read_text())
    record["referral"] |= {"healthy_accuracy": 0.99, "healthy_threshold": 0.999}
    (model / CALIBRATION).write_text(json.dumps(record))
    for label, of_label in (("glioma", [*shades, 0.375]), ("no_tumor", [0.6, 0.625, 0.65])):
        (tmp_path / "source" / label).mkdir(parents=True)
        for i, shade in enumerate(of_label):
            grey(shade).save(tmp_path / "source" / label / f"{i}.png")
    main([str(model), "--data_dir", str(tmp_path / "source"), "--rate", str(rate)])
    assert "symmetry" not in json.loads((model / CALIBRATION).read_text())["all_clear"]
    thresholds = BrainMRIClassifier.from_pretrained(model).thresholds
    assert thresholds is not None and thresholds.all_clear >= 0.999


def test_a_rate_that_is_met_anyway_changes_no_answer_and_a_tumour_is_still_named(model: Path, source: Path) -> None:
    before = _false_all_clears(model, source)
    main([str(model), "--data_dir", str(source), "--rate", "0.9"])
    assert _false_all_clears(model, source) == before
    main([str(model), "--data_dir", str(source), "--rate", "0"])
    assert BrainMRIClassifier.from_pretrained(model).predict(grey(0.375)).label == "meningioma"


def test_only_the_part_asked_for_is_looked_at(model: Path, source: Path) -> None:
    main([str(model), "--data_dir", str(source), "--part", "choose", "--rate", "0", "--note", "Seen before."])
    record = json.loads((model / CALIBRATION).read_text())["all_clear"]
    assert record["part"] == "choose" and record["note"] == "Seen before."
    assert record["sources"][0]["tumors"] == len(_TUMOURS) // 2


def test_what_cannot_be_chosen_from_is_one_sentence(model: Path, source: Path, tmp_path: Path) -> None:
    before = (model / CALIBRATION).read_bytes()
    with pytest.raises(ConfigError, match="give a share"):
        main([str(model), "--data_dir", str(source), "--rate", "1"])
    with pytest.raises(DataError, match="no slice with a tumour of part 'nowhere'"):
        main([str(model), "--data_dir", str(source), "--part", "nowhere"])
    (model / GUARD).unlink()
    with pytest.raises(ConfigError, match="refuses every picture"):
        main([str(model), "--data_dir", str(source)])
    assert (model / CALIBRATION).read_bytes() == before


def test_a_model_whose_healthy_class_is_not_known_gets_no_threshold(tmp_path: Path, source: Path) -> None:
    model = write_model(tmp_path / "other", labels=("glioma", "meningioma", "rien", "pituitary"))
    before = (model / CALIBRATION).read_text()
    with pytest.raises(ConfigError, match="rien"):
        main([str(model), "--data_dir", str(source)])
    assert (model / CALIBRATION).read_text() == before
