"""Pictures of several pages or frames: TIFF, GIF, WebP and PNG hold whole volumes at times. No torch."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

# Imported by name, as in `images`.
from PIL import Image, TiffImagePlugin

from brain_mri.errors import ImageError
from brain_mri.io.images import DEEP_MODES, FORMATS, one_channel, to_rgb
from brain_mri.io.untrusted import MAX_PIXELS, MAX_SLICES, MAX_VOXELS, check_size
from brain_mri.io.windowing import Bytes, grey_range, to_bytes

_PAGED = ("TIFF", "GIF", "WEBP", "PNG")  # a JPEG's second picture is a preview or a depth map
_MAX_PAGE = MAX_PIXELS // 2  # a film's frame is composed from others: several copies of 4 bytes a pixel
_MAX_PAGES = MAX_VOXELS // 2  # a second to decode
_NEW_SUBFILE_TYPE = 254
_NO_PAGE = 0b101  # of NewSubfileType: a smaller copy of another page, or a mask


def has_pages(image: Image.Image) -> bool:
    """Whether an open picture has a second page; that one is not decoded."""
    if image.format not in _PAGED:
        return False
    try:
        image.seek(1)
        return True
    except EOFError:
        return False
    finally:
        image.seek(0)


def read_pages(content: bytes, label: str) -> tuple[list[Bytes], int]:
    """Read the pages of a picture that passed `images.check_picture`, in the order of the file.

    Frames of films are composed as a viewer does, whatever their duration. Pages of more than 8 bits share one window.

    Returns:
        The pages, uint8 of shape (rows, columns) or (rows, columns, 3), and how many were left out, since they are
        smaller copies or masks of others.

    Raises:
        ImageError: more pages or pixels than the limits of `io.untrusted` allow, or a page is broken.
    """
    deep = [np.array(_extremes(image)) for image in _pages(content, label) if image is not None and _is_deep(image)]
    window = grey_range(*_joined(deep)) if deep else None
    pages: list[Bytes] = []
    left_out = 0
    for image in _pages(content, label):
        if image is None:
            left_out += 1
        elif _is_deep(image) and window:
            pages.append(to_bytes(np.asarray(image), *window))
        else:
            pages.append(np.asarray(one_channel(to_rgb(image.copy()))))
    return pages, left_out


def _is_deep(image: Image.Image) -> bool:
    return image.mode in DEEP_MODES


def _extremes(image: Image.Image) -> tuple[float, float, bool]:
    values = np.asarray(image)
    finite = values if values.dtype.kind in "ui" else values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return low, high, values.dtype.kind == "f"


def _joined(extremes: list[np.ndarray]) -> tuple[float, float, bool]:
    table = np.stack(extremes)
    return float(table[:, 0].min()), float(table[:, 1].max()), bool(table[:, 2].any())


def _pages(content: bytes, label: str) -> Iterator[Image.Image | None]:
    """Each page, decoded; None for a smaller copy or a mask. The picture is valid until the next one is asked for."""
    pixels = 0
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        for number in range(MAX_SLICES + 1):
            try:
                image.seek(number)
            except EOFError:
                return
            check_size(*image.size, label, number + 1 if number >= MAX_SLICES else 1)
            if _is_copy(image):
                yield None
                continue
            pixels += image.width * image.height
            if image.width * image.height > _MAX_PAGE or pixels > _MAX_PAGES:
                raise ImageError(
                    f"{label}: its pages have more than {_MAX_PAGE:,} pixels each or {_MAX_PAGES:,} in all; "
                    "give fewer.",
                    "too_large",
                )
            image.load()
            yield image


def _is_copy(image: Image.Image) -> bool:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    kind = image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & _NO_PAGE)
