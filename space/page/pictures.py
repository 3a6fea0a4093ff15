"""Pictures on their way to the page: as data URIs, so that none of them is ever written to the server's disk."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from brain_mri.inference import overlay
from brain_mri.inference.predictions import Prediction
from brain_mri.io.images import one_channel

SHOWN = 640  # pixels: the longest side of a slice on the page
OPACITY = 0.45  # at first, and in the exported picture


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a `data:` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png_uri(image: Image.Image) -> str:
    """A picture as a PNG without metadata, one channel where all are equal."""
    file, image = io.BytesIO(), image if image.mode == "P" else one_channel(image)
    image.save(file, "PNG", compress_level=1)  # a little larger than 6, in a quarter of the time
    return data_uri(file.getvalue(), "image/png")


def shrunk(image: Image.Image, longest: int) -> Image.Image:
    """A copy no longer than `longest` pixels on any side; a smaller picture as it is."""
    copy = image.copy()
    copy.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return copy


def jpeg_uri(image: Image.Image, longest: int) -> str:
    """A slice among many, no longer than that on any side: small enough that all of them come with the answer."""
    file, small = io.BytesIO(), shrunk(image, longest)
    one_channel(small.convert("RGB")).save(file, "JPEG", quality=88)
    return data_uri(file.getvalue(), "image/jpeg")


def evidence_layer(prediction: Prediction, image: Image.Image, label: str) -> Image.Image:
    """The evidence for a label as a layer of its own, to lie over the slice at any opacity."""
    assert prediction.evidence is not None  # the caller has asked
    size = shrunk(image, SHOWN).size
    return overlay.evidence_layer(prediction.evidence[label], *size, contour_level(prediction, label))


def contour_level(prediction: Prediction, label: str) -> float:
    """The contour's share of the peak: each class has its own, which would tell the class where none is named."""
    return prediction.contour_level(label) if prediction.is_answered else overlay.LEVEL


def strongest_place(prediction: Prediction, label: str) -> str:
    """Where the evidence for a label is strongest, in words of the picture: `top left` ... `middle`."""
    assert prediction.evidence is not None  # the caller has asked
    surface = overlay.enlarge(prediction.evidence[label], 30, 30)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    vertical = ("top", "", "bottom")[min(int(row) // 10, 2)]
    horizontal = ("left", "", "right")[min(int(column) // 10, 2)]
    return f"{vertical} {horizontal}".strip() or "middle"
