from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    Dinov2Config,
    SwinConfig,
    ViTConfig,
    ViTImageProcessor,
    pipeline,
)

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.errors import ConfigError, LackingError
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model, build_processor
from brain_mri.models.layers import at_output_stride, classifier_of, hold_frozen_statistics
from brain_mri.training.optim import parameter_groups

_SMALL = '{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}'


def _small(**kwargs: Any) -> ModelArguments:
    return ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=64, model_args=_SMALL, **kwargs)


def _build(args: ModelArguments) -> Any:
    return build_model(build_config(args), args, LABELS)


@pytest.mark.parametrize(
    "args",
    [
        _small(drop_rate=0.3),
        ModelArguments("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False, image_size=64),
        ModelArguments("timm/tf_efficientnet_lite0.in1k", pretrained=False, image_size=64),
        ModelArguments("timm/resnet50.a1_in1k", pretrained=False, image_size=64, freeze_until="layer3"),
    ],
    ids=["small_cnn", "vit", "efficientnet", "resnet50"],
)
def test_plain_pipeline_loads_every_architecture(args: ModelArguments, tmp_path: Path, phantoms: Path) -> None:
    model = _build(args).eval()
    processor = build_processor(model.config, args)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    path = str(next((phantoms / "test" / "glioma").iterdir()))
    answers = pipeline("image-classification", model=str(tmp_path), device="cpu")(path, function_to_apply="none")
    assert {answer["label"] for answer in answers} == set(LABELS)
    reloaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert [reloaded.config.id2label[i] for i in range(4)] == list(LABELS)
    assert reloaded.config.pretrained_cfg["crop_mode"] == "squash" and reloaded.config.pretrained_cfg["crop_pct"] == 1.0


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=64),
        SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=64, window_size=4),
        ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16]),
        Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=70, patch_size=14),
    ],
    ids=lambda config: config.model_type,
)
def test_a_transformers_native_model_is_fine_tuned_from_its_folder(config: Any, tmp_path: Path) -> None:
    body = AutoModelForImageClassification.from_config(config)
    body.save_pretrained(tmp_path / "native")
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "native")
    args = ModelArguments(str(tmp_path / "native"), image_size=64)
    model = _build(args)
    processor = build_processor(model.config, args)
    model.save_pretrained(tmp_path / "tuned")
    processor.save_pretrained(tmp_path / "tuned")
    kept = [name for name, p in body.named_parameters() if "classifier" not in name]
    assert all(torch.equal(body.state_dict()[name], model.state_dict()[name]) for name in kept)
    assert classifier_of(model).out_features == 4
    classify = pipeline("image-classification", model=str(tmp_path / "tuned"), device="cpu")
    answers = classify(_black(tmp_path))
    assert {answer["label"] for answer in answers} == set(LABELS)


def _black(folder: Path) -> str:
    Image.new("L", (70, 50)).save(folder / "black.png")
    return str(folder / "black.png")


def test_pretrained_weights_survive_the_new_head(tmp_path: Path) -> None:
    first = _build(_small())
    first.save_pretrained(tmp_path)
    args = ModelArguments(str(tmp_path), image_size=96)
    second = build_model(build_config(args), args, ["no", "yes"])
    assert second.config.num_labels == 2
    name = "timm_model.layer2.0.conv1.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])


def test_frozen_layers_keep_their_weights_and_their_batchnorm_statistics() -> None:
    model = _build(_small(freeze_until="layer3")).train()
    hold_frozen_statistics(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(pixel_values=torch.randn(4, 3, 64, 64)).logits.square().sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("timm_model.conv1", "timm_model.bn1", "timm_model.layer1", "timm_model.layer2")
    assert not [name for name in changed if name.startswith(frozen)]
    assert "timm_model.layer3.0.bn1.running_mean" in changed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (_small(freeze_until="layer9"), r"no such layer; this model's are conv1"),
        (_small(freeze_until="conv1"), "nothing would be frozen"),
        (ModelArguments("timm/resnet5000.a1", pretrained=False), "has no such model"),
        (ModelArguments("nobody/nothing"), "can't be loaded"),
        (
            ModelArguments("timm/resnet18.a1_in1k", pretrained=False, model_args='{"wheels": 4}'),
            r"does not take \{'wheels': 4\}",
        ),
    ],
)
def test_an_impossible_model_is_one_sentence(args: ModelArguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _build(args)


def test_a_size_that_the_weights_do_not_fit_is_said(tmp_path: Path) -> None:
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=64)
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="--image_size 96 does not fit"):
        _build(ModelArguments(str(tmp_path), image_size=96))


def test_a_rate_that_the_model_lacks_is_said(tmp_path: Path) -> None:
    config = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16])
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(LackingError, match=r"--drop_rate: a convnext model has no such rate"):
        build_config(ModelArguments(str(tmp_path), drop_rate=0.1))


def test_only_weights_decay_and_the_head_learns_faster() -> None:
    model = _build(_small(freeze_until="layer2"))
    groups = parameter_groups(model, RecipeArguments(backbone_lr_scale=0.1), 1e-3, 0.05)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert groups[0]["lr"] == 1e-3
    named = {name: rates.get(id(p)) for name, p in model.named_parameters()}
    assert named["timm_model.fc.weight"] == (1e-3, 0.05) and named["timm_model.fc.bias"] == (1e-3, 0.0)
    assert named["timm_model.layer4.0.conv1.weight"] == (pytest.approx(1e-4), 0.05)
    assert named["timm_model.layer4.0.bn1.weight"] == (pytest.approx(1e-4), 0.0)
    assert named["timm_model.layer1.0.conv1.weight"] is None, "frozen"


def test_layer_decay_slows_the_layers_from_the_head_down() -> None:
    model = _build(_small())
    groups = parameter_groups(model, RecipeArguments(layer_decay=0.5), 1e-3, 0.05)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    named = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert named["timm_model.fc.weight"] == 1e-3
    assert named["timm_model.layer4.0.conv1.weight"] > named["timm_model.layer1.0.conv1.weight"] > 0
    assert not any("lr_scale" in group for group in groups)


def test_a_finer_stride_keeps_the_weights_and_pipeline_rebuilds_it(tmp_path: Path) -> None:
    args = ModelArguments("timm/tf_efficientnet_lite0.in1k", pretrained=False, image_size=64)
    model = _build(args).eval()
    finer = at_output_stride(model, 16)
    assert all(torch.equal(value, finer.state_dict()[name]) for name, value in model.state_dict().items())
    finer.save_pretrained(tmp_path)
    reloaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert reloaded.timm_model.forward_features(pixels).shape[-1] == 4
        assert model.timm_model.forward_features(pixels).shape[-1] == 2
        assert torch.equal(reloaded(pixel_values=pixels).logits, finer(pixel_values=pixels).logits)
    with pytest.raises(ConfigError, match="--final_output_stride 16: vit_tiny_patch16_224"):
        at_output_stride(_build(ModelArguments("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False)), 16)


def test_the_classifier_is_the_last_linear_layer() -> None:
    assert isinstance(classifier_of(_build(_small())), nn.Linear)
