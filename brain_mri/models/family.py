"""What a network lacks of what a run asks of it, found before any image is read.

A recipe is written for one family of networks, and `--model` may name another. What only the recipe asks for is then
left out, with a warning; what the command line asks for is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from functools import cache, partial
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.errors import ConfigError, LackingError
from brain_mri.models.build import build_config, random_network
from brain_mri.models.evidence import has_evidence
from brain_mri.models.layers import at_output_stride, is_timm, parameters_before
from brain_mri.models.lora import adaptable_layers

logger = logging.getLogger(__name__)

_Network = Callable[[], PreTrainedModel]  # built when it is asked for
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
        LackingError: the network lacks one of `told`.
        ConfigError: there is no such network, or adapters would be trained beside random layers.
    """
    if model.freeze_until and not model.pretrained and not model.weights:
        logger.warning("--pretrained false: no layer is frozen, as random ones would stay as they are")
        model = replace(model, freeze_until=None)
    if model.lora_rank and not model.pretrained and not model.weights:
        raise ConfigError(
            "--lora_rank and --pretrained false: the frozen layers would stay random; leave one of them out."
        )
    with torch.random.fork_rng(devices=[]):  # so that the run draws the same with and without these checks
        for name in _BUILT_WITH:
            model = _without(model, name, partial(_check_takes, name), told)
        network = cache(lambda: random_network(build_config(model), model))
        fitted = _without(model, "freeze_until", partial(_check_freezes, network), told)
        fitted = _without(fitted, "lora_rank", lambda _: adaptable_layers(network()), told)
        for name, check in _TRAINED_WITH.items():
            recipe = _without(recipe, name, partial(check, network), told)
    return fitted, recipe


def _without(args: _Arguments, name: str, check: Callable[[Any], object], told: Collection[str]) -> _Arguments:
    """`args` with this option as it is by default, if `check` raises a `LackingError`."""
    default: Any = next(field.default for field in fields(args) if field.name == name)
    if getattr(args, name) == default:
        return args
    try:
        check(args)
    except LackingError as error:
        if name in told:
            raise
        logger.warning("--%s is left out, which only the recipe asks for: %s", name, error)
        return replace(args, **{name: default})
    return args


def _check_takes(name: str, args: ModelArguments) -> None:
    """Raise a `LackingError` if the network can't be built with this option alone."""
    others: dict[str, Any] = {other: None for other in _BUILT_WITH if other != name}
    alone = replace(args, **others)
    with torch.device("meta"):  # neither memory nor time for its weights
        random_network(build_config(alone), alone)


def _check_freezes(network: _Network, args: ModelArguments) -> None:
    parameters_before(network(), str(args.freeze_until))


def _check_guides(network: _Network, recipe: RecipeArguments, option: str = "guidance") -> None:
    if not has_evidence(network()):
        raise LackingError(
            f"--{option}: this model's classifier is not linear on average-pooled features, so it has no exact "
            "evidence map to guide; set it to 0."
        )


def _check_shrinks(network: _Network, recipe: RecipeArguments) -> None:
    side = recipe.progressive_size
    try:
        with torch.no_grad():
            network().eval()(pixel_values=torch.zeros(1, 3, side, side))
    except (ValueError, AssertionError, RuntimeError) as error:
        raise LackingError(
            f"--progressive_size {side}: this model takes one size ({_first_line(error)}); set it to 0."
        ) from error


def _check_layers(network: _Network, recipe: RecipeArguments) -> None:
    if not is_timm(network().config):
        raise LackingError("--layer_decay needs a timm model, which knows its layers; use --backbone_lr_scale instead.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


_TRAINED_WITH: dict[str, Callable[[_Network, RecipeArguments], object]] = {
    "guidance": _check_guides,
    "guidance_extent": partial(_check_guides, option="guidance_extent"),
    "progressive_size": _check_shrinks,
    "layer_decay": _check_layers,
    "final_output_stride": lambda network, recipe: at_output_stride(network(), recipe.final_output_stride),
}
