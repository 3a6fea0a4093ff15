"""Adapters beside frozen layers, and the plain network that they become."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.doors import run_door, run_evaluate
from transformers import PreTrainedModel, ResNetConfig, ViTConfig, ViTImageProcessor, ViTModel, pipeline

from brain_mri.arguments import ModelArguments, RecipeArguments
from brain_mri.errors import USER_ERROR_EXIT_CODE, ConfigError
from brain_mri.inference import BrainMRIClassifier
from brain_mri.labels import LABELS
from brain_mri.models.build import build_config, build_model
from brain_mri.models.family import fit_options
from brain_mri.models.layers import head_parameters
from brain_mri.models.lora import merged
from brain_mri.training.__main__ import main as training

_SIZE = 64


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the Hub has them: the weights of a tiny ViT without a classifier, random here."""
    folder = tmp_path_factory.mktemp("lora") / "vit"
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=_SIZE
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": _SIZE, "width": _SIZE}).save_pretrained(folder)
    return folder


def _build(args: ModelArguments) -> PreTrainedModel:
    torch.manual_seed(1)
    return build_model(build_config(args), args, LABELS).eval()


def _logits(model: PreTrainedModel) -> torch.Tensor:
    picture = torch.rand(2, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.eval()(pixel_values=picture).logits


def test_new_adapters_change_no_answer_and_leave_all_but_themselves_and_the_head_frozen(vit: Path) -> None:
    plain, adapted = (_build(ModelArguments(str(vit), image_size=_SIZE, lora_rank=rank)) for rank in (0, 4))
    assert torch.equal(_logits(plain), _logits(adapted))
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    adapters = {name for name in trained if "lora_" in name}
    assert trained - adapters == head_parameters(adapted)
    assert len(adapters) == 2 * 6 * 2, "A and B of six linear layers in each of two blocks"


def test_merged_adapters_answer_the_same_as_a_plain_network(vit: Path) -> None:
    args = ModelArguments(str(vit), image_size=_SIZE, lora_rank=4)
    adapted, plain = _build(args), _build(ModelArguments(str(vit), image_size=_SIZE))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    expected = _logits(adapted)
    assert not torch.allclose(expected, _logits(plain), atol=0.01), "the adapters say something"
    whole = merged(adapted)
    assert torch.allclose(_logits(whole), expected, atol=1e-4)
    assert set(whole.state_dict()) == set(plain.state_dict()) and type(whole) is type(plain)
    assert all(parameter.requires_grad for parameter in whole.parameters())
    assert merged(whole) is whole


def test_a_network_without_linear_layers_has_nothing_to_adapt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]).save_pretrained(tmp_path)
    args = ModelArguments(str(tmp_path), lora_rank=4)
    with pytest.raises(ConfigError, match="no linear layers"):
        fit_options(args, RecipeArguments(), ("lora_rank",))
    with caplog.at_level(logging.WARNING):
        fitted, _ = fit_options(args, RecipeArguments(), ())
    assert fitted.lora_rank == 0 and "--lora_rank is left out" in caplog.text


def test_random_layers_are_not_frozen_beside_adapters(vit: Path) -> None:
    with pytest.raises(ConfigError, match="pretrained false"):
        fit_options(ModelArguments(str(vit), pretrained=False, lora_rank=4), RecipeArguments(), ())


def test_one_way_of_freezing_at_a_time() -> None:
    with pytest.raises(ConfigError, match="freeze_until none"):
        ModelArguments(lora_rank=4, freeze_until="layer3")


def test_without_peft_it_is_refused_in_a_sentence(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brain_mri.models.lora.find_spec", lambda name: None)
    words = ["native", "--model", str(vit), "--image_size", str(_SIZE), "--lora_rank", "4"]
    done = run_door(training, *words, "--data_dir", str(vit), "--output_dir", str(tmp_path / "run"))
    assert done.code == USER_ERROR_EXIT_CODE and not (tmp_path / "run").exists()


def _words(vit: Path, phantoms: Path, folder: Path) -> list[str]:
    words = ["native", "--model", str(vit), "--image_size", str(_SIZE), "--lora_rank", "4", "--learning_rate", "1e-2"]
    words += ["--per_device_train_batch_size", "8", "--preprocessing_workers", "1", "--max_steps", "8"]
    words += ["--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2"]
    return [*words, "--data_dir", str(phantoms), "--output_dir", str(folder)]


@pytest.mark.slow
def test_the_model_folder_is_that_of_a_plain_network(vit: Path, phantoms: Path, tmp_path: Path) -> None:
    done = run_door(training, *_words(vit, phantoms, tmp_path))
    assert done.code == 0, done.said
    before, after = load_file(vit / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    body = {name.removeprefix("vit."): tensor for name, tensor in after.items() if name.startswith("vit.")}
    assert body.keys() == before.keys()
    moved = {name for name, tensor in body.items() if not torch.equal(tensor, before[name])}
    assert len(moved) == 2 * 6 and all(name.endswith(".weight") and before[name].ndim == 2 for name in moved)
    run_evaluate(str(tmp_path), "--data_dir", str(phantoms))
    picture = next((phantoms / "test" / "glioma").iterdir())
    classified = pipeline("image-classification", model=str(tmp_path), device="cpu")(str(picture))
    answer = BrainMRIClassifier.from_pretrained(tmp_path, unchecked=True).predict(picture)
    assert answer.probabilities == pytest.approx({one["label"]: one["score"] for one in classified}, abs=1e-3)
    assert (tmp_path / "guard.json").is_file() and (tmp_path / "evaluation" / "results.json").is_file()
