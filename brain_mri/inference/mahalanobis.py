"""The distance of an embedding from those of brain MRI. No torch.

A Mahalanobis distance to the nearest class mean, with one covariance for all classes in two parts: the variance along
the leading principal axes, and one mean variance for all other directions. This is probabilistic PCA (Tipping and
Bishop 1999); the second part is the residual that ViM scores (Wang 2022, https://arxiv.org/abs/2203.10807).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from brain_mri.errors import DataError

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

_MOST_AXES = 256


@dataclass(frozen=True)
class Gaussians:
    """One part of the embeddings of brain MRI as Gaussians, one for each class, with a common covariance.

    Attributes:
        means: float32 (classes, d), the mean of each class.
        axes: float32 (r, d), orthonormal: the principal axes about the class means.
        variances: float32 (r,), the variance along each axis.
        rest: the mean variance along the d - r directions across all axes.
        unit: whether vectors are scaled to length 1 first, so that only their direction counts.
        scale: the distance within which the guard's `acceptance` of the validation images lies.
    """

    means: Float32
    axes: Float32
    variances: Float32
    rest: float
    unit: bool
    scale: float = 1.0

    def distances(self, points: Floats) -> Floats:
        """Mahalanobis distance of `points` (k, d) to the nearest class mean, (k,), in units of `scale`."""
        points = _directions(points) if self.unit else points
        nearest = np.full(len(points), np.inf)
        means, axes = self._exact
        for mean in means:
            offsets = points - mean
            along = offsets @ axes.T
            across = np.maximum(np.square(offsets).sum(axis=1) - np.square(along).sum(axis=1), 0.0)
            nearest = np.minimum(nearest, (np.square(along) / self.variances).sum(axis=1) + across / self.rest)
        return np.asarray(np.sqrt(nearest) / self.scale)

    @cached_property
    def _exact(self) -> tuple[Floats, Floats]:
        """Means and axes with twice the digits: once, since for one picture this takes longer than the distance."""
        return self.means.astype(np.float64), self.axes.astype(np.float64)


def fit_gaussians(
    train: Floats, validation: Floats, labels: npt.NDArray[Any], acceptance: float, *, unit: bool, bytes_each: int
) -> Gaussians:
    """Fit `Gaussians` to one part of the embeddings.

    Args:
        train: (n, d), to fit to.
        validation: (m, d), for the `scale`.
        labels: (n,), class numbers of `train`.
        acceptance: the share of `validation` that lies within the scale.
        unit: whether only the direction counts.
        bytes_each: the memory of the axes for each of the d values.

    Raises:
        DataError: the points do not differ.
    """
    points = _directions(train) if unit else train
    classes, number = np.unique(labels, return_inverse=True)
    if len(points) <= len(classes):
        raise DataError(f"{len(points)} training images of {len(classes)} classes are too few for a guard: give more.")
    means = np.stack([points[number == k].mean(axis=0) for k in range(len(classes))])
    most = min(_MOST_AXES, bytes_each // 4)
    axes, variances, rest = _principal_axes(points - means[number], len(points) - len(classes), most)
    fitted = Gaussians(_single(means), _single(axes), _single(variances), rest, unit)
    return replace(fitted, scale=quantile(fitted.distances(validation), acceptance))


def quantile(distances: Floats, acceptance: float) -> float:
    """The smallest of the distances that is not exceeded by at least the share `acceptance` of them."""
    kept = math.ceil(acceptance * len(distances) - 1e-9)
    found = float(np.sort(distances)[kept - 1])
    if not found > 0:
        raise DataError("the validation embeddings are equal to training means: give other images for validation.")
    return found


def _principal_axes(offsets: Floats, freedom: int, most: int) -> tuple[Floats, Floats, float]:
    """Split the covariance of `offsets` (n, d): axes (r, d), variances (r,), and the mean variance across them.

    At most half of the directions that the embeddings span become axes: the variances along the others would be
    estimated far too small.
    """
    from sklearn.decomposition import PCA  # fitting needs it, scoring does not

    n, d = offsets.shape
    with np.errstate(invalid="ignore"):  # points that do not differ are refused below
        pca = PCA().fit(offsets)
    variances = pca.explained_variance_ * ((n - 1) / freedom)
    spanned = int((variances > 1e-10 * max(variances[0], 1e-10)).sum())
    if not spanned:
        raise DataError(
            f"the {n} training embeddings hardly differ within their classes, so the guard can't tell how much brain "
            "MRI varies: give more images."
        )
    kept = min(most, spanned // 2)
    return pca.components_[:kept], variances[:kept], float(variances[kept:].sum() / (d - kept))


def _directions(points: Floats) -> Floats:
    """Scale to length 1; a point at 0 stays there."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(lengths, np.finfo(np.float64).tiny))


def _single(values: Floats) -> Float32:
    return np.ascontiguousarray(values, dtype=np.float32)
