"""Pictures on their way to the page: as data URIs, so that none of them is ever written to the server's disk."""

from __future__ import annotations

import base64
import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from brain_mri.inference.predictions import Prediction

SHOWN = 640  # pixels: the longest side of a slice on the page
THUMBNAIL = 56
OPACITY = 0.45  # at first, and in the exported picture

_PAPER, _INK = (255, 255, 255), (17, 24, 39)


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a `data:` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png_uri(image: Image.Image) -> str:
    """A picture as a PNG without metadata, one channel where all are equal."""
    pixels = np.asarray(image)
    if image.mode == "RGB" and (pixels == pixels[..., :1]).all():
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=4)
    return data_uri(file.getvalue(), "image/png")


def shrunk(image: Image.Image, longest: int) -> Image.Image:
    """A copy no longer than `longest` pixels on any side; a smaller picture as it is."""
    copy = image.copy()
    copy.thumbnail((longest, longest), Image.Resampling.BOX if longest == THUMBNAIL else Image.Resampling.LANCZOS)
    return copy


def thumbnail_uri(image: Image.Image) -> str:
    """A small JPEG for a row of a table."""
    file = io.BytesIO()
    shrunk(image, THUMBNAIL).convert("L").save(file, "JPEG", quality=80)
    return data_uri(file.getvalue(), "image/jpeg")


def evidence_layer(prediction: Prediction, image: Image.Image, label: str) -> Image.Image:
    """The evidence for a label as a layer of its own, mode RGBA, to lie over the slice at any opacity.

    Drawn by `Prediction.overlay` over black and over white, from which follow its colour and its cover (Smith and
    Blinn 1996, triangulation matting). So the browser blends what `overlay` would draw, and nothing is computed anew.
    """
    grounds = [_over(prediction, image, label, level) for level in (0, 255)]
    cover = 1 - (grounds[1] - grounds[0]).mean(axis=-1, keepdims=True) / 255
    colour = np.where(cover > 0, grounds[0] / np.maximum(cover, 1 / 255), 0)
    layer = np.concatenate([colour, 255 * cover], axis=-1).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(layer)


def _over(prediction: Prediction, image: Image.Image, label: str, level: int) -> np.ndarray:
    from dataclasses import replace

    width, height = shrunk(image, SHOWN).size
    ground = Image.new("RGB", (width, height), (level, level, level))
    return np.asarray(replace(prediction, image=ground).overlay(label, opacity=1), dtype=np.float64)


def exported(prediction: Prediction, image: Image.Image, label: str | None, lines: list[str]) -> Image.Image:
    """The slice, beside it the evidence for a label if one is given, and under both what is said of them."""
    images = [image] if label is None else [image, prediction.overlay(label, OPACITY)]
    images = [one.resize(_fitted(one.size)) for one in images]
    width, height = sum(image.width for image in images), images[0].height
    size = max(13, round(width / 42))
    font = ImageFont.load_default(size)
    rows = [row for line in lines for row in _wrapped(line, width - size, size)]
    sheet = Image.new("RGB", (width, height + round(1.45 * size * (len(rows) + 0.6))), _PAPER)
    for i, image in enumerate(images):
        sheet.paste(image, (i * images[0].width, 0))
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        pen.text((size / 2, height + size * (0.5 + 1.45 * i)), row, _INK, font)
    return sheet


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """The size at which the longest side is `SHOWN`."""
    scale = SHOWN / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _wrapped(line: str, width: int, size: int) -> list[str]:
    rows, used, space = [""], 0.0, _width(" ", size)
    for word in line.split():
        wide = _width(word, size)
        if rows[-1] and used + space + wide > width:
            rows.append(word)
            used = wide
        else:
            used += wide + (space if rows[-1] else 0)
            rows[-1] = f"{rows[-1]} {word}".strip()
    return rows


@lru_cache(4096)  # the same words come again in every answer
def _width(word: str, size: int) -> float:
    return ImageFont.load_default(size).getlength(word)


def strongest_place(prediction: Prediction, label: str) -> str:
    """Where the evidence for a label is strongest, in words of the picture: `top left` ... `middle`."""
    from brain_mri.inference.overlay import enlarge

    assert prediction.evidence is not None  # the caller has asked
    surface = enlarge(prediction.evidence[label], 30, 30)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    vertical = ("top", "", "bottom")[min(int(row) // 10, 2)]
    horizontal = ("left", "", "right")[min(int(column) // 10, 2)]
    return f"{vertical} {horizontal}".strip() or "middle"
