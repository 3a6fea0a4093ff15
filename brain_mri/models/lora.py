"""Low-rank adapters (LoRA; Hu 2021, https://arxiv.org/abs/2106.09685): frozen weights, and small matrices beside them.

While it is trained, a network with adapters is a transformers model like any other, with more tensors. Merging adds
each adapter to the weights beside it, so that what is saved is the plain network.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec

from torch import nn
from transformers import PreTrainedModel

from brain_mri.errors import ConfigError, LackingError
from brain_mri.models.layers import classifier_of

logger = logging.getLogger(__name__)

_DROPOUT = 0.1  # of what the adapters read, as in peft's guide for image classification


def adaptable_layers(model: PreTrainedModel) -> list[str]:
    """The names of the linear layers below the classifier.

    Raises:
        LackingError: there is none, as in most convolutional networks.
        ConfigError: the package peft is missing.
    """
    head = classifier_of(model)
    found = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    if not found:
        raise LackingError(
            f"--lora_rank: a {model.config.model_type} has no linear layers below its classifier to adapt; set it to 0."
        )
    if find_spec("peft") is None:
        raise ConfigError("--lora_rank: pip install peft first, or set it to 0.")
    return found


def add_adapters(model: PreTrainedModel, rank: int) -> None:
    """Freeze the network but for its classifier, and put an adapter of this rank beside each of `adaptable_layers`.

    The adapters begin at zero, so that the network's outputs are unchanged.

    Raises:
        ConfigError: see `adaptable_layers`.
    """
    layers = adaptable_layers(model)
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=_DROPOUT, target_modules=layers)
    inject_adapter_in_model(config, model)
    for parameter in classifier_of(model).parameters():
        parameter.requires_grad = True
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logger.info("adapters beside %d layers: %s weights are trained, the others frozen", len(layers), f"{trained:,}")


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """The same network with its adapters added to the weights beside them; without adapters it is left as it is."""
    if not hasattr(model, "peft_config"):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge(safe_merge=True)  # refuses weights that are not finite
        model.set_submodule(name, module.get_base_layer())
    del model.peft_config
    return model.requires_grad_(True)
