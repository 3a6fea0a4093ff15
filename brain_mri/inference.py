"""Classify brain-MRI slices without torch: onnxruntime, numpy and pillow. Research and teaching only, never diagnosis.

python -m brain_mri.inference slice.jpg                          what the model says, and how sure it is
python -m brain_mri.inference slice.jpg --overlay evidence.png   ... and where it sees it
python -m brain_mri.inference scan.nii.gz --json                 a volume: every slice, and the whole of them
python -m brain_mri.inference *.dcm --model USER/NAME            a model folder, or an id on the Hub
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from brain_mri.answers import Prediction, VolumePrediction
from brain_mri.decisions import prediction_sets, softmax
from brain_mri.errors import ConfigError, ImageError, run_command
from brain_mri.guard import SETTINGS as GUARD_FILE
from brain_mri.guard import STATISTICS as GUARD_STATISTICS
from brain_mri.guard import Guard, joined
from brain_mri.images import read_image
from brain_mri.onnx_model import FLOAT32_FILE, INT8_FILE, Float32, OnnxModel, served_file, usable_cores
from brain_mri.volumes import Slices, read_slices

NOTICE = "Research and teaching only, never diagnosis."
CALIBRATION_FILE = "calibration.json"
Source = str | Path | bytes | Image.Image

_FILES = ("config.json", CALIBRATION_FILE, GUARD_FILE, GUARD_STATISTICS)
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
        guard = Guard.load(folder) if (folder / GUARD_FILE).is_file() else None
        calibration = folder / CALIBRATION_FILE
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


def _describe(prediction: Prediction) -> str:
    lines = [prediction.name]
    if prediction.is_brain_mri is False:
        lines.append(
            f"  this does not look like a brain MRI (guard score {prediction.guard_score:.2f}, more than 1): no answer"
        )
    elif not prediction.is_confident:
        lines.append("  not sure enough to name a class: a human should look")
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    lines += [f"  {label:<12}{probability:.3f}" for label, probability in ranked]
    lines.append(f"  prediction set: {', '.join(prediction.prediction_set)}")
    return "\n".join(lines)


def _describe_volume(volume: VolumePrediction, name: str) -> str:
    lines = [f"{name}: {len(volume.slices)} slices, {volume.counted} of them counted"]
    lines += [f"  {p.name:<20}{p.label:<12}{p.score:.3f}" for p in volume.slices]
    ranked = sorted(volume.probabilities.items(), key=lambda item: -item[1])
    return "\n".join([*lines, "together:", *(f"  {label:<12}{p:.3f}" for label, p in ranked)])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m brain_mri.inference", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="FILE", help="pictures, DICOM, NIfTI, zips or folders of slices")
    parser.add_argument(
        "--model",
        default=os.environ.get("MODEL_ID", "release"),
        help="model folder or Hub id (default: MODEL_ID of the environment, else release)",
    )
    parser.add_argument(
        "--precision", choices=list(_PRECISIONS), default="auto", help="default: int8 where there is it"
    )
    parser.add_argument("--overlay", metavar="PNG", help="write the evidence over the slice here; for one picture")
    parser.add_argument("--json", action="store_true", help="one JSON object per file, a line each")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Classify what the command line names."""
    options = _parse(argv)
    if options.overlay and len(options.sources) > 1:
        raise ConfigError("--overlay is for one picture: give one file, or leave it out.")
    classifier = BrainMRIClassifier.from_pretrained(options.model, precision=options.precision)
    for source in options.sources:
        slices = read_slices(source)
        volume = classifier.predict_volume(slices)
        answer = volume if slices.is_volume else volume.slices[0]
        if options.json:
            print(json.dumps(answer.as_dict()))
        else:
            print(_describe_volume(volume, source) if slices.is_volume else _describe(volume.slices[0]))
        if options.overlay:
            if slices.is_volume:
                raise ConfigError("--overlay is for one picture, not for a volume: leave it out.")
            volume.slices[0].overlay().save(options.overlay)
    if not options.json:
        print(NOTICE)


if __name__ == "__main__":
    run_command(main)
