from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from brain_mri.errors import ImageError
from brain_mri.io.images import read_image
from brain_mri.io.volumes import read_slices

_GREYS = [10, 20, 30, 40, 200, 60]


def _stack(kind: str, greys: list[int] = _GREYS, **options: object) -> bytes:
    pages = [Image.fromarray(np.full((24, 32), grey, np.uint8)) for grey in greys]
    buffer = io.BytesIO()
    pages[0].save(buffer, kind, save_all=True, append_images=pages[1:], **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("GIF", {"duration": [10, 500, 20, 30, 40, 1000]}),
        ("WEBP", {"lossless": True}),
        ("PNG", {"duration": [10, 500, 20, 30, 40, 1000]}),
        ("PNG", {"default_image": True}),
    ],
)
def test_every_page_or_frame_is_a_slice(kind: str, options: dict[str, object]) -> None:
    slices = read_slices(_stack(kind, **options))
    assert slices.is_volume and slices.kind == "picture" and slices.names[4] == "slice 5 of 6"
    assert [image.size for image in slices.images] == [(32, 24)] * 6
    assert [image.getpixel((5, 5))[0] for image in slices.images] == pytest.approx(_GREYS, abs=2)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_one_slice_is_not_answered_for_many(kind: str) -> None:
    with pytest.raises(ImageError, match="predict_volume"):
        read_image(_stack(kind), single=True)
    with pytest.raises(ImageError, match="predict_volume"):
        read_image(Image.open(io.BytesIO(_stack(kind))), single=True)
    assert read_image(_stack(kind)).getpixel((5, 5))[0] == pytest.approx(10, abs=2)


def test_pages_of_16_bits_share_one_window() -> None:
    pages = [Image.fromarray(np.full((8, 8), value, np.uint16)) for value in (0, 1000, 4000)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    greys = [image.getpixel((0, 0))[0] for image in read_slices(buffer.getvalue()).images]
    assert greys == [0, round(255 / 4), 255]


def test_a_smaller_copy_of_a_page_is_no_slice_and_is_said() -> None:
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as file:
        for grey, size, kind in ((10, 32, 0), (10, 8, 1), (50, 32, 0)):
            info = TiffImagePlugin.ImageFileDirectory_v2()
            info[254] = kind
            Image.new("L", (size, size), grey).save(file, "TIFF", tiffinfo=info)
            file.newFrame()
    slices = read_slices(buffer.getvalue())
    assert [image.size for image in slices.images] == [(32, 32)] * 2
    assert any("left out" in note for note in slices.notes)


def test_too_many_pages_are_refused_before_they_are_kept() -> None:
    with pytest.raises(ImageError, match="pages"):
        read_slices(_stack("TIFF", list(range(200)) * 6))
