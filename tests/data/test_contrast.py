from __future__ import annotations

import pytest
import torch

from brain_mri.arguments import RecipeArguments
from brain_mri.data.contrast import chained, framed, frames, vary_contrast
from brain_mri.data.transforms import Augmentation, box_coverage

_STILL = RecipeArguments(rotation=0, translation=0, zoom=0, horizontal_flip=0, brightness=0, contrast=0)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(n: int = 32, side: int = 40) -> torch.Tensor:
    """Grey ramps in a black margin, as three equal channels."""
    images = torch.zeros(n, 1, side, side)
    images[:, :, 8:-8, 8:-8] = torch.linspace(20, 255, side - 16)
    return images.repeat(1, 3, 1, 1)


def test_a_share_of_0_changes_nothing_and_draws_nothing_else_differently() -> None:
    images = _batch()
    assert torch.equal(vary_contrast(images, 0.0, _seeded()), images)
    before, after = _seeded(), _seeded()
    Augmentation(RecipeArguments())(images, before)
    Augmentation(RecipeArguments(contrast_variation=0.0))(images, after)
    assert torch.equal(before.get_state(), after.get_state())


def test_the_share_is_of_images_and_the_range_stays() -> None:
    images = _batch(400)
    varied = vary_contrast(images, 0.3, _seeded())
    changed = (varied != images).flatten(1).any(dim=1).float().mean()
    assert changed == pytest.approx(0.3, abs=0.07)
    assert varied.min() >= 0 and varied.max() <= 255 and varied.isfinite().all()
    assert torch.equal(varied[:, 0], varied[:, 1]), "a grey image stays grey"


def test_the_same_generator_gives_the_same_contrast_and_another_does_not() -> None:
    images = _batch()
    first, second, other = (vary_contrast(images, 1.0, _seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_air_stays_dark_and_most_curves_rise() -> None:
    varied = vary_contrast(_batch(200), 1.0, _seeded())
    assert varied[:, :, :5, :5].mean() < 10
    rising = (varied[:, 0, 20, 30] > varied[:, 0, 20, 10]).float().mean()
    assert 0.8 < rising <= 1


def test_a_frame_is_plain_and_leaves_the_whole_picture_inside() -> None:
    inner = frames(200, 5.0, _seeded())  # a frame each
    images = torch.full((200, 3, 40, 40), 300.0)
    with_frames = framed(images, inner, _seeded())
    for image in with_frames:
        greys = image[image < 300].unique()
        assert len(greys) <= 1 and (image == 300).float().mean() > 0.5
    corners = torch.tensor([[-1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    places = (corners - torch.nn.functional.pad(inner[:, None, :, 2], (0, 1)))[:, :, :2] / torch.stack(
        [inner[:, 0, 0], inner[:, 1, 1]], dim=1
    )[:, None]
    assert places.abs().max() <= 1 + 1e-5, "the corners of the picture are in sight"


def test_the_box_follows_an_image_into_its_frame() -> None:
    images = torch.zeros(64, 3, 48, 48)
    images[:, :, 12:24, 30:42] = 200
    boxes = torch.tensor([[36 / 48, 18 / 48, 12 / 48, 12 / 48]]).repeat(64, 1)
    inner = frames(64, 5.0, _seeded())
    theta = chained(inner, torch.eye(2, 3).repeat(64, 1, 1))
    grid = torch.nn.functional.affine_grid(theta, [64, 3, 48, 48], align_corners=False)
    moved = torch.nn.functional.grid_sample(images, grid, align_corners=False)[:, 0] > 100
    covered = box_coverage(boxes, theta, 48, 48) > 0.5
    assert (moved == covered).float().mean() > 0.98 and (moved & covered).flatten(1).any(dim=1).all()


def test_an_augmented_batch_with_varied_contrast_stays_in_range() -> None:
    images, theta = Augmentation(RecipeArguments(contrast_variation=1.0))(_batch().to(torch.uint8), _seeded(), 24)
    assert images.shape == (32, 3, 24, 24) and theta.shape == (32, 2, 3)
    assert images.min() >= 0 and images.max() <= 255
    still, _ = Augmentation(_STILL)(_batch().to(torch.uint8), _seeded())
    assert torch.allclose(still, _batch().to(torch.uint8).float(), atol=0.01)
