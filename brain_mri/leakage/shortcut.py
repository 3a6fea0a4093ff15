"""The shortcut control: how well trivial features of a file predict its class, without looking at the brain.

If healthy and tumour images come from different sources, size, border and compression give the source away, and with it
the label. The accuracy of a logistic regression on them is no merit of a classifier on such data. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brain_mri.data.file_features import FEATURES, Floats
from brain_mri.errors import DataError

_NAMED = 3  # features named for each class


def shortcut_accuracy(
    train_features: Floats, train_labels: Sequence[str], test_features: Floats, test_labels: Sequence[str]
) -> dict[str, Any]:
    """Fit a standardised logistic regression on trivial features of train and score it on test.

    Args:
        train_features: shape (n, len(FEATURES)), `file_features.features_of` each image.
        train_labels: the n class names.
        test_features: like `train_features`.
        test_labels: like `train_labels`.

    Returns:
        `accuracy`, `balanced_accuracy` and the `recall` of each class in the test split, all in [0, 1]; `chance`, the
        accuracy of always naming test's largest class; `n_train`, `n_test`; and for each class `top_features`, the
        features with the largest coefficients per standard deviation, `{feature: coefficient}`.

    Raises:
        DataError: train has fewer than two classes, or test is empty.
    """
    if len(set(train_labels)) < 2 or not len(test_labels):
        raise DataError("the shortcut control needs two classes or more to train on, and images to test on.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(train_features, list(train_labels))
    predicted, truth = model.predict(test_features), np.asarray(test_labels)
    classes = sorted({str(label) for label in test_labels})
    recalls = recall_score(truth, predicted, labels=classes, average=None, zero_division=0.0)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
        "recall": {label: float(recall) for label, recall in zip(classes, recalls, strict=True)},
        "chance": float(np.unique(truth, return_counts=True)[1].max() / len(truth)),
        "n_train": len(train_labels),
        "n_test": len(test_labels),
        "top_features": _top_features(model[-1]),
    }


def _top_features(model: LogisticRegression) -> dict[str, dict[str, float]]:
    classes = [str(name) for name in model.classes_]
    rows = model.coef_ if len(classes) > 2 else np.concatenate([-model.coef_, model.coef_])
    strongest = [np.argsort(-np.abs(row))[:_NAMED] for row in rows]
    return {
        name: {FEATURES[k]: float(row[k]) for k in top} for name, row, top in zip(classes, rows, strongest, strict=True)
    }
