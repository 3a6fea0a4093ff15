"""The networks, all through `AutoModelForImageClassification`, so that plain `pipeline` loads every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
    TimmWrapperConfig,
    ViTImageProcessor,
)
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

from brain_mri.arguments import ModelArguments
from brain_mri.errors import ConfigError, LackingError
from brain_mri.models.layers import freeze_until, is_head, is_timm
from brain_mri.models.lora import add_adapters
from brain_mri.models.weights import load_fitting

_LACKING = (TypeError, AttributeError, AssertionError, NotImplementedError)  # of timm's create_model; each has its own
_HUB_HINT = "check the id, the network (HF_HUB_OFFLINE, HF_HUB_CACHE), and for a private model `hf auth login`"


def build_config(args: ModelArguments) -> PreTrainedConfig:
    """The configuration of `args.model` with the image size, rates and preprocessing of `args`.

    For a timm model `pretrained_cfg` says `crop_pct: 1.0, crop_mode: squash`: the whole slice is resized, so that no
    skull edge is cut. With `pretrained: false` timm's own architecture is used, without the Hub.

    Raises:
        ConfigError: no such model, or an option that it does not have.
    """
    if args.model.startswith("timm/") and not args.pretrained:
        config = _timm_config_offline(args.model.removeprefix("timm/"))
    else:
        config = _from_hub(AutoConfig, args)
    if is_timm(config):
        _adapt_timm(config, args)
    else:
        _adapt_native(config, args)
    return config


def _from_hub(auto_class: Any, args: ModelArguments, **kwargs: Any) -> Any:
    try:
        return auto_class.from_pretrained(args.model, revision=args.model_revision or "main", **kwargs)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"--model {args.model} can't be loaded ({reason}): {_HUB_HINT}.") from error


def _timm_config_offline(name: str) -> TimmWrapperConfig:
    known = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    if known is None:
        near = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}*")[:5]) or "see timm.list_pretrained()"
        raise ConfigError(f"--model timm/{name}: timm {timm.__version__} has no such model ({near}).")
    kept = ("input_size", "fixed_input_size", "interpolation", "mean", "std", "first_conv", "classifier")
    settings = {key: value for key, value in known.to_dict().items() if key in kept}
    return TimmWrapperConfig(architecture=name.split(".")[0], pretrained_cfg=settings)


def _adapt_timm(config: TimmWrapperConfig, args: ModelArguments) -> None:
    size = args.image_size
    settings = {key: value for key, value in config.pretrained_cfg.items() if not key.startswith("test_")}
    model_args = (config.model_args or {}) | args.timm_arguments
    if settings.get("fixed_input_size") and settings["input_size"][-1] != size:
        model_args["img_size"] = size
    config.pretrained_cfg = settings | {"input_size": [3, size, size], "crop_pct": 1.0, "crop_mode": "squash"}
    config.model_args = model_args or None


def _adapt_native(config: PreTrainedConfig, args: ModelArguments) -> None:
    if args.model_args:
        raise LackingError(f"--model_args is for timm models; {args.model} is a {config.model_type} of transformers.")
    if args.drop_rate is not None:
        _set_first(config, ("hidden_dropout_prob", "classifier_dropout", "dropout"), args.drop_rate, "drop_rate")
    if args.drop_path_rate is not None:
        _set_first(config, ("drop_path_rate",), args.drop_path_rate, "drop_path_rate")
    if not args.pretrained or not hasattr(config, "image_size"):  # a ResNet has none, and takes any
        config.image_size = args.image_size


def _set_first(config: PreTrainedConfig, names: tuple[str, ...], value: float, option: str) -> None:
    name = next((name for name in names if hasattr(config, name)), None)
    if name is None:
        raise LackingError(f"--{option}: a {config.model_type} model has no such rate; leave the option out.")
    setattr(config, name, value)


def build_processor(config: PreTrainedConfig, args: ModelArguments) -> Any:
    """The image processor to save with the model: resize to a square, rescale, normalise; no cropping."""
    if is_timm(config):
        return TimmWrapperImageProcessor(config.pretrained_cfg, architecture=config.architecture)
    original = _from_hub(AutoImageProcessor, args)
    return ViTImageProcessor(
        size={"height": args.image_size, "width": args.image_size},
        resample=original.resample,
        image_mean=original.image_mean,
        image_std=original.image_std,
    )


def build_model(config: PreTrainedConfig, args: ModelArguments, label_names: Sequence[str]) -> PreTrainedModel:
    """The network for `config`, with the weights of `args.model` and a new head, or with random weights.

    What fits of `args.weights` replaces them. The labels go into `config`, where `pipeline` reads them.

    Raises:
        ConfigError: weights other than the head's are missing or of another shape, the size does not fit, or layers
            would be frozen with random weights that `args.weights` was to replace.
    """
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: i for i, name in enumerate(label_names)}
    if not args.pretrained:
        model = random_network(config, args)
    else:
        try:
            model, info = _from_hub(
                AutoModelForImageClassification,
                args,
                config=config,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except _LACKING as error:
            raise _not_taken(config, args, error) from error
        _check_only_head_is_new(model, info, args)
    _check_size(model, args)
    loaded = load_fitting(model, Path(args.weights)) if args.weights else set()
    if args.freeze_until:
        freeze_until(model, args.freeze_until)
        if args.weights and not args.pretrained:
            _check_frozen_are_loaded(model, loaded, args)
    if args.lora_rank:
        add_adapters(model, args.lora_rank)
    return model


def _check_frozen_are_loaded(model: PreTrainedModel, loaded: set[str], args: ModelArguments) -> None:
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    if random := sorted(frozen - loaded):
        raise ConfigError(
            f"--freeze_until {args.freeze_until} would freeze {len(random)} tensors with random weights, which "
            f"{args.weights} does not hold ({', '.join(random[:3])}{' ...' if len(random) > 3 else ''}): freeze less."
        )


def random_network(config: PreTrainedConfig, args: ModelArguments) -> PreTrainedModel:
    """The network for `config` with random weights.

    Raises:
        ConfigError: it does not take an argument.
    """
    try:
        return AutoModelForImageClassification.from_config(config, dtype=torch.float32)
    except _LACKING as error:
        raise _not_taken(config, args, error) from error


def _not_taken(config: PreTrainedConfig, args: ModelArguments, error: Exception) -> LackingError:
    return LackingError(f"--model {args.model} does not take {config.model_args}: {error}.")


def _check_only_head_is_new(model: PreTrainedModel, info: dict[str, Any], args: ModelArguments) -> None:
    new = {key if isinstance(key, str) else key[0] for key in (*info["missing_keys"], *info["mismatched_keys"])}
    head = {name for name, _ in model.named_parameters() if is_head(name, model)}
    if unexpected := sorted(new - head):
        raise ConfigError(
            f"--model {args.model}: the weights do not fit at --image_size {args.image_size} and the given arguments; "
            f"they lack {', '.join(unexpected[:3])}{' ...' if len(unexpected) > 3 else ''}."
        )


def _check_size(model: PreTrainedModel, args: ModelArguments) -> None:
    try:
        with torch.no_grad():
            model.eval()(pixel_values=torch.zeros(1, 3, args.image_size, args.image_size))
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"--image_size {args.image_size} does not fit {args.model}: {error}") from error
