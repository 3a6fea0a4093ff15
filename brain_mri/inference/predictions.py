"""What may be said of a slice, and of the slices of one patient together: the one rule that every door takes. No torch.

Each prediction has a verdict:

- `answer`: a class is named.
- `unsure`: a brain MRI, but no class may be named.
- `refused`: not taken for a brain MRI, or the model folder lacks what tells.

An `unsure` or `refused` prediction has no label, no score and no prediction set, in Python, text, JSON, on the page, in
its API and in exported tables. `reason` is a code that says why (`REASONS`), `explanation` the sentence for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from brain_mri.errors import ConfigError, ImageError
from brain_mri.inference.onnx_model import Float32
from brain_mri.inference.overlay import LEVEL, draw_overlay
from brain_mri.inference.rule import Rule, Verdict, first
from brain_mri.io.slices import Series
from brain_mri.labels import is_healthy, is_tumor

_DRAWN = 1024  # pixels a side of an overlay at most: a slice has fewer, and a larger picture takes seconds

REASONS = {
    "not_brain_mri": "this does not look like a brain MRI",
    "skull_stripped": "this looks like a brain whose skull was removed by a program, which the model does not know: "
    "give the scan as it came from the scanner",
    "not_mri": "the file's header says that this is no MRI of a head",
    "no_guard": "the model folder has no usable guard, which tells a brain MRI from other pictures",
    "no_calibration": "the model folder has no calibration.json, which says how sure the model must be",
    "below_threshold": "the model is not sure enough to name a class: a human should look",
    "no_slice_accepted": "no slice looks like a brain MRI",
    "most_slices_refused": "most of the slices do not look like a brain MRI",
    "slices_not_judged": "some of the slices were refused or could not be read, so nothing is said of the whole",
    "slices_disagree": "some of the slices point to a tumour and others do not: a human should look",
}
"""What each reason code means, for people."""


CAVEAT = (
    "this is no all-clear: a tumour may still be there, bleeding, stroke, infection and other tumours are not looked "
    "for, and one slice is not an examination"
)
"""What is said with every answer of the healthy class."""


class _Said:
    """What a prediction of a slice and one of a volume have in common: what may be said, from the verdict alone."""

    verdict: Verdict
    reason: str | None
    probabilities: dict[str, float]
    notes: tuple[str, ...]
    series: tuple[Series, ...]

    @property
    def is_answered(self) -> bool:
        """Whether a class is named."""
        return self.verdict == "answer"

    @property
    def label(self) -> str | None:
        """The class that is named; None where none may be."""
        return first(self.probabilities) if self.is_answered else None

    @property
    def score(self) -> float | None:
        """Its probability; None where no class may be named."""
        return self.probabilities[first(self.probabilities)] if self.is_answered else None

    @property
    def explanation(self) -> str | None:
        """Why no class is named, as a sentence for people; None for an answer."""
        return None if self.reason is None else REASONS[self.reason]

    @property
    def caveat(self) -> str | None:
        """What an answer does not mean that is healthy, or may be, as a sentence for people; None for a tumour."""
        return CAVEAT if self.label is not None and not is_tumor(self.label, self.probabilities) else None

    def _as_dict(self) -> dict[str, Any]:
        named = self.is_answered
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "explanation": self.explanation,
            "caveat": self.caveat,
            "notes": list(self.notes),
            "series": [one.as_dict() for one in self.series],
            "label": self.label,
            "score": round(self.score, 6) if self.score is not None else None,
            "probabilities": {label: round(p, 6) for label, p in self.probabilities.items()} if named else None,
        }


@dataclass(frozen=True)
class Prediction(_Said):
    """What the model says of one slice.

    Attributes:
        name: what the picture was called.
        verdict: whether a class may be named, see the module.
        reason: why none may be named, a key of `REASONS`; None for an answer.
        probabilities: `{label: probability}`, calibrated, in the model's order. They are kept whatever the verdict,
            for measurements; no door shows them where no class may be named.
        likely: the labels that can't be told apart at the coverage the model was calibrated for, the most probable
            first; see `prediction_set`.
        guard_score: how unlike a brain MRI it is: 1 at the guard's limit; None of a model without a guard.
        milliseconds: of reading, preprocessing and the forward pass.
        evidence: `{label: map}`, float32 (h, w), what each place adds to the label's logit; None without exact maps.
        image: the slice, mode RGB; None where its header alone was enough to refuse it.
        notes: what else a reader should know, sentences without their full stop, see `io.slices.Slices`.
        series: what the file or folder holds, where it is more than one series, see `io.slices.Slices`.
        levels: `{label: level}` of the contour, see `contour_level`.
        asymmetry: see `symmetry.asymmetry`; None where the verdict does not need it, or without exact maps.
    """

    name: str
    verdict: Verdict
    reason: str | None
    probabilities: dict[str, float]
    likely: tuple[str, ...]
    guard_score: float | None
    milliseconds: float
    evidence: dict[str, Float32] | None = field(repr=False)
    image: Image.Image | None = field(repr=False)
    notes: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict, repr=False)
    asymmetry: float | None = field(default=None, repr=False)

    @property
    def prediction_set(self) -> tuple[str, ...]:
        """The labels that can't be told apart, the most probable first; empty where no class may be named."""
        return self.likely if self.is_answered else ()

    @property
    def suspect(self) -> str:
        """The most probable of the classes that are no healthy brain, whatever the verdict.

        Whose evidence says where a human should look first. It is no answer: where none is given, it is not named.
        """
        tumors = {label: p for label, p in self.probabilities.items() if not is_healthy(label)}
        return first(tumors or self.probabilities)

    def contour_level(self, label: str) -> float:
        """The contour of `overlay` encloses the places with at least this share of the evidence at its peak."""
        return self.levels.get(label, LEVEL)

    def overlay(self, label: str | None = None, opacity: float = 0.45) -> Image.Image:
        """The slice, at most 1,024 pixels a side, under the evidence for `label` (default: the named or `suspect`).

        A cross marks the peak of the evidence, a contour the places at `contour_level`: roughly where the model saw the
        class, not where a tumour ends. See `overlay.draw_overlay`.

        Raises:
            ConfigError: the model has no exact evidence maps or no such label, or the picture was refused.
        """
        if self.verdict == "refused" or self.image is None:
            raise ConfigError(f"{self.name}: {self.explanation}, so there is no evidence to draw.")
        if self.evidence is None:
            raise ConfigError("this model has no evidence maps: choose one that was exported with them.")
        label = label or self.label or self.suspect
        if label not in self.evidence:
            raise ConfigError(f"no label {label!r}: the model knows {', '.join(self.evidence)}.")
        image = self.image.copy()
        image.thumbnail((_DRAWN, _DRAWN), Image.Resampling.LANCZOS)
        return draw_overlay(image, self.evidence[label], opacity, level=self.contour_level(label))

    def as_dict(self) -> dict[str, Any]:
        """All that may be said but pictures and maps, ready for JSON."""
        return {
            "name": self.name,
            **self._as_dict(),
            "prediction_set": list(self.prediction_set) if self.is_answered else None,
            "guard_score": None if self.guard_score is None else round(self.guard_score, 4),
            "milliseconds": round(self.milliseconds, 1),
        }


