from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.data.transforms import Augmentation, box_coverage
from brain_mri.inference.overlay import enlarge, evidence_region
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.models.evidence import (
    FINER,
    FeatureTap,
    OnePass,
    evidence_maps,
    extent_loss,
    guidance_loss,
    has_evidence,
    texture_of,
)
from brain_mri.models.layers import at_output_stride, fold_temperature

_TINY = '{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}'
_STILL = RecipeArguments(rotation=0, translation=0, zoom=0, horizontal_flip=0, brightness=0, contrast=0)
_NOWHERE = [float("nan")] * 4


def _model(name: str, size: int = 64, model_args: str | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    args = ModelArguments(name, pretrained=False, image_size=size, model_args=model_args)
    return build_model(build_config(args), args, LABELS).eval()


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    return _model("timm/resnet18.a1_in1k", 64, _TINY)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("timm/tf_efficientnet_lite0.in1k", True),
        ("timm/resnet50.a1_in1k", True),
        ("timm/convnext_atto.d2_in1k", False),
        ("timm/vit_tiny_patch16_224.augreg_in21k", False),
        ("timm/vit_tiny_r_s16_p8_224.augreg_in21k", False),
        ("timm/vit_small_r26_s32_224.augreg_in21k", False),  # its pooling is that of its convolutions
    ],
)
def test_only_a_classifier_linear_on_pooled_features_has_exact_maps(name: str, exact: bool) -> None:
    assert has_evidence(_model(name, 224 if "vit" in name else 96)) is exact


def test_the_maps_add_up_to_the_logits(small: torch.nn.Module) -> None:
    pixel_values = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        logits, embedding, evidence, texture = OnePass(small)(pixel_values)
        assert torch.allclose(logits, small(pixel_values=pixel_values).logits)
    assert evidence.shape == (3, 4, 2, 2) and embedding.shape == (3, 16)
    assert texture.shape == (3, 32), "mean and spread of the 16 channels of the stage before the last"
    assert torch.allclose(evidence.mean(dim=(2, 3)) + small.timm_model.fc.bias, logits, atol=1e-5)
    assert torch.allclose(embedding @ small.timm_model.fc.weight.T + small.timm_model.fc.bias, logits, atol=1e-5)


def test_calibration_scales_maps_and_logits_alike() -> None:
    model, pixel_values = _model("timm/resnet18.a1_in1k", 64, _TINY), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = OnePass(model)(pixel_values)
        fold_temperature(model, 2.0)
        after = OnePass(model)(pixel_values)
    assert torch.allclose(after[0], before[0] / 2, atol=1e-6) and torch.allclose(after[2], before[2] / 2, atol=1e-6)


def test_a_finer_stride_gives_finer_maps_that_still_add_up() -> None:
    model = at_output_stride(_model("timm/tf_efficientnet_lite0.in1k", 64), 16)
    with torch.no_grad():
        logits, _, evidence, _ = OnePass(model)(torch.rand(1, 3, 64, 64))
    assert evidence.shape[2:] == (4, 4)
    assert torch.allclose(evidence.mean(dim=(2, 3)) + model.timm_model.classifier.bias, logits, atol=1e-4)


def test_a_model_without_exact_maps_gives_no_evidence() -> None:
    one_pass = OnePass(_model("timm/convnext_atto.d2_in1k", 64))
    with torch.no_grad():
        found = one_pass(torch.rand(1, 3, 64, 64))
    assert one_pass.output_names == ("logits", "embedding", "texture") and len(found) == 3
    with pytest.raises(LookupError, match="not linear"):
        FeatureTap(one_pass.model)


def test_the_tap_sees_each_pass_once_and_leaves_no_trace(small: torch.nn.Module) -> None:
    tap = FeatureTap(small)
    small(pixel_values=torch.rand(2, 3, 64, 64))
    assert tap.take().shape == (2, 16, 2, 2)
    with pytest.raises(AssertionError):
        tap.take()
    tap.remove()
    small(pixel_values=torch.rand(2, 3, 64, 64))
    assert tap.features is None


def _coverage(boxes: list[list[float]], recipe: RecipeArguments = _STILL, side: int = 8) -> Tensor:
    pixels = torch.zeros(len(boxes), 3, 32, 32, dtype=torch.uint8)
    _, theta = Augmentation(recipe)(pixels, torch.Generator().manual_seed(3))
    return box_coverage(torch.tensor(boxes), theta, side, side)


