from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from brain_mri.arguments import ModelArguments
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.models.evidence import OnePass
from brain_mri.models.fuse import fuse_batch_norms


def _model(name: str, model_args: str | None = None) -> nn.Module:
    """With statistics of its own in every BatchNorm layer."""
    torch.manual_seed(0)
    args = ModelArguments(name, pretrained=False, image_size=64, model_args=model_args)
    return _with_statistics(build_model(build_config(args), args, LABELS))


def _with_statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _native() -> nn.Module:
    torch.manual_seed(0)
    config = ResNetConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], embedding_size=8, layer_type="basic")
    return _with_statistics(ResNetForImageClassification(config))


@pytest.mark.parametrize(
    ("name", "model_args"),
    [
        ("timm/tf_efficientnet_lite0.in1k", None),
        ("timm/resnet18.a1_in1k", None),
        ("timm/vgg16_bn.tv_in1k", '{"mlp_ratio": 0.05}'),
        ("timm/densenet121", None),
        ("transformers' own ResNet, whose configuration knows no size", None),
    ],
)
def test_a_fused_network_answers_the_same_and_the_given_one_stays_as_it_was(name: str, model_args: str | None) -> None:
    model = _model(name, model_args) if name.startswith("timm/") else _native()
    before = copy.deepcopy(model.state_dict())
    fused = fuse_batch_norms(model, 64)
    assert name.endswith("densenet121") or _norms(fused) == 0 < _norms(model)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for one, other in zip(OnePass(model)(pictures), OnePass(fused)(pictures), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_whose_layers_run_in_another_order_is_left_alone() -> None:
    model = _model("timm/resnet18.a1_in1k")
    block = model.get_submodule("timm_model.layer1.0")
    block.bn1, block.bn2 = block.bn2, block.bn1
    block.bn1.forward, block.bn2.forward = block.bn2.forward, block.bn1.forward  # what is registered is not what runs
    assert fuse_batch_norms(model, 64) is model


def test_a_network_without_such_layers_is_returned_as_it_is() -> None:
    model = _model("timm/vit_tiny_patch16_224.augreg_in21k")
    assert fuse_batch_norms(model, 64) is model
