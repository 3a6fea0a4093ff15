from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from support.dicom_files import as_mr
from transformers.image_utils import load_image

from brain_mri.errors import ImageError
from brain_mri.io.images import one_channel, read_image
from brain_mri.io.volumes import read_slices


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


def _ramp(top: int, side: int = 16) -> np.ndarray:
    return np.linspace(0, top, side * side).round().reshape(side, side)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint16", "PNG"), (">u2", "TIFF"), ("int32", "TIFF"), ("float32", "TIFF")]
)
def test_a_16_bit_picture_does_not_turn_white(dtype: str, kind: str) -> None:
    values = _ramp(3000).astype(dtype)
    picture = Image.frombytes("I;16B", (16, 16), values.tobytes()) if dtype == ">u2" else Image.fromarray(values)
    read = np.asarray(read_image(_saved(picture, kind)))
    assert np.array_equal(read[:, :, 0], (values * (255 / 3000) + 0.5).astype(np.uint8))
    assert read.min() == 0 and read.max() == 255


def test_8_bits_stored_in_16_come_back_as_they_were() -> None:
    grey = _ramp(255).astype(np.uint8)
    for stored in (grey.astype(np.uint16), grey.astype(np.uint16) * 257, grey.astype(np.int32)):
        assert np.array_equal(np.asarray(read_image(Image.fromarray(stored)))[:, :, 0], grey)
    assert np.array_equal(np.asarray(read_image(Image.fromarray(grey / np.float32(255))))[:, :, 0], grey)


def test_a_grey_picture_is_one_channel_of_the_same_values_and_a_coloured_one_stays() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    grey, coloured = Image.fromarray(noise[:, :, 0]), Image.fromarray(noise)
    nearly = grey.convert("RGB")
    nearly.putpixel((47, 63), (9, 9, 10))
    assert one_channel(grey.convert("RGB")).tobytes() == grey.tobytes() == grey.convert("RGB").convert("L").tobytes()
    for picture in (coloured, nearly):
        assert one_channel(picture).mode == "RGB" and one_channel(picture).tobytes() == picture.tobytes()


def test_values_that_are_no_numbers_are_black() -> None:
    values = _ramp(1000).astype(np.float32)
    values[3, 3], values[3, 4], values[3, 5] = np.nan, np.inf, -np.inf
    read = np.asarray(read_image(_saved(Image.fromarray(values), "TIFF")))[:, :, 0]
    assert (read[3, 3], read[3, 4], read[3, 5]) == (0, 255, 0)
    assert read[-1, -1] == 255 and read[8, 0] > 100


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_black(mode: str) -> None:
    picture = Image.new("RGBA", (2, 1), (200, 200, 200, 255))
    picture.putpixel((0, 0), (200, 200, 200, 0))
    if mode == "P":
        content = _saved(picture.convert("P"), "GIF", transparency=picture.convert("P").getpixel((0, 0)))
        assert read_image(content).getpixel((0, 0)) == (0, 0, 0)
        return
    read = read_image(picture.convert(mode) if mode == "PA" else _saved(picture.convert(mode), "PNG"))
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (200, 200, 200)]


def test_of_a_film_the_first_frame_is_read() -> None:
    frames = [Image.new("L", (8, 8), grey) for grey in (40, 200)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = _saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert read_image(content).getpixel((4, 4)) == (40, 40, 40), kind


def test_an_open_picture_is_converted_like_its_file() -> None:
    values = _ramp(4000).astype(np.uint16)
    picture = Image.fromarray(values)
    assert np.array_equal(np.asarray(read_image(picture)), np.asarray(read_image(_saved(picture, "PNG"))))
    assert np.array_equal(np.asarray(picture), values), "the caller's picture is left as it was"


def test_nothing_of_the_file_but_its_pixels_is_handed_on() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    content = _saved(Image.new("L", (8, 8)), "JPEG", exif=exif, comment=b"Jane Doe")
    assert b"Jane Doe" in content
    read = read_image(content)
    assert read.info == {} and not read.getexif() and b"Jane Doe" not in _saved(read, "JPEG")


def test_the_kind_is_told_by_content_and_not_by_the_extension(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(_saved(Image.new("L", (8, 8), 9), "JPEG", quality=100))
    assert read_image(tmp_path / "scan.dcm").getpixel((0, 0)) == (9, 9, 9)
    (tmp_path / "scan.jpg").write_bytes(Path(get_testdata_file("MR_small.dcm", download=False)).read_bytes())
    assert read_image(tmp_path / "scan.jpg").size == (64, 64)


def test_of_a_dicom_film_the_middle_slice_is_read() -> None:
    film = as_mr("rtdose.dcm")  # 15 frames
    slices = read_slices(film)
    middle = np.asarray(read_image(film)).astype(int)
    assert len(slices.images) == 15
    # its window is its own, that of the volume looks at all slices: the same order of greys, not the same greys
    assert np.corrcoef(middle.ravel(), np.asarray(slices.images[7]).ravel())[0, 1] > 0.99


def test_a_plain_picture_costs_no_import_of_pydicom_nibabel_or_torch() -> None:
    code = (
        "import io, sys; from PIL import Image; from brain_mri.io.images import read_image\n"
        "b = io.BytesIO(); Image.new('L', (9, 9)).save(b, 'PNG'); read_image(b.getvalue())\n"
        "from brain_mri.io.volumes import read_slices; read_slices(b.getvalue())\n"
        "unwanted = {'pydicom', 'nibabel', 'torch', 'transformers', 'timm', 'PIL.EpsImagePlugin'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_settings_of_pillow_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as somebody else in the process may have set it
    filters = list(warnings.filters)
    with pytest.raises(ImageError, match="pixels"):
        read_image(_saved(Image.new("1", (8000, 8000)), "PNG"))
    assert Image.MAX_IMAGE_PIXELS is None and warnings.filters == filters