def test_a_box_covers_its_places_and_no_others() -> None:
    coverage = _coverage([[0.25, 0.75, 0.25, 0.25], _NOWHERE])
    expected = torch.zeros(8, 8)
    expected[5:7, 1:3] = 1
    assert torch.equal(coverage[0], expected)
    assert not coverage[1].any(), "no box, no place"


def test_a_box_smaller_than_a_place_still_counts_fully() -> None:
    assert _coverage([[0.3, 0.3, 0.05, 0.05]], side=4).max() == 1


def test_an_ellipse_touches_the_sides_of_its_box_and_leaves_out_the_corners() -> None:
    pixels, box = torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.tensor([[0.5, 0.5, 0.5, 0.25], _NOWHERE])
    _, theta = Augmentation(_STILL)(pixels.expand(2, -1, -1, -1), torch.Generator())
    whole, ellipse = box_coverage(box, theta, 64, 64), box_coverage(box, theta, 64, 64, ellipse=True)
    assert (ellipse <= whole).all() and not ellipse[1].any()
    assert float(ellipse[0].sum() / whole[0].sum()) == pytest.approx(torch.pi / 4, abs=0.01)
    assert ellipse[0, 32, 16] > 0 and ellipse[0, 24, 32] > 0 and ellipse[0, 24, 16] == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_box_follows_its_image_through_the_augmentation(seed: int) -> None:
    recipe = RecipeArguments(rotation=30, translation=0.1, zoom=0.2, horizontal_flip=0.5, brightness=0, contrast=0)
    pixels = torch.zeros(4, 3, 128, 128, dtype=torch.uint8)
    boxes = torch.tensor([[0.3, 0.6, 0.2, 0.1], [0.5, 0.5, 0.3, 0.3], [0.7, 0.4, 0.1, 0.2], [0.4, 0.3, 0.2, 0.2]])
    for image, (x, y, w, h) in zip(pixels, (boxes * 128).tolist(), strict=True):
        image[:, round(y - h / 2) : round(y + h / 2), round(x - w / 2) : round(x + w / 2)] = 255
    images, theta = Augmentation(recipe)(pixels, torch.Generator().manual_seed(seed))
    drawn, followed = images[:, 0] > 127, box_coverage(boxes, theta, 128, 128) > 0.5
    overlap = (drawn & followed).sum(dim=(1, 2)) / (drawn | followed).sum(dim=(1, 2)).clamp_min(1)
    assert (overlap > 0.9).all(), overlap


def test_guidance_rewards_evidence_in_the_box_and_asks_nothing_without_one() -> None:
    head = torch.nn.Linear(1, 2)
    torch.nn.init.ones_(head.weight)
    features = torch.zeros(2, 1, 4, 4)
    features[:, :, 1, 1] = 10
    there, elsewhere, nowhere = torch.zeros(3, 4, 4)
    there[1, 1], elsewhere[3, 3] = 1, 1
    labels = torch.tensor([0, 1])

    def loss(*coverage: Tensor) -> float:
        return float(guidance_loss(features, head, labels, torch.stack(coverage)).detach())

    assert loss(there, there) < 0.01 < 5 < loss(elsewhere, elsewhere)
    assert loss(there, nowhere) == pytest.approx(loss(there, there)), "an image without a box is left out of the mean"
    assert loss(nowhere, nowhere) == 0


def _extent(places: list[slice], coverage: Tensor) -> float:
    """The loss of a map that is 1 in some places of 8 x 8 and -1 elsewhere."""
    head = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(head.weight)
    features = torch.full((1, 1, 8, 8), -1.0)
    features[0, 0, places[0], places[1]] = 1
    return float(extent_loss(features, head, torch.tensor([0]), coverage).detach())


def test_extent_wants_a_map_of_the_tumour_s_size_at_its_place() -> None:
    tumor = torch.zeros(1, 8 * FINER, 8 * FINER)
    tumor[:, 2 * FINER : 6 * FINER, 2 * FINER : 6 * FINER] = 1
    fits = _extent([slice(2, 6), slice(2, 6)], tumor)
    assert 0 <= fits < 0.2
    for rows, columns in ((slice(0, 8), slice(0, 8)), (slice(3, 4), slice(3, 4)), (slice(4, 8), slice(4, 8))):
        assert _extent([rows, columns], tumor) > fits + 0.15, "too large, too small, elsewhere"
    assert _extent([slice(0, 0), slice(0, 0)], tumor) == 1, "evidence against the class covers nothing"


