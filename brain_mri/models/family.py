"""What a network lacks of what a run asks of it, found before any image is read.

A recipe is written for one family of networks, and `--model` may name another. What only the recipe asks for is then
left out, with a warning; what the command line asks for is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.errors import ConfigError
from brain_mri.models.build import build_config, random_network
from brain_mri.models.evidence import has_evidence
from brain_mri.models.layers import at_output_stride, freeze_until, is_timm

logger = logging.getLogger(__name__)

_Arguments = TypeVar("_Arguments", ModelArguments, RecipeArguments)
_BUILT_WITH = ("model_args", "drop_rate", "drop_path_rate")


def fit_options(
    model: ModelArguments, recipe: RecipeArguments, told: Collection[str]
) -> tuple[ModelArguments, RecipeArguments]:
    """The options without those that the network lacks.

    Args:
        model: which network.
        recipe: how it is trained.
        told: names of the options that are refused if the network lacks them; others are left out with a warning.

    Raises:
        ConfigError: the network lacks one of `told`, or there is no such network.
    """
    if model.freeze_until and not model.pretrained:
        logger.warning("--pretrained false: no layer is frozen, as random ones would stay as they are")
        model = replace(model, freeze_until=None)
    with torch.random.fork_rng(devices=[]):  # so that the run draws the same with and without these checks
        for name in _BUILT_WITH:
            model = _without_lacking(model, {name: _takes}, told)
        network = random_network(build_config(model), model)
        model = _without_lacking(
            model, {"freeze_until": lambda args, _: freeze_until(network, args.freeze_until)}, told
        )
        checks = {name: lambda args, name, check=check: check(network, args) for name, check in _TRAINED_WITH.items()}
        return model, _without_lacking(recipe, checks, told)


def _without_lacking(
    args: _Arguments, checks: dict[str, Callable[[Any, str], object]], told: Collection[str]
) -> _Arguments:
    defaults = {field.name: field.default for field in fields(args)}
    for name, check in checks.items():
        if getattr(args, name) == defaults[name]:
            continue
        try:
            check(args, name)
        except ConfigError as error:
            if name in told:
                raise
            logger.warning("left out of the recipe: %s", error)
            args = replace(args, **{name: defaults[name]})
    return args


def _takes(args: ModelArguments, name: str) -> None:
    """Raise a `ConfigError` if the network can't be built with this option alone."""
    alone = replace(args, **{other: None for other in _BUILT_WITH if other != name})
    with torch.device("meta"):  # neither memory nor time for its weights
        random_network(build_config(alone), alone)


def _guides(network: PreTrainedModel, recipe: RecipeArguments) -> None:
    if not has_evidence(network):
        raise ConfigError(
            "--guidance: this model's classifier is not linear on average-pooled features, so it has no exact evidence "
            "map to guide; set it to 0."
        )


def _shrinks(network: PreTrainedModel, recipe: RecipeArguments) -> None:
    side = recipe.progressive_size
    try:
        with torch.no_grad():
            network.eval()(pixel_values=torch.zeros(1, 3, side, side))
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"--progressive_size {side}: this model takes one size ({error}); set it to 0.") from error


def _knows_its_layers(network: PreTrainedModel, recipe: RecipeArguments) -> None:
    if not is_timm(network.config):
        raise ConfigError("--layer_decay needs a timm model, which knows its layers; use --backbone_lr_scale instead.")


_TRAINED_WITH: dict[str, Callable[[PreTrainedModel, RecipeArguments], object]] = {
    "guidance": _guides,
    "progressive_size": _shrinks,
    "layer_decay": _knows_its_layers,
    "final_output_stride": lambda network, recipe: at_output_stride(network, recipe.final_output_stride),
}
