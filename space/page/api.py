"""The page's answers for programs: typed endpoints for gradio_client, plain HTTP and MCP."""

# No `from __future__ import annotations`: gradio reads the endpoints' return types as they are.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict, cast

from brain_mri.errors import BrainMRIError
from brain_mri.inference.predictions import Prediction, VolumePrediction
from page.about import about_record
from page.service import Service, Verdict
from page.startup import gr
from page.texts import texts
from page.views import error_text


class Answer(TypedDict):
    """What is said of one slice.

    `label` and `score` are null where no class may be named; then `reason` says why. A picture that is not taken for a
    brain MRI has no `probabilities` and no `prediction_set` either.
    """

    name: str
    label: str | None
    score: float | None
    reason: str | None
    probabilities: dict[str, float] | None
    prediction_set: list[str] | None
    is_confident: bool
    is_brain_mri: bool | None
    guard_score: float | None
    milliseconds: float
    notice: str


class VolumeAnswer(TypedDict):
    """What is said of several slices of one person: together (a mean over those that look like brain MRI), and each."""

    label: str | None
    score: float | None
    reason: str | None
    probabilities: dict[str, float] | None
    is_brain_mri: bool
    slices_counted: int
    slices: list[Answer]
    notice: str


class Model(TypedDict):
    """The model that answers, and the figures measured of it, by protocol and name; what is absent was not measured."""

    model: str
    labels: list[str]
    referral_threshold: float | None
    coverage: float | None
    figures: dict[str, dict[str, dict[str, float]]]
    notice: str


def endpoints(service: Service) -> list[Callable[..., Any]]:
    """The functions to hand to `gr.api`, named as their endpoints are."""

    def classify(file: gr.FileData) -> Answer:
        """Classify one slice of a brain MRI. Research and teaching, not a diagnosis.

        The answer is a class (glioma, meningioma, no_tumor, pituitary) with its calibrated probability, or a refusal:
        then label is null and reason says why, and no class may be named to anybody.

        Args:
            file: a picture (JPEG, PNG, TIFF, WebP, BMP, GIF) or a DICOM file of one slice
        """
        with _sentences(service):
            answer = service.judge(service.read([file]))
            if isinstance(answer, VolumePrediction):
                raise gr.Error("this holds several slices: use /classify_volume.", print_exception=False)
            return _one(service, answer)

    def classify_volume(files: list[gr.FileData]) -> VolumeAnswer:
        """Classify every slice of a brain MRI volume, and all together. Research and teaching, not a diagnosis.

        Args:
            files: slices (pictures or DICOM files), or one NIfTI file, multi-frame DICOM file or zip of slices
        """
        with _sentences(service):
            answer = service.judge(service.read(files))
            if isinstance(answer, Prediction):
                answer = service.classifier.summarize([answer])
            return _several(service, answer)

    def about_model() -> Model:
        """Which model answers here, and how often it was right on which test data."""
        return {
            "model": service.model,
            "labels": list(service.classifier.label_names),
            "referral_threshold": service.classifier.referral_threshold,
            "coverage": service.coverage,
            "figures": about_record(service),
            "notice": texts()("notice"),
        }

    return [classify, classify_volume, about_model]


@contextmanager
def _sentences(service: Service) -> Iterator[None]:
    """Whatever is wrong with what was given reaches the caller as a sentence, and no log."""
    try:
        yield
    except BrainMRIError as error:
        raise gr.Error(error_text(service, error, texts()), print_exception=False) from None


def _reason(verdict: Verdict) -> str | None:
    return None if verdict == "answer" else texts()(f"{verdict}_title") + "."


def _one(service: Service, prediction: Prediction) -> Answer:
    verdict, said = service.verdict(prediction), prediction.as_dict()
    named, known = verdict == "answer", verdict != "stranger"
    answer = {
        **said,
        "label": said["label"] if named else None,
        "score": said["score"] if named else None,
        "reason": _reason(verdict),
        "probabilities": said["probabilities"] if known else None,
        "prediction_set": said["prediction_set"] if known else None,
        "notice": texts()("notice"),
    }
    return cast(Answer, answer)


def _several(service: Service, volume: VolumePrediction) -> VolumeAnswer:
    verdict, said = service.verdict(volume), volume.as_dict()
    named, known = verdict == "answer", verdict != "stranger"
    answer = {
        **said,
        "label": said["label"] if named else None,
        "score": said["score"] if named else None,
        "reason": _reason(verdict),
        "probabilities": said["probabilities"] if known else None,
        "slices": [_one(service, prediction) for prediction in volume.slices],
        "notice": texts()("notice"),
    }
    return cast(VolumeAnswer, answer)