def test_extent_asks_nothing_without_a_box() -> None:
    head, features = torch.nn.Linear(3, 2), torch.randn(2, 3, 4, 4, requires_grad=True)
    labels, coverage = torch.tensor([0, 1]), torch.zeros(2, 4 * FINER, 4 * FINER)
    loss = extent_loss(features, head, labels, coverage)
    loss.backward()
    assert loss == 0 and not features.grad.any()
    coverage[0, :6, :6] = 1
    alone = extent_loss(features[:1], head, labels[:1], coverage[:1])
    assert torch.allclose(extent_loss(features, head, labels, coverage), alone), "left out of the mean"


def test_training_for_extent_gives_the_drawn_map_the_tumour_s_size() -> None:
    torch.manual_seed(0)
    head, features = torch.nn.Linear(4, 2), torch.randn(2, 4, 8, 8).requires_grad_()
    coverage = torch.zeros(2, 8 * FINER, 8 * FINER)
    coverage[0, 4:12, 4:16], coverage[1, 8:30, 12:28] = 1, 1
    labels, optimizer = torch.tensor([0, 1]), torch.optim.Adam([features], 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        extent_loss(features, head, labels, coverage).backward()
        optimizer.step()
    maps = evidence_maps(features, head)[torch.arange(2), labels].detach().numpy()
    for one, tumor in zip(maps, coverage.numpy() > 0, strict=True):
        region = evidence_region(enlarge(one, 8 * FINER, 8 * FINER))
        assert (region & tumor).sum() / (region | tumor).sum() > 0.75


def test_guided_training_moves_the_evidence_into_the_box() -> None:
    torch.manual_seed(0)
    model = _model("timm/resnet18.a1_in1k", 128, _TINY).train()
    tap, images = FeatureTap(model), torch.rand(8, 3, 128, 128)
    labels, coverage = torch.arange(8) % 4, torch.zeros(8, 4, 4)
    coverage[:, 2, 1] = 1
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        model(pixel_values=images)
        loss = guidance_loss(tap.take(), tap.classifier, labels, coverage)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    model(pixel_values=images)
    maps = evidence_maps(tap.take(), tap.classifier)[torch.arange(8), labels].flatten(1)
    assert (maps.argmax(dim=1) == 2 * 4 + 1).float().mean() > 0.8


@pytest.mark.slow
def test_the_tap_works_within_a_compiled_model(small: torch.nn.Module) -> None:
    tap = FeatureTap(small)
    compiled = torch.compile(small)
    for side in (64, 96):
        logits = compiled(pixel_values=torch.rand(2, 3, side, side)).logits
        maps = evidence_maps(tap.take(), tap.classifier)
        assert torch.allclose(maps.mean(dim=(2, 3)) + tap.classifier.bias, logits, atol=1e-5)
    tap.remove()


def test_train_py_measures_its_evidence_on_held_out_boxes(guided_model: Path) -> None:
    found = json.loads((guided_model / "evidence.json").read_text())
    assert found["n"] > 0 and 0 <= found["pointing_game"]["value"] <= 1
    assert found["levels"] and set(found["levels"]) == set(found["per_class"])
    record = json.loads((guided_model / "run.json").read_text())
    assert record["recipe"]["guidance"] == 0.3 and record["boxed_images"] > 0


def test_texture_is_mean_and_spread_of_each_channel_in_any_order_of_axes() -> None:
    features = torch.rand(2, 5, 3, 4)
    expected = torch.cat([features.mean(dim=(2, 3)), features.std(dim=(2, 3), unbiased=False)], dim=1)
    assert torch.allclose(texture_of(features, 5), expected, atol=1e-6)
    assert torch.allclose(texture_of(features.permute(0, 2, 3, 1), 5), expected, atol=1e-6)
    assert torch.allclose(texture_of(features.flatten(2).transpose(1, 2), 5), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "tf_efficientnet_lite0.in1k", "convnext_atto.d2_in1k"])
def test_a_network_that_was_trained_with_checkpointing_shows_what_it_would_without(name: str) -> None:
    model = _model(f"timm/{name}")
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = OnePass(model)(picture)
        model.activation_checkpointing_enable()
        found = OnePass(model)(picture)
    assert len(found) == len(expected) and all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
