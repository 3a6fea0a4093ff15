from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

from brain_mri.errors import ConfigError, ImageError
from brain_mri.inference.__main__ import main
from brain_mri.inference.classifier import NOTICE, BrainMRIClassifier
from brain_mri.inference.ct import ct_score
from brain_mri.labels import LABELS

_BLOCKED = ("torch", "torchvision", "transformers", "timm", "datasets", "evaluate", "sklearn", "scipy", "matplotlib")


@pytest.fixture(scope="module")
def classifier(guided_model: Path) -> BrainMRIClassifier:
    return BrainMRIClassifier.from_pretrained(guided_model, precision="fp32")


@pytest.fixture(scope="module")
def slices(phantoms: Path) -> list[Path]:
    return sorted(phantoms.glob("test/*/*.png"))[::3]


def test_answers_are_those_of_pipeline(guided_model: Path, classifier: BrainMRIClassifier, slices: list[Path]) -> None:
    classify = pipeline("image-classification", model=str(guided_model), device="cpu")
    for path in slices:
        expected = {answer["label"]: answer["score"] for answer in classify(str(path), top_k=4)}
        found = classifier.predict(path)
        assert list(found.probabilities) == list(LABELS)
        assert found.probabilities == pytest.approx(expected, abs=1e-4)
        if found.is_answered:
            assert found.label == max(expected, key=expected.__getitem__)
            assert found.score == max(found.probabilities.values())


def test_path_bytes_and_image_are_one_and_a_list_is_several(classifier: BrainMRIClassifier, slices: list[Path]) -> None:
    path = slices[0]
    first, *others = classifier.predict([path, str(path), path.read_bytes(), Image.open(path)])
    for other in others:
        assert other.probabilities == first.probabilities
        assert other.guard_score == first.guard_score
    assert first.name == path.name, "a file's own name, not where it lies"


def test_a_list_is_answered_in_its_own_order_and_may_hold_a_picture_twice(
    classifier: BrainMRIClassifier, slices: list[Path], tmp_path: Path
) -> None:
    alone = [classifier.predict(path).probabilities for path in slices]
    assert [found.probabilities for found in classifier.predict(list(slices))] == alone
    with Image.open(slices[0]) as lazy:  # not decoded yet; two threads must not do it at once
        assert [found.probabilities for found in classifier.predict([lazy] * 8)] == [alone[0]] * 8
    broken = tmp_path / "broken.png"
    broken.write_bytes(slices[0].read_bytes()[:100])
    with pytest.raises(ImageError, match=r"broken\.png"):
        classifier.predict([slices[0], broken, slices[1]])
    assert classifier.predict([]) == []


