"""How unlike both sides of the head are, and that no tumour is said only where they are alike."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.space_server import grey, halves, write_model

from brain_mri.errors import ConfigError
from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction, together
from brain_mri.inference.rule import Rule
from brain_mri.inference.symmetry import asymmetry
from brain_mri.model_folder import CALIBRATION

_HEALTHY = {"glioma": 0.05, "no_tumor": 0.95}
_TUMOUR = {"glioma": 0.95, "no_tumor": 0.05}
_RULE = Rule(0.8, 0.9, most_asymmetry=0.5)
_RELEASE = Path(__file__).resolve().parents[2] / "release"


def _maps(rows: list[list[float]]) -> np.ndarray:
    return np.asarray([[rows]], dtype=np.float32)


def _mirror(maps: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(maps[..., ::-1])


def test_both_sides_alike_are_0_whatever_is_above_and_below() -> None:
    alike = _maps([[1, 2, 1], [5, 0, 5]])
    assert asymmetry(alike, _mirror(alike)) == 0


def test_it_is_the_mean_difference_between_a_place_and_its_mirror_image() -> None:
    maps = _maps([[0, 0, 3], [0, 0, 0]])  # the two outer places of the first of two rows differ by 3
    assert asymmetry(maps, _mirror(maps)) == pytest.approx(6 / 6)


def test_what_the_network_sees_on_one_side_of_every_picture_does_not_count() -> None:
    habit = _maps([[0, 0, 3]])  # the mirrored picture gives the same map, so the picture is not the cause
    assert asymmetry(habit, habit) == 0


def test_a_picture_and_its_mirror_image_are_as_asymmetric_as_each_other() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 4, 7, 7)).astype(np.float32)
    assert asymmetry(one, other) == pytest.approx(asymmetry(other, one))
    assert (asymmetry(one, other) > 0).all()


@pytest.mark.parametrize(("value", "said"), [(0.5, "answer"), (0.51, "unsure"), (math.nan, "unsure"), (None, "unsure")])
def test_no_tumour_needs_sides_that_are_known_to_be_alike_and_a_tumour_does_not(value: float | None, said: str) -> None:
    assert _RULE.of_slice(_HEALTHY, 0.5, asymmetry=value)[0] == said
    assert _RULE.of_slice(_TUMOUR, 0.5, asymmetry=value) == ("answer", None)
    assert Rule(0.8, 0.9).of_slice(_HEALTHY, 0.5, asymmetry=value) == ("answer", None), "no limit was chosen"


def test_it_is_asked_for_only_where_the_answer_depends_on_it() -> None:
    assert _RULE.needs_asymmetry(_HEALTHY)
    assert not _RULE.needs_asymmetry(_TUMOUR)
    assert not _RULE.needs_asymmetry({"glioma": 0.15, "no_tumor": 0.85}), "it is unsure anyway"
    assert not Rule(0.8, 0.9).needs_asymmetry(_HEALTHY)


@pytest.mark.parametrize("other", [0.9, None])
def test_one_slice_with_unlike_sides_is_enough_to_say_nothing_of_a_volume(other: float | None) -> None:
    def volume(last: float | None) -> str:
        values = [0.1] * 30 + [last]
        slices = [Prediction("s", "unsure", None, _HEALTHY, (), 0.5, 1, None, None, asymmetry=v) for v in values]
        return together(slices, _RULE).verdict

    assert volume(0.1) == "answer"
    assert volume(other) == "unsure"


def _limited(folder: Path, symmetry: object) -> Path:
    record = json.loads((folder / CALIBRATION).read_text())
    record["referral"] |= {"healthy_threshold": 0.99}
    record["all_clear"] = {"threshold": 0.999, "rate": 0.01, "part": None, "sources": [], "symmetry": symmetry}
    (folder / CALIBRATION).write_text(json.dumps(record))
    return folder


def test_a_chosen_limit_takes_the_place_of_the_higher_probability(tmp_path: Path) -> None:
    model = _limited(write_model(tmp_path / "model"), {"threshold": 0.9, "asymmetry": 5.0})
    classifier = BrainMRIClassifier.from_pretrained(model)
    even, uneven = halves(0.625, 0.625), halves(0.56, 0.69)  # of one mean, and so of one probability
    assert [p.verdict for p in classifier.predict([even, uneven])] == ["answer", "unsure"]
    assert classifier.predict(even).label == "no_tumor"
    assert (classifier.predict(uneven).asymmetry or 0) > 5


def test_in_a_batch_each_slice_is_compared_with_its_own_mirror_image(tmp_path: Path) -> None:
    classifier = BrainMRIClassifier.from_pretrained(
        _limited(write_model(tmp_path / "model"), {"threshold": 0.9, "asymmetry": 5.0})
    )
    images = [grey(0.375), halves(0.61, 0.64), halves(0.56, 0.69), grey(0.625)]  # a tumour, and three healthy slices
    found = [p.asymmetry for p in classifier.predict_images(images, [""] * 4)]
    alone = [classifier.predict(image).asymmetry for image in images]
    assert found[0] is None and found[1:] == pytest.approx(alone[1:])
    assert len(set(alone[1:])) == 3, "each has one of its own"


def test_a_black_frame_around_the_head_does_not_make_its_sides_more_alike(tmp_path: Path, real_data: Path) -> None:
    toy = BrainMRIClassifier.from_pretrained(
        _limited(write_model(tmp_path / "model"), {"threshold": 0.9, "asymmetry": 5})
    )
    release = BrainMRIClassifier.from_pretrained(_RELEASE)
    glioma = Image.open(next((real_data / "brain-tumor-mri" / "Testing" / "glioma").glob("*.jpg"))).convert("L")
    for classifier, image in ((toy, halves(0.56, 0.69)), (release, glioma)):
        classifier.compares_all = True
        whole, *framed = (classifier.predict(ImageOps.expand(image, x * image.width // 16)) for x in (0, 1, 2))
        assert [p.asymmetry for p in framed] == pytest.approx([whole.asymmetry] * 2, rel=0.1)


def test_a_tumour_costs_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = BrainMRIClassifier.from_pretrained(
        _limited(write_model(tmp_path / "model"), {"threshold": 0.9, "asymmetry": 5.0})
    )
    passes, run = [], classifier._model.run
    monkeypatch.setattr(classifier._model, "run", lambda pixels: passes.append(len(pixels)) or run(pixels))
    assert classifier.predict(grey(0.375)).label == "meningioma" and passes == [1]
    assert classifier.predict(grey(0.625)).label == "no_tumor" and passes == [1, 1, 2, 2]
    classifier.compares_all = True
    assert classifier.predict(grey(0.375)).asymmetry is not None and passes[4:] == [1, 2, 2]


@pytest.mark.parametrize("broken", [{}, {"threshold": 0.9}, {"threshold": 0.9, "asymmetry": -1}, None, "0.4"])
def test_a_limit_that_is_damaged_is_one_sentence_and_no_answer(broken: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=CALIBRATION):
        BrainMRIClassifier.from_pretrained(_limited(write_model(tmp_path / "model"), broken))


def test_real_gliomas_are_less_alike_on_both_sides_than_real_healthy_heads(real_data: Path) -> None:
    classifier, source = BrainMRIClassifier.from_pretrained(_RELEASE), real_data / "tcga-lgg" / "flair"
    classifier.compares_all = True
    with (source / "patients.csv").open(newline="") as table:
        chosen = sorted(row["file_name"] for row in csv.DictReader(table) if row["part"] == "choose")

    def typical(folder: str) -> float:
        names = [name for name in chosen if name.startswith(folder)][::10]
        found = [p.asymmetry for p in classifier.predict([source / name for name in names])]
        assert None not in found and len(found) > 5
        return float(np.median(np.asarray(found, dtype=float)))

    assert typical("glioma") > 1.5 * typical("no_tumor")


def test_the_release_sees_a_slice_and_its_mirror_image_alike(real_data: Path) -> None:
    classifier = BrainMRIClassifier.from_pretrained(_RELEASE)
    classifier.compares_all = True
    slice_ = Image.open(next((real_data / "brain-tumor-mri" / "Testing" / "notumor").glob("*.jpg"))).convert("L")
    one, mirrored = classifier.predict([slice_, ImageOps.mirror(slice_)])
    assert one.asymmetry == pytest.approx(mirrored.asymmetry, rel=0.02) and one.asymmetry
