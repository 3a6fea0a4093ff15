"""Reading a picture as `pipeline("image-classification")` reads it. No torch."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from brain_mri.errors import ImageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def read_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Read a picture file (or its bytes) completely.

    The EXIF orientation is applied and the mode converted exactly as transformers' `load_image` does, so that what
    a model is trained and evaluated on is what `pipeline` will show it. `name` is what an error calls the picture.

    Returns:
        The picture in mode RGB.

    Raises:
        ImageError: no such file, not a picture, or broken before its end.
    """
    if name is None:
        name = "the given bytes" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture that can be read; remove or replace it.") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: broken picture ({error}); remove or replace it.") from error
