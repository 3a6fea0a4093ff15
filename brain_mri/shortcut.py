"""The shortcut control: how well trivial features of a file tell the classes apart, without looking at the brain.

Where healthy and tumour images come from different sources, size, border and compression give the source away, and
with it the label. What a logistic regression reaches on them is what no classifier's accuracy on such data may be
credited with. No torch.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, JpegImagePlugin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brain_mri.errors import DataError, ImageError
from brain_mri.images import one_channel, read_image

Floats = NDArray[np.float64]

FEATURES = (
    "log width", "log height", "log aspect", "border mean", "border deviation", "mean", "contrast", "entropy",
    "black share", "saturation", "grey mode", "jpeg", "log jpeg quantisation", "log bytes per pixel",
)  # fmt: skip

_BORDER = 0.02  # of the shorter side
_BLACK = 10  # grey value below which a pixel is air
_LEVELS = np.arange(256.0)
_NAMED = 3  # features named for each class


def trivial_features(source: str | Path | bytes) -> Floats:
    """Describe a picture file by `FEATURES`, float64 of shape (14,).

    Logarithms are natural. Border, mean, contrast (standard deviation) and saturation (largest difference of the
    colour channels, averaged) are in grey values of 0 to 255; entropy of the grey values is in bits; black share is
    in [0, 1]; "jpeg quantisation" is 1 plus the sum of the luminance table, hence a logarithm of 0 for other formats.

    Raises:
        ImageError: no such file, or not a picture.
    """
    content = source if isinstance(source, bytes) else _content(Path(source))
    return features_of(read_image(content, None if isinstance(source, bytes) else str(source)), content)


def features_of(image: Image.Image, content: bytes) -> Floats:
    """`trivial_features` of a picture that has been read already, in mode RGB or L, and its file's bytes."""
    pixels = image.width * image.height
    return np.concatenate([_geometry(image), _intensities(image), _file_features(content, pixels)])


def shortcut_accuracy(
    train_features: Floats, train_labels: Sequence[str], test_features: Floats, test_labels: Sequence[str]
) -> dict[str, Any]:
    """Fit a standardised logistic regression on trivial features of train and score it on test.

    Args:
        train_features: shape (n, len(FEATURES)), a `trivial_features` per row.
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file.") from error
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({error.strerror}).") from error


def _geometry(image: Image.Image) -> Floats:
    return np.log([image.width, image.height, image.width / image.height])


def _intensities(image: Image.Image) -> Floats:
    grey = image.convert("L")
    pixels = np.asarray(grey)
    width = max(1, round(_BORDER * min(pixels.shape)))
    sides = (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:])
    border = np.concatenate([side.ravel() for side in sides]).astype(np.float64)
    share = np.array(grey.histogram(), np.float64) / pixels.size
    mean = share @ _LEVELS
    contrast = np.sqrt(share @ (_LEVELS - mean) ** 2)
    present = share[share > 0]
    entropy = -(present * np.log2(present)).sum()
    return np.array([border.mean(), border.std(), mean, contrast, entropy, share[:_BLACK].sum(), _saturation(image)])


def _saturation(image: Image.Image) -> float:
    if (image := one_channel(image)).mode == "L":
        return 0.0
    red, green, blue = image.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    smallest = ImageChops.darker(ImageChops.darker(red, green), blue)
    spread = np.array(ImageChops.difference(largest, smallest).histogram(), np.float64)
    return float(spread @ _LEVELS / spread.sum())


def _file_features(content: bytes, pixels: int) -> Floats:
    with Image.open(io.BytesIO(content)) as file:
        is_jpeg = isinstance(file, JpegImagePlugin.JpegImageFile)
        table = sum(file.quantization[0]) if isinstance(file, JpegImagePlugin.JpegImageFile) else 0
        grey_mode = file.mode in ("L", "1", "I;16")
    return np.array([grey_mode, is_jpeg, np.log1p(table), np.log(len(content) / pixels)], np.float64)


def _top_features(model: LogisticRegression) -> dict[str, dict[str, float]]:
    classes = [str(name) for name in model.classes_]
    rows = model.coef_ if len(classes) > 2 else np.concatenate([-model.coef_, model.coef_])
    strongest = [np.argsort(-np.abs(row))[:_NAMED] for row in rows]
    return {
        name: {FEATURES[k]: float(row[k]) for k in top} for name, row, top in zip(classes, rows, strongest, strict=True)
    }
