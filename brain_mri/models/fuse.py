"""Faster evaluation on a CPU: BatchNorm layers fused into the convolutions before them."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import PreTrainedModel

from brain_mri.models.evidence import OnePass, sample_picture

_TOLERANCE = 1e-4  # of every output on a test picture, relative and absolute


def fuse_batch_norms(model: PreTrainedModel, side: int) -> PreTrainedModel:
    """A copy in evaluation mode without the BatchNorm layers that follow a convolution; its outputs are the same.

    In evaluation such a layer scales and shifts each channel, which the convolution's weights can do as well (Jacob
    2018, https://arxiv.org/abs/1712.05877, section 3.2). A network that runs its layers in another order than it
    registers them would change; a test picture of `side` x `side` pixels shows that, and the network is then returned
    as it is. So is a network without such layers.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    faster = copy.deepcopy(model).eval()
    if not _fuse(faster):
        return model
    picture = sample_picture(side).to(model.device)
    with torch.no_grad():
        pairs = zip(OnePass(model.eval())(picture), OnePass(faster)(picture), strict=True)
        same = all(torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE) for one, other in pairs)
    return faster if same else model


def _fuse(module: nn.Module) -> int:
    """Fuse within `module` and its children; returns how many layers were removed."""
    count, convolution = 0, ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and convolution and child.track_running_stats:
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
            setattr(module, name, getattr(child, "act", nn.Identity()))  # timm's hold the activation that follows
            count += 1
        else:
            count += _fuse(child)
        convolution = name if isinstance(child, nn.Conv2d) else ""
    return count
