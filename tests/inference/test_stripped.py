from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nibabel.testing import data_path
from PIL import Image

from brain_mri.inference.predictions import Prediction, together
from brain_mri.inference.rule import Rule
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


def test_a_volume_of_mostly_stripped_slices_is_said_to_be_that() -> None:
    rule, healthy = Rule(0.5, 0.5), {"glioma": 0.1, "no_tumor": 0.9}

    def slices(stripped: int, others: int) -> list[Prediction]:
        told = [rule.of_slice(healthy, 0.5, lambda: True)] * stripped + [rule.of_slice(healthy, 0.5)] * others
        return [Prediction("a", *verdict, healthy, (), 0.5, 1.0, None, None) for verdict in told]

    assert together(slices(20, 4), rule).reason == "skull_stripped"
    assert together(slices(4, 20), rule).reason == "slices_not_judged"


def test_of_a_stripped_brain_no_tumour_is_never_said_and_a_refusal_has_this_reason() -> None:
    rule, sure = Rule(0.5, 0.5), {"glioma": 0.9, "no_tumor": 0.1}
    assert rule.of_slice(sure, 2.0, lambda: True) == ("refused", "skull_stripped")
    assert rule.of_slice(sure, 2.0, lambda: False) == ("refused", "not_brain_mri")
    assert rule.of_slice(sure, 0.5, lambda: True) == ("answer", None)
    healthy = {"glioma": 0.1, "no_tumor": 0.9}
    assert rule.of_slice(healthy, 0.5, lambda: True) == ("refused", "skull_stripped")
    assert rule.of_slice(healthy, 0.5, lambda: False) == ("answer", None)
    assert rule.of_slice({"glioma": 0.45, "no_tumor": 0.55}, 0.5, lambda: True) == ("refused", "skull_stripped")
    assert Rule(0.9, 0.99).of_slice(healthy, 0.5, lambda: True) == ("unsure", "below_threshold")
