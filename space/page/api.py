"""The page's answers for programs: what each endpoint takes, gives and does."""

# No `from __future__ import annotations`: gradio reads the endpoints' return types as they are.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from brain_mri.errors import ImageError
from brain_mri.inference.predictions import Prediction, VolumePrediction
from page.about import about_record
from page.jobs import Steps
from page.service import Service
from page.startup import gr
from page.texts import texts


class ListedSeries(TypedDict):
    """One of the series that were uploaded; `number` is what /classify_volume takes."""

    number: int
    description: str
    sequence: str
    plane: str
    slices: int
    chosen: bool


class Answer(TypedDict):
    """What is said of one slice.

    `verdict` is `answer`, `unsure` or `refused`. Only an answer has a label, a score, probabilities and a prediction
    set; else they are null, `reason` is a code that says why and `explanation` the sentence for people.
    """

    name: str
    verdict: str
    reason: str | None
    explanation: str | None
    caveat: str | None
    notes: list[str]
    series: list[ListedSeries]
    label: str | None
    score: float | None
    probabilities: dict[str, float] | None
    prediction_set: list[str] | None
    guard_score: float | None
    milliseconds: float
    notice: str


class VolumeAnswer(TypedDict):
    """What is said of several slices of one person: together (a mean over those that look like brain MRI), and each."""

    verdict: str
    reason: str | None
    explanation: str | None
    caveat: str | None
    notes: list[str]
    series: list[ListedSeries]
    label: str | None
    score: float | None
    probabilities: dict[str, float] | None
    slices_counted: int
    slices_with_tumor: int
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


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    Attributes:
        declared: named, typed and documented as programs see it. Gradio and MCP describe it; `steps` answers it.
        steps: the job for its inputs, which come from outside and may be anything.
    """

    declared: Callable[..., Any]
    steps: Callable[..., Steps[Any]]

    @property
    def name(self) -> str:
        """Its name in addresses."""
        return self.declared.__name__

    @property
    def inputs(self) -> int:
        """How many it takes at most."""
        return self.declared.__code__.co_argcount

    @property
    def required(self) -> int:
        """How many it takes at least."""
        return self.inputs - len(self.declared.__defaults__ or ())


def classify(file: gr.FileData) -> Answer:
    """Classify one slice of a brain MRI. Research and teaching, not a diagnosis.

    The answer is a class (glioma, meningioma, no_tumor, pituitary) with its calibrated probability. Where verdict
    is not "answer", label is null, explanation says why, and no class may be named to anybody.

    Args:
        file: a picture (JPEG, PNG, TIFF, WebP, BMP, GIF) or a DICOM file of one slice
    """
    raise NotImplementedError


def classify_volume(files: list[gr.FileData], series: int = 0) -> VolumeAnswer:
    """Classify every slice of a brain MRI volume, and all together. Research and teaching, not a diagnosis.

    Args:
        files: slices (pictures or DICOM files), or one NIfTI file, multi-frame DICOM file or zip of slices
        series: which of several series to judge, by its number in the answer; 0: the nearest to contrast-enhanced T1
    """
    raise NotImplementedError


def about_model() -> Model:
    """Which model answers here, and how often it was right on which test data."""
    raise NotImplementedError


def endpoints(service: Service) -> list[Endpoint]:
    """All of them, for one model."""

    def one(file: Any) -> Steps[Answer]:
        return _one(cast(Prediction, (yield from service.judging([file], alone=True))))

    def several(files: Any, series: Any = 0) -> Steps[VolumeAnswer]:
        if series and not (isinstance(series, int) and series > 0):
            raise ImageError("series is no number of a series: give one that the answer lists, or 0.")
        answer = yield from service.judging(files, series=series or None)
        if isinstance(answer, Prediction):
            answer = service.classifier.summarize([answer], answer.notes, answer.series)
        return _several(answer)

    def model() -> Steps[Model]:
        yield from ()
        return {
            "model": service.model,
            "labels": list(service.classifier.label_names),
            "referral_threshold": service.threshold,
            "coverage": service.coverage,
            "figures": about_record(service),
            "notice": texts()("notice"),
        }

    return [Endpoint(classify, one), Endpoint(classify_volume, several), Endpoint(about_model, model)]


def _one(prediction: Prediction) -> Answer:
    return cast(Answer, prediction.as_dict() | {"notice": texts()("notice")})


def _several(volume: VolumePrediction) -> VolumeAnswer:
    slices = [_one(prediction) for prediction in volume.slices]
    return cast(VolumeAnswer, volume.as_dict() | {"slices": slices, "notice": texts()("notice")})
