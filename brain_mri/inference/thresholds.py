"""What a model folder's records say of how sure the model must be, and of the contour, checked as read. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brain_mri.errors import ConfigError
from brain_mri.model_folder import Record, read_record


@dataclass(frozen=True)
class Thresholds:
    """The probabilities that answers are decided by.

    Attributes:
        referral: least probability of a class that may be named; above 1 where none was high enough on validation.
        all_clear: least probability of the healthy class, at least `referral`.
        asymmetry: largest `symmetry.asymmetry` of a slice that may be answered with it; infinite where none was chosen.
        prediction_set: least probability of a class in the prediction set.
        coverage: the share of images whose true class the prediction sets were made to hold.
    """

    referral: float
    all_clear: float
    asymmetry: float
    prediction_set: float
    coverage: float

    @classmethod
    def read(cls, path: Path) -> Thresholds:
        """Read a `calibration.json`.

        Raises:
            ConfigError: it is broken, or one of its numbers is missing or out of range.
        """
        record = read_record(path)
        referral = _number(record, path, "referral", "threshold")
        all_clear, asymmetry = _of_all_clear(record, path)
        return cls(
            referral,
            max(referral, all_clear),
            asymmetry,
            _number(record, path, "prediction_sets", "threshold"),
            _number(record, path, "prediction_sets", "coverage"),
        )


def _of_all_clear(record: Record, path: Path) -> tuple[float, float]:
    """What the healthy class needs: its least probability and its largest asymmetry.

    Where a limit of the asymmetry was chosen, it takes the place of the higher probability.
    """
    chosen = record.get("all_clear")
    if isinstance(chosen, dict) and "symmetry" in chosen:
        least_probability, asymmetry = (_number(chosen, path, "symmetry", name) for name in ("threshold", "asymmetry"))
        return least_probability, asymmetry
    least = [0.0]
    if "healthy_threshold" in record["referral"]:
        least.append(_number(record, path, "referral", "healthy_threshold"))
    if "all_clear" in record:
        least.append(_number(record, path, "all_clear", "threshold"))
    return max(least), math.inf


def contour_levels(path: Path) -> dict[str, float]:
    """The level of each class's contour, a share of the map's peak, that `evidence.json` has.

    {} without that file, or if it holds no levels.

    Raises:
        ConfigError: it is broken, or a level is not above 0 and at most 1.
    """
    levels = read_record(path).get("levels", {}) if path.is_file() else {}
    if not isinstance(levels, dict) or not all(_is_number(level) and 0 < level <= 1 for level in levels.values()):
        raise ConfigError(
            f"{path}: levels is {levels!r}, where a share above 0 and at most 1 belongs for each class: train the "
            "model again, or get the file anew."
        )
    return {str(name): float(level) for name, level in levels.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(record: Record, path: Path, part: str, name: str) -> float:
    value: Any = record.get(part)
    value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or not _is_number(value) or value < 0:
        raise ConfigError(
            f"{path}: {part}.{name} is {value!r}, where a number of at least 0 belongs: train the model again, or get "
            "the file anew."
        )
    return float(value)
