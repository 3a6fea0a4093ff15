"""The classifier without torch: a model folder's ONNX file, its guard and its thresholds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from brain_mri.errors import ConfigError, NotMRIError
from brain_mri.inference.ct import ct_score
from brain_mri.inference.guard import Guard, joined
from brain_mri.inference.head import head_box
from brain_mri.inference.loading import download, usable_guard
from brain_mri.inference.onnx_model import Float32, OnnxModel, usable_cores
from brain_mri.inference.postprocess import prediction_sets, softmax
from brain_mri.inference.predictions import Prediction, VolumePrediction, not_mri, together
from brain_mri.inference.rule import Rule
from brain_mri.inference.sources import Source, known, name_of
from brain_mri.inference.stripped import is_stripped
from brain_mri.inference.symmetry import asymmetry
from brain_mri.inference.thresholds import Thresholds, contour_levels
from brain_mri.io.budget import Budget
from brain_mri.io.images import one_channel, read_image
from brain_mri.io.volumes import Series, Slices, read_slices
from brain_mri.io.wall import Wall
from brain_mri.model_folder import (
    CALIBRATION,
    EVIDENCE,
    FLOAT32_FILE,
    INT8_FILE,
    served_file,
)

NOTICE = "Research and teaching only, never diagnosis."

PRECISIONS = {"int8": (INT8_FILE,), "fp32": (FLOAT32_FILE,), "auto": (INT8_FILE, FLOAT32_FILE)}
_BATCH = 8  # slices of a volume at once


class BrainMRIClassifier:
    """A model folder's ONNX file with its guard and thresholds. Calls from threads are safe.

    Use `from_pretrained`. What may be said of a picture is decided in `inference.rule`.
    """

    def __init__(
        self,
        model: OnnxModel,
        guard: Guard | None,
        thresholds: Thresholds | None,
        missing: str | None = None,
        levels: Mapping[str, float] | None = None,
        wall: Wall | None = None,
    ) -> None:
        self._wall = wall
        self._model, self._guard, self.thresholds, self._levels = model, guard, thresholds, levels or {}
        self.rule = Rule(missing=missing)
        if thresholds:
            self.rule = Rule(thresholds.referral, thresholds.all_clear, missing, thresholds.asymmetry)
        self.problem: str | None = None
        """What is wrong with the folder's guard, if anything is."""
        self.compares_all = False
        """Whether the asymmetry of every slice is measured, not only where the verdict needs it. For measurements."""

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        precision: str = "auto",
        threads: int | None = None,
        unchecked: bool = False,
        wall: bool = False,
    ) -> BrainMRIClassifier:
        """Load a model folder, or a model from the Hub.

        Without a usable guard or without thresholds the model refuses every picture: it could not tell a photograph
        from a brain, or a guess from an answer.

        Args:
            model: the folder that train.py left, or the id of its copy on the Hub.
            revision: branch, tag or commit on the Hub.
            precision: `int8`, `fp32`, or `auto`: int8 where the model has that file.
            threads: of onnxruntime; default: the cores that this process may use.
            unchecked: answer also without guard or thresholds. For experiments, never for a page.
            wall: read files in processes with limits (`io.wall`): for files of strangers, at some 2 ms a slice.

        Raises:
            ConfigError: no such model, one without an ONNX file of that precision, a damaged file, or a system that
                can't limit a process.
        """
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}.")
        folder = Path(model) if Path(model).is_dir() else download(str(model), revision, PRECISIONS[precision])
        path = served_file(folder, PRECISIONS[precision])
        if path is None:
            wanted = " or ".join(PRECISIONS[precision])
            raise ConfigError(f"{model} has no {wanted}: give a model folder that train.py left, or its id on the Hub.")
        loaded = OnnxModel(path, threads)
        calibration = folder / CALIBRATION
        thresholds = Thresholds.read(calibration) if calibration.is_file() else None
        guard, problem = usable_guard(folder, loaded.blank())
        missing = "no_guard" if guard is None else "no_calibration" if thresholds is None else None
        levels, limited = contour_levels(folder / EVIDENCE), Wall() if wall else None
        classifier = cls(loaded, guard, thresholds, None if unchecked else missing, levels, limited)
        classifier.problem = problem
        return classifier

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the model's order."""
        return self._model.label_names

    @property
    def has_evidence(self) -> bool:
        """Whether answers come with evidence maps."""
        return self._model.has_evidence

    @overload
    def predict(self, source: Source) -> Prediction: ...
    @overload
    def predict(self, source: list[Source]) -> list[Prediction]: ...
    def predict(self, source: Source | list[Source]) -> Prediction | list[Prediction]:
        """Classify a picture (see `sources.known`), or each of a list, as many at a time as there are cores.

        Raises:
            ImageError: not a picture that can be read, too large, or of several slices, which `predict_volume` reads.
        """
        if isinstance(source, list):
            with ThreadPoolExecutor(usable_cores()) as threads:
                return list(threads.map(self.predict, source))
        started = time.perf_counter()
        given = known(source)
        name = name_of(given)
        try:
            image = self._image(given)
        except NotMRIError as error:
            return not_mri(name, str(error))
        return self.predict_images([image], [name], started)[0]

    def _image(self, source: str | Path | bytes | Image.Image) -> Image.Image:
        if self._wall is None or isinstance(source, Image.Image):
            return read_image(source, single=True)
        return self._wall.read_image(source, single=True)

    def read_slices(
        self,
        source: str | Path | bytes,
        name: str | None = None,
        *,
        series: int | None = None,
        plane: str = "auto",
        budget: Budget | None = None,
    ) -> Slices:
        """`volumes.read_slices`, behind the wall if this classifier has one.

        Raises:
            BudgetError: `budget`, which several files share, is used up.
        """
        if self._wall is None:
            found = read_slices(source, name, series=series, plane=plane)
        else:
            found = self._wall.read_slices(source, name, series=series, plane=plane, budget=budget)
        if budget is not None:
            budget.take(found)
        return found

    def predict_volume(
        self,
        source: Source | Slices,
        name: str | None = None,
        *,
        series: int | None = None,
        plane: str = "auto",
    ) -> VolumePrediction:
        """Classify every slice of a DICOM, NIfTI, zip or folder, and all of them together; arguments as `classify`.

        Raises:
            ImageError: nothing that can be read as slices.
        """
        found = self.classify(source, name, series=series, plane=plane)
        if isinstance(found, VolumePrediction):
            return found
        return self.summarize([found], found.notes, found.series)

    def classify(
        self,
        source: Source | Slices,
        name: str | None = None,
        report: Callable[[int, int], object] = lambda done, count: None,
        *,
        series: int | None = None,
        plane: str = "auto",
    ) -> Prediction | VolumePrediction:
        """Classify whatever a user brings: the prediction of a single slice, or of a volume.

        Args:
            source: a picture, DICOM, NIfTI, zip or folder (see `sources.known`, `volumes.read_slices`), or its slices.
            name: what it is called, where `source` does not say.
            report: is called with the number of slices done and of all.
            series: the number of the series to judge, as `series` of an answer lists them; default: the one that is
                nearest to contrast-enhanced T1 (`io.entries`).
            plane: of a volume's slices, one of `io.slices.PLANE_CHOICES`.

        Raises:
            ImageError: nothing that can be read as slices.
        """
        given = source if isinstance(source, Slices) else known(source)
        if isinstance(given, Image.Image):
            return self.predict(given)
        try:
            slices = given if isinstance(given, Slices) else self.read_slices(given, name, series=series, plane=plane)
        except NotMRIError as error:
            return not_mri(name or (name_of(given) if isinstance(given, str | Path) else "file"), str(error))
        predictions = []
        for prediction in self.predict_slices(slices):
            predictions.append(prediction)
            report(len(predictions), len(slices.names))
        if slices.is_volume:
            return self.summarize(predictions, slices.notes, slices.series, slices.lost)
        return replace(predictions[0], notes=slices.notes, series=slices.series)

    def predict_slices(self, slices: Slices) -> Iterator[Prediction]:
        """The prediction of each slice, one after the other, so that progress can be shown."""
        for start in range(0, len(slices.names), _BATCH):
            started = time.perf_counter()
            images = list(slices.images[start : start + _BATCH])
            yield from self.predict_images(images, slices.names[start : start + _BATCH], started)

    def summarize(
        self,
        predictions: Sequence[Prediction],
        notes: Sequence[str] = (),
        series: Sequence[Series] = (),
        lost: int = 0,
    ) -> VolumePrediction:
        """The slices of one patient taken together, see `predictions.together`.

        Raises:
            ImageError: there is no slice.
        """
        return together(predictions, self.rule, notes, series, lost)

    def predict_images(
        self, images: Sequence[Image.Image], names: Sequence[str], started: float | None = None
    ) -> list[Prediction]:
        """The predictions of some pictures in one forward pass.

        Args:
            images: pictures of any size and mode, as `io.images.read_image` gives them.
            names: what they are called.
            started: when their reading began, in seconds of `time.perf_counter`; default: now.
        """
        started = time.perf_counter() if started is None else started
        flat = [one_channel(image) for image in images]  # most are grey: a third of the work for all that follows
        pixels = np.stack([self._model.pixel_values(image) for image in flat])
        outputs = self._model.run(pixels)
        rows = [dict(zip(self.label_names, map(float, row), strict=True)) for row in softmax(outputs["logits"])]
        guard_scores = self._guard_scores(outputs, flat)
        needed = [self.compares_all or self.rule.needs_asymmetry(row) for row in rows]
        asymmetries = [self._asymmetry(image, pixels[i]) if needed[i] else None for i, image in enumerate(flat)]
        milliseconds = (time.perf_counter() - started) * 1000 / len(images)
        found = []
        for i, (image, probabilities) in enumerate(zip(images, rows, strict=True)):
            stripped = partial(is_stripped, flat[i])
            verdict, reason = self.rule.of_slice(probabilities, guard_scores[i], stripped, asymmetries[i])
            found.append(
                Prediction(
                    name=names[i],
                    verdict=verdict,
                    reason=reason,
                    probabilities=probabilities,
                    likely=self._likely(list(probabilities.values())),
                    guard_score=guard_scores[i],
                    milliseconds=milliseconds,
                    evidence=self._maps(outputs, i),
                    image=image,
                    levels=self._levels,
                    asymmetry=asymmetries[i],
                )
            )
        return found

    def _guard_scores(self, outputs: dict[str, Float32], images: Sequence[Image.Image]) -> Sequence[float | None]:
        """How unlike a brain MRI each picture is, by its embedding or as a head CT; 1 at the limit of either."""
        if self._guard is None:
            return [None] * len(images)
        by_embedding = self._guard.score(joined(outputs)).tolist()
        # a score that is not a number is kept, and refused
        return [
            score if not score <= (ct := ct_score(image)) else ct
            for score, image in zip(by_embedding, images, strict=True)
        ]

    def _asymmetry(self, image: Image.Image, pixels: Float32) -> float | None:
        """How unlike both sides are, see `symmetry`, in the picture or in the head cut out of it, whichever is more.

        In a wide black frame, which is alike on both sides, a tumour counts for less. None without evidence maps or
        a head.
        """
        box = head_box(image) if self.has_evidence else None
        if box is None:
            return None
        views = np.stack([pixels, self._model.pixel_values(image, box)])
        one, mirrored = (self._model.run(x)["evidence"] for x in (views, np.ascontiguousarray(views[..., ::-1])))
        return float(asymmetry(one, mirrored).max())

    def _likely(self, row: Sequence[float]) -> tuple[str, ...]:
        least = self.thresholds.prediction_set if self.thresholds else np.inf
        chosen = prediction_sets([row], least)[0]
        return tuple(self.label_names[k] for k in np.argsort(-np.asarray(row), kind="stable") if chosen[k])

    def _maps(self, outputs: dict[str, Float32], i: int) -> dict[str, Float32] | None:
        if "evidence" not in outputs:
            return None
        return dict(zip(self.label_names, outputs["evidence"][i], strict=True))
