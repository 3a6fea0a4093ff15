"""Weights from a file of one's own: the tensors that fit are loaded, and what does not fit is said."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from brain_mri.errors import ConfigError

logger = logging.getLogger(__name__)
_NAMED = 3  # tensors that a message names of each kind


def load_fitting(model: PreTrainedModel, path: Path) -> set[str]:
    """Copy the tensors of a safetensors file into those of `model` that have the same name and shape.

    transformers matches the names, as in any checkpoint: with or without the wrapper's prefix (`timm_model.`, `vit.`),
    in the names of older versions, in any number format. The other tensors of the model stay as they are.

    Returns:
        The names of the model's tensors that were replaced.

    Raises:
        ConfigError: the file is missing or no safetensors file, or nothing in it fits.
    """
    tensors = _read(path)
    loaded, info = type(model).from_pretrained(
        None,
        config=copy.deepcopy(model.config),
        state_dict=dict(tensors),
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
    )
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    own = model.state_dict()
    fitting = {name: value for name, value in loaded.state_dict().items() if name in own}
    for name in {*info["missing_keys"], *mismatched}:
        fitting.pop(name, None)
    unused = [*sorted(info["unexpected_keys"]), *sorted(mismatched)]
    if not fitting:
        raise ConfigError(
            f"--weights {path}: none of its {len(tensors)} tensors fits this model by name and shape "
            f"(it has {_some(tensors)}; the model {_some(own)}): give a file of the same architecture."
        )
    model.load_state_dict(own | fitting)
    logger.info("%s: %d of the model's %d tensors are from it", path.name, len(fitting), len(own))
    if left := sorted(own.keys() - fitting.keys()):
        logger.info("%d tensors of the model are not in it: %s", len(left), _some(left))
    if unused:
        logger.warning("%d of its tensors have another name or shape than the model's: %s", len(unused), _some(unused))
    return set(fitting)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"--weights {path}: there is no such file; give a .safetensors file.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ConfigError(f"--weights {path} is no safetensors file that can be read ({error}).") from error


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + (" ..." if len(listed) > _NAMED else "")
