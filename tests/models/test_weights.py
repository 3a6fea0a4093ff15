from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedModel, SwinConfig, ViTConfig

from brain_mri.arguments import ModelArguments
from brain_mri.errors import ConfigError
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.models.weights import load_fitting

_SMALL = '{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}'
_BACKBONE = ("timm_model.conv1", "timm_model.bn1", "timm_model.layer1")


def _build(seed: int, **kwargs: Any) -> PreTrainedModel:
    args = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=64, model_args=_SMALL, **kwargs)
    torch.manual_seed(seed)
    return build_model(build_config(args), args, LABELS)


def _write(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return str(path)


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """The first layers of another model, in half precision and under timm's names."""
    tensors = {name: value for name, value in _build(1).state_dict().items() if name.startswith(_BACKBONE)}
    half = {name.removeprefix("timm_model."): v.half() if v.is_floating_point() else v for name, v in tensors.items()}
    return _write(tmp_path / "backbone.safetensors", half)


@pytest.mark.parametrize("prefix", ["", "timm_model."])
def test_what_fits_is_loaded_and_the_rest_stays_as_it_was(tmp_path: Path, prefix: str) -> None:
    source, model = _build(1).state_dict(), _build(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = {name: value for name, value in source.items() if name.startswith(_BACKBONE)}
    named = {name.replace("timm_model.", prefix): value for name, value in given.items()}
    assert load_fitting(model, Path(_write(tmp_path / "given.safetensors", named))) == set(given)
    for name, value in model.state_dict().items():
        assert torch.equal(value, source[name] if name in given else before[name]), name


def test_half_precision_becomes_the_models_own(backbone: str) -> None:
    model, source = _build(2, weights=backbone), _build(1).state_dict()
    name = "timm_model.layer1.0.conv1.weight"
    assert model.state_dict()[name].dtype == torch.float32
    assert torch.equal(model.state_dict()[name], source[name].half().float())


def test_what_does_not_fit_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = _build(1).state_dict() | {"timm_model.fc.weight": torch.zeros(7, 16), "wheels.weight": torch.zeros(4)}
    with caplog.at_level(logging.INFO, logger="brain_mri"):
        load_fitting(_build(2), Path(_write(tmp_path / "given.safetensors", tensors)))
    n = len(_build(1).state_dict())
    assert f"{n - 1} of the model's {n} tensors" in caplog.text
    assert "1 tensors of the model are not in it: timm_model.fc.weight" in caplog.text
    (warning,) = (record.message for record in caplog.records if "another name or shape" in record.message)
    assert warning.startswith("2 of its tensors") and "wheels.weight" in warning and "fc.weight" in warning


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=64),
        SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=64, window_size=4),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("prefixed", [True, False])
def test_a_native_model_takes_a_saved_backbone_with_or_without_its_prefix(
    config: Any, prefixed: bool, tmp_path: Path
) -> None:
    first = AutoModelForImageClassification.from_config(config)
    (first if prefixed else first.base_model).save_pretrained(tmp_path)
    torch.manual_seed(5)
    second = AutoModelForImageClassification.from_config(config)
    load_fitting(second, tmp_path / "model.safetensors")
    kept = [name for name, _ in first.named_parameters() if not name.startswith("classifier")]
    assert all(torch.equal(first.state_dict()[name], second.state_dict()[name]) for name in kept)


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    given = _write(tmp_path / "given.safetensors", {"features.0.weight": torch.zeros(64, 3, 3, 3)})
    with pytest.raises(ConfigError, match=r"none of its 1 tensors fits .*it has features\.0\.weight; the model"):
        _build(2, weights=given)


@pytest.mark.parametrize(("content", "message"), [(None, "there is no such file"), (b"PK", "is no safetensors file")])
def test_what_is_no_safetensors_file_is_one_sentence(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        _build(2, weights=str(path))


def test_random_layers_are_not_frozen_for_ever(backbone: str) -> None:
    assert not any(
        p.requires_grad for p in _build(2, weights=backbone, freeze_until="layer2").timm_model.layer1[0].parameters()
    )
    with pytest.raises(ConfigError, match=r"--freeze_until layer3 would freeze \d+ tensors with random weights"):
        _build(2, weights=backbone, freeze_until="layer3")


def test_vgg16_takes_pixels_normalised_as_its_published_convolutions_do() -> None:
    config = build_config(ModelArguments("timm/vgg16.tv_in1k", pretrained=False))
    assert tuple(config.pretrained_cfg["mean"]) == (0.485, 0.456, 0.406)
    assert tuple(config.pretrained_cfg["std"]) == (0.229, 0.224, 0.225)
