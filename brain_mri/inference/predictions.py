"""What the model says of a slice, and of the slices of one patient together. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from brain_mri.errors import ConfigError
from brain_mri.inference.onnx_model import Float32
from brain_mri.inference.overlay import draw_overlay


@dataclass(frozen=True)
class Prediction:
    """What the model says of one slice.

    Attributes:
        name: what the picture was called.
        probabilities: `{label: probability}`, calibrated, in the model's order.
        prediction_set: the labels that can't be told apart at the coverage the model was calibrated for, the most
            probable first; all that is known of a model without calibration is its first label.
        is_confident: whether the highest probability reaches the threshold below which a human should look.
        is_brain_mri: whether the guard takes it for a brain MRI; None of a model without a guard.
        guard_score: how unlike a brain MRI it is: 1 at the guard's threshold; None of a model without a guard.
        milliseconds: of reading, preprocessing and the forward pass.
        evidence: `{label: map}`, float32 (h, w), what each place adds to the label's logit; None without exact maps.
        image: the slice, mode RGB.
    """

    name: str
    probabilities: dict[str, float]
    prediction_set: tuple[str, ...]
    is_confident: bool
    is_brain_mri: bool | None
    guard_score: float | None
    milliseconds: float
    evidence: dict[str, Float32] | None = field(repr=False)
    image: Image.Image = field(repr=False)

    @property
    def label(self) -> str:
        """The most probable label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def score(self) -> float:
        """Its probability."""
        return self.probabilities[self.label]

    @property
    def is_answered(self) -> bool:
        """Whether the model may name a class at all: a brain MRI, and sure enough."""
        return self.is_confident and self.is_brain_mri is not False

    def overlay(self, label: str | None = None, opacity: float = 0.45) -> Image.Image:
        """The slice under the evidence for `label` (default: the most probable one); see `overlay.draw_overlay`.

        Raises:
            ConfigError: the model has no exact evidence maps, or no such label.
        """
        if self.evidence is None:
            raise ConfigError("this model has no evidence maps: choose one that was exported with them.")
        if (label or self.label) not in self.evidence:
            raise ConfigError(f"no label {label!r}: the model knows {', '.join(self.evidence)}.")
        return draw_overlay(self.image, self.evidence[label or self.label], opacity)

    def as_dict(self) -> dict[str, Any]:
        """All of it but pictures and maps, ready for JSON."""
        return {
            "name": self.name,
            "label": self.label,
            "score": round(self.score, 6),
            "probabilities": {label: round(p, 6) for label, p in self.probabilities.items()},
            "prediction_set": list(self.prediction_set),
            "is_confident": self.is_confident,
            "is_brain_mri": self.is_brain_mri,
            "guard_score": None if self.guard_score is None else round(self.guard_score, 4),
            "milliseconds": round(self.milliseconds, 1),
        }


@dataclass(frozen=True)
class VolumePrediction:
    """What the model says of the slices of one patient, and of them together.

    Attributes:
        slices: of each slice, in order.
        probabilities: `{label: probability}`, the mean over the slices that the guard takes for brain MRI, or over all
            if there is none; a mean of calibrated probabilities, itself not calibrated.
        counted: the number of slices in that mean.
    """

    slices: tuple[Prediction, ...]
    probabilities: dict[str, float]
    counted: int

    @property
    def label(self) -> str:
        """The most probable label of the whole."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def is_brain_mri(self) -> bool:
        """Whether at least half of the slices look like brain MRI; those at a volume's ends often do not."""
        return 2 * sum(p.is_brain_mri is not False for p in self.slices) >= len(self.slices)

    def as_dict(self) -> dict[str, Any]:
        """All of it but pictures and maps, ready for JSON."""
        return {
            "label": self.label,
            "score": round(self.probabilities[self.label], 6),
            "probabilities": {label: round(p, 6) for label, p in self.probabilities.items()},
            "is_brain_mri": self.is_brain_mri,
            "slices_counted": self.counted,
            "slices": [prediction.as_dict() for prediction in self.slices],
        }
