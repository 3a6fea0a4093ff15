"""Scores of how strange an embedding is, that `benchmarks/ood/guard.py` compares the guard with.

Each takes the training embeddings `x` (n, d), their class numbers `y` (n,), and weight (k, d) and bias (k,) of the
classifier, and gives a function of embeddings: the higher, the stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats], Floats]
Fit = Callable[[Floats, npt.NDArray[np.int64], Floats, Floats], Score]

_BANK = 400  # embeddings that 2 MB hold


def _unit(x: Floats) -> Floats:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _log_sum_exp(logits: Floats) -> Floats:
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def _squared(means: Sequence[Floats], covariance: Floats) -> Score:
    """The squared Mahalanobis distance to the nearest mean."""
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
    centres = np.stack(means) @ whiten
    return lambda x: np.min([np.square(x @ whiten - centre).sum(axis=1) for centre in centres], axis=0)


def fit_gaussian(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """Mahalanobis distance to the mean of all (Ledoit-Wolf covariance)."""
    return _squared([x.mean(axis=0)], ledoit_wolf(x)[0])


def fit_classes(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """Mahalanobis distance to the nearest class, one covariance for all (Lee 2018)."""
    means = {k: x[y == k].mean(axis=0) for k in np.unique(y)}
    return _squared(list(means.values()), ledoit_wolf(x - np.stack([means[k] for k in y]))[0])


def fit_unit_classes(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """The same of embeddings of length 1 (Müller and Hein 2025)."""
    score = fit_classes(_unit(x), y, weight, bias)
    return lambda z: score(_unit(z))


def fit_relative(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """Distance to the nearest class less the distance to all (Ren 2021)."""
    near, all_in_one = fit_classes(x, y, weight, bias), fit_gaussian(x, y, weight, bias)
    return lambda z: near(z) - all_in_one(z)


def fit_neighbour(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """Distance to the nearest embedding, all of length 1 (Sun 2022)."""
    bank = _unit(x)
    return lambda z: 1 - (_unit(z) @ bank.T).max(axis=1)


def fit_small_bank(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """The same with as many embeddings as 2 MB hold."""
    chosen = np.random.default_rng(0).permutation(len(x))[:_BANK]
    return fit_neighbour(x[chosen], y[chosen], weight, bias)


def fit_residual(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """What 128 principal axes do not explain."""
    centre = x.mean(axis=0)
    rest = np.linalg.eigh(np.cov(x.T))[1][:, : -min(128, x.shape[1] // 2)]
    return lambda z: np.linalg.norm((z - centre) @ rest, axis=1)


def fit_energy(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """Minus the log of the summed exponentials of the logits (Liu 2020)."""
    return lambda z: -_log_sum_exp(z @ weight.T + bias)


def fit_vim(x: Floats, y: npt.NDArray[np.int64], weight: Floats, bias: Floats) -> Score:
    """The residual as a virtual logit, less the energy (Wang 2022)."""
    residual = fit_residual(x, y, weight, bias)
    scale = (x @ weight.T + bias).max(axis=1).mean() / residual(x).mean()
    return lambda z: scale * residual(z) - _log_sum_exp(z @ weight.T + bias)


METHODS: dict[str, Fit] = {
    "Mahalanobis, one Gaussian": fit_gaussian,
    "Mahalanobis, classes": fit_classes,
    "Mahalanobis, length 1": fit_unit_classes,
    "relative Mahalanobis": fit_relative,
    "nearest neighbour": fit_neighbour,
    f"nearest of {_BANK}": fit_small_bank,
    "PCA residual": fit_residual,
    "energy": fit_energy,
    "ViM": fit_vim,
}
