"""A network made faster to ask, on a CPU: its BatchNorm layers multiplied into the convolutions before them."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import PreTrainedModel

from brain_mri.models.evidence import OnePass, sample_picture

_TOLERANCE = 1e-4  # of every output on a test picture, relative and absolute


def folded(model: PreTrainedModel, side: int) -> PreTrainedModel:
    """A copy in evaluation mode without the BatchNorm layers that follow a convolution; its answers are the same.

    In evaluation such a layer is a scale and a shift of each channel, and so can be part of the convolution's weights
    (Jacob 2018, https://arxiv.org/abs/1712.05877, section 3.2): one pass over all activations less. A network that does
    not run its layers in the order in which it registers them would answer differently; it is found out on a test
    picture of `side` x `side` pixels and returned as it is, and so is one that has no such layer.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model  # a transformer, not to be copied for nothing
    fused = copy.deepcopy(model).eval()
    if not _fold(fused):
        return model
    picture = sample_picture(side).to(model.device)
    with torch.no_grad():
        pairs = zip(OnePass(model.eval())(picture), OnePass(fused)(picture), strict=True)
        same = all(torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE) for one, other in pairs)
    return fused if same else model


def _fold(module: nn.Module) -> int:
    """Fold within `module` and all below it; returns how many layers are gone."""
    count, convolution = 0, ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and convolution and child.track_running_stats:
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
            setattr(module, name, getattr(child, "act", nn.Identity()))  # timm's hold the activation that follows
            count += 1
        else:
            count += _fold(child)
        convolution = name if isinstance(child, nn.Conv2d) else ""
    return count
