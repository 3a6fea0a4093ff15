from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.scans import head

from brain_mri.errors import ImageError
from brain_mri.inference.sources import known
from brain_mri.io.images import read_image

_HEAD = (head() / head().max() * 255).astype(np.uint8)


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(_HEAD).save(file, "PNG")
    return file.getvalue()


class _PathLike:
    def __fspath__(self) -> str:
        return "slice.png"


def test_paths_bytes_and_pictures_stay_what_they_are() -> None:
    picture = Image.fromarray(_HEAD)
    for source in ("a.png", Path("a.png"), b"bytes", picture):
        assert known(source) is source
    assert known(_PathLike()) == "slice.png"


def test_buffers_and_open_files_are_the_bytes_in_them(tmp_path: Path) -> None:
    (tmp_path / "slice.png").write_bytes(_png())
    with (tmp_path / "slice.png").open("rb") as file:
        assert known(file) == _png()
    for source in (bytearray(_png()), memoryview(_png()), io.BytesIO(_png())):
        assert known(source) == _png()


@pytest.mark.parametrize("values", [_HEAD, np.stack([_HEAD] * 3, axis=2), _HEAD[::2, ::-1]])
def test_an_array_of_bytes_is_taken_as_it_is(values: np.ndarray) -> None:
    picture = known(values)
    assert isinstance(picture, Image.Image) and np.array_equal(np.asarray(picture), values)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_other_numbers_are_stretched_from_black_to_white(dtype: type) -> None:
    picture = known(_HEAD.astype(dtype) * 7)
    assert isinstance(picture, Image.Image)
    grey = np.asarray(picture.convert("L"))
    assert grey.min() == 0 and grey.max() == 255 and np.corrcoef(grey.ravel(), _HEAD.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    "source",
    [
        None,
        0,
        ("a.png",),
        {},
        np.zeros(4),
        np.zeros((2, 2, 2)),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4), np.uint8),
        np.full((4, 4), np.nan),
        np.zeros((4, 4), complex),
        np.array([["a"]]),
        io.StringIO("words"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(source: Any) -> None:
    with pytest.raises(ImageError) as refused:
        known(source)
    assert "\n" not in str(refused.value)


def test_one_picture_that_is_not_loaded_yet_can_be_read_by_many_threads() -> None:
    for _ in range(20):
        lazy = Image.open(io.BytesIO(_png()))
        with ThreadPoolExecutor(16) as threads:
            read = list(threads.map(read_image, [lazy] * 16))
        assert {one.tobytes() for one in read} == {read_image(_png()).tobytes()}
