"""Features of an image file that do not show the brain: sizes, borders, intensities, file format."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, JpegImagePlugin

from brain_mri.io.images import one_channel
from brain_mri.io.untrusted import HEAD_BYTES, kind_of

Floats = NDArray[np.float64]

FEATURES = (
    "log width", "log height", "log aspect", "border mean", "border deviation", "mean", "contrast", "entropy",
    "black share", "saturation", "grey mode", "jpeg", "log jpeg quantisation", "log bytes per pixel",
)  # fmt: skip

_BORDER = 0.02  # of the shorter side
_BLACK = 10  # grey value below which a pixel counts as air
_LEVELS = np.arange(256.0)


def features_of(image: Image.Image, content: bytes) -> Floats:
    """Describe a picture, in mode RGB or L, and its file's bytes by `FEATURES`, float64 of shape (14,).

    Logarithms are natural. Border, mean, contrast (standard deviation) and saturation (largest difference of the
    colour channels, averaged) are in grey values of 0 to 255; entropy of the grey values is in bits; black share is
    in [0, 1]; "jpeg quantisation" is 1 plus the sum of the luminance table, 1 for other formats.
    """
    pixels = image.width * image.height
    return np.concatenate([_geometry(image), _intensities(image), _file_features(content, pixels, image.mode == "L")])


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


def _file_features(content: bytes, pixels: int, grey: bool) -> Floats:
    per_pixel = np.log(len(content) / pixels)
    if kind_of(content[:HEAD_BYTES]) == "dicom":
        return np.array([grey, False, 0.0, per_pixel], np.float64)
    with Image.open(io.BytesIO(content)) as file:
        is_jpeg = isinstance(file, JpegImagePlugin.JpegImageFile)
        table = sum(file.quantization[0]) if isinstance(file, JpegImagePlugin.JpegImageFile) else 0
        grey_mode = file.mode in ("L", "1", "I;16")
    return np.array([grey_mode, is_jpeg, np.log1p(table), per_pixel], np.float64)