def test_the_prediction_set_and_the_refusals_are_those_of_the_stored_thresholds(
    guided_model: Path, tmp_path: Path, slices: list[Path]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(guided_model, folder, ignore=shutil.ignore_patterns("checkpoints"))
    record = json.loads((folder / "calibration.json").read_text())
    record["prediction_sets"]["threshold"], record["referral"]["threshold"] = 0.0, 1.5
    (folder / "calibration.json").write_text(json.dumps(record))
    unsure = BrainMRIClassifier.from_pretrained(folder).predict(slices[0])
    assert set(unsure.likely) == set(LABELS) and unsure.prediction_set == ()
    assert unsure.verdict == "unsure" and unsure.label is unsure.score is None
    record["prediction_sets"]["threshold"], record["referral"]["threshold"] = 1.1, 0.0
    (folder / "calibration.json").write_text(json.dumps(record))
    sure = BrainMRIClassifier.from_pretrained(folder).predict(slices[0])
    assert sure.prediction_set == (sure.label,) and sure.verdict == "answer"
    settings = json.loads((folder / "guard.json").read_text())
    (folder / "guard.json").write_text(json.dumps(settings | {"threshold": 0.1}))
    strange = BrainMRIClassifier.from_pretrained(folder).predict(slices[0])
    assert strange.verdict == "refused" and strange.guard_score > 1 and strange.label is None


def test_the_overlay_shows_the_label_asked_for(classifier: BrainMRIClassifier, slices: list[Path]) -> None:
    answer = classifier.predict(slices[0])
    assert answer.evidence is not None and answer.evidence["glioma"].shape == (12, 12)  # 96 pixels at stride 8
    assert answer.overlay().size == answer.image.size
    assert answer.overlay("glioma").tobytes() != answer.overlay("no_tumor").tobytes()
    with pytest.raises(ConfigError, match="no label 'cyst': the model knows glioma"):
        answer.overlay("cyst")


def test_the_contour_is_drawn_at_the_folder_s_level_and_at_half_without_one(
    guided_model: Path, tmp_path: Path, slices: list[Path]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(guided_model, folder, ignore=shutil.ignore_patterns("checkpoints"))
    record = folder / "evidence.json"
    stored = json.loads(record.read_text())["levels"]
    assert "no_tumor" not in stored and all(0 < level < 1 for level in stored.values())
    drawn = []
    for levels in (stored, {"glioma": 0.2}, {"glioma": 0.9}):
        record.write_text(json.dumps({"levels": levels}))
        answer = BrainMRIClassifier.from_pretrained(folder).predict(slices[0])
        assert answer.contour_level("glioma") == levels["glioma"]
        drawn.append(answer.overlay("glioma").tobytes())
    assert drawn[1] != drawn[2]
    for without in (lambda: record.write_text("{}"), record.unlink):  # as releases before had it
        without()
        answer = BrainMRIClassifier.from_pretrained(folder).predict(slices[0])
        assert answer.contour_level("glioma") == 0.5
    for broken in ([], {"glioma": 1.5}, {"glioma": 0}, {"glioma": "high"}, {"glioma": True}):
        record.write_text(json.dumps({"levels": broken}))
        with pytest.raises(ConfigError, match=r"evidence\.json: levels is .* train the model again"):
            BrainMRIClassifier.from_pretrained(folder)


def test_a_volume_is_the_mean_of_the_slices_that_look_like_brain(
    classifier: BrainMRIClassifier, slices: list[Path], tmp_path: Path
) -> None:
    archive = tmp_path / "slices.zip"
    with zipfile.ZipFile(archive, "w") as members:
        for path in slices:
            members.write(path, path.name)
    volume = classifier.predict_volume(archive)
    assert len(volume.slices) == len(slices)
    counted = [p for p in volume.slices if p.verdict != "refused"]
    assert volume.counted == len(counted) > 0
    for label in LABELS:
        assert volume.probabilities[label] == pytest.approx(np.mean([p.probabilities[label] for p in counted]))
    one = classifier.predict(slices[0])
    same = next(p for p in volume.slices if p.name == slices[0].name)
    assert same.probabilities == pytest.approx(one.probabilities, abs=1e-5), "alone or in a batch, the same"


def test_it_needs_no_torch_nor_anything_that_trains(guided_model: Path, slices: list[Path]) -> None:
    blocked = f"import sys\nfor name in {_BLOCKED}: sys.modules[name] = None\n"
    program = f"{blocked}from brain_mri.inference.__main__ import main\nmain()\n"
    command = [sys.executable, "-c", program, str(slices[0]), "--model", str(guided_model), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    expected = BrainMRIClassifier.from_pretrained(guided_model).predict(slices[0]).as_dict()
    assert answer.keys() == expected.keys() | {"notice"}
    assert answer["verdict"] == expected["verdict"] and answer["label"] == expected["label"]
    assert answer["guard_score"] == pytest.approx(expected["guard_score"], abs=1e-3)


def test_the_command_line_writes_an_overlay_and_says_what_it_is_not(
    guided_model: Path, slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(slices[0]), "--model", str(guided_model), "--overlay", str(tmp_path / "evidence.png")])
    said = capsys.readouterr().out
    assert slices[0].name in said and NOTICE in said
    assert Image.open(tmp_path / "evidence.png").size == Image.open(slices[0]).size


def test_without_a_model_the_command_line_asks_for_one(
    slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_ID", raising=False)
    with pytest.raises(ConfigError, match="--model"):
        main([str(slices[0])])


def test_the_command_line_judges_a_volume_slice_by_slice(
    guided_model: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(phantoms / "test" / "glioma"), "--model", str(guided_model), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (
        len(answer["slices"]) == 6 and 0 < answer["slices_counted"] <= 6 and answer["verdict"] in ("answer", "unsure")
    )
    with pytest.raises(ConfigError, match="for one picture"):
        main([str(phantoms / "test" / "glioma"), "--model", str(guided_model), "--overlay", "x.png"])


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_picture_is_one_sentence(classifier: BrainMRIClassifier, content: bytes) -> None:
    with pytest.raises(ImageError) as error:
        classifier.predict(content)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path, guided_model: Path) -> None:
    for name in (str(tmp_path / "nothing"), "nobody/nothing"):
        with pytest.raises(ConfigError, match=r"no folder here|neither a folder here"):
            BrainMRIClassifier.from_pretrained(name)
    with pytest.raises(ConfigError, match=r"has no onnx/model_quantized\.onnx or onnx/model\.onnx"):
        BrainMRIClassifier.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="choose one of int8, fp32, auto"):
        BrainMRIClassifier.from_pretrained(guided_model, precision="fp16")


def test_threads_may_share_one_classifier(classifier: BrainMRIClassifier, slices: list[Path]) -> None:
    expected, found = [classifier.predict(path).probabilities for path in slices], {}

    def ask(i: int) -> None:
        found[i] = classifier.predict(slices[i]).probabilities

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(slices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(slices))] == expected


def test_a_16_bit_picture_is_judged_as_its_8_bit_self(classifier: BrainMRIClassifier, slices: list[Path]) -> None:
    grey = np.asarray(Image.open(slices[0]).convert("L")).astype(np.uint16)
    stored = io.BytesIO()
    Image.fromarray(grey * 257).save(stored, "PNG")
    plain = classifier.predict(slices[0])
    assert classifier.predict(stored.getvalue()).probabilities == pytest.approx(plain.probabilities, abs=0.1)


def test_a_head_ct_is_refused_though_its_embedding_is_near(guided_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(guided_model, folder, ignore=shutil.ignore_patterns("checkpoints"))
    settings = json.loads((folder / "guard.json").read_text())
    (folder / "guard.json").write_text(json.dumps(settings | {"threshold": 10.0}))
    classifier = BrainMRIClassifier.from_pretrained(folder)
    head = np.hypot(*np.mgrid[-1:1:128j, -1:1:128j])
    without_bone, tomogram = (
        Image.fromarray(np.select([head < 0.7, head < 0.85], [90, bone], 0).astype(np.uint8)) for bone in (90, 255)
    )
    assert classifier.predict(without_bone).verdict != "refused"
    found = classifier.predict(tomogram)
    assert (found.verdict, found.reason, found.label) == ("refused", "not_brain_mri", None)
    assert found.guard_score == ct_score(tomogram) > 1
