"""The predictions of a model on a set of images, stored as CSV."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from brain_mri.errors import DataError
from brain_mri.utils.files import write_table

_KNOWN = ("file_name", "patient_group", "label")


@dataclass(frozen=True)
class PredictionTable:
    """A model's probabilities on a set of images.

    Attributes:
        file_names: (n,).
        groups: (n,) the patient of each image; None for an unknown one.
        labels: (n,) the true class, as a position in `label_names`.
        probabilities: float64 (n, k).
        label_names: the k classes.
    """

    file_names: tuple[str, ...]
    groups: tuple[str | None, ...]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    label_names: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write one row for each image: its name, patient, true class, and a column of probabilities for each class."""
        images = zip(self.file_names, self.groups, self.labels, self.probabilities, strict=True)
        write_table(
            path,
            (*_KNOWN, *self.label_names),
            ([n, group or "", self.label_names[k], *(f"{p:.9g}" for p in row)] for n, group, k, row in images),
        )

    @classmethod
    def load(cls, path: Path) -> PredictionTable:
        """Read what `save` wrote.

        Raises:
            DataError: there is no such file, or it has other columns.
        """
        if not path.is_file():
            raise DataError(f"{path} is missing: run evaluate_model.py on the model first.")
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = list(csv.reader(file))
        if tuple(head[: len(_KNOWN)]) != _KNOWN or not rows:
            raise DataError(f"{path} is no table of predictions: run evaluate_model.py on the model again.")
        classes = tuple(head[len(_KNOWN) :])
        return cls(
            tuple(row[0] for row in rows),
            tuple(row[1] or None for row in rows),
            np.asarray([classes.index(row[2]) for row in rows], dtype=np.int64),
            np.asarray([row[len(_KNOWN) :] for row in rows], dtype=np.float64),
            classes,
        )

    @property
    def correct(self) -> npt.NDArray[np.float64]:
        """(n,) 1 where the most probable class is the true one."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels, dtype=np.float64)
