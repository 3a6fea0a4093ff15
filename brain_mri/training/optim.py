"""Parameter groups: no weight decay of biases and norms, and learning rates that differ by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.optim import param_groups_layer_decay
from transformers import PreTrainedModel

from brain_mri.arguments import RecipeArguments
from brain_mri.errors import ConfigError
from brain_mri.models.layers import head_parameters, is_timm


def parameter_groups(
    model: PreTrainedModel, recipe: RecipeArguments, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for the optimizer, each with its own `lr` and `weight_decay`; frozen parameters are left out.

    `layer_decay` multiplies the rate once more for each layer further from the head (Clark 2020; `lr_scale` in timm's
    groups); `backbone_lr_scale` multiplies that of everything except the classifier.

    Raises:
        ConfigError: `layer_decay` for a model that is not one of timm's.
    """
    if recipe.layer_decay < 1:
        return _layer_groups(model, recipe, learning_rate, weight_decay)
    head = head_parameters(model)
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = learning_rate * (1.0 if name in head else recipe.backbone_lr_scale)
        decay = 0.0 if parameter.ndim <= 1 or name.endswith(".bias") else weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    # The classifier's groups come first: the learning rate that Trainer logs is the first group's.
    ordered = sorted(groups.items(), key=lambda item: (-item[0][0], -item[0][1]))
    return [_group(parameters, rate, decay) for (rate, decay), parameters in ordered]


def _group(parameters: list[Any], rate: float, decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}


def _layer_groups(
    model: PreTrainedModel, recipe: RecipeArguments, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    if not is_timm(model.config):
        raise ConfigError("--layer_decay needs a timm model, which knows its layers; use --backbone_lr_scale instead.")
    groups = param_groups_layer_decay(model.timm_model, weight_decay=weight_decay, layer_decay=recipe.layer_decay)
    for group in groups:
        group["lr"] = group["initial_lr"] = learning_rate * group.pop("lr_scale")
    return sorted(groups, key=lambda group: -group["lr"])


def set_start_rates(optimizer: Any, scheduler: Any, rates: Sequence[float]) -> None:
    """Let optimizer and schedule go on with other learning rates than those that a checkpoint has put back.

    Args:
        optimizer: whose groups keep the rate before any schedule as `initial_lr`.
        scheduler: of the optimizer.
        rates: the wanted `initial_lr` of each group.
    """
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if rate != (restored := group.get("initial_lr", rate)):
            group["lr"] *= rate / restored
            group["initial_lr"] = rate
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = list(rates)
