from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ConvNextImageProcessor, ViTImageProcessor
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

from brain_mri.arguments import RecipeArguments
from brain_mri.data.transforms import Augmentation, Collator, Preprocessing, pack, unpack
from brain_mri.errors import ConfigError

_TIMM = {"input_size": [3, 48, 48], "crop_pct": 1.0, "crop_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3}


def _picture(width: int, height: int, grey: bool = False) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (height, width) if grey else (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert("RGB")


@pytest.mark.parametrize(
    "processor",
    [
        TimmWrapperImageProcessor(_TIMM),
        TimmWrapperImageProcessor(_TIMM | {"interpolation": "bicubic", "mean": (0.485, 0.456, 0.406)}),
        ViTImageProcessor(size={"height": 48, "width": 48}, image_mean=[0.1, 0.2, 0.3], image_std=[0.2, 0.3, 0.4]),
        ViTImageProcessor(size={"height": 48, "width": 48}, do_normalize=False),
    ],
)
@pytest.mark.parametrize("size", [(31, 77), (200, 120), (48, 48)])
def test_the_two_halves_give_what_the_processor_gives(processor: object, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing.of(processor)
    picture = _picture(*size)
    whole = processor(picture, return_tensors="pt")["pixel_values"]  # type: ignore[operator]
    halves = preprocessing.normalize(torch.from_numpy(preprocessing.pixels(picture))[None])
    assert torch.allclose(halves, whole, atol=1e-6)


def test_a_processor_that_does_more_is_refused() -> None:
    processor = ViTImageProcessor(size={"height": 48, "width": 48}, rescale_factor=1 / 100)
    with pytest.raises(ConfigError, match="not resize, rescale and normalise"):
        Preprocessing.of(processor)


def test_another_size_or_mean_is_another_cache() -> None:
    keys = {
        Preprocessing.of(processor).key
        for processor in (
            TimmWrapperImageProcessor(_TIMM),
            TimmWrapperImageProcessor(_TIMM | {"input_size": [3, 64, 64]}),
            ViTImageProcessor(size={"height": 48, "width": 48}),
            ConvNextImageProcessor(size={"shortest_edge": 384}),
        )
    }
    assert len(keys) == 4


@pytest.mark.parametrize("grey", [True, False])
def test_packed_pixels_come_back_whole(grey: bool) -> None:
    pixels = np.asarray(_picture(16, 16, grey)).transpose(2, 0, 1)
    packed = pack(pixels)
    assert len(packed) == (256 if grey else 768)
    assert np.array_equal(unpack(packed, 16), pixels)


def test_the_collator_stacks_grey_and_colour_alike() -> None:
    rows = [{"pixels": pack(np.full((3, 4, 4), i, np.uint8)), "label": i} for i in range(3)]
    batch = Collator(4)(rows)
    assert batch["pixel_values"].shape == (3, 3, 4, 4) and batch["pixel_values"].dtype == torch.uint8
    assert batch["labels"].tolist() == [0, 1, 2]


def _still() -> RecipeArguments:
    return RecipeArguments(rotation=0, translation=0, zoom=0, horizontal_flip=0, brightness=0, contrast=0)


def _batch() -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(_picture(32, 32)).transpose(2, 0, 1)] * 8))


def test_no_augmentation_changes_nothing() -> None:
    result, _ = Augmentation(_still())(_batch(), torch.Generator().manual_seed(0))
    assert torch.allclose(result, _batch().float(), atol=1e-2)


def test_a_certain_flip_mirrors_left_and_right() -> None:
    recipe = _still()
    recipe.horizontal_flip = 1.0
    result, _ = Augmentation(recipe)(_batch(), torch.Generator().manual_seed(0))
    assert torch.allclose(result, _batch().float().flip(-1), atol=1e-2)


def test_a_rotation_keeps_the_centre_and_the_range() -> None:
    recipe = _still()
    recipe.rotation, recipe.brightness, recipe.contrast = 15.0, 0.5, 0.5
    images = torch.zeros(16, 3, 33, 33, dtype=torch.uint8)
    images[:, :, 16, 16] = 255
    result, _ = Augmentation(recipe)(images, torch.Generator().manual_seed(0))
    assert result.min() >= 0 and result.max() <= 255
    assert (result.flatten(2).argmax(-1) == 16 * 33 + 16).all()


def test_the_same_generator_gives_the_same_batch_and_another_does_not() -> None:
    augment = Augmentation(RecipeArguments())
    first, again, other = (augment(_batch(), torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1]), "each image of a batch is augmented on its own"


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("size", [(31, 77), (512, 512), (1100, 300)])
def test_the_short_way_gives_the_processor_s_pixels_to_the_bit(size: tuple[int, int], grey: bool) -> None:
    short = Preprocessing.of(TimmWrapperImageProcessor(_TIMM))
    assert short.plain
    assert np.array_equal(
        short.pixels(_picture(*size, grey)), replace(short, plain=False).pixels(_picture(*size, grey))
    )


@pytest.mark.parametrize("plain", [True, False])
def test_a_picture_known_to_be_grey_gives_the_pixels_of_its_three_channels(plain: bool) -> None:
    way = replace(Preprocessing.of(TimmWrapperImageProcessor(_TIMM)), plain=plain)
    picture = _picture(77, 91, grey=True).convert("L")
    assert np.array_equal(way.pixels(picture), way.pixels(picture.convert("RGB")))
