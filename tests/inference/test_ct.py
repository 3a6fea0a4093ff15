from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from brain_mri.data.image_folder import scan_folder
from brain_mri.inference.ct import ct_score
from brain_mri.io.images import read_image
from brain_mri.labels import LABELS
from brain_mri.phantom.drawing import PLANES, draw_phantom

_SIZE = 256


def _head(*shells: tuple[float, int], size: tuple[int, int] = (_SIZE, _SIZE), turn: float = 0.0) -> Image.Image:
    """Ellipses inside each other, each with its radius as a share of the picture's half, and its grey."""
    image = Image.new("L", (_SIZE, _SIZE))
    for radius, grey in shells:
        x, y = 0.8 * radius * _SIZE / 2, radius * _SIZE / 2
        ImageDraw.Draw(image).ellipse((_SIZE / 2 - x, _SIZE / 2 - y, _SIZE / 2 + x, _SIZE / 2 + y), fill=grey)
    noise = np.random.default_rng(0).normal(0, 4, (_SIZE, _SIZE))
    noisy = np.where(np.asarray(image) > 0, np.asarray(image) + noise, 0)
    image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    return image.rotate(turn).resize(size)


_CT = ((0.86, 60), (0.82, 255), (0.72, 100), (0.2, 40))  # scalp, bone, brain, ventricle
_MR = ((0.86, 255), (0.80, 10), (0.72, 120), (0.2, 40))  # fat, bone, brain, ventricle


def test_a_bright_ring_of_bone_is_ct_and_black_bone_under_bright_fat_is_not() -> None:
    assert ct_score(_head(*_CT)) > 1.3
    assert ct_score(_head(*_MR)) < 0.5


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_the_mode_of_the_picture_does_not_matter(mode: str) -> None:
    head = _head(*_CT)
    picture = Image.fromarray(np.asarray(head).astype(np.uint16) * 256) if mode == "I;16" else head.convert(mode)
    assert ct_score(read_image(picture)) == pytest.approx(ct_score(head), abs=0.05)


def test_size_shape_pose_and_brightness_hardly_matter() -> None:
    for changed in (
        _head(*_CT, size=(150, 198)),
        _head(*_CT, size=(1200, 900)),
        _head(*_CT, turn=25),
        _head(*_CT).point(lambda value: value // 2),
        _head(*((0.55 * radius, grey) for radius, grey in _CT)),
    ):
        assert ct_score(changed) > 1


def test_a_ring_that_is_open_thin_or_round_a_brain_as_bright_is_not_bone() -> None:
    opened = _head(*_CT)
    opened.paste(60, (0, 0, _SIZE, _SIZE // 2))
    assert ct_score(opened) < 1, "the base of the skull"
    assert ct_score(_head((0.82, 255), (0.805, 100))) < 1, "a thin line of fat"
    assert ct_score(_head((0.82, 255), (0.72, 200))) < 1, "brain and fluid of MR in a narrow window"


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_of_nothing_is_no_ct(grey: int) -> None:
    assert ct_score(Image.new("L", (64, 64), grey)) == 0


@pytest.mark.parametrize("size", [64, 192])
def test_phantoms_are_no_ct(size: int) -> None:
    drawn = (draw_phantom(label, seed, size, plane) for label in LABELS for plane in PLANES for seed in range(4))
    assert max(ct_score(phantom.image) for phantom in drawn) < 0.9


@pytest.mark.slow
def test_head_ct_of_the_test_images_is_found_and_mr_is_left_alone(real_data: Path) -> None:
    layout = scan_folder(real_data / "brain-tumor-mri")
    findings = layout.findings()
    judged = [(ct_score(read_image(image.path)) > 1, image) for image in layout.images if image.split == "test"]
    tomograms = [found for found, image in judged if findings.get(image.file_name) == "ct"]
    others = [found for found, image in judged if findings.get(image.file_name) != "ct"]
    assert len(tomograms) - sum(tomograms) <= 1
    assert sum(others) / len(others) <= 0.01
