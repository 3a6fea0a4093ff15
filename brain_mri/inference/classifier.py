"""Classify brain-MRI slices without torch: onnxruntime, numpy and pillow. Research and teaching only, never diagnosis.

python -m brain_mri.inference slice.jpg                          what the model says, and how sure it is
python -m brain_mri.inference slice.jpg --overlay evidence.png   ... and where it sees it
python -m brain_mri.inference scan.nii.gz --json                 a volume: every slice, and the whole of them
python -m brain_mri.inference *.dcm --model USER/NAME            a model folder, or an id on the Hub
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from brain_mri.errors import ConfigError, ImageError
from brain_mri.inference.guard import Guard, joined
from brain_mri.inference.onnx_model import Float32, OnnxModel, usable_cores
from brain_mri.inference.postprocess import prediction_sets, softmax
from brain_mri.inference.predictions import Prediction, VolumePrediction
from brain_mri.io.images import read_image
from brain_mri.io.volumes import Slices, read_slices
from brain_mri.model_folder import CALIBRATION, CONFIG, FLOAT32_FILE, GUARD, GUARD_TENSORS, INT8_FILE, served_file

NOTICE = "Research and teaching only, never diagnosis."
Source = str | Path | bytes | Image.Image

_FILES = (CONFIG, CALIBRATION, GUARD, GUARD_TENSORS)
_PRECISIONS = {"int8": (INT8_FILE,), "fp32": (FLOAT32_FILE,), "auto": (INT8_FILE, FLOAT32_FILE)}
_BATCH = 8  # slices of a volume at once


class BrainMRIClassifier:
    """A model folder's ONNX file with its guard, prediction sets and referral threshold. Calls from threads are safe.

    Use `from_pretrained`.
    """

    def __init__(self, model: OnnxModel, guard: Guard | None, calibration: dict[str, Any]) -> None:
        self._model, self._guard, self._calibration = model, guard, calibration

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        precision: str = "auto",
        threads: int | None = None,
    ) -> BrainMRIClassifier:
        """Load a model folder, or a model from the Hub.

        Args:
            model: the folder that train.py left, or the id of its copy on the Hub.
            revision: branch, tag or commit on the Hub.
            precision: `int8`, `fp32`, or `auto`: int8 where the model has it.
            threads: of onnxruntime; default: the cores that this process may use.

        Raises:
            ConfigError: no such model, or one without an ONNX file of that precision.
        """
        if precision not in _PRECISIONS:
            raise ConfigError(f"precision {precision!r}: choose one of {', '.join(_PRECISIONS)}.")
        folder = Path(model) if Path(model).is_dir() else _download(str(model), revision, _PRECISIONS[precision])
        path = served_file(folder, _PRECISIONS[precision])
        if path is None:
            wanted = " or ".join(_PRECISIONS[precision])
            raise ConfigError(f"{model} has no {wanted}: give a model folder that train.py left, or its id on the Hub.")
        guard = Guard.load(folder) if (folder / GUARD).is_file() else None
        calibration = folder / CALIBRATION
        settings = json.loads(calibration.read_text(encoding="utf-8")) if calibration.is_file() else {}
        return cls(OnnxModel(path, threads), guard, settings)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the model's order."""
        return self._model.label_names

    @property
    def has_evidence(self) -> bool:
        """Whether answers come with evidence maps."""
        return self._model.has_evidence

    @property
    def referral_threshold(self) -> float | None:
        """The probability below which a human should look, chosen on validation; None without calibration."""
        return self._calibration["referral"]["threshold"] if self._calibration else None

    @overload
    def predict(self, source: Source) -> Prediction: ...
    @overload
    def predict(self, source: list[Source]) -> list[Prediction]: ...
    def predict(self, source: Source | list[Source]) -> Prediction | list[Prediction]:
        """Classify a picture (path, bytes or PIL image), or each of a list, as many at a time as there are cores.

        Raises:
            ImageError: not a picture that can be read, or too large.
        """
        if isinstance(source, list):
            # one PIL image may be there twice, and two threads can't load it at once
            read = [read_image(one) if isinstance(one, Image.Image) else one for one in source]
            with ThreadPoolExecutor(usable_cores()) as threads:
                return list(threads.map(self.predict, read))
        started = time.perf_counter()
        image = read_image(source)
        name = Path(source).name if isinstance(source, str | Path) else "picture"
        return self._judge([image], [name], started)[0]

    def predict_volume(self, source: str | Path | bytes | Slices, name: str | None = None) -> VolumePrediction:
        """Classify every slice of a DICOM, NIfTI, zip or folder (see `volumes.read_slices`), and all of them together.

        Raises:
            ImageError: nothing that can be read as slices.
        """
        slices = source if isinstance(source, Slices) else read_slices(source, name)
        return self.summarize(list(self.judge_slices(slices)))

    def judge_slices(self, slices: Slices) -> Iterator[Prediction]:
        """The prediction of each slice, one after the other, so that progress can be shown."""
        for start in range(0, len(slices.names), _BATCH):
            started = time.perf_counter()
            images = list(slices.images[start : start + _BATCH])
            yield from self._judge(images, slices.names[start : start + _BATCH], started)

    def summarize(self, predictions: Sequence[Prediction]) -> VolumePrediction:
        """The slices of one patient taken together, see `VolumePrediction`.

        Raises:
            ImageError: there is no slice.
        """
        if not predictions:
            raise ImageError("there is no slice to judge: give at least one.")
        counted = [p for p in predictions if p.is_brain_mri is not False] or list(predictions)
        mean = {label: float(np.mean([p.probabilities[label] for p in counted])) for label in self.label_names}
        return VolumePrediction(tuple(predictions), mean, len(counted))

    def _judge(self, images: Sequence[Image.Image], names: Sequence[str], started: float) -> list[Prediction]:
        outputs = self._model.run(np.stack([self._model.pixel_values(image) for image in images]))
        probabilities = softmax(outputs["logits"])
        guard_scores = None if self._guard is None else self._guard.score(joined(outputs))
        milliseconds = (time.perf_counter() - started) * 1000 / len(images)
        return [
            Prediction(
                name=names[i],
                probabilities=dict(zip(self.label_names, map(float, row), strict=True)),
                prediction_set=self._prediction_set(row),
                is_confident=self.referral_threshold is None or float(row.max()) >= self.referral_threshold,
                is_brain_mri=None if guard_scores is None else bool(guard_scores[i] <= 1),
                guard_score=None if guard_scores is None else float(guard_scores[i]),
                milliseconds=milliseconds,
                evidence=self._maps(outputs, i),
                image=image,
            )
            for i, (image, row) in enumerate(zip(images, probabilities, strict=True))
        ]

    def _prediction_set(self, probabilities: Any) -> tuple[str, ...]:
        if not self._calibration:
            return (self.label_names[int(probabilities.argmax())],)
        chosen = prediction_sets(probabilities[None], self._calibration["prediction_sets"]["threshold"])[0]
        return tuple(self.label_names[k] for k in np.argsort(-probabilities, kind="stable") if chosen[k])

    def _maps(self, outputs: dict[str, Float32], i: int) -> dict[str, Float32] | None:
        if "evidence" not in outputs:
            return None
        return dict(zip(self.label_names, outputs["evidence"][i], strict=True))


def _download(model: str, revision: str | None, onnx_files: Sequence[str]) -> Path:
    """A model from the Hub: the small files, and the first of `onnx_files` that it has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=[*_FILES, *onnx_files]))
    except HFValidationError as error:
        raise ConfigError(f"{model} is neither a folder here nor the id of a model on the Hub (USER/NAME).") from error
    except Exception as error:  # network, rights, no such repository: each library below raises its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{model} is no folder here and can't be loaded from the Hub ({reason}): check the name, the network "
            "(HF_HUB_OFFLINE), and for a private model `hf auth login`."
        ) from error
