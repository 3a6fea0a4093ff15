from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from brain_mri.errors import ImageError
from brain_mri.images import read_image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_a_picture_of_any_mode_is_read_as_pipeline_reads_it(tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.fromarray(noise, "RGBA").convert("RGB").convert(mode).save(path)
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(load_image(str(path))))


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (20, 10)


def test_bytes_are_read_as_files_are() -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 7).save(buffer, "PNG")
    assert read_image(buffer.getvalue()).getpixel((0, 0)) == (7, 7, 7)


def test_what_is_no_picture_is_one_sentence(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[:1500])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, reason in (
        ("half", "broken"),
        ("text", "not a picture"),
        ("empty", "not a picture"),
        ("none", "no such"),
    ):
        path = next(tmp_path.glob(f"{name}.*"), tmp_path / "none.png")
        with pytest.raises(ImageError, match=reason) as error:
            read_image(path)
        assert path.name in str(error.value) and "\n" not in str(error.value)
