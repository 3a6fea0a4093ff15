"""Reading one picture, as `pipeline("image-classification")` does, and kinds that it can't read. No torch.

JPEG, PNG, TIFF, WebP, BMP and GIF in every mode, and a slice of DICOM; volumes are read by `brain_mri.io.volumes`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# Imported by name, because Pillow loads all its plugins when it misses one.
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from brain_mri.errors import ImageError
from brain_mri.io.headers import check_jpeg, check_tiff
from brain_mri.io.untrusted import (
    MAX_PICTURE_BYTES,
    check_size,
    kind_of,
    label_of,
    opened,
    parsing,
    peek,
    printable,
    read_all,
    unrecognised,
)
from brain_mri.io.windowing import Bytes, picture_window, to_bytes

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# Pillow would open forty more, among them EPS, for which it starts Ghostscript.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
_LOADING = threading.Lock()  # a picture that was opened and not loaded yet can be loaded by one thread only
DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


def read_image(
    source: str | Path | bytes | Image.Image, name: str | None = None, *, single: bool = False
) -> Image.Image:
    """Read a picture file (or its bytes) completely; of a multi-frame DICOM file the middle slice.

    EXIF orientation and ordinary 8-bit modes are handled exactly as by transformers' `load_image`, so that a model is
    trained and evaluated on what `pipeline` shows it. Three things differ, where `load_image` distorts the picture:
    modes with more than 8 bits are scaled by `windowing.picture_window` (there, values above 255 turn white),
    transparent pixels are black (there, they show a hidden colour), and of a film the first frame is read. A picture
    that is already open is converted in the same way.

    Args:
        source: the picture.
        name: what it is called in errors.
        single: refuse a film, a stack of pages or a volume, of which one slice alone would be read.

    Returns:
        The picture in mode RGB, without metadata.

    Raises:
        ImageError: no such file, not a picture, broken before its end, or beyond the limits of `io.untrusted`.
    """
    if isinstance(source, Image.Image):
        label = "the given picture" if name is None else label_of(source, name)
        check_size(*source.size, label)
        if single and getattr(source, "is_animated", False):
            raise several(label)
        with parsing(label, "picture"), _LOADING:
            return to_rgb(source.copy())
    label = label_of(source, name)
    with opened(source, label) as file:
        head = peek(file)
        kind = kind_of(head)
        if kind == "picture":
            content = read_all(file, MAX_PICTURE_BYTES, label)
            with parsing(label, "picture"):
                return _read_picture(content, label, single)
        if kind == "dicom":
            from brain_mri.io.dicom_series import middle_slice  # a quarter of a second that a JPEG can do without

            return Image.fromarray(middle_slice(file, label, single)).convert("RGB")
    if kind:
        raise ImageError(f"{label}: a volume or an archive, not a picture; give one slice, or read all its slices.")
    raise unrecognised(head, label)


def one_channel(image: Image.Image) -> Image.Image:
    """A picture as mode L where its three channels are equal, as in nearly every slice; any other as mode RGB.

    No grey value changes: `convert("L")` of such a picture gives the same, at three times the work.
    """
    if image.mode == "L":
        return image
    if image.mode != "RGB":
        image = image.convert("RGB")
    red, green, blue = image.split()
    return red if red.tobytes() == green.tobytes() == blue.tobytes() else image


def several(label: str, what: str = "several pages") -> ImageError:
    """The error for a file of more than one slice where one is asked for."""
    return ImageError(f"{label}: holds {what}, a volume and not one slice; use predict_volume, which reads them all.")


def check_picture(content: bytes, label: str) -> None:
    """Check the headers of a picture before it is decoded; raises ImageError as `io.headers` does."""
    if content.startswith(b"\xff\xd8"):
        check_jpeg(content, label)
    elif content.startswith((b"II", b"MM")):
        check_tiff(content, label)


def read_picture(content: bytes, label: str) -> tuple[list[Bytes], int]:
    """Read all pages of a picture (see `pages.read_pages`), most often one; returns them and how many were left out.

    Raises:
        ImageError: as `read_image`.
    """
    from brain_mri.io.pages import has_pages, read_pages

    with parsing(label, "picture"):
        check_picture(content, label)
        with _opened_picture(content, label) as image:
            if has_pages(image):
                return read_pages(content, label)
            return [np.asarray(one_channel(to_rgb(image)))], 0


def _read_picture(content: bytes, label: str, single: bool) -> Image.Image:
    from brain_mri.io.pages import has_pages

    check_picture(content, label)
    with _opened_picture(content, label) as image:
        if single and has_pages(image):
            raise several(label)
        return to_rgb(image)


@contextmanager
def _opened_picture(content: bytes, label: str) -> Iterator[Image.Image]:
    try:
        # The limit here is below that of Pillow, whose own limit and warnings belong to the whole process and are
        # left alone.
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(*image.size, label)
            yield image
    except UnidentifiedImageError as error:
        raise ImageError(f"{label}: not a picture that can be read; remove or replace it.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{label}: has more pixels than fit in memory; give a smaller picture.", "too_large"
        ) from error
    except OSError as error:
        raise ImageError(f"{label}: broken picture ({printable(str(error))}); remove or replace it.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode, in place where possible: at most two copies of 4 bytes a pixel exist at a time."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        image = Image.fromarray(to_bytes(values, *picture_window(values))).convert("RGB")
    elif image.has_transparency_data:
        image = _over_black(image)
    else:
        image = image.convert("RGB")
    image.info = {}  # comments, EXIF, colour profiles must not be saved again
    return image


def _over_black(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":  # else it would be copied
        image = image.convert("RGBA")
    result = Image.new("RGB", image.size)
    result.paste(image, mask=image.getchannel("A"))
    return result
