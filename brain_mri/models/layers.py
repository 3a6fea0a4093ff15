"""Changes to a network: output stride, frozen layers, temperature."""

from __future__ import annotations

import copy
import logging
from itertools import takewhile

import torch
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel, TimmWrapperConfig

from brain_mri.errors import ConfigError, LackingError

logger = logging.getLogger(__name__)

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def is_timm(config: PreTrainedConfig) -> bool:
    """Whether the model is one of timm's, wrapped by transformers."""
    return isinstance(config, TimmWrapperConfig)


def classifier_of(model: PreTrainedModel) -> nn.Module:
    """The last layer, which gives the logits; a Linear layer in every recipe here."""
    if is_timm(model.config):
        head: nn.Module = model.timm_model.get_classifier()
        return head
    native: nn.Module = next(
        module for name in ("classifier", "head", "fc") if (module := getattr(model, name, None)) is not None
    )
    return native[-1] if isinstance(native, nn.Sequential) else native  # a ResNet's flattens first


def at_output_stride(model: PreTrainedModel, stride: int) -> PreTrainedModel:
    """The same weights in a network whose last stages are dilated, so that its features have the given stride.

    Nothing is retrained: a dilated convolution computes what the strided one does, at more places. The stride goes
    into `model_args` of the configuration, so that `pipeline` builds the same network.

    Raises:
        ConfigError: the architecture has no such choice.
    """
    config = copy.deepcopy(model.config)
    if not is_timm(config):
        raise LackingError(f"--final_output_stride: a transformers-native {config.model_type} has one stride; give 0.")
    config.model_args = (config.model_args or {}) | {"output_stride": stride}
    try:
        finer = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
        finer.load_state_dict(model.state_dict())
    except (
        TypeError,
        NotImplementedError,
        AssertionError,
        RuntimeError,
    ) as error:  # each of timm's families has its own
        reason = str(error).strip().splitlines()[0]
        raise LackingError(f"--final_output_stride {stride}: {config.architecture} can't do it ({reason}).") from error
    return finer.to(model.device).eval()


def fold_temperature(model: PreTrainedModel, temperature: float) -> None:
    """Divide the classifier's weight and bias, and so the logits, by `temperature` (Guo 2017).

    Raises:
        ConfigError: the last layer is not linear.
    """
    head = classifier_of(model)
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"the classifier is a {type(head).__name__}, not Linear: it can't be calibrated.")
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.div_(temperature)


def is_head(parameter: str, model: PreTrainedModel) -> bool:
    """Whether a parameter, given by its name in the model, belongs to the classifier."""
    head = classifier_of(model)
    prefix = next(name for name, module in model.named_modules() if module is head)
    return parameter.startswith(prefix + ".")


def head_parameters(model: PreTrainedModel) -> set[str]:
    """The names of the classifier's parameters."""
    return {name for name, _ in model.named_parameters() if is_head(name, model)}


def parameters_before(model: PreTrainedModel, layer: str) -> list[nn.Parameter]:
    """Every parameter registered before the module `layer` (a name, or the end of one: `layer3`, `blocks.4`).

    Raises:
        LackingError: the model has no such layer.
        ConfigError: no parameter comes before it.
    """
    inner = [name for name, _ in model.named_modules() if name == layer or name.endswith(f".{layer}")]
    if not inner:
        children = [name for name, _ in (model.timm_model if is_timm(model.config) else model).named_children()]
        raise LackingError(f"--freeze_until {layer}: no such layer; this model's are {', '.join(children)}.")
    first = min(inner, key=len)
    before = takewhile(lambda named: not named[0].startswith(first + "."), model.named_parameters())
    found = [parameter for _, parameter in before]
    if not found:
        raise ConfigError(f"--freeze_until {layer}: no parameter comes before this layer, so nothing would be frozen.")
    return found


def freeze_until(model: PreTrainedModel, layer: str) -> None:
    """Freeze the `parameters_before` this layer.

    `hold_frozen_statistics` keeps the statistics of frozen BatchNorm layers, which `model.train()` would update.

    Raises:
        ConfigError: the model has no such layer, or no parameters before it.
    """
    frozen = parameters_before(model, layer)
    for parameter in frozen:
        parameter.requires_grad = False
    logger.info("frozen: the %d parameters before %s", len(frozen), layer)


def hold_frozen_statistics(model: nn.Module) -> None:
    """Put BatchNorm layers whose weights are frozen into evaluation mode; call it after every `model.train()`."""
    for module in model.modules():
        if isinstance(module, _BATCH_NORMS) and not any(p.requires_grad for p in module.parameters()):
            module.eval()
