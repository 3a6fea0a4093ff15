"""When a class may be named for a slice, and for the slices of one patient together. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from brain_mri.labels import is_healthy

if TYPE_CHECKING:
    from brain_mri.inference.predictions import Prediction

Verdict = Literal["answer", "unsure", "refused"]


@dataclass(frozen=True)
class Rule:
    """When a class may be named.

    Attributes:
        threshold: least probability of a class that may be named.
        all_clear_threshold: least probability of the healthy class, whose false answers hurt most.
        missing: the reason code for which everything is refused, such as `no_guard`; None where nothing is missing.
        most_asymmetry: largest `symmetry.asymmetry` of a slice that may be answered with the healthy class.
    """

    threshold: float = 0.0
    all_clear_threshold: float = 0.0
    missing: str | None = None
    most_asymmetry: float = math.inf

    def of_slice(
        self,
        probabilities: Mapping[str, float],
        guard_score: float | None,
        stripped: Callable[[], bool] = lambda: False,
        asymmetry: float | None = None,
    ) -> tuple[Verdict, str | None]:
        """The verdict on one slice and the code of its reason.

        Args:
            probabilities: `{label: probability}`.
            guard_score: how unlike a brain MRI it is, 1 at the limit; None where no guard was asked.
            stripped: whether it looks like a brain without its skull. The guard lets some of these pass, and the model
                has called them healthy with full confidence: "no tumour" is not said of them.
            asymmetry: `symmetry.asymmetry`, None where it is not known; see `needs_asymmetry`.
        """
        if self.missing is not None:
            return "refused", self.missing
        if guard_score is not None and not guard_score <= 1:  # a score that is not a number is refused too
            return "refused", "skull_stripped" if stripped() else "not_brain_mri"
        verdict, reason = self._sure_enough(probabilities, [asymmetry])
        if verdict == "answer" and is_healthy(first(probabilities)) and stripped():
            return "refused", "skull_stripped"
        return verdict, reason

    def of_volume(
        self, slices: Sequence[Prediction], mean: Mapping[str, float], lost: int = 0
    ) -> tuple[Verdict, str | None]:
        """The verdict on the slices of one patient and the code of its reason.

        "No tumour" must not outvote slices that point to a tumour, sure or not: it may show in a few slices only. So
        where a limit of the asymmetry was chosen, each slice must be called healthy by itself. Nor is it said where
        slices were refused or could not be read, whatever these show.

        Args:
            slices: of the patient, each with its own verdict.
            mean: `{label: probability}` over the slices that were not refused; empty without any.
            lost: how many more may be slices of the patient, but could not be read.
        """
        accepted = [p for p in slices if p.verdict != "refused"]
        if not accepted:
            reasons = {p.reason for p in slices} - {"not_brain_mri"}
            return "refused", reasons.pop() if len(reasons) == 1 else "no_slice_accepted"
        if 2 * len(accepted) < len(slices):
            stripped = sum(p.reason == "skull_stripped" for p in slices)
            return "refused", "skull_stripped" if 2 * stripped > len(slices) else "most_slices_refused"
        if is_healthy(first(mean)) and not all(is_healthy(first(p.probabilities)) for p in accepted):
            return "unsure", "slices_disagree"
        if is_healthy(first(mean)) and (lost or len(accepted) < len(slices)):
            return "unsure", "slices_not_judged"
        return self._sure_enough(mean, [p.asymmetry for p in accepted])

    def needs_asymmetry(self, probabilities: Mapping[str, float]) -> bool:
        """Whether the verdict depends on the asymmetry: only "no tumour" does, and only once a limit was chosen."""
        return (
            self.most_asymmetry < math.inf
            and self._sure_enough(probabilities, [0.0])[0] == "answer"
            and is_healthy(first(probabilities))
        )

    def _sure_enough(
        self, probabilities: Mapping[str, float], asymmetries: Sequence[float | None]
    ) -> tuple[Verdict, str | None]:
        label = first(probabilities)
        sure = probabilities[label] >= self.threshold
        if is_healthy(label):
            sure = sure and probabilities[label] >= self.all_clear_threshold and all(map(self._symmetric, asymmetries))
        # one reason for all: to say which threshold was missed would say which class was meant
        return ("answer", None) if sure else ("unsure", "below_threshold")

    def _symmetric(self, asymmetry: float | None) -> bool:
        """Whether it is small enough, if a limit was chosen; one that is not known, or no number, is not."""
        return self.most_asymmetry == math.inf or (asymmetry is not None and asymmetry <= self.most_asymmetry)


def first(probabilities: Mapping[str, float]) -> str:
    """The most probable label."""
    return max(probabilities, key=probabilities.__getitem__)
