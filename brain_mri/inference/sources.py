"""What `predict` takes, brought to what is read: a path, bytes or a picture. No torch."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from brain_mri.errors import ImageError
from brain_mri.io.untrusted import MAX_DICOM_BYTES, check_size, printable
from brain_mri.io.windowing import picture_window, to_bytes

Source = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[Any]
Known = str | Path | bytes | Image.Image

_KINDS = "a path, the bytes of a file, an open binary file, a PIL picture or a numpy array"
_SHAPES = "(height, width) of real numbers, or (height, width, 3) of uint8 from 0 to 255"


def known(source: object) -> Known:
    """A source as a path, bytes or a picture.

    Args:
        source: a path; the bytes of a file, or a file that is open for reading them, from where it stands; a PIL
            picture; or an array: uint8 is taken as it is, from 0 to 255; of other numbers the 1st percentile becomes
            black and the 99th white, as of a picture with more than 8 bits.

    Raises:
        ImageError: anything else, or an array of another shape, without finite numbers or too large.
    """
    if isinstance(source, str | Path | bytes | Image.Image):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, np.ndarray):
        return _picture(source)
    if isinstance(source, PathLike) and isinstance(path := fspath(source), str):
        return path
    if callable(getattr(source, "read", None)):
        return _content(source)
    raise ImageError(f"{type(source).__name__} is no picture: give {_KINDS}.")


def name_of(source: Known) -> str:
    """What answers call it."""
    return printable(Path(source).name, limit=300) if isinstance(source, str | Path) else "picture"


def _content(file: Any) -> bytes:
    content = file.read(MAX_DICOM_BYTES + 1)
    if not isinstance(content, bytes):
        raise ImageError("a file that is open for reading text is no picture: open it in mode 'rb'.")
    if len(content) > MAX_DICOM_BYTES:
        raise ImageError(f"the open file: larger than {MAX_DICOM_BYTES >> 20} MiB; give its path.")
    return content


def _picture(values: npt.NDArray[Any]) -> Image.Image:
    colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if not colour and (values.ndim != 2 or values.dtype.kind not in "biuf"):
        raise ImageError(f"an array of shape {values.shape} and type {values.dtype}: give one of {_SHAPES}.")
    check_size(values.shape[1], values.shape[0], "the given array")
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values))
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("the given array holds NaN or infinity: give finite numbers.")
    return Image.fromarray(to_bytes(values, *picture_window(values)))
