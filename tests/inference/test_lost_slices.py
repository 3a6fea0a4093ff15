"""Slices that are lost on the way stop "no tumour" of the whole, as those do that are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scans import placed, zipped
from support.space_server import grey, halves, write_model

from brain_mri.inference.classifier import BrainMRIClassifier
from brain_mri.inference.predictions import Prediction, VolumePrediction

_HEALTHY, _TUMOUR = 0.625, 0.125


@pytest.fixture(scope="module", params=[False, True], ids=["here", "wall"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BrainMRIClassifier:
    model = write_model(tmp_path_factory.mktemp("toy") / "model")
    return BrainMRIClassifier.from_pretrained(model, wall=request.param)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


_FIVE = {f"s{k}.png": _png(grey(_HEALTHY)) for k in range(5)}


def _slice(k: int, brightness: float) -> bytes:
    values = np.asarray(grey(brightness).convert("L")).astype(np.uint16)
    return placed(k, values, WindowCenter=128, WindowWidth=256)


_SERIES = {f"IM{k}": _slice(k, _HEALTHY) for k in range(5)}
_CUT = _slice(9, _TUMOUR)
_LOST = {
    "empty": _FIVE | {"s9.png": b""},
    "broken": _FIVE | {"s9.png": b"\0\0" + _png(grey(_TUMOUR))[2:]},
    "cut off before its pixels": _SERIES | {"IM9": _CUT[: _CUT.find(b"\xe0\x7f\x10\0")]},
    "cut off in its header": _SERIES | {"IM9": _CUT[:400]},
    "at a place that is taken": _SERIES | {"IM9": _slice(2, _TUMOUR)},
}


@pytest.mark.parametrize("what", _LOST)
def test_five_cleared_slices_and_a_lost_one_are_no_all_clear(what: str, classifier: BrainMRIClassifier) -> None:
    found = classifier.classify(zipped(_LOST[what]))
    assert isinstance(found, VolumePrediction) and len(found.slices) == 5
    assert (found.verdict, found.reason, found.label) == ("unsure", "slices_not_judged", None)
    assert "could not be read" in str(found.explanation)


@pytest.mark.parametrize("files", [_FIVE, _SERIES])
def test_without_a_lost_file_they_are_answered_also_beside_notes(
    files: dict[str, bytes], classifier: BrainMRIClassifier
) -> None:
    assert classifier.classify(zipped(files | {"notes.txt": b"words", ".DS_Store": b"\0"})).label == "no_tumor"


def test_a_hidden_slice_is_judged_like_any(classifier: BrainMRIClassifier) -> None:
    found = classifier.classify(zipped(_FIVE | {".s9.png": _png(grey(_TUMOUR))}))
    assert (found.verdict, found.reason) == ("unsure", "slices_disagree")


def test_the_rest_in_a_linked_folder_is_no_all_clear(tmp_path: Path, classifier: BrainMRIClassifier) -> None:
    for folder, files in (("given", _FIVE), ("other", {"s9.png": _png(grey(_TUMOUR))})):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_bytes(content)
    assert classifier.classify(tmp_path / "given").label == "no_tumor"
    (tmp_path / "given" / "more").symlink_to(tmp_path / "other")
    assert classifier.classify(tmp_path / "given").reason == "slices_not_judged"


def test_one_slice_beside_lost_ones_is_no_single_all_clear(classifier: BrainMRIClassifier) -> None:
    files = {"s0.png": _png(halves(_HEALTHY, _HEALTHY))}
    assert isinstance(classifier.classify(zipped(files)), Prediction)
    for found in (
        classifier.classify(zipped(files | {"s1.png": b""})),
        classifier.predict_volume(zipped(files | {"s1.png": b""})),
    ):
        assert (found.verdict, found.reason, found.label) == ("unsure", "slices_not_judged", None)


def test_a_tumour_is_named_whatever_is_lost(classifier: BrainMRIClassifier) -> None:
    files = {f"s{k}.png": _png(grey(_TUMOUR)) for k in range(3)}
    assert classifier.classify(zipped(files | {"s9.png": b""})).label == "glioma"
    assert classifier.classify(zipped({"s0.png": files["s0.png"], "s9.png": b""})).label == "glioma"
