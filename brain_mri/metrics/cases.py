"""The scored images every formula reads, checked once and sorted once.

A formula takes `Cases` and a matrix of weights `(r, n)`: one row per resample, one column per image, the weight being
how often the image was drawn. A row of ones gives the figure itself, so that figure and bootstrap share a formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# float32 softmax outputs miss 1 by about 1e-6; logits passed by mistake miss it by far more.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SortedScores:
    """One score per image, sorted and divided into blocks of equal scores.

    Attributes:
        order: `(n,)` positions of the images, from the highest score to the lowest.
        starts: where each block of equal scores begins in `order`; its length is the number of distinct scores.
    """

    order: IntArray
    starts: IntArray

    @classmethod
    def descending(cls, scores: FloatArray) -> SortedScores:
        """Sorts `scores` `(n,)` from the highest to the lowest."""
        order = np.argsort(-scores, kind="stable")
        changes = np.flatnonzero(np.diff(scores[order])) + 1
        return cls(order, np.concatenate(([0], changes)))

    def block_sums(self, values: FloatArray) -> FloatArray:
        """Sums `values` `(r, n)`, given in the images' own order, over each block of equal scores: `(r, blocks)`."""
        return np.asarray(np.add.reduceat(values[:, self.order], self.starts, axis=1), dtype=np.float64)


@dataclass(frozen=True)
class Cases:
    """Probabilities and the classes that were true.

    Attributes:
        probabilities: `(n, k)`, each in `[0, 1]`, every row summing to 1.
        labels: `(n,)` class numbers in `[0, k)`.
    """

    probabilities: FloatArray
    labels: IntArray

    @classmethod
    def of(cls, probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Cases:
        """Checks and converts the arguments.

        Raises:
            ValueError: there is no image, the shapes disagree, a label is no class number, or the rows are not
                probabilities (logits, for instance).
        """
        values = np.asarray(probabilities, dtype=np.float64)
        numbers = np.asarray(labels)
        _check(values, numbers)
        return cls(values, numbers.astype(np.int64))

    @cached_property
    def ones(self) -> FloatArray:
        """`(1, n)` the weights that count every image once."""
        return np.ones((1, len(self.labels)))

    @cached_property
    def predicted(self) -> IntArray:
        """`(n,)` the most probable class of each image; the first one among equals."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def confidence(self) -> FloatArray:
        """`(n,)` the probability of the predicted class."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def correct(self) -> FloatArray:
        """`(n,)` 1.0 where the predicted class is the true one, else 0.0."""
        return np.asarray(self.predicted == self.labels, dtype=np.float64)

    @cached_property
    def one_hot(self) -> FloatArray:
        """`(n, k)` 1.0 at the true class."""
        return np.asarray(np.eye(self.probabilities.shape[1])[self.labels], dtype=np.float64)

    @cached_property
    def by_confidence(self) -> SortedScores:
        """The images from the most certain to the least certain."""
        return SortedScores.descending(self.confidence)

    @cached_property
    def by_class_probability(self) -> list[SortedScores]:
        """For each of the `k` classes, the images from the most probable member of that class to the least."""
        return [SortedScores.descending(column) for column in self.probabilities.T]


def _check(probabilities: FloatArray, labels: npt.NDArray[np.generic]) -> None:
    if probabilities.ndim != 2 or probabilities.shape[0] == 0:
        raise ValueError(f"probabilities must have the shape (images, classes), got {probabilities.shape}")
    if labels.shape != probabilities.shape[:1]:
        raise ValueError(f"labels must have the shape {probabilities.shape[:1]}, got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    classes = probabilities.shape[1]
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    sums = probabilities.sum(axis=1)
    if not (probabilities.min() >= 0 and np.abs(sums - 1).max() <= _SUM_TOLERANCE):  # also false for nan
        raise ValueError("every row must hold probabilities that sum to 1; pass softmax(logits), not logits")
