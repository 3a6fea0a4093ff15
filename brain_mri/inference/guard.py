"""Recognising from a network's embedding a picture unlike the brain MRI it was trained on. No torch.

The score is a Mahalanobis distance (Lee 2018, https://arxiv.org/abs/1807.03888) to the nearest class, in each part of
the embedding; see `brain_mri.inference.mahalanobis`.

The last layer of a network trained on brains alone keeps little of what distinguishes them from other pictures. So an
embedding may contain features of an earlier layer after those of the last, as in Lee's ensemble. Each layer is used
twice, as it is and by its direction alone (Müller and Hein 2025, https://arxiv.org/abs/2505.18032), as each finds what
the other misses; the score is the mean of all distances. `benchmarks/ood/guard.py` compares it with other scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from brain_mri.errors import ConfigError, DataError
from brain_mri.inference.mahalanobis import Gaussians, fit_gaussians, quantile
from brain_mri.model_folder import GUARD, GUARD_TENSORS, read_record
from brain_mri.utils.files import readable_as_usual, write_json, written_whole

METHOD = "mahalanobis_of_parts"
PARTS = ("embedding", "texture")
"""Outputs of a forward pass that the guard reads, those that there are: `embedding` is what the classifier reads."""

Floats = npt.NDArray[np.float64]

_BYTES = 1_800_000  # of the principal axes, the large tables of the file
_CHUNK = 4096
_PLAUSIBLE = (0.1, 10.0)  # the threshold is a mean of distances that are each about 1 at the limit


@dataclass(frozen=True)
class Guard:
    """The distribution of the embeddings of brain MRI, and the distance from which an embedding is refused.

    Attributes:
        gaussians: two for each part of the embedding, in order: of its directions, and of its values.
        threshold: the mean distance within which the share `acceptance` of the validation embeddings lies.
        acceptance: that share, in (0, 1).
    """

    gaussians: tuple[Gaussians, ...]
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
        widths: Sequence[int] | None = None,
    ) -> Guard:
        """Describe the training embeddings, and set the threshold on the validation embeddings.

        Args:
            train_embeddings: (n, d), the pooled features that the classifier reads, then those of earlier layers. The
                more the better: of too few, each validation image lies far from them, and so does the threshold.
            train_labels: (n,), class numbers.
            validation_embeddings: (m, d), of images that the network was not trained on: training embeddings lie
                closer together, and a threshold set on them would refuse more of what comes later.
            acceptance: the least share of the validation embeddings to be accepted, in (0, 1).
            widths: how many of the d values each part has; default: one part.

        Raises:
            ConfigError: `acceptance` is out of range, or `widths` do not add up to d.
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
        widths = tuple(widths or train.shape[1:])
        if sum(widths) != train.shape[1] or min(widths) < 1:
            raise ConfigError(f"the guard's widths {list(widths)} must be 1 or more and add up to {train.shape[1]}.")
        gaussians = tuple(
            fit_gaussians(*views, labels, acceptance, unit=number % 2 == 0, bytes_each=_BYTES // (2 * sum(widths)))
            for number, views in enumerate(zip(_views(train, widths), _views(validation, widths), strict=True))
        )
        threshold = quantile(cls(gaussians, 1.0, acceptance).score(validation), acceptance)
        return cls(gaussians, threshold, acceptance)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many values each part of the embedding has."""
        return tuple(one.means.shape[1] for one in self.gaussians[::2])

    def score(self, embeddings: npt.ArrayLike) -> Floats:
        """How unlike a brain MRI each embedding is: (k,), 1 at the threshold, 2 at twice its distance, never below 0.

        Args:
            embeddings: (k, d), any float type.

        Raises:
            DataError: the embeddings are not (k, d) with the d that the guard was fitted on, or not finite.
        """
        points = _table(embeddings, "given", least=0)
        if points.shape[1] != sum(self.widths):
            raise DataError(
                f"the guard was fitted on embeddings of {sum(self.widths)} values and got {points.shape[1]}: "
                "it belongs to another model; fit it again, or load the guard.json of this one."
            )
        scores = np.empty(len(points))
        for start in range(0, len(points), _CHUNK):
            views = _views(points[start : start + _CHUNK], self.widths)
            distances = [one.distances(view) for one, view in zip(self.gaussians, views, strict=True)]
            scores[start : start + _CHUNK] = np.mean(distances, axis=0) / self.threshold
        return scores

    def accepts(self, embeddings: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each embedding (k, d) looks like a brain MRI: (k,), true up to a score of 1."""
        return np.asarray(self.score(embeddings) <= 1.0)

    def save(self, folder: str | Path) -> None:
        """Write `guard.json` and `guard.safetensors` into a model's folder, whole or not at all.

        `guard.json` goes first and comes last: without it no reader takes the statistics for a guard.
        """
        folder = Path(folder)
        (folder / GUARD).unlink(missing_ok=True)
        tensors = {
            f"{number}.{name}": getattr(one, name)
            for number, one in enumerate(self.gaussians)
            for name in ("means", "axes", "variances")
        }
        with written_whole(folder / GUARD_TENSORS) as partial:
            save_file(tensors, partial)
            readable_as_usual(partial)
        settings = {
            "method": METHOD,
            "threshold": self.threshold,
            "acceptance": self.acceptance,
            "statistics": GUARD_TENSORS,
            "parts": [{"rest": c.rest, "unit": c.unit, "scale": c.scale} for c in self.gaussians],
        }
        write_json(settings, folder / GUARD)

    @classmethod
    def load(cls, folder: str | Path) -> Guard:
        """Read what `save` wrote.

        Raises:
            ConfigError: the folder holds no guard, or one that is broken or made by another method.
        """
        path = Path(folder) / GUARD
        if not path.is_file():
            raise ConfigError(f"{folder} has no {GUARD}: train the model again.")
        try:
            settings = read_record(path)
            if settings["method"] != METHOD:
                raise ConfigError(
                    f"{path} holds a guard of the method {settings['method']!r}, this version knows {METHOD!r}: "
                    "use the version of brain_mri that wrote it, or fit it again (brain-mri refit_guard)."
                )
            tensors = load_file(path.with_name(GUARD_TENSORS))
            gaussians = tuple(_gaussians(tensors, number, part) for number, part in enumerate(settings["parts"]))
            guard = cls(gaussians, float(settings["threshold"]), float(settings["acceptance"]))
        except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise ConfigError(
                f"{path} or its {GUARD_TENSORS} is broken ({error}): fit it again (brain-mri refit_guard)."
            ) from error
        if not gaussians or len(gaussians) % 2 or not _PLAUSIBLE[0] <= guard.threshold <= _PLAUSIBLE[1]:
            raise ConfigError(
                f"{path}: a threshold of {guard.threshold} is implausible: fit it again (brain-mri refit_guard)."
            )
        return guard


def joined(outputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Put the outputs (k, ...) of a forward pass named in `PARTS` side by side, as `Guard` takes them: (k, d)."""
    return np.hstack([outputs[name] for name in PARTS if name in outputs])


def widths_of(outputs: Mapping[str, npt.NDArray[Any]]) -> tuple[int, ...]:
    """How many values each part has in what `joined` gives."""
    return tuple(outputs[name].shape[1] for name in PARTS if name in outputs)


def _gaussians(tensors: dict[str, Any], number: int, part: dict[str, Any]) -> Gaussians:
    means, axes, variances = (tensors[f"{number}.{name}"] for name in ("means", "axes", "variances"))
    rest, scale = float(part["rest"]), float(part["scale"])
    if means.ndim != 2 or axes.shape != (len(variances), means.shape[1]):
        raise ValueError(f"the tables of part {number} do not belong together")
    tables_are_finite = all(np.isfinite(table).all() for table in (means, axes, variances))
    widest = 100 * math.sqrt(means.shape[1])  # a distance of training images is about the root of the width
    if not (tables_are_finite and (variances > 0).all() and 0 < rest < math.inf and 0 < scale < widest):
        raise ValueError(f"the numbers of part {number} are implausible")
    return Gaussians(means, axes, variances, rest, bool(part["unit"]), scale)


def _views(points: Floats, widths: Sequence[int]) -> list[Floats]:
    """Each part twice, in the order of `Guard.gaussians`."""
    return [points[:, start:stop] for start, stop in pairwise([0, *accumulate(widths)]) for _ in range(2)]


def _table(values: npt.ArrayLike, name: str, least: int = 1) -> Floats:
    """Check embeddings and return them as float64 (n, d)."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < least:
        raise DataError(f"the {name} embeddings have the shape {table.shape}: one row for each image is needed.")
    if not np.isfinite(table).all():
        raise DataError(f"the {name} embeddings hold values that are not finite: the network's weights are broken.")
    return table
