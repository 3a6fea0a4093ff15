"""Reading one file of a class folder: one slice, of which the class is said. No torch."""

from __future__ import annotations

import io

from PIL import Image

from brain_mri.errors import ImageError
from brain_mri.io.images import read_image
from brain_mri.io.untrusted import HEAD_BYTES, kind_of
from brain_mri.io.volumes import read_slices

_TIFF = (b"II", b"MM")


def read_slice(content: bytes, name: str) -> Image.Image:
    """Read a picture or a DICOM file that holds one slice, see `read_image`.

    A file of several slices is refused: its class may be that of some of them only, and a slice without a tumour
    that is learnt as one with a tumour, or the reverse, costs false all-clears.

    Returns:
        The slice in mode RGB.

    Raises:
        ImageError: it can't be read, is no MR of a head by its header, or holds several slices.
    """
    if kind_of(content[:HEAD_BYTES]) == "dicom":
        slices = read_slices(content, name)
        _check_alone(len(slices.images), name)
        return slices.images[0]
    image = read_image(content, name)
    if content.startswith(_TIFF):
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as file:
            _check_alone(int(getattr(file, "n_frames", 1)), name)
    return image


def _check_alone(slices: int, name: str) -> None:
    if slices > 1:
        raise ImageError(
            f"{name}: holds {slices} slices, and the class is said of one: give each slice as a file of its own."
        )