@dataclass(frozen=True)
class VolumePrediction(_Said):
    """What the model says of the slices of one patient, and of them together.

    Attributes:
        slices: of each slice, in order.
        verdict: whether a class may be named for the whole, see the module.
        reason: why none may be named, a key of `REASONS`; None for an answer.
        probabilities: `{label: probability}`, the mean over the slices that were not refused, empty without any; a
            mean of calibrated probabilities, itself not calibrated.
        notes: what else a reader should know, sentences without their full stop, see `io.slices.Slices`.
        series: what the file or folder holds, where it is more than one series, see `io.slices.Slices`.
    """

    slices: tuple[Prediction, ...]
    verdict: Verdict
    reason: str | None
    probabilities: dict[str, float]
    notes: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()

    @property
    def counted(self) -> int:
        """The number of slices that were not refused."""
        return sum(p.verdict != "refused" for p in self.slices)

    @property
    def tumors(self) -> int:
        """The number of slices that were answered with a tumour, each by itself, whatever is said of the whole."""
        return sum(p.label is not None and is_tumor(p.label, p.probabilities) for p in self.slices)

    def as_dict(self) -> dict[str, Any]:
        """All that may be said but pictures and maps, ready for JSON."""
        return {
            **self._as_dict(),
            "slices_counted": self.counted,
            "slices_with_tumor": self.tumors,
            "slices": [prediction.as_dict() for prediction in self.slices],
        }


def not_mri(name: str, problem: str) -> Prediction:
    """The prediction of a file that is refused by its header, before its pixels are decoded.

    Args:
        name: of the file.
        problem: what the header says, a sentence; a path before it is left out.
    """
    note = problem.rpartition(": ")[2].rstrip(".")
    note = note[:1].upper() + note[1:]
    return Prediction(name, "refused", "not_mri", {}, (), None, 0.0, None, None, (note,))


def together(
    predictions: Sequence[Prediction],
    rule: Rule,
    notes: Sequence[str] = (),
    series: Sequence[Series] = (),
    lost: int = 0,
) -> VolumePrediction:
    """The slices of one patient taken together; `notes`, `series` and `lost` are those of `io.slices.Slices`.

    Raises:
        ImageError: there is no slice.
    """
    if not predictions:
        raise ImageError("there is no slice to classify: give at least one.")
    accepted = [p.probabilities for p in predictions if p.verdict != "refused"]
    mean = {label: float(np.mean([p[label] for p in accepted])) for label in accepted[0]} if accepted else {}
    verdict, reason = rule.of_volume(predictions, mean, lost)
    return VolumePrediction(tuple(predictions), verdict, reason, mean, tuple(notes), tuple(series))
