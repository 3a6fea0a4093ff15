from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from support.doors import run_door
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    Dinov2Config,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
    ViTImageProcessor,
)

from brain_mri.arguments import DataArguments, ModelArguments, RecipeArguments
from brain_mri.errors import ConfigError
from brain_mri.inference import BrainMRIClassifier
from brain_mri.models.family import fit_options
from brain_mri.training.__main__ import main as training
from brain_mri.utils.argument_parser import parse
from brain_mri.utils.options import TrainingOptions
from brain_mri.utils.recipe_file import recipes

_SIZE = 64
_FAMILIES: dict[str, Any] = {
    "vit": ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=_SIZE
    ),
    "swin": SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=_SIZE, window_size=4),
    "convnext": ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16]),
    "dinov2": Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=_SIZE, patch_size=16),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"),
}
_KINDS = (DataArguments, ModelArguments, RecipeArguments, TrainingOptions)
_RECIPES = [name for name in recipes() if name != "efficientnet_final"]  # a later stage


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings of a tiny network of each family, and no weights."""
    folder = tmp_path_factory.mktemp("native")
    for name, config in _FAMILIES.items():
        config.save_pretrained(folder / name)
        ViTImageProcessor(size={"height": _SIZE, "width": _SIZE}).save_pretrained(folder / name)
    return folder


def _words(recipe: str, model: Path, *more: str) -> list[str]:
    return [recipe, "--model", str(model), "--pretrained", "false", "--image_size", str(_SIZE), *more]


@pytest.mark.slow
@pytest.mark.parametrize("family", _FAMILIES)
def test_the_native_recipe_leaves_a_model_of_every_family(
    family: str, native: Path, phantoms: Path, tmp_path: Path
) -> None:
    few = ("--max_steps", "3", "--per_device_train_batch_size", "8", "--preprocessing_workers", "1")
    where = ("--data_dir", str(phantoms), "--output_dir", str(tmp_path))
    done = run_door(training, *_words("native", native / family, *where, *few))
    assert done.code == 0, done.said
    answers = BrainMRIClassifier.from_pretrained(tmp_path).predict(next((phantoms / "test" / "glioma").iterdir()))
    assert answers.verdict in ("answer", "unsure", "refused")
    assert AutoModelForImageClassification.from_pretrained(tmp_path).config.model_type == family
    assert "left out" not in done.said, "the recipe asks only for what all of them have"


@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("recipe", _RECIPES)
def test_any_recipe_takes_any_family(recipe: str, family: str, native: Path) -> None:
    _, model, how, training_options = parse(_KINDS, _words(recipe, native / family))
    model, how = fit_options(model, how, training_options.told)
    assert fit_options(model, how, [*vars(model), *vars(how)]) == (model, how), "what is left is what it has"
    assert how.rotation > 0 and model.image_size == _SIZE, "and only what it lacks is gone"


def test_what_a_recipe_asks_in_vain_is_left_out_by_name(native: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, model, how, _ = parse(_KINDS, _words("efficientnet", native / "convnext"))
    with caplog.at_level(logging.WARNING):
        model, how = fit_options(model, how, ())
    assert model.drop_rate is None and model.model_args is None and how.guidance == 0
    for name in ("--drop_rate", "--model_args", "--guidance"):
        assert sum(f"{name} is left out" in message for message in caplog.messages) == 1


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("convnext", ["--drop_rate", "0.2"]),
        ("resnet", ["--drop_path_rate", "0.2"]),
        ("swin", ["--model_args", '{"depth": 3}']),
        ("vit", ["--guidance", "0.5"]),
        ("vit", ["--progressive_size", "32"]),
        ("dinov2", ["--layer_decay", "0.7"]),
        ("resnet", ["--final_output_stride", "16"]),
        ("resnet", ["--freeze_until", "layer3"]),
    ],
)
def test_what_the_command_line_asks_in_vain_is_refused_by_name(family: str, words: list[str], native: Path) -> None:
    _, model, how, training_options = parse(_KINDS, ["native", "--model", str(native / family), *words])
    with pytest.raises(ConfigError, match=words[0]) as caught:
        fit_options(model, how, training_options.told)
    assert "\n" not in str(caught.value)


def test_a_timm_network_is_built_without_the_arguments_that_it_lacks() -> None:
    model = ModelArguments(
        "timm/vgg11.tv_in1k", pretrained=False, model_args='{"output_stride": 16}', drop_path_rate=0.1
    )
    fitted, _ = fit_options(model, RecipeArguments(), ())
    assert fitted.model_args is None and fitted.drop_path_rate is None


def test_random_layers_are_not_frozen_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    _, model, how, _ = parse(_KINDS, ["resnet50", "--no_pretrained"])
    with caplog.at_level(logging.WARNING):
        thawed, _ = fit_options(model, how, ())
    assert thawed.freeze_until is None and "no layer is frozen" in caplog.text


def test_a_network_that_can_not_be_loaded_lacks_nothing(tmp_path: Path) -> None:
    _, model, how, _ = parse(_KINDS, ["resnet50", "--model", str(tmp_path)])
    with pytest.raises(ConfigError, match="can't be loaded"):
        fit_options(model, how, ())


def test_the_checks_draw_nothing_from_the_run_s_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model = ModelArguments("timm/resnet18.a1_in1k", pretrained=False, image_size=64)
    fit_options(model, RecipeArguments(guidance=0.5), ())
    assert torch.equal(torch.rand(2), expected)
