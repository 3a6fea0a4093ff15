"""Telling from a network's embedding that a picture does not look like the brain MRI it was trained on. No torch.

The score is a Mahalanobis distance (Lee 2018, https://arxiv.org/abs/1807.03888) to the nearest class, with one
covariance for all classes that is kept in two parts: the variance along the leading principal axes, and one mean
variance for everything across them. This is probabilistic PCA (Tipping and Bishop 1999), and the second part is the
residual that ViM scores (Wang 2022, https://arxiv.org/abs/2203.10807). `benchmarks/guard.py` measures it against
other scores.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from brain_mri.errors import ConfigError, DataError

SETTINGS = "guard.json"
STATISTICS = "guard.safetensors"
METHOD = "mahalanobis_ppca"

Floats = npt.NDArray[np.float64]

_BYTES = 1_400_000  # of the principal axes, the one large table
_MOST_AXES = 256
_CHUNK = 4096


@dataclass(frozen=True)
class Guard:
    """What is known of the embeddings of brain MRI, and how far from them is too far.

    Attributes:
        means: float32 (classes, d), the mean embedding of each class.
        axes: float32 (r, d), orthonormal: the principal axes of the embeddings about their class's mean.
        variances: float32 (r,), the variance along each axis.
        rest: the mean variance along the d - r directions across all axes.
        threshold: the distance that the share `acceptance` of the validation embeddings keeps.
        acceptance: that share, in (0, 1).
    """

    means: npt.NDArray[np.float32]
    axes: npt.NDArray[np.float32]
    variances: npt.NDArray[np.float32]
    rest: float
    threshold: float
    acceptance: float

    @classmethod
    def fit(
        cls,
        train_embeddings: npt.ArrayLike,
        train_labels: npt.ArrayLike,
        validation_embeddings: npt.ArrayLike,
        *,
        acceptance: float = 0.99,
    ) -> Guard:
        """Describe the training embeddings, and set the threshold on the validation embeddings.

        Args:
            train_embeddings: (n, d), the pooled features that the classifier sees.
            train_labels: (n,), class numbers.
            validation_embeddings: (m, d), of images that the network was not trained on: training embeddings lie
                closer together, and a threshold set on them would refuse more of what comes later.
            acceptance: the least share of the validation embeddings to be accepted, in (0, 1).

        Raises:
            ConfigError: `acceptance` is out of range.
            DataError: too few embeddings, of other shapes, not finite, or all the same.
        """
        if not 0 < acceptance < 1:
            raise ConfigError(f"the guard's acceptance is {acceptance}: it must lie between 0 and 1, such as 0.99.")
        train, labels = _table(train_embeddings, "training"), np.asarray(train_labels)
        validation = _table(validation_embeddings, "validation")
        if labels.shape != train.shape[:1] or validation.shape[1] != train.shape[1]:
            raise DataError(
                f"the guard got training embeddings of shape {train.shape} with labels of shape {labels.shape}, and "
                f"validation embeddings of shape {validation.shape}: (n, d), (n,) and (m, d) are needed."
            )
        classes, number = np.unique(labels, return_inverse=True)
        means = np.stack([train[number == k].mean(axis=0) for k in range(len(classes))])
        axes, variances, rest = _principal_axes(train - means[number], len(train) - len(classes))
        guard = cls(_single(means), _single(axes), _single(variances), rest, 1.0, acceptance)
        return guard._with_threshold(validation)

    def _with_threshold(self, validation: Floats) -> Guard:
        """The smallest distance seen that at least the share `acceptance` of the validation embeddings keeps."""
        distances = np.sort(self.score(validation))
        kept = math.ceil(self.acceptance * len(distances) - 1e-9)
        return Guard(self.means, self.axes, self.variances, self.rest, float(distances[kept - 1]), self.acceptance)

    def score(self, embeddings: npt.ArrayLike) -> Floats:
        """How unlike a brain MRI each embedding is: (k,), 1 at the threshold, 2 at twice its distance, never below 0.

        Args:
            embeddings: (k, d), any float type.

        Raises:
            DataError: the embeddings are not (k, d) with the d that the guard was fitted on, or not finite.
        """
        points = _table(embeddings, "given", least=0)
        if points.shape[1] != self.means.shape[1]:
            raise DataError(
                f"the guard was fitted on embeddings of {self.means.shape[1]} values and got {points.shape[1]}: "
                "it belongs to another model; fit it again, or load the guard.json of this one."
            )
        scores = np.empty(len(points))
        for start in range(0, len(points), _CHUNK):
            scores[start : start + _CHUNK] = self._distances(points[start : start + _CHUNK]) / self.threshold
        return scores

    def _distances(self, points: Floats) -> Floats:
        """Mahalanobis distance to the nearest class mean, (k,)."""
        nearest = np.full(len(points), np.inf)
        for mean in self.means.astype(np.float64):
            offsets = points - mean
            along = offsets @ self.axes.T.astype(np.float64)
            across = np.maximum(np.square(offsets).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
            nearest = np.minimum(nearest, (np.square(along) / self.variances).sum(axis=1) + across / self.rest)
        return np.asarray(np.sqrt(nearest))

    def accepts(self, embeddings: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each embedding (k, d) looks like a brain MRI: (k,), true up to a score of 1."""
        return np.asarray(self.score(embeddings) <= 1.0)

    def save(self, folder: str | Path) -> None:
        """Write `guard.json` and `guard.safetensors` into a model's folder, whole or not at all.

        `guard.json` goes first and comes last: without it no reader takes the statistics for a guard.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS).unlink(missing_ok=True)
        partial = folder / f"{STATISTICS}.partial"
        save_file({"means": self.means, "axes": self.axes, "variances": self.variances}, partial)
        os.replace(partial, folder / STATISTICS)
        settings = {
            "method": METHOD,
            "rest": self.rest,
            "threshold": self.threshold,
            "acceptance": self.acceptance,
            "statistics": STATISTICS,
        }
        partial = folder / f"{SETTINGS}.partial"
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, folder / SETTINGS)

    @classmethod
    def load(cls, folder: str | Path) -> Guard:
        """Read what `save` wrote.

        Raises:
            ConfigError: the folder holds no guard, or one that is broken or made by another method.
        """
        path = Path(folder) / SETTINGS
        if not path.is_file():
            raise ConfigError(f"{folder} has no {SETTINGS}: train the model again, or use it without the guard.")
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            if settings["method"] != METHOD:
                raise ConfigError(
                    f"{path} holds a guard of the method {settings['method']!r}, this version knows {METHOD!r}: "
                    "use the version of brain_mri that wrote it, or fit the guard again."
                )
            tensors = load_file(path.with_name(STATISTICS))
            means, axes, variances = (tensors[name] for name in ("means", "axes", "variances"))
            numbers = [float(settings[name]) for name in ("rest", "threshold", "acceptance")]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ConfigError(f"{path} or {STATISTICS} beside it is broken ({error}): fit the guard again.") from error
        if axes.shape != (len(variances), means.shape[-1]) or not all(number > 0 for number in numbers):
            raise ConfigError(f"{path} and {STATISTICS} do not belong together: fit the guard again.")
        return cls(means, axes, variances, *numbers)


def _principal_axes(offsets: Floats, freedom: int) -> tuple[Floats, Floats, float]:
    """Split the covariance of `offsets` (n, d): axes (r, d), variances (r,), and the mean variance across them.

    At most half of the directions that the embeddings span become axes: the variances along the others would be
    estimated far too small.
    """
    n, d = offsets.shape
    wide = n <= d  # then the same axes come from the smaller matrix
    spread, vectors = np.linalg.eigh(offsets @ offsets.T if wide else offsets.T @ offsets)
    spread, vectors = np.maximum(spread[::-1], 0.0), vectors[:, ::-1]
    spanned = int((spread > 1e-10 * max(spread[0], 1e-10)).sum())
    if not spanned:
        raise DataError(
            f"the {n} training embeddings hardly differ within their classes, so the guard can't tell how much brain "
            "MRI varies: give more images."
        )
    kept = min(_MOST_AXES, _BYTES // (4 * d), spanned // 2)
    axes = vectors[:, :kept].T
    if wide:
        axes = axes @ offsets / np.sqrt(spread[:kept, None])
    variances = spread[:kept] / freedom
    return axes, variances, float(spread[kept:].sum() / freedom / (d - kept))


def _table(values: npt.ArrayLike, name: str, least: int = 1) -> Floats:
    """Check embeddings and return them as float64 (n, d)."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < least:
        raise DataError(f"the {name} embeddings have the shape {table.shape}: one row for each image is needed.")
    if not np.isfinite(table).all():
        raise DataError(f"the {name} embeddings hold values that are not finite: the network's weights are broken.")
    return table


def _single(values: Floats) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
