from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nibabel.testing import data_path
from PIL import Image

from brain_mri.inference.predictions import Rule
from brain_mri.inference.stripped import is_stripped
from brain_mri.io.volumes import read_slices


def _head(skull: bool) -> Image.Image:
    """A brain with a ventricle, alone or inside a black line of bone and a bright one of fat."""
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    radius = np.hypot(x / 0.75, y / 0.9)
    grey = np.where(radius < 0.8, 120.0, 0.0)
    grey += np.random.default_rng(0).normal(0, 6, grey.shape) * (grey > 0)
    grey[np.hypot(x / 0.1, y / 0.3) < 1] = 30
    if skull:
        grey[(radius > 0.9) & (radius < 1)] = 220
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def test_a_brain_without_its_skull_is_told_from_a_head() -> None:
    assert is_stripped(_head(skull=False)) and not is_stripped(_head(skull=True))


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_even_picture_is_no_brain(grey: int) -> None:
    assert not is_stripped(Image.new("RGB", (60, 80), (grey,) * 3))


def test_noise_and_a_tiny_picture_are_no_brain() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    assert not is_stripped(Image.fromarray(noise)) and not is_stripped(Image.new("L", (1, 1), 9))


def test_every_slice_of_a_real_stripped_brain_is_known() -> None:
    slices = read_slices(Path(data_path) / "example4d.nii.gz")
    assert all(is_stripped(image) for image in slices.images)


def test_only_what_the_guard_refuses_is_asked_and_then_this_is_the_reason() -> None:
    rule, sure = Rule(0.5, 0.5), {"glioma": 0.9, "no_tumor": 0.1}
    assert rule.of_slice(sure, 2.0, lambda: True) == ("refused", "skull_stripped")
    assert rule.of_slice(sure, 2.0, lambda: False) == ("refused", "not_brain_mri")
    assert rule.of_slice(sure, 0.5, lambda: True) == ("answer", None)
